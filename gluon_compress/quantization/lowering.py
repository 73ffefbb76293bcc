"""From an fp32 graph and the ranges of its tensors to one of integers.

Convolutions and dense layers read and write integers, and take along what follows them:

    convolution -> addition of a shortcut -> ReLU or leaky ReLU      one operator
    convolution -> PReLU with a slope for each channel               two or three: see emitters.py
    dense layer -> ReLU                                              one operator

Pooling, flattening and concatenation between such layers pass integers on; everything else stays fp32, with a
conversion at each border: islands.py names it. Tensors behind a ReLU are unsigned, which gives them twice the
resolution.

**Shortcuts.** The integer convolution adds a shortcut of its output's kind only: with a signed shortcut under a ReLU
MXNet 1.9.1 cuts the unsigned result at 127, half of its range. Where such a shortcut comes from a convolution of its
own (He et al., 2015, option B), that one gets a constant added to its bias that makes its output positive, and the sum
the same taken away: exact, and with 255 levels instead of 127.
"""
import math
from dataclasses import dataclass, replace

import numpy as np

from ..graph import Node, consumers, in_order

ADDITIONS = ("elemwise_add", "broadcast_add")
MOST_PRODUCTS = 2304  # in the further passes of a PReLU's convolution; with more, fp32 and conversions take less time
SMALL_WINDOW = 16  # an average over more values than this is much smaller than its largest: it gets a range of its own


@dataclass(frozen=True)
class Leaky:
    """max(x, 0) + slope * min(x, 0).

    Attributes
    ----------
    slope : float or float32 array (channels,)
    parameter : (Node, int) or None
        The slope, where it is learned.
    """

    slope: object
    parameter: tuple = None

    @property
    def by_channel(self):
        return np.ndim(self.slope) > 0

    @property
    def passes(self):
        """How often the convolution runs."""
        return 1 + (int(np.any(self.slope < 0)) + int(np.any(self.slope > 0)) if self.by_channel else 0)


@dataclass
class Fusion:
    """A layer and what is computed with it.

    Attributes
    ----------
    layer : Node
    data : (Node, int)
        What the layer reads.
    end : (Node, int)
        What comes out: of the layer, the addition or the activation.
    summand : (Node, int) or None
        What is added to the layer's output.
    relu : bool
    ceiling : float or None
        Of a ReLU6 and the like.
    leaky : Leaky or None
    shifted : Fusion or None
        The one that makes the summand, when that is signed and the sum is not.
    """

    layer: Node
    data: tuple
    end: tuple
    summand: tuple = None
    relu: bool = False
    ceiling: float = None
    shifted: "Fusion" = None
    leaky: Leaky = None

    @property
    def activated(self):
        return self.relu or self.leaky is not None

    @property
    def inside(self):
        """The nodes before the end."""
        addition = self.end[0].inputs[0][0] if self.activated else self.end[0]
        return {self.layer} | ({addition} if self.summand else set()) - {self.end[0]}


def obstacle(node):
    """Why a layer cannot run on integers, or None."""
    if node.operator == "FullyConnected":
        if not node.get("flatten", True) and len(node.inputs[0][0].shapes[node.inputs[0][1]]) > 2:
            return "a dense layer over the last of several axes (flatten=False) has no integer kernel"
        return None
    if len(node.get("kernel")) != 2 or (node.get("layout") or "NCHW") != "NCHW":
        return f"a convolution of layout {node.get('layout')} has no integer kernel"
    groups, channels = node.get("num_group", 1), node.shapes[0][1]
    if groups > 1 and (groups != channels or groups != node.inputs[0][0].shapes[node.inputs[0][1]][1]):
        return "MXNet 1.9.1 gives grouped convolutions on integers wrong scales, other than depthwise ones"
    return None


