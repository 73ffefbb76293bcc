"""Training over several processes or machines: the connection between them, and what starts them."""
from .connection import Workers, connect, in_cluster, of_trainer
from .group import Alone

__all__ = ["Alone", "Workers", "connect", "in_cluster", "of_trainer"]
