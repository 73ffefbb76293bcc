"""Knowledge distillation: the losses, and a loop that uses them."""
from .cache import CachedLogits, cache_logits
from .features import FeatureLoss, FeatureMatcher
from .loop import distill
from .loss import DistillationLoss

__all__ = ["CachedLogits", "DistillationLoss", "FeatureLoss", "FeatureMatcher", "cache_logits", "distill"]
