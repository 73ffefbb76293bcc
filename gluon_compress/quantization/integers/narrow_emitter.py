"""Narrow codes in oneDNN's operators: places for larger weights, and kernels that compute what they should.

**A larger scale.** MXNet itself makes the codes of a kernel, and always turns the largest weight of each channel into
127. A larger scale takes a larger weight that has no effect. Its place is where only padding is read, which is not
computed: a convolution over (channels, height, width) becomes one over (channels, 1, height, width), with a
kernel whose depth is three. Above and below the middle there is no image. A 1x1 convolution can have such places in its
height, far enough away; a dense layer gets a feature that is zero. The weights that are read are then no longer in one
piece: nothing could be measured for 64 channels of 56x56, a sixth more time for 512 of 7x7, 8 % of ResNet-18 (AVX2
on an EPYC, one thread, batch 8). A depth of two is no faster. Nor are unsigned codes of a signed input: the first
layer's kernel takes 13 instead of 14 ms for them, MXNet's operators that make them 19.

**Five places.** With AVX-512 alone, some kernels give wrong sums: see :func:`onednn.loses_five`. They are not used; an
image that would need one, because its size is not the example's, is refused.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial

import mxnet as mx
import numpy as np

from ...network.graph import Graph
from ...network.nodes import Entry, Node, Shape, plain, written
from ..arithmetic.ranges import Range
from .emitter import Codes, CodesEmitter, Emitter, Integers, activation, ends_of
from .fusions import Leaky, is_grouped, over_last_axis
from .narrow import NarrowEmitter, NarrowSimulatedEmitter, is_depthwise
from .onednn import SIGNED_HIGH, SIGNED_LOW, loses_five
from .onednn_emitter import Int8Emitter

IMAGE_AXES = 4
FAR = 8192  # rows: where a 1x1 kernel is sure to find padding
LOST = 5  # places


def fitting(emitter_class: type[CodesEmitter], layers: list[Node], saturates: bool) -> Callable[..., CodesEmitter]:
    """The class that writes down these layer nodes as ``emitter_class`` does, for a processor that saturates or not."""
    if not saturates:
        return emitter_class
    if issubclass(emitter_class, Int8Emitter):
        return partial(NarrowInt8Emitter, deep=not any(map(is_depthwise, layers)))
    return NarrowSimulatedEmitter


class NarrowInt8Emitter(NarrowEmitter, Int8Emitter):
    """oneDNN's operators, with a place for a larger weight where a layer needs one.

    Parameters
    ----------
    codes, biases : dict
        As of :class:`CodesEmitter`.
    deep : bool
        Whether images get a depth of one with the first convolution. Depthwise kernels do not support it, and
        each change between the two copies the image.
    """

    def __init__(self, codes: Codes, biases: dict[str, np.ndarray], deep: bool = True) -> None:
        super().__init__(codes, biases)
        self.deep = deep
        self.far: list[int] = []  # heights of the images that 1x1 kernels with far rows read
        self.pointwise: list[str] = []  # names of layers that must not have LOST places
        self._with_depth: set[Entry] = set()
        self._changed: dict[Entry, Integers] = {}

    def convolution(self, layer: Node, data: Integers, limits: Range, relu: bool = False,
                    summand: Integers | None = None, leaky: Leaky | None = None,
                    added: Integers | None = None) -> Integers:
        if leaky is not None and leaky.by_channel:  # comes back as several
            return Int8Emitter.convolution(self, layer, data, limits, relu, summand, leaky)
        if is_grouped(layer):
            return self._grouped_in_fp32(layer, data, limits)
        self._narrow(layer, data, halved=data.range.signed)
        layer, deep = self._with_place(layer, data)
        change = self._deepened if deep else self._flattened
        result = Int8Emitter.convolution(self, layer, change(data), limits, relu, summand and change(summand), leaky,
                                         added and change(added))
        if data.entry in self._columns.values():
            return self._of_columns(result)
        return self._mark(result) if deep else result

    def _grouped_in_fp32(self, layer: Node, data: Integers, limits: Range) -> Integers:
        """What the layer's codes stand for, in fp32: with one scale for all of them, a larger weight has no place."""
        self.in_fp32.append(layer.name)
        codes, scale = self.codes[layer.name]
        inputs = [self.dequantize(f"{layer.name}_data", data),
                  self.parameter(f"{layer.name}.weight", codes * scale.reshape(-1, 1, 1, 1))]
        if layer.name in self.biases:
            inputs.append(self.parameter(f"{layer.name}.bias", self.biases[layer.name]))
        attributes = {**layer.attributes, "no_bias": str(layer.name not in self.biases)}
        output = written("Convolution", layer.name, *inputs, **attributes), 0
        return self.quantize(f"{layer.name}_codes", activation(f"{layer.name}_relu", output, not limits.signed), limits)

    def dense(self, layer: Node, data: Integers, limits: Range | None = None, relu: bool = False) -> Integers | Entry:
        self._narrow(layer, data, halved=False)
        if over_last_axis(layer):
            data = self._flattened(data)
        elif data.entry in self._with_depth or self._needs_place(layer) and len(layer.input_shape(0)) > 2:
            data = self._rows(f"{layer.name}_features", data)
        if self._needs_place(layer):
            data = self._with_zeros(layer, data)
        return Int8Emitter.dense(self, layer, data, limits, relu)

    def pooling(self, pool: Node, data: Integers) -> Integers:
        if data.entry not in self._with_depth:
            return super().pooling(pool, data)
        return self._mark(super().pooling(replace(pool, attributes=_deep_window(pool)), data))

    def flatten(self, flatten: Node, data: Integers) -> Integers:
        return self._rows(flatten.name, data) if data.entry in self._with_depth else super().flatten(flatten, data)

    def concat(self, concat: Node, parts: list[Integers]) -> Integers:
        if not any(part.entry in self._with_depth for part in parts):
            return super().concat(concat, parts)
        return self._mark(super().concat(concat, [self._deepened(part) for part in parts]))

    def dequantize(self, name: str, integers: Integers) -> Entry:
        entry = super().dequantize(name, integers)
        if integers.entry in self._with_depth:
            return plain(f"{name}_flat", "squeeze", entry, axis=2)
        return entry

    def runs_as_convolution(self, layer: Node, data: Integers) -> bool:
        return super().runs_as_convolution(layer, data) and not data.range.signed  # else it would be halved

    def _halve(self, name: str, data: Integers) -> None:
        """Codes and scales from which the kernel makes the halved ones."""
        super()._halve(name, data)
        codes, scale = self.codes[name]
        doubled = np.clip(2 * codes.astype(np.int16), SIGNED_LOW, SIGNED_HIGH).astype(np.int8)
        self.codes[name] = doubled, scale / np.float32(2)

    def _needs_place(self, layer: Node) -> bool:
        return layer.name in self._limited

    def _with_place(self, layer: Node, data: Integers) -> tuple[Node, bool]:
        """The layer with a larger weight where it needs one, and whether its images have a depth."""
        if is_depthwise(layer) or data.entry in self._columns.values():
            return layer, False
        if self.deep or data.entry in self._with_depth or self._needs_place(layer) and max(layer.get("kernel")) > 1:
            return self._above_and_below(layer), True
        if self._needs_place(layer):
            return self._far_away(layer), False
        if not is_pointwise(layer) or not loses_five():
            return layer, False
        if data.range.signed and math.prod(layer.shapes[0][2:]) != LOST:  # three times the work: the padding's, too
            self.pointwise.append(layer.name)
            return layer, False
        return self._far_away(layer), False

    def _above_and_below(self, layer: Node) -> Node:
        """The layer on images with a depth of one; the larger weight lies above them.

        A stride of two in the depth keeps the depth of one, and avoids the 1x1 kernels that lose five places.
        """
        codes, scale = self.codes[layer.name]
        codes, size = codes[:, :, None], 1
        if self._needs_place(layer):
            codes, size = np.pad(codes, ((0, 0), (0, 0), (1, 1), (0, 0), (0, 0))), 3
            codes[:, 0, 0, 0, 0] = SIGNED_HIGH
        self.codes[layer.name] = codes, scale
        step = 2 if is_pointwise(layer) and size == 1 and loses_five() else 1
        return replace(layer, attributes=_deep_window(layer, size, step, dilate=True))

    def _far_away(self, layer: Node) -> Node:
        """A 1x1 layer as one of three rows; the first, where the larger weight lies, and the last read nothing."""
        codes, scale = self.codes[layer.name]
        codes = np.pad(codes, ((0, 0), (0, 0), (1, 1), (0, 0)))
        if self._needs_place(layer):
            codes[:, 0, 0, 0] = SIGNED_HIGH
        self.codes[layer.name] = codes, scale
        self.far.append(layer.input_shape(0)[2])
        return replace(layer, attributes={**layer.attributes, "kernel": "(3, 1)", "pad": f"({FAR}, 0)",
                                          "dilate": f"({FAR}, 1)"})

    def _with_zeros(self, layer: Node, data: Integers) -> Integers:
        """One more feature, of zeros, and another where its neighbour would not be one of zeros."""
        codes, scale = self.codes[layer.name]
        zeros = 1 + codes.shape[1] % 2
        wide = np.pad(codes, ((0, 0), (0, zeros)))
        wide[:, -1] = SIGNED_HIGH
        self.codes[layer.name] = wide, scale
        axis = len(layer.input_shape(0)) - 1 if over_last_axis(layer) else 1
        zero = plain(f"{layer.name}_first", "slice_axis", data.entry, axis=axis, begin=0, end=zeros)
        zero = plain(f"{layer.name}_zeros", "zeros_like", zero)
        rows = written("Concat", f"{layer.name}_and_zeros", data.entry, zero, num_args=2, dim=axis), 0
        return replace(data, entry=rows, ends=ends_of(data))

    def _deepened(self, integers: Integers) -> Integers:
        """The same images with a depth of one: what was fp32 gets it before it becomes integers."""
        if integers.entry in self._with_depth:
            return integers
        if integers.entry not in self._changed:
            node = integers.entry[0]
            if node.operator == "_contrib_quantize_v2":
                image = plain(f"{node.name}_image", "expand_dims", node.inputs[0], axis=2)
                changed = self.quantize(f"{node.name}_deep", image, integers.range)
            else:
                image = plain(f"{node.name}_deep", "expand_dims", integers.entry, axis=2)
                changed = replace(integers, entry=image, ends=ends_of(integers))
            self._changed[integers.entry] = self._mark(changed)
        return self._changed[integers.entry]

    def _flattened(self, integers: Integers) -> Integers:
        """The same images without a depth."""
        if integers.entry not in self._with_depth:
            return integers
        if integers.entry not in self._changed:
            image = plain(f"{integers.entry[0].name}_flat", "squeeze", integers.entry, axis=2)
            self._changed[integers.entry] = replace(integers, entry=image, ends=ends_of(integers))
        return self._changed[integers.entry]

    def _rows(self, name: str, data: Integers) -> Integers:
        data = self._flattened(data)
        return replace(data, entry=plain(name, "Flatten", data.entry), ends=ends_of(data))

    def _mark(self, integers: Integers) -> Integers:
        self._with_depth.add(integers.entry)
        return integers

    def _as_columns(self, name: str, data: Integers) -> Entry:
        columns = super()._as_columns(name, data)
        if not loses_five():
            return columns
        shape = {"shape": f"(1, {self.codes[name][0].shape[1]}, {LOST}, 1)", "dtype": "uint8"}
        more = Node(f"{name}_more", "_zeros", shape, [()]), 0
        columns = Node(f"{name}_and_more", "Concat", {"num_args": "2", "dim": "2"}, [()], inputs=[columns, more]), 0
        self._columns[name] = columns  # more than LOST, of whatever batch
        return columns

    def _of_columns(self, integers: Integers) -> Integers:
        """Remove what :meth:`_as_columns` added."""
        if not loses_five():
            return integers
        name = integers.entry[0].name
        columns = plain(f"{name}_without_more", "slice_axis", integers.entry, axis=2, begin=0, end=-LOST)
        return replace(integers, entry=columns, ends=ends_of(integers))


