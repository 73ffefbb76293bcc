"""Knowledge distillation: the loss, and a loop that uses it."""
from .distill import distill
from .loss import DistillationLoss

__all__ = ["DistillationLoss", "distill"]