def leaky_activations(outputs, values):
    """{node: Leaky} of the leaky ReLUs and PReLUs in a graph whose parameters have these ``values``."""
    found = {}
    for node in in_order(outputs):
        kind = node.get("act_type", "leaky") if node.operator == "LeakyReLU" else None
        if kind == "leaky":
            found[node] = Leaky(float(node.get("slope", 0.25)))
        elif kind == "prelu" and node.inputs[1][0].parameter is not None:
            slope = np.asarray(values[node.inputs[1][0].parameter], np.float32).ravel()
            found[node] = Leaky(slope if slope.size > 1 else float(slope[0]), node.inputs[1])
    return found


def worth_while(leaky, layer):
    """Whether the further passes of a layer that takes this activation along cost less than fp32 behind it."""
    return layer.operator != "Convolution" or (
        (leaky.passes - 1) * math.prod(layer.inputs[1][0].shapes[0][1:]) <= MOST_PRODUCTS)


def find_fusions(outputs, chosen, leaky=None, with_leaky=None):
    """{end of the fusion: Fusion} for the layer nodes of ``chosen``, a set of names.

    ``leaky``, {node: Leaky}, holds the activations that convolutions may take along; of those only the ones that are
    named in ``with_leaky`` do, a set (by default all).
    """
    readers, heads, order = consumers(outputs), set(outputs), in_order(outputs)
    place = {node: index for index, node in enumerate(order)}
    fusions = {(node, 0): Fusion(node, node.inputs[0], (node, 0)) for node in order
               if node.operator != "null" and node.name in chosen}

    def only_reader(entry):
        found = readers.get(entry, [])
        return found[0] if len(found) == 1 and entry not in heads else None

    def leaky_of(node, fusion):
        """What a fusion computes with that activation, or None."""
        activation = (leaky or {}).get(node)
        fits = (activation is not None and fusion.layer.operator == "Convolution" and not fusion.activated
                and (with_leaky is None or fusion.layer.name in with_leaky)
                and not (activation.by_channel and fusion.summand))
        return activation if fits else None

    for node in order:
        if node.operator in ADDITIONS and node.inputs[0] != node.inputs[1] and (
                node.input_shape(0) == node.input_shape(1)) and _same_samples(*node.inputs):
            hosts = [entry for entry in node.inputs if entry in fusions and only_reader(entry) is node
                     and fusions[entry].layer.operator == "Convolution" and not fusions[entry].activated]
            if not hosts:
                continue
            host = max(hosts, key=lambda entry: place[entry[0]])
            summand = next(entry for entry in node.inputs if entry != host)
            reader = only_reader((node, 0))
            relu = reader is not None and is_relu(reader)
            takes = replace(fusions[host], summand=summand)
            if not relu and leaky_of(reader, takes) is None and not _wanted((node, 0), readers, chosen):
                continue
            if relu and not _unsigned(summand, fusions):
                if summand not in hosts:
                    continue
                fusions[host].shifted = fusions[summand]
            fusion = fusions.pop(host)
            fusion.summand, fusion.end = summand, (node, 0)
            fusions[fusion.end] = fusion
        elif node.inputs and node.inputs[0] in fusions and only_reader(node.inputs[0]) is node:
            fusion = fusions[node.inputs[0]]
            if is_relu(node) and not fusion.activated:
                fusion.relu, fusion.ceiling = True, _ceiling(node)
            elif leaky_of(node, fusion) is not None:
                fusion.leaky = leaky_of(node, fusion)
            else:
                continue
            del fusions[fusion.end]
            fusion.end = (node, 0)
            fusions[fusion.end] = fusion
    return fusions


def _same_samples(one, other):
    """Whether two tensors of equal shape have that with any number of samples: both come from the same inputs."""
    def inputs(entry):
        return {node for node in in_order([entry]) if node.operator == "null" and node.parameter is None}
    return inputs(one) == inputs(other) != set()


def is_relu(node):
    return (node.operator == "relu" or node.operator == "Activation" and node.get("act_type") == "relu"
            or node.operator == "clip" and float(node.get("a_min")) == 0 and float(node.get("a_max")) > 0)


def _ceiling(relu):
    ceiling = float(relu.get("a_max")) if relu.operator == "clip" else math.inf
    return None if ceiling == math.inf else ceiling


