"""Rate-aware rounding: weights rounded to what costs least in the error of the outputs and the bits of the file."""
