"""Networks on integers: what is fused, how it is written down, on which kernels it runs."""
