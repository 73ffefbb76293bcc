"""BatchNorm's scale, moved into the weights of the layer before it.

In inference a BatchNorm computes, with its running statistics,

    y = gamma * (x - mean) / sqrt(var + eps) + beta = alpha * x - alpha * mean + beta
    alpha = gamma / sqrt(var + eps)

Where x = W * input + b, this equals (alpha W) * input + alpha b - alpha mean + beta: the weights can do the scaling,
and only a shift is left to BatchNorm. Weights are then quantized at the scale at which they act. Jacob et al.,
"Quantization and training of neural networks for efficient integer-arithmetic-only inference", CVPR 2018,
section 3.2. The shift stays in the BatchNorm instead of going into the bias, so that the network keeps its layers and
its parameters; a compiler that fuses BatchNorm into the layer finds alpha = 1.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mxnet.gluon import HybridBlock

from ..errors import NetworkError
from ..files.schema import REASONS, fields, mapping, text
from ..network.graph import Graph
from ..network.layer import selected_and_excluded
from ..network.nodes import Entry, Node, consumers
from ..network.norms import norm_name, scale_and_shift
from ..network.values import restore_snapshot, snapshot
from ..records import Record
from ..tables import format_table


@dataclass(repr=False)
class FoldedNorms(Record):
    """What :func:`fold_batch_norm` did.

    Attributes
    ----------
    folded : dict
        {BatchNorm: layer whose weights now have its scale}, by structural names.
    left_out : dict
        {BatchNorm: why its scale stayed}.
    """

    title = "record of folded BatchNorms"
    schema = fields({"folded": mapping(text()), "left_out": REASONS})

    folded: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def summary(self) -> str:
        """A table with a row for each BatchNorm."""
        rows = [(norm, layer, "") for norm, layer in self.folded.items()]
        rows += [(norm, "", f"left out: {reason}") for norm, reason in self.left_out.items()]
        return format_table(("BatchNorm", "scale now in", "note"), rows)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serializable."""
        return {"folded": self.folded, "left_out": self.left_out}


def fold_batch_norm(net: HybridBlock, example: Any, select: Any = None, exclude: Any = ()) -> FoldedNorms:
    """Move the scale of each BatchNorm into the weights of the layer whose output it reads.

        fold_batch_norm(net, example)
        scales = quantize_weights(net, bits=4, clip="mse")

    The layer is a convolution, a transposed one or a dense layer that nothing else reads; its weights and bias are
    multiplied by alpha, channel by channel. The BatchNorm keeps its place and its beta, with gamma = 1,
    running_var = 1 - eps and running_mean = alpha * mean. A BatchNorm that follows anything else stays as it is, and so
    does one that is used twice, or whose layer is.

    With one scale for each channel, weights round as they would without folding. With one scale for a whole layer they
    do not: the error is larger where the folded weights differ more in range from channel to channel, smaller where
    they differ less.

    In inference, the network's outputs stay the same except for rounding. In further training they do not: a BatchNorm
    then divides by the batch's deviation, so the scale in the weights is lost, and gamma is 1. Fold after training, or
    let :func:`~gluon_compress.pruning.reestimate_batch_norm` with ``keep_outputs=True`` mend that.

    Parameters
    ----------
    net : HybridBlock
        A SymbolBlock is one. Changed in place.
    example : NDArray or tuple of NDArray
        A batch of its input; only the shape counts.
    select, exclude : name, kind, class or function of layers, or several of these
        Which layers take in the scale of the BatchNorm after them, by default all that can, and which do not; see
        :func:`~gluon_compress.network.select_layers`.

    Returns
    -------
    FoldedNorms
        Empty for a network without BatchNorm. A second call changes nothing.

    Raises
    ------
    NetworkError
        When the network cannot be traced, or a weight would not be finite. The network is then unchanged.
    """
    graph, before = Graph(net, example), snapshot(net)
    pairs, reasons = batch_norm_pairs(graph)
    selected, excluded = selected_and_excluded(net, select, exclude)
    for norm, layer in list(pairs.items()):
        name = layer.layer
        if name in excluded or name not in selected:
            reasons[norm] = f"{name} is {'excluded' if name in excluded else 'not selected'}"
            del pairs[norm]
    changes: dict[str, np.ndarray] = {}
    for norm, layer in pairs.items():
        changes.update(folded(norm, layer, before))
    for name, value in before.items():
        if not np.isfinite(value).all():
            raise NetworkError(f"parameter {name} has values that are NaN or infinite; accepted: finite numbers")
    try:
        restore_snapshot(net, changes)
    except Exception:
        restore_snapshot(net, before)
        raise
    return FoldedNorms({norm_name(norm): layer.layer or layer.name for norm, layer in pairs.items()},
                       {norm_name(norm): reason for norm, reason in reasons.items()})


