"""Pruning: masks that stay, channels that really go."""
from .batch_norm import reestimate_batch_norm
from .channels import prune_channels, prune_channels_in_steps
from .curves import Sensitivity
from .gradual import GradualPruner
from .masked_trainer import MaskedTrainer
from .masks import Masks
from .patterns import prune_n_m
from .plan import ChannelPlan
from .schedules import cubic, linear, one_shot
from .sensitivity import sensitivity
from .sparse_training import ChannelPenalty
from .unstructured import prune_custom, prune_magnitude, prune_random, prune_threshold

__all__ = ["ChannelPenalty", "ChannelPlan", "GradualPruner", "MaskedTrainer", "Masks", "Sensitivity", "cubic", "linear",
           "one_shot", "prune_channels", "prune_channels_in_steps", "prune_custom", "prune_magnitude", "prune_n_m",
           "prune_random", "prune_threshold", "reestimate_batch_norm", "sensitivity"]
