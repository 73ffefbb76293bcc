"""Training for the rate: an add-on to the user's loop that lowers the coded size of a network while it trains."""
from .goal import SizeGoal
from .trainer import RateTrainer

__all__ = ["RateTrainer", "SizeGoal"]
