"""Pruning: masks that stay, channels that really go."""
from .channels import prune_channels
from .masks import MaskedTrainer, Masks
from .plan import ChannelPlan
from .unstructured import prune_magnitude, prune_threshold

__all__ = ["ChannelPlan", "MaskedTrainer", "Masks", "prune_channels", "prune_magnitude", "prune_threshold"]
