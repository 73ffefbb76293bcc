"""From a network to the smallest file that keeps its accuracy: prune, train, round, code; a killed run goes on."""
from .compressing import compress
from .record import Compression
from .stages import Pruning, Rounding

__all__ = ["Compression", "Pruning", "Rounding", "compress"]
