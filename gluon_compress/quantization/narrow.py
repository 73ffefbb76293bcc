"""Integer networks for processors that add two products of 8 bits in 16: all without VNNI and AMX.

There oneDNN's kernels add 255 * 127 and 255 * 127 and cut the sum at 32767. It is neighbouring input channels, 2k and
2k + 1, that are added so, at each place of the kernel: nothing is ever cut where their weights have codes with

    |w_2k + w_2k+1| <= 128    if both have one sign; else any          255 * 128 = 32640

That takes a scale of its own for each output channel, up to twice the one that 8 bits have, and mostly less: weights of
seven and a half bits rather than of seven. Convolutions of signed integers are another case: there oneDNN halves the
codes of all weights by itself, and what is computed here is what it leaves.

**A larger scale.** MXNet makes the codes of a kernel by itself, too, and of the largest weight of each channel it makes
127, always. A larger scale takes a larger weight, one without effect. Its place is where only padding is read, which
costs nothing: a convolution over (channels, height, width) becomes one over (channels, 1, height, width), with a kernel
whose depth is three. Above and below the middle there is no image. A 1x1 convolution can have such places in its
height, far enough away; a dense layer gets a feature that is zero.

Files hold 8 bits in any case. They are narrowed when a network is made of them, where it is needed.
"""
import math
from dataclasses import replace
from functools import partial

import mxnet as mx
import numpy as np

from ..graph import Node
from .emitter import CodesEmitter, ends_of, plain
from .onednn import SIGNED_HIGH, SIGNED_LOW, loses_five
from .onednn_emitter import Int8Emitter
from .simulated_emitter import SimulatedEmitter

LARGEST_SUM = 128  # of weights, with which 16 bits hold the sum of two products
IMAGE_AXES = 4
FAR = 8192  # rows: where a 1x1 kernel is sure to find padding
LOST = 5  # places, over which some 1x1 kernels compute something else: see loses_five


def fitting(emitter_class, layers, saturates):
    """The class that writes down these layer nodes as ``emitter_class`` does, for a processor that saturates or not."""
    if not saturates:
        return emitter_class
    if issubclass(emitter_class, Int8Emitter):
        return partial(NarrowInt8Emitter, deep=not any(map(is_depthwise, layers)))
    return NarrowSimulatedEmitter