def is_pointwise(layer: Node) -> bool:
    """Whether a layer node is a 1x1 convolution that moves by one place."""
    return {*layer.get("kernel"), *(layer.get("stride", ()) or (1,))} == {1}


def _deep_window(node: Node, size: int = 1, step: int = 1, dilate: bool = False) -> dict[str, str]:
    """The attributes of a convolution or pooling on images with a depth of one, for a window of this depth."""
    given = {"kernel": (size, node.get("kernel")), "stride": (step, node.get("stride", ()) or (1, 1)),
             "pad": (size // 2, node.get("pad", ()) or (0, 0))}
    if dilate:
        given["dilate"] = (1, node.get("dilate", ()) or (1, 1))
    attributes = {name: value for name, value in node.attributes.items() if name != "layout"}
    return {**attributes, **{name: str((first, *rest)) for name, (first, rest) in given.items()}}


def most_rows(emitter: Emitter, graph: Graph) -> float:
    """How high the images may be that a network written by this emitter reads."""
    heights = [shape[2] for shape in graph.input_shapes.values() if len(shape) == IMAGE_AXES]
    return min((FAR * min(heights) // max(height, min(heights)) for height in getattr(emitter, "far", ())),
               default=math.inf)


def check_places(symbol: mx.sym.Symbol, layers: Collection[str], input_shapes: Mapping[str, Shape]) -> None:
    """Raise ``ValueError`` where a layer would have LOST places with inputs of these shapes, {input name: shape}.

    ``layers`` are the names of an int8 network's 1x1 convolutions that would compute something else then.
    """
    internals = symbol.get_internals()
    _, shapes, _ = mx.sym.Group([internals[f"{name}_output"] for name in layers]).infer_shape_partial(**input_shapes)
    for name, shape in zip(layers, shapes):
        if math.prod(shape[2:]) == LOST:
            raise ValueError(f"{name} has {LOST} places, {' x '.join(map(str, shape[2:]))}, with inputs of shapes "
                             f"{list(input_shapes.values())}, over which oneDNN's kernels for this processor compute "
                             f"something else; accepted: other sizes, or a network quantized with this one")
