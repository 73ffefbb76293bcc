"""Files as a stranger may have made them, and what comes of reading each; see ``benchmarks/fuzz_files.py``."""