def narrow_codes(codes, scale):
    """Codes and scales with which no sum of two products is cut.

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
    over = _sums(rounded) > LARGEST_SUM  # by one: both were rounded away from zero, and one of them shall not be
    gain = np.abs(rounded) - np.abs(exact)
    first = gain[:, :, 0] >= gain[:, :, 1]
    rounded -= np.sign(rounded) * np.stack([over & first, over & ~first], axis=2)
    full = np.broadcast_to((_sums(rounded) > LARGEST_SUM - 2)[:, :, None], rounded.shape)  # both may grow
    rounded = _keep_sums(exact, rounded, full)
    rows = rounded.reshape(len(codes), -1, pairs.shape[3])[:, :codes.shape[1]]
    return rows.reshape(codes.shape).astype(np.int8), (scale * factor).astype(np.float32)


def halved_codes(codes, scale):
    """Codes and scales that a convolution of signed integers has where oneDNN halves the codes of its weights."""
    exact = codes / 2
    ends = np.abs(exact) >= SIGNED_HIGH / 2  # of these the kernel takes the scale
    return _keep_sums(exact, np.rint(exact), np.abs(exact) > 62, ends).astype(np.int8), scale * np.float32(2)


def _keep_sums(exact, rounded, full, fixed=False):
    """Round some numbers of each channel to the other side, so that the sum over the channel is what it was.

    Activations behind a ReLU are positive: what the errors of a channel's weights add up to would be added to its mean.
    The numbers closest to the middle between two codes are taken; ``full`` ones do not grow, ``fixed`` ones stay.
    """
    shape, channels = exact.shape, len(exact)
    exact, rounded, full, fixed = (np.broadcast_to(array, shape).reshape(channels, -1)
                                   for array in (exact, rounded, full, fixed))
    error = (rounded - exact).sum(axis=1, keepdims=True)
    change = -np.sign(error)
    gain = (exact - rounded) * change  # how far each is off on the side to which it would go
    gain[full & (rounded * change >= 0) | fixed | (gain <= 0)] = -np.inf
    order = np.argsort(-gain, axis=1, kind="stable")
    chosen = np.arange(gain.shape[1]) < np.rint(np.abs(error))
    steps = np.zeros_like(rounded)
    np.put_along_axis(steps, order, chosen * np.isfinite(np.take_along_axis(gain, order, axis=1)) * change, axis=1)
    return (rounded + steps).reshape(shape)


def _in_pairs(codes):
    """float64 array (channels, pairs, 2, places)."""
    rows = codes.reshape(*codes.shape[:2], -1).astype(np.float64)
    rows = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2), (0, 0)))
    return rows.reshape(len(rows), -1, 2, rows.shape[2])


def _sums(pairs):
    """What the weights of each pair can add up to: those above zero, or those below."""
    return np.maximum(np.maximum(pairs, 0).sum(axis=2), -np.minimum(pairs, 0).sum(axis=2))


def is_depthwise(layer):
    """Whether each output channel of a layer node reads one input channel: its kernels add no neighbours."""
    return layer.get("num_group", 1) > 1


def is_pointwise(layer):
    """Whether a layer node is a 1x1 convolution that moves by one place."""
    return {*layer.get("kernel"), *(layer.get("stride", ()) or (1,))} == {1}


def check_places(symbol, layers, input_shapes):
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


def notes(emitter):
    """{layer name: what is said of its weights}, of the layers that an emitter narrowed."""
    return {name: f"weights of {8 - np.log2(growth).mean():.1f} bits here"
            for name, growth in getattr(emitter, "narrowed", {}).items()}


def most_rows(emitter, graph):
    """How high the images may be that a network reads which this emitter wrote."""
    heights = [shape[2] for shape in graph.input_shapes.values() if len(shape) == IMAGE_AXES]
    return min((FAR * min(heights) // max(height, min(heights)) for height in getattr(emitter, "far", ())),
               default=math.inf)


class NarrowEmitter(CodesEmitter):
    """What both emitters below share: the codes of a layer are narrowed before it is written.

    Attributes
    ----------
    narrowed : dict
        {layer name: by how much the scale of each channel grew, float array}, of the layers that have other codes now.
    """

    def __init__(self, codes, biases):
        super().__init__(codes, biases)
        self.narrowed, self._seen, self._limited = {}, set(), set()

    def convolution(self, layer, data, *others, **named):
        self._narrow(layer, data, halved=data.range.signed)
        return super().convolution(layer, data, *others, **named)

    def dense(self, layer, data, limits=None, relu=False):
        self._narrow(layer, data, halved=False)
        return super().dense(layer, data, limits, relu)

    def _narrow(self, layer, data, halved):
        if layer.name in self._seen:
            return
        self._seen.add(layer.name)
        if halved:
            self._halve(layer.name, data)
        elif not is_depthwise(layer):
            self._limit(layer.name)

    def _halve(self, name, data):
        self.codes[name] = halved_codes(*self.codes[name])
        self.narrowed[name] = np.full(len(self.codes[name][1]), 2.0)
        if name in self.biases:  # kernels round it to halves of what is a unit now
            unit = self.codes[name][1] * np.float32(data.range.scale)
            self.biases[name] = (np.rint(self.biases[name] / unit) * unit).astype(np.float32)

    def _limit(self, name):
        scale = self.codes[name][1]
        self.codes[name] = narrow_codes(*self.codes[name])
        growth = self.codes[name][1] / scale
        if (growth > 1).any():
            self.narrowed[name] = growth
            self._limited.add(name)


class NarrowSimulatedEmitter(NarrowEmitter, SimulatedEmitter):
    """The arithmetic of :class:`NarrowInt8Emitter` in fp32."""


class NarrowInt8Emitter(NarrowEmitter, Int8Emitter):
    """oneDNN's operators, with a place for a larger weight where a layer needs one.

    Parameters
    ----------
    codes, biases : dict
        As of :class:`CodesEmitter`.
    deep : bool
        Whether images get a depth of one with the first convolution. Depthwise kernels know none, and each change from
        one to the other copies the image.
    """

    def __init__(self, codes, biases, deep=True):
        super().__init__(codes, biases)
        self.deep = deep
        self.far = []  # heights of the images that 1x1 kernels with far rows read
        self.pointwise = []  # names of layers that must not have LOST places
        self._with_depth, self._changed = set(), {}

    def dequantize(self, name, integers):
        entry = super().dequantize(name, integers)
        if integers.entry in self._with_depth:
            return plain(f"{name}_flat", "squeeze", entry, axis=2)
        return entry

    def pooling(self, pool, data):
        if data.entry not in self._with_depth:
            return super().pooling(pool, data)
        return self._mark(super().pooling(replace(pool, attributes=_deep_window(pool)), data))

    def flatten(self, flatten, data):
        return self._rows(flatten.name, data) if data.entry in self._with_depth else super().flatten(flatten, data)

    def concat(self, concat, parts):
        if not any(part.entry in self._with_depth for part in parts):
            return super().concat(concat, parts)
        return self._mark(super().concat(concat, [self._deepened(part) for part in parts]))

    def convolution(self, layer, data, limits, relu=False, summand=None, leaky=None, added=None):
        if leaky is not None and leaky.by_channel:  # comes back as several
            return Int8Emitter.convolution(self, layer, data, limits, relu, summand, leaky)
        self._narrow(layer, data, halved=data.range.signed)
        layer, deep = self._with_place(layer, data)
        change = self._deepened if deep else self._flattened
        result = Int8Emitter.convolution(self, layer, change(data), limits, relu, summand and change(summand), leaky,
                                         added and change(added))
        if data.entry in self._columns.values():
            return self._of_columns(result)
        return self._mark(result) if deep else result

    def _with_place(self, layer, data):
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

    def dense(self, layer, data, limits=None, relu=False):
        self._narrow(layer, data, halved=False)
        if data.entry in self._with_depth or self._needs_place(layer) and len(layer.input_shape(0)) > 2:
            data = self._rows(f"{layer.name}_features", data)
        if self._needs_place(layer):
            data = self._with_zeros(layer, data)
        return Int8Emitter.dense(self, layer, data, limits, relu)

    def runs_as_convolution(self, layer, data):
        return super().runs_as_convolution(layer, data) and not data.range.signed  # else it would be halved

    def _as_columns(self, name, data):
        columns = super()._as_columns(name, data)
        if not loses_five():
            return columns
        shape = {"shape": f"(1, {self.codes[name][0].shape[1]}, 5, 1)", "dtype": "uint8"}
        more = Node(f"{name}_more", "_zeros", shape, [()]), 0
        columns = Node(f"{name}_and_more", "Concat", {"num_args": "2", "dim": "2"}, [()], inputs=[columns, more]), 0
        self._columns[name] = columns  # more than five columns, of whatever batch
        return columns

    def _of_columns(self, integers):
        """What :meth:`_as_columns` added is taken away again."""
        if not loses_five():
            return integers
        name = integers.entry[0].name
        columns = plain(f"{name}_without_more", "slice_axis", integers.entry, axis=2, begin=0, end=-5)
        return replace(integers, entry=columns, ends=ends_of(integers))

    def _with_zeros(self, layer, data):
        """A feature of zeros more, and another where it would be the neighbour of one that is none."""
        codes, scale = self.codes[layer.name]
        zeros = 1 + codes.shape[1] % 2
        wide = np.pad(codes, ((0, 0), (0, zeros)))
        wide[:, -1] = SIGNED_HIGH
        self.codes[layer.name] = wide, scale
        zero = plain(f"{layer.name}_first", "slice_axis", data.entry, axis=1, begin=0, end=zeros)
        zero = plain(f"{layer.name}_zeros", "zeros_like", zero)
        rows = Node(f"{layer.name}_and_zeros", "Concat", {"num_args": "2", "dim": "1"}, [()], inputs=[data.entry, zero])
        return replace(data, entry=(rows, 0), ends=ends_of(data))

    def _rows(self, name, data):
        data = self._flattened(data)
        return replace(data, entry=plain(name, "Flatten", data.entry), ends=ends_of(data))

    def _needs_place(self, layer):
        return layer.name in self._limited

    def _halve(self, name, data):
        """Codes and scales of which the kernel makes the halved ones."""
        super()._halve(name, data)
        codes, scale = self.codes[name]
        doubled = np.clip(2 * codes.astype(np.int16), SIGNED_LOW, SIGNED_HIGH).astype(np.int8)
        self.codes[name] = doubled, scale / np.float32(2)

    def _above_and_below(self, layer):
        """The layer on images with a depth of one; the larger weight lies above them.

        A stride of two in the depth leaves the one there is, and keeps from the 1x1 kernels that lose five places.
        """
        codes, scale = self.codes[layer.name]
        codes, size = codes[:, :, None], 1
        if self._needs_place(layer):
            codes, size = np.pad(codes, ((0, 0), (0, 0), (1, 1), (0, 0), (0, 0))), 3
            codes[:, 0, 0, 0, 0] = SIGNED_HIGH
        self.codes[layer.name] = codes, scale
        step = 2 if is_pointwise(layer) and size == 1 and loses_five() else 1
        return replace(layer, attributes=_deep_window(layer, size, step, dilate=True))

    def _far_away(self, layer):
        """A 1x1 layer as one of three rows; the first, where the larger weight lies, and the last read nothing."""
        codes, scale = self.codes[layer.name]
        codes = np.pad(codes, ((0, 0), (0, 0), (1, 1), (0, 0)))
        if self._needs_place(layer):
            codes[:, 0, 0, 0] = SIGNED_HIGH
        self.codes[layer.name] = codes, scale
        self.far.append(layer.input_shape(0)[2])
        return replace(layer, attributes={**layer.attributes, "kernel": "(3, 1)", "pad": f"({FAR}, 0)",
                                          "dilate": f"({FAR}, 1)"})

    def _mark(self, integers):
        self._with_depth.add(integers.entry)
        return integers

    def _deepened(self, integers):
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

    def _flattened(self, integers):
        """The same images without a depth."""
        if integers.entry not in self._with_depth:
            return integers
        if integers.entry not in self._changed:
            image = plain(f"{integers.entry[0].name}_flat", "squeeze", integers.entry, axis=2)
            self._changed[integers.entry] = replace(integers, entry=image, ends=ends_of(integers))
        return self._changed[integers.entry]


def _deep_window(node, size=1, step=1, dilate=False):
    """The attributes of a convolution or pooling on images with a depth of one, for a window of this depth."""
    given = {"kernel": (size, node.get("kernel")), "stride": (step, node.get("stride", ()) or (1, 1)),
             "pad": (size // 2, node.get("pad", ()) or (0, 0))}
    if dilate:
        given["dilate"] = (1, node.get("dilate", ()) or (1, 1))
    attributes = {name: value for name, value in node.attributes.items() if name != "layout"}
    return {**attributes, **{name: str((first, *rest)) for name, (first, rest) in given.items()}}