def batch_norm_pairs(graph: Graph) -> tuple[dict[Node, Node], dict[Node, str]]:
    """``({BatchNorm node: layer node before it}, {BatchNorm node: why its scale has to stay})`` of a Graph."""
    reads = Counter(source for node in graph.nodes for source, _ in node.inputs)
    reads.update(node for node, _ in graph.outputs)
    readers = consumers(graph.outputs)
    pairs: dict[Node, Node] = {}
    reasons: dict[Node, str] = {}
    for norm in graph.nodes:
        if norm.meaning.keeps_statistics:
            reason = _obstacle(norm, reads, readers)
            if reason is None:
                pairs[norm] = norm.inputs[0][0]
            else:
                reasons[norm] = reason
    return pairs, reasons


def _obstacle(norm: Node, reads: Counter[Node], readers: Mapping[Entry, list[Node]]) -> str | None:
    layer = norm.inputs[0][0]
    if layer.kind is None or layer.macs is None:
        what = "variable" if layer.operator == "null" else layer.operator
        return f"it reads the {what} {layer.name}, not a convolution or dense layer"
    if reads[layer] > 1:
        return f"the output of {layer.name} is used elsewhere too"
    if any(node is norm and output > 0 for node, output in readers):
        return "the network reads its mean or variance"
    for owner, entries in ((layer.name, layer.inputs[1:]), ("the BatchNorm", norm.inputs[1:])):
        for source, _ in entries:
            if source.parameter is None:
                return f"{source.name}, which {owner} reads, is not a parameter of the network"
            if reads[source] > 1:
                return f"{source.parameter} is used more than once"
            if source.constant:
                return f"{source.parameter} is a gluon.Constant"
    axis, channels = norm.channel_axis, layer.channel_axis
    if axis != channels:
        return f"it normalizes axis {axis}, the channels of {layer.name} are on axis {channels}"
    if norm.get("eps") > 1:
        return f"eps is {norm.get('eps')}, and no running_var of 0 or more would make it 1"
    return None


def folded(norm: Node, layer: Node, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{structural name: new value} of the parameters of such a pair, ``values`` being those of all."""
    norms, layers = norm.parameters, layer.parameters
    gamma, mean, variance = norms["gamma"], norms["mean"], norms["variance"]
    weight, bias = layers["weight"], layers.get("bias")
    alpha, _ = scale_and_shift(norm, values)
    with np.errstate(all="ignore"):
        new = {weight: _scaled_weight(layer, values[weight].astype(np.float64), alpha), mean: alpha * values[mean],
               gamma: np.ones_like(alpha), variance: np.full_like(alpha, 1 - np.float32(norm.get("eps")))}
        if bias:
            new[bias] = alpha * values[bias]
        new = {name: value.astype(values[name].dtype) for name, value in new.items()}
    for name, value in new.items():
        if not (np.isfinite(values[name]).all() and np.isfinite(value).all()):
            raise NetworkError(f"{name} is not finite, or would not be with the scale of {norm_name(norm)}: "
                               f"look for NaN, infinity and negative running_var in both")
    return new


def _scaled_weight(layer: Node, weight: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    if layer.meaning.weight_channels == 0:  # (out, ...)
        return weight * alpha.reshape([-1] + [1] * (weight.ndim - 1))
    groups = layer.groups  # (in, out / groups, ...)
    grouped = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    return (grouped * alpha.reshape(groups, 1, -1, 1)).reshape(weight.shape)
