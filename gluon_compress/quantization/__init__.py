"""Symmetric integers: arrays, the weights of networks, the ranges of activations, and networks that run on them."""
from .arithmetic.arrays import dequantize_array, quantize_array
from .calibration.range_observer import RangeObserver
from .folding import FoldedNorms, fold_batch_norm
from .integers.integer_network import IntegerNetwork
from .post_training import quantize
from .qat import QatNetwork, prepare_qat
from .rate.network import RateRounding
from .record import QuantizationRecord
from .scales import Scales
from .weights import quantize_weights

__all__ = ["FoldedNorms", "IntegerNetwork", "QatNetwork", "QuantizationRecord", "RangeObserver",
           "RateRounding", "Scales", "dequantize_array", "fold_batch_norm", "prepare_qat", "quantize", "quantize_array",
           "quantize_weights"]
