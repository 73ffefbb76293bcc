"""How much each layer can lose."""
