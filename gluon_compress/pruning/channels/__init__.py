"""Whole channels: found, ranked and removed, with everything that hangs together with them."""
