"""Integer networks for processors that add two products of 8 bits in 16: all without VNNI and AMX.

There oneDNN's kernels add 255 * 127 and 255 * 127 and cut the sum at 32767. Neighbouring input channels, 2k and 2k + 1,
are added in this way at each place of the kernel. Nothing is ever cut where their weights have codes with

    |w_2k + w_2k+1| <= 128    if both have one sign; else any          255 * 128 = 32640

That takes a separate scale for each output channel, up to twice that of 8 bits but mostly less: weights of seven and a
half bits rather than seven. Convolutions of signed integers are a different case: oneDNN itself halves the codes of all
their weights, and what it leaves is computed here.

MXNet's kernels make the codes of weights themselves; narrow_emitter.py says how they are led to these.

Files always hold 8 bits. These are narrowed, where necessary, when a network is made from a file.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from ...network.nodes import Entry, Node
from ..arithmetic.ranges import Range
from .emitter import Codes, CodesEmitter, Emitter, Integers
from .fusions import is_grouped
from .onednn import SIGNED_HIGH
from .simulated_emitter import SimulatedEmitter

LARGEST_SUM = 128  # of weights, with which 16 bits hold the sum of two products


def narrow_codes(codes: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales for which no sum of two products is cut.

    Parameters
    ----------
    codes : int8 array (channels, inputs, ...)
    scale : float32 array (channels,)

    Returns
    -------
    codes : int8 array of that shape
        Neighbours along the second axis, 2k and 2k + 1, of one sign add up to LARGEST_SUM at most.
    scale : float32 array (channels,)
        As it was where the codes are as they were, else up to twice as large.
    """
    pairs = _in_pairs(codes)
    factor = np.maximum(1.0, _sums(pairs).max(axis=(1, 2)) / LARGEST_SUM)
    exact = pairs / factor[:, None, None, None]
    rounded = np.rint(exact)
    over = _sums(rounded) > LARGEST_SUM  # by one: both were rounded away from zero, and one of them must not be
    gain = np.abs(rounded) - np.abs(exact)
    first = gain[:, :, 0] >= gain[:, :, 1]
    rounded -= np.sign(rounded) * np.stack([over & first, over & ~first], axis=2)
    full = np.broadcast_to((_sums(rounded) > LARGEST_SUM - 2)[:, :, None], rounded.shape)  # both may grow
    rounded = _keep_sums(exact, rounded, full)
    rows = rounded.reshape(len(codes), -1, pairs.shape[3])[:, :codes.shape[1]]
    return rows.reshape(codes.shape).astype(np.int8), (scale * factor).astype(np.float32)


