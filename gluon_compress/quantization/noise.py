"""How much noise rounding makes at each layer's output."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..network.blocks import block_of, tensors_of
from .calibration.observing import parts
from .integers.lowering import Lowering
from .quantized import Quantized


def measure_noise(quantized: Quantized, values: dict[str, np.ndarray], lowering: Lowering,
                  inputs: tuple[Any, ...]) -> None:
    """Fill in the signal-to-noise ratios of the record.

    Parameters
    ----------
    quantized : Quantized
    values : dict
        {structural name: float32 array} of the network in fp32.
    lowering : Lowering
        Of ``quantized``.
    inputs : tuple of NDArray
        A batch.
    """
    layers, inference = quantized.record.layers, quantized.inference
    names = list(layers)
    of_layers = {fusion.layer.name: end for end, fusion in quantized.fusions.items()}
    ends = [of_layers[name] for name in names]
    fp32 = block_of(ends, inference.inputs, values)
    integers = [lowering.in_fp32(end) for end in ends]
    rounded = block_of(integers, inference.inputs, lowering.values(integers))
    shifts = {fusion.shifted.layer.name for fusion in quantized.fusions.values() if fusion.shifted}
    power, noise = np.zeros(len(names)), np.zeros(len(names))
    for part in parts(inputs, ends, inference.inputs):
        for index, (signal, value) in enumerate(zip(tensors_of(fp32, part), tensors_of(rounded, part))):
            if names[index] in shifts:  # a constant is added to its output, and the addition subtracts it again
                value = value + (signal.mean() - value.mean())
            power[index] += np.square(signal, dtype=np.float64).sum()
            noise[index] += np.square(signal - value, dtype=np.float64).sum()
    for name, ratio in zip(names, map(_decibels, power, noise)):
        layers[name]["snr"] = round(ratio, 2)


def _decibels(power: float, noise: float) -> float:
    """10 log10(power / noise); at most 200."""
    return float(min(200.0, 10 * np.log10(power / noise))) if noise > 0 and power > 0 else 200.0
