"""What a layer on integers takes along in one operator, and what between two layers passes integers on.

    convolution -> addition of a shortcut -> ReLU or leaky ReLU      one operator
    convolution -> PReLU with a slope for each channel               two or three: see onednn_emitter.py
    dense layer -> ReLU                                              one operator
"""
import math
from dataclasses import dataclass, replace

import numpy as np

from ...network.nodes import Node, consumers, in_order

ADDITIONS = ("elemwise_add", "broadcast_add")
MOST_PRODUCTS = 2304  # in the further passes of a PReLU's convolution; with more, fp32 and conversions take less time
SMALL_WINDOW = 16  # an average over more values than this is much smaller than its largest: it gets a range of its own


@dataclass(frozen=True)
class Leaky:
    """max(x, 0) + slope * min(x, 0).

    Attributes
    ----------
    slope : float, float32 array (channels,) or None
        None where it is learned, until :meth:`with_values`.
    parameter : (Node, int) or None
        The slope, where it is learned.
    """

    slope: object = None
    parameter: tuple = None

    @property
    def by_channel(self):
        return np.ndim(self.slope) > 0 if self.parameter is None else math.prod(_shape(self.parameter)) > 1

    def with_values(self, values):
        """The same with the slope that the parameters have, {structural name: array}."""
        if self.parameter is None:
            return self
        slope = np.asarray(values[self.parameter[0].parameter], np.float32).ravel()
        return replace(self, slope=slope if self.by_channel else float(slope[0]))

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


def leaky_activations(outputs):
    """{node: Leaky} of the leaky ReLUs and PReLUs in a graph."""
    found = {}
    for node in in_order(outputs):
        kind = node.get("act_type", "leaky") if node.operator == "LeakyReLU" else None
        if kind == "leaky":
            found[node] = Leaky(float(node.get("slope", 0.25)))
        elif kind == "prelu" and node.inputs[1][0].parameter is not None:
            found[node] = Leaky(parameter=node.inputs[1])
    return found


def worth_while(leaky, layer):
    """Whether the further passes of a layer that takes this activation along cost less than fp32 behind it."""
    return layer.operator != "Convolution" or (
        (leaky.passes - 1) * math.prod(_shape(layer.inputs[1])[1:]) <= MOST_PRODUCTS)


def _shape(entry):
    node, output = entry
    return node.shapes[output]


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
            if not relu and leaky_of(reader, takes) is None and not wanted((node, 0), readers, chosen):
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


def wanted(entry, readers, chosen):
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


def is_maximum(node):
    return node.operator == "Pooling" and node.get("pool_type", "max") == "max"
