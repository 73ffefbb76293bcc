"""Single weights: set to zero by magnitude or by chance, and kept at zero while a network trains."""