def halved_codes(codes: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales that a convolution of signed integers has where oneDNN halves the codes of its weights."""
    exact = codes / 2
    ends = np.abs(exact) >= SIGNED_HIGH / 2  # the kernel takes the scale from these
    return _keep_sums(exact, np.rint(exact), np.abs(exact) > 62, ends).astype(np.int8), scale * np.float32(2)


def _keep_sums(exact: np.ndarray, rounded: np.ndarray, full: np.ndarray,
               fixed: np.ndarray | bool = False) -> np.ndarray:
    """Round some numbers of each channel the other way, so that the channel's sum stays what it was.

    Activations after a ReLU are positive, so the summed errors of a channel's weights would shift its mean.
    The numbers closest to the middle between two codes are taken; ``full`` ones do not grow, ``fixed`` ones stay.
    """
    shape, channels = exact.shape, len(exact)
    exact, rounded, full, fixed = (np.broadcast_to(array, shape).reshape(channels, -1)
                                   for array in (exact, rounded, full, fixed))
    error = (rounded - exact).sum(axis=1, keepdims=True)
    change = -np.sign(error)
    gain = (exact - rounded) * change  # how far each is off in the direction in which it would move
    gain[full & (rounded * change >= 0) | fixed | (gain <= 0)] = -np.inf
    order = np.argsort(-gain, axis=1, kind="stable")
    chosen = np.arange(gain.shape[1]) < np.rint(np.abs(error))
    steps = np.zeros_like(rounded)
    np.put_along_axis(steps, order, chosen * np.isfinite(np.take_along_axis(gain, order, axis=1)) * change, axis=1)
    return (rounded + steps).reshape(shape)


def _in_pairs(codes: np.ndarray) -> np.ndarray:
    """float64 array (channels, pairs, 2, places)."""
    rows = codes.reshape(*codes.shape[:2], -1).astype(np.float64)
    rows = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2), (0, 0)))
    return rows.reshape(len(rows), -1, 2, rows.shape[2])


def _sums(pairs: np.ndarray) -> np.ndarray:
    """What the weights of each pair can add up to: those above zero, or those below."""
    return np.maximum(np.maximum(pairs, 0).sum(axis=2), -np.minimum(pairs, 0).sum(axis=2))


class NarrowEmitter(CodesEmitter):
    """What both emitters below share: the codes of a layer are narrowed before it is written.

    Attributes
    ----------
    narrowed : dict
        {layer name: by how much the scale of each channel grew, float array}, of the layers that have other codes now.
    in_fp32 : list of str
        Names of layers that the kernels would compute wrongly, even so.
    """

    def __init__(self, codes: Codes, biases: dict[str, np.ndarray], *others: Any) -> None:
        super().__init__(codes, biases, *others)
        self.narrowed: dict[str, np.ndarray] = {}
        self.in_fp32: list[str] = []
        self._seen: set[str] = set()
        self._limited: set[str] = set()

    def convolution(self, layer: Node, data: Integers, *others: Any, **named: Any) -> Integers:
        self._narrow(layer, data, halved=data.range.signed)
        return super().convolution(layer, data, *others, **named)  # type: ignore[safe-super]  # of what it is mixed with

    def dense(self, layer: Node, data: Integers, limits: Range | None = None, relu: bool = False) -> Integers | Entry:
        self._narrow(layer, data, halved=False)
        return super().dense(layer, data, limits, relu)  # type: ignore[safe-super]  # as above

    def _narrow(self, layer: Node, data: Integers, halved: bool) -> None:
        if layer.name in self._seen or is_grouped(layer):
            return
        self._seen.add(layer.name)
        if halved:
            self._halve(layer.name, data)
        elif not is_depthwise(layer):
            self._limit(layer.name)

    def _halve(self, name: str, data: Integers) -> None:
        self.codes[name] = halved_codes(*self.codes[name])
        self.narrowed[name] = np.full(len(self.codes[name][1]), 2.0)
        if name in self.biases:  # kernels round it to halves of what is a unit now
            unit = self.codes[name][1] * np.float32(data.range.scale)
            self.biases[name] = (np.rint(self.biases[name] / unit) * unit).astype(np.float32)

    def _limit(self, name: str) -> None:
        scale = self.codes[name][1]
        self.codes[name] = narrow_codes(*self.codes[name])
        growth = self.codes[name][1] / scale
        if (growth > 1).any():
            self.narrowed[name] = growth
            self._limited.add(name)


class NarrowSimulatedEmitter(NarrowEmitter, SimulatedEmitter):
    """The arithmetic of :class:`NarrowInt8Emitter` in fp32."""


def is_depthwise(layer: Node) -> bool:
    """Whether each output channel of a layer node reads one input channel: its kernels add no neighbours."""
    return layer.groups > 1 and not is_grouped(layer)


def notes(emitter: Emitter) -> dict[str, str]:
    """{layer name: a note} for the layers that an emitter narrowed, or left in fp32."""
    found = {name: f"weights of {8 - np.log2(growth).mean():.1f} bits here"
             for name, growth in getattr(emitter, "narrowed", {}).items()}
    return {**found, **dict.fromkeys(getattr(emitter, "in_fp32", ()), "in fp32 here, as sums of groups would be cut")}
