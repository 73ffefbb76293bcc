"""Files: downloads, checks of paths, safe writing, named tensors, what a stranger may have written."""
