"""The arithmetic of symmetric integers, on NumPy arrays."""
