"""What computes in fp32 between integer layers: which operators, why, and what share of the time they take.

Each of them costs twice: its own fp32 arithmetic, on four times the bytes, and a conversion at each side.
"""
from ...network.nodes import in_order
from ..folding import NORMS
from .fusions import ADDITIONS, SMALL_WINDOW, Leaky, is_relu, passes_integers


def find_islands(lowering, left_out):
    """{name: {"operator": MXNet's name, "reason": why it is fp32}} of a :class:`Lowering`.

    ``left_out``, {layer name: reason}, is that of the record.
    """
    order = in_order(lowering.graph.outputs)
    integer = set().union(*({end[0], *fusion.inside} for end, fusion in lowering.fusions.items()))
    middle = between(order, integer)
    found = {node.name: {"operator": node.operator, "reason": _reason(node, left_out)}
             for node in order if node in lowering.fp32 and node in middle}
    for node in lowering.converted:
        found.setdefault(node.name, {"operator": "_contrib_dequantize, _contrib_quantize_v2", "reason":
                         "its codes are unsigned, and the sum it goes into is signed"})
    return found


def between(order, integer):
    """The nodes that depend on one of ``integer`` and of which one depends on them."""
    after, before = set(), set()
    for node in order:
        if any(source in integer or source in after for source, _ in node.inputs):
            after.add(node)
    for node in reversed(order):
        if node in integer or node in before:
            before.update(source for source, _ in node.inputs)
    return after & before


def _reason(node, left_out):
    if node.name in left_out:
        return left_out[node.name]
    if node.operator == "Pooling":
        return _why_pooling(node)
    if node.operator == "LeakyReLU":
        return _why_leaky(node)
    if node.operator in NORMS:
        return "it does not follow a convolution or dense layer of its own that could take it along"
    if node.operator in ADDITIONS:
        return "no convolution before it can take it along"
    if node.operator == "Concat":
        return "its parts have ranges of different kinds, or it is not along the channels"
    if node.operator == "Flatten":
        return "what it reads is fp32"
    if is_relu(node):
        return "it follows no convolution or dense layer of its own"
    return "there is no integer kernel for it"


def _why_pooling(node):
    kind, window = node.get("pool_type", "max"), node.get("kernel", ())
    if kind not in ("max", "avg") or len(node.shapes[0]) != 4:
        return "there is no integer kernel for it"
    if passes_integers(node):
        return "what it reads is fp32"
    if node.get("global_pool", False) or window[0] * window[1] > SMALL_WINDOW:
        return f"an average over more than {SMALL_WINDOW} values gets a range of its own"
    return "its windows reach beyond the border, where the kernel divides by the whole window"


def _why_leaky(node):
    kind = node.get("act_type", "leaky")
    if kind not in ("leaky", "prelu"):
        return "there is no integer kernel for it"
    if kind == "prelu":
        if node.inputs[1][0].parameter is None:
            return "its slopes are no parameter of the network"
        by_channel = Leaky(parameter=node.inputs[1]).by_channel
        if by_channel and node.inputs[0][0].operator in ADDITIONS:
            return "behind an addition the kernels know one slope for all channels only"
        if node.inputs[0][0].operator == "Convolution" and by_channel:
            return "its convolution would have to run more than once, and sums up too many products for that"
    return "it follows no convolution of its own"
