"""A report as one HTML page: figures, sortable tables, light and dark, for screen, phone and print."""
