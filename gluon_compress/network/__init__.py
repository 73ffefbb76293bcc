"""What every technique knows of a network: layers, values, the graph; the only package that reaches into Gluon."""
from .layer import Layer, layer_name, layers, select_layers
from .values import parameters, restore_snapshot, snapshot

__all__ = ["Layer", "layer_name", "layers", "parameters", "restore_snapshot", "select_layers", "snapshot"]
