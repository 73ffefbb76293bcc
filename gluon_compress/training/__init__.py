"""A plain training loop and top-1 accuracy. The techniques do not need it: any loop of yours will do."""
from .evaluation import evaluate
from .history import History
from .learning_rates import constant, cosine, one_cycle
from .loop import fit

__all__ = ["History", "constant", "cosine", "evaluate", "fit", "one_cycle"]
