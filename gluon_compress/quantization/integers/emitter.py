"""How a network on integers is written down: what each of the emitters can do, and the numbers that all of them mean.

A tensor of integers is symmetric around zero, or begins there:

    signed    codes in [-128, 127], scale = threshold / 127
    unsigned  codes in [0, 255],    scale = threshold / 255

(and likewise with fewer bits, which kernels do not support).

A layer multiplies codes, adds its bias in units of their scales, and rounds once:

    code_out = round((sum(code_w * code_x) + round(bias / (s_w * s_x))) * s_w * s_x / s_out)

There are three ways to write that: with oneDNN's integer operators (onednn_emitter.py); in fp32, where integers up to
2**24 are exact (simulated_emitter.py); and in a form that can be trained (training_emitter.py).

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018,
section 2.2.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...network.nodes import Entry, Node, plain, variable, written
from ..arithmetic.ranges import Range

if TYPE_CHECKING:
    from .fusions import Leaky

Codes = dict[str, tuple[np.ndarray, np.ndarray]]  # of layers: int8 codes, float32 scale of each output channel

ROUNDING = 1.5 * 2 ** 23  # float32 numbers of this size are integers


@dataclass(frozen=True)
class Integers:
    """A tensor of integers: what a node outputs, and what its codes mean.

    Attributes
    ----------
    entry : (Node, int)
    range : Range
    ends : Node or None
        Whose outputs 1 and 2 are the ends of the range, when it is not the same node.
    """

    entry: Entry
    range: Range
    ends: Node | None = None


class Emitter(ABC):
    """Writes operators of a network on integers, as :class:`Lowering` asks for them, one after the other.

    ``layer``, ``pool``, ``flatten`` and ``concat`` are nodes of the fp32 network; the new nodes have their names.
    An entry is a pair (Node, int). Shapes are always those of the fp32 network, with any batch size; new nodes do not
    know theirs.

    Attributes
    ----------
    values : dict
        {name of a parameter node: float32 array} of what has been written so far.
    """

    def __init__(self) -> None:
        self.values: dict[str, np.ndarray] = {}

    def parameter(self, name: str, value: Any) -> Entry:
        """An entry that holds ``value``."""
        self.values[name] = np.asarray(value, dtype=np.float32)
        return variable(name, self.values[name].shape), 0

    @abstractmethod
    def shift(self, shortcut: Node, layer: Node, offset: float) -> None:
        """Add a number to what the layer node ``shortcut`` computes, and subtract it from what ``layer`` computes.

        Called before either of them is written.
        """

    @abstractmethod
    def quantize(self, name: str, entry: Entry, limits: Range) -> Integers:
        """An fp32 entry of any shape as integers of the range ``limits``."""

    @abstractmethod
    def dequantize(self, name: str, integers: Integers) -> Entry:
        """An fp32 entry of the same shape, with the values that the integers stand for."""

    @abstractmethod
    def convolution(self, layer: Node, data: Integers, limits: Range, relu: bool = False,
                    summand: Integers | None = None, leaky: Leaky | None = None) -> Integers:
        """A convolution in two dimensions, with the addition and activation that are fused into it.

        Parameters
        ----------
        layer : Node
            Its layout is NCHW. One with groups that is not depthwise has neither ``summand`` nor ``leaky``.
        data : Integers (batch, channels, height, width)
        limits : Range
            The range of what comes out.
        relu : bool
        summand : Integers or None
            Added before the activation. It has the output's shape, and is signed where ``limits`` is.
        leaky : Leaky or None
            The activation, where it is not a ReLU.

        Returns
        -------
        Integers (batch, filters, height, width)
            Their range is ``limits``.
        """

    @abstractmethod
    def dense(self, layer: Node, data: Integers, limits: Range | None = None, relu: bool = False) -> Integers | Entry:
        """A dense layer, with its ReLU.

        Parameters
        ----------
        layer : Node
        data : Integers (batch, ...)
            Flattened here if they have more than two axes, unless the layer is one over the last of them.
        limits : Range or None
            The range of what comes out.
        relu : bool

        Returns
        -------
        Integers (batch, units) or (..., units), or an entry
            Their range is ``limits``. Without it nothing is rounded: the entry holds the sums in fp32.
        """

    @abstractmethod
    def pooling(self, pool: Node, data: Integers) -> Integers:
        """Integers of the range of ``data``: maxima or averages over the windows of a pooling over images."""

    @abstractmethod
    def flatten(self, flatten: Node, data: Integers) -> Integers:
        """Integers (batch, features) of the range of ``data``."""

    @abstractmethod
    def concat(self, concat: Node, parts: list[Integers]) -> Integers:
        """Integers of the range of ``parts``, a list of Integers that all have one: their codes side by side."""


class CodesEmitter(Emitter):
    """What is common to emitters that write down finished codes.

    Parameters
    ----------
    codes : dict
        {layer name: (int8 codes, float32 scale of each output channel)}.
    biases : dict
        {layer name: float32 array}, of the layers that have one.
    """

    def __init__(self, codes: Codes, biases: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.codes, self.biases = codes, biases

    def shift(self, shortcut: Node, layer: Node, offset: float) -> None:
        for node, change in ((shortcut, np.float32(offset)), (layer, -np.float32(offset))):
            self.biases[node.name] = self.biases.get(node.name, np.zeros(node.shapes[0][1], np.float32)) + change


def ends_of(integers: Integers) -> Node:
    return integers.ends or integers.entry[0]


def activation(name: str, entry: Entry, relu: bool = False, leaky: Leaky | None = None) -> Entry:
    """An entry after a ReLU or a :class:`Leaky`, whose slope is a number or a parameter; with neither, itself."""
    if relu:
        return plain(name, "Activation", entry, act_type="relu")
    if leaky is None:
        return entry
    if leaky.by_channel:
        assert leaky.parameter is not None
        return written("LeakyReLU", name, entry, leaky.parameter, act_type="prelu"), 0
    return plain(name, "LeakyReLU", entry, act_type="leaky", slope=repr(float(leaky.slope)))


def half_to_even(name: str, entry: Entry) -> Entry:
    """Numbers below 2**22 rounded to integers as the kernels round them; MXNet's rint takes 2.5 and 3.5 down."""
    for step, operator in (("up", "_plus_scalar"), ("rounded", "_minus_scalar")):
        entry = plain(f"{name}_{step}", operator, entry, scalar=repr(ROUNDING))
    return entry
