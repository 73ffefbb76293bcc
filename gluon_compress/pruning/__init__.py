"""Pruning: masks that stay, channels that really go."""
from .channels.batch_norm import reestimate_batch_norm
from .channels.penalty import ChannelPenalty
from .channels.plan import ChannelPlan
from .channels.pruner import prune_channels, prune_channels_in_steps
from .criteria import BatchNormScale, Random, Taylor, WeightCriterion
from .schedules import cubic, linear, one_shot
from .sensitivity.curves import Sensitivity
from .sensitivity.measure import measure_sensitivity
from .weights.gradual import GradualPruner
from .weights.magnitude import prune_custom, prune_magnitude, prune_random, prune_threshold
from .weights.masked_trainer import MaskedTrainer
from .weights.masks import Masks
from .weights.patterns import prune_n_m

__all__ = ["BatchNormScale", "ChannelPenalty", "ChannelPlan", "GradualPruner", "MaskedTrainer", "Masks", "Random",
           "Sensitivity", "Taylor", "WeightCriterion", "cubic", "linear", "measure_sensitivity", "one_shot",
           "prune_channels", "prune_channels_in_steps", "prune_custom", "prune_magnitude", "prune_n_m", "prune_random",
           "prune_threshold", "reestimate_batch_norm"]
