"""Trained parameters: our own networks', and the ImageNet ones of the zoos."""
from .shipped import load, manifest, names, path
from .zoo import pretrained

__all__ = ["load", "manifest", "names", "path", "pretrained"]