def _unsigned(entry, fusions):
    """Whether a tensor cannot have negative values."""
    node = entry[0]
    if entry in fusions:
        return fusions[entry].relu
    return is_relu(node) or passes_integers(node) and all(_unsigned(source, fusions) for source in node.inputs)


def _wanted(entry, readers, chosen):
    """Whether a layer of ``chosen`` reads this tensor, directly or behind what passes integers on."""
    stack = [entry]
    while stack:
        for reader in readers.get(stack.pop(), []):
            if reader.name in chosen:
                return True
            if passes_integers(reader):
                stack.append((reader, 0))
    return False


def passes_integers(node):
    """Pooling over small windows, flattening, concatenation along the channels."""
    if node.operator == "Pooling":
        window = node.get("kernel", ())
        small = len(window) == 2 and window[0] * window[1] <= SMALL_WINDOW and not node.get("global_pool", False)
        # at the border the integer kernel divides by the whole window
        whole = node.get("pooling_convention", "valid") == "valid" and (
            node.get("count_include_pad", True) is not False or not any(node.get("pad", ())))
        kind = node.get("pool_type", "max")
        return len(node.shapes[0]) == 4 and (kind == "max" or kind == "avg" and small and whole)
    return node.operator == "Flatten" or node.operator == "Concat" and node.get("dim", 1) > 0


def _is_maximum(node):
    return node.operator == "Pooling" and node.get("pool_type", "max") == "max"


def align_ranges(outputs, fusions, ranges, chosen):
    """Give all that meets in a concatenation the range of the largest, so that their codes can lie side by side.

    Parts of which some are signed and some are not, or end at different ceilings, keep theirs: that concatenation is
    fp32.
    """
    readers = consumers(outputs)
    for node in in_order(outputs):
        if node.operator == "Concat" and passes_integers(node) and _wanted((node, 0), readers, chosen):
            ends = [end for entry in node.inputs for end in _sources(entry)]
            if all(end in fusions for end in ends) and len({(fusions[end].relu, fusions[end].ceiling)
                                                            for end in ends}) == 1:
                largest = max((_limits(fusions[end], ranges) for end in ends), key=lambda limits: limits.threshold)
                ranges.update(dict.fromkeys(ends, largest))


def _sources(entry):
    """The tensors whose codes arrive at ``entry`` unchanged."""
    if not passes_integers(entry[0]):
        return [entry]
    return [end for source in entry[0].inputs for end in _sources(source)]


def _limits(fusion, ranges):
    """The range of what a fusion writes."""
    threshold = ranges[fusion.end].threshold
    return replace(ranges[fusion.end], signed=not fusion.relu,
                   threshold=threshold if fusion.ceiling is None else min(threshold, fusion.ceiling))


