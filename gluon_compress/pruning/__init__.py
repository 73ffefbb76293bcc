"""Pruning: masks that stay, channels that really go."""
from .batch_norm import reestimate_batch_norm
from .channels import prune_channels, prune_channels_in_steps
from .masks import MaskedTrainer, Masks
from .plan import ChannelPlan
from .sensitivity import Sensitivity, sensitivity
from .sparse_training import ChannelPenalty
from .unstructured import prune_magnitude, prune_threshold

__all__ = ["ChannelPenalty", "ChannelPlan", "MaskedTrainer", "Masks", "Sensitivity", "prune_channels",
           "prune_channels_in_steps", "prune_magnitude",
           "prune_threshold", "reestimate_batch_norm", "sensitivity"]