class Lowering:
    """Makes the integer graph.

    Parameters
    ----------
    graph : InferenceGraph
    fusions : dict
        Of :func:`find_fusions`.
    ranges : dict
        {(Node, int): Range} of what the fusions read and write.
    lowest : dict
        {(Node, int): smallest value} of the shortcuts.
    emitter : Int8Emitter, SimulatedEmitter or TrainingEmitter
        It knows the weights of the layers that run on integers, and is told where shortcuts are shifted.
    """

    def __init__(self, graph, fusions, ranges, lowest, emitter):
        self.graph, self.fusions, self.emitter = graph, fusions, emitter
        self.chosen = {fusion.layer.name for fusion in fusions.values()}
        self.ranges, self.lowest = dict(ranges), lowest
        self.readers = consumers(graph.outputs)
        self.real, self.integers = {}, {}
        self.fp32 = set()  # operators that stay what they are
        self.converted = []  # nodes whose integers go through fp32 to become signed or unsigned

    def outputs(self):
        """[(Node, int)] of the integer graph, whose results are fp32."""
        align_ranges(self.graph.outputs, self.fusions, self.ranges, self.chosen)
        for fusion in self.fusions.values():
            if fusion.shifted:
                self._shift(fusion)
        inside = set().union(*(fusion.inside for fusion in self.fusions.values()))
        for node in in_order(self.graph.outputs):
            if (node, 0) in self.fusions:
                self._fused(self.fusions[node, 0])
            elif node not in inside:
                self._single(node)
        return [self._real(entry) for entry in self.graph.outputs]

    def values(self):
        """{parameter node name: array} of the integer graph; after :meth:`outputs`."""
        return {**self.graph.values, **self.emitter.values}

    def end(self, layer):
        """The entry, in fp32, of what the fusion of the layer of this name writes; after :meth:`outputs`."""
        return self._real(next(end for end, fusion in self.fusions.items() if fusion.layer.name == layer))

    def _shift(self, fusion):
        """relu(a + b) = relu((a - c) + (b + c)), with c so that b + c is positive."""
        shortcut = fusion.shifted
        offset = max(0.0, -self.lowest[shortcut.end])
        self.emitter.shift(shortcut.layer, fusion.layer, offset)
        limits = self.ranges[shortcut.end]
        self.ranges[shortcut.end] = replace(limits, threshold=limits.threshold + offset, signed=False)
        shortcut.relu = True

    def _single(self, node):
        if node.operator == "null":
            self.real[node, 0] = (node, 0)
            return
        if passes_integers(node) and (_is_maximum(node) or _wanted((node, 0), self.readers, self.chosen)):
            parts = [self.integers.get(entry) for entry in node.inputs]
            if not any(parts) and _is_maximum(node) and (node, 0) in self.ranges:
                # the code of a maximum is the maximum of codes
                parts = [self.emitter.quantize(f"{node.name}_quantize", self._real(node.inputs[0]),
                                               self.ranges[node, 0])]
            if all(parts) and len({part.range for part in parts}) == 1:
                self.integers[node, 0] = self._passed_on(node, parts)
                return
        self.fp32.add(node)
        copy = Node(node.name, node.operator, node.attributes, node.shapes, node.parameter,
                    inputs=[self._real(entry) for entry in node.inputs])
        self.real.update({(node, output): (copy, output) for output in range(len(node.shapes))})

    def _passed_on(self, node, parts):
        if node.operator == "Pooling":
            return self.emitter.pooling(node, parts[0])
        if node.operator == "Flatten":
            return self.emitter.flatten(node, parts[0])
        return self.emitter.concat(node, parts)

    def _fused(self, fusion):
        data, limits = self._integers(fusion.data), _limits(fusion, self.ranges)
        if fusion.layer.operator == "Convolution":
            summand = None if fusion.summand is None else self._summand(fusion, limits)
            result = self.emitter.convolution(fusion.layer, data, limits, fusion.relu, summand, fusion.leaky)
        elif _wanted(fusion.end, self.readers, self.chosen):
            result = self.emitter.dense(fusion.layer, data, limits, fusion.relu)
        else:
            self.real[fusion.end] = self._capped(fusion, self.emitter.dense(fusion.layer, data, None, fusion.relu))
            return
        self.integers[fusion.end] = result

    @staticmethod
    def _capped(fusion, entry):
        """An fp32 tensor, cut at the ceiling of a ReLU6 and the like; of integers the range does that."""
        if fusion.ceiling is None:
            return entry
        ends = {"a_min": "0", "a_max": repr(float(fusion.ceiling))}
        return Node(f"{fusion.layer.name}_ceiling", "clip", ends, [()], inputs=[entry]), 0

    def _summand(self, fusion, limits):
        integers = self._integers(fusion.summand)
        if integers.range.signed == limits.signed:
            return integers
        self.converted.append(fusion.summand[0])
        name = f"{fusion.summand[0].name}_{'signed' if limits.signed else 'unsigned'}"
        return self.emitter.quantize(name, self._real(fusion.summand), replace(integers.range, signed=limits.signed))

    def _real(self, entry):
        if entry not in self.real:
            self.real[entry] = self.emitter.dequantize(f"{entry[0].name}_dequantize", self.integers[entry])
        return self.real[entry]

    def _integers(self, entry):
        if entry not in self.integers:
            self.integers[entry] = self.emitter.quantize(f"{entry[0].name}_quantize", self.real[entry],
                                                         self.ranges[entry])
        return self.integers[entry]
