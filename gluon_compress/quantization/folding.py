"""BatchNorm's scale, moved into the weights of the layer before it.

In inference a BatchNorm computes, with its running statistics,

    y = gamma * (x - mean) / sqrt(var + eps) + beta = alpha * x - alpha * mean + beta
    alpha = gamma / sqrt(var + eps)

Where x = W * input + b, the same is (alpha W) * input + alpha b - alpha mean + beta: the weights can do the scaling,
and BatchNorm is left with a shift. Weights are then quantized with the scale with which they act. Jacob et al.,
"Quantization and training of neural networks for efficient integer-arithmetic-only inference", CVPR 2018,
section 3.2. The shift stays in the BatchNorm rather than go into the bias, so that the network keeps its layers and
its parameters; a compiler that fuses BatchNorm into the layer finds alpha = 1.
"""
import ast
from dataclasses import dataclass, field

import numpy as np
from mxnet.gluon import Constant

from ..errors import NetworkError
from ..network import layer_name, parameters, restore_snapshot, set_values
from ..symbol_graph import example_inputs, trace
from ..tables import format_table

LAYERS = ("Convolution", "Deconvolution", "FullyConnected")
NORMS = ("BatchNorm", "_contrib_SyncBatchNorm", "_contrib_BatchNormWithReLU")
SUFFIXES = (".gamma", "_gamma")


@dataclass
class FoldedNorms:
    """What :func:`fold_batch_norm` did.

    Attributes
    ----------
    folded : dict
        {BatchNorm: layer whose weights now have its scale}, by structural names.
    left_out : dict
        {BatchNorm: why its scale stayed}.
    """

    folded: dict = field(default_factory=dict)
    left_out: dict = field(default_factory=dict)

    def summary(self):
        """A table with a row for each BatchNorm."""
        rows = [(norm, layer, "") for norm, layer in self.folded.items()]
        rows += [(norm, "", f"untouched: {reason}") for norm, reason in self.left_out.items()]
        return format_table(("BatchNorm", "scale now in", "note"), rows)

    __str__ = __repr__ = summary


def fold_batch_norm(net, example):
    """Move the scale of each BatchNorm into the weights of the layer whose output it reads.

        fold_batch_norm(net, example)
        scales = quantize_weights(net, bits=4, clip="mse")

    The layer is a convolution, a transposed one or a dense layer that nothing else reads; its weights and bias are
    multiplied by alpha, channel by channel. The BatchNorm keeps its place and its beta, with gamma = 1,
    running_var = 1 - eps and running_mean = alpha * mean. All others stay as they are: after something else than
    such a layer, or where layer or BatchNorm are used twice.

    With one scale for each channel, weights round as they would without; with one for a whole layer the error is
    another, larger or smaller as the products' ranges differ more or less from channel to channel than the weights'.

    The network's outputs in inference are the same but for rounding. Training it on is another matter: there a
    BatchNorm divides by the batch's deviation, whatever the weights' scale is, and gamma = 1 is what is left. Fold
    when training is over.

    Parameters
    ----------
    net : HybridBlock
        A SymbolBlock is one. Changed in place.
    example : NDArray or tuple of NDArray
        A batch of its input; only the shape counts.

    Returns
    -------
    FoldedNorms
        It is empty for a network without BatchNorm, and calling again changes nothing.

    Raises
    ------
    NetworkError
        When the network cannot be traced, or a weight would not be finite. The network is then unchanged.
    """
    graph = _Graph(net, example_inputs(example))
    record, changes = FoldedNorms(), {}
    for norm in graph.nodes:
        if norm["op"] in NORMS:
            name, reason = graph.norm_name(norm), graph.obstacle(norm)
            if reason is None:
                record.folded[name] = layer_name(graph.parameter_name(graph.layer(norm)["inputs"][1]))
                changes.update(graph.folded_values(norm))
            else:
                record.left_out[name] = reason
    before = {name: graph.value(name) for name in changes}
    try:
        set_values(net, changes)
    except Exception:
        restore_snapshot(net, before)
        raise
    return record


class _Graph:
    """The network's operators, who reads what, and the values of its parameters."""

    def __init__(self, net, inputs):
        traced = trace(net, len(inputs))
        content = traced.content()
        self.nodes = content["nodes"]
        self.shapes = traced.shapes([value.shape for value in inputs])
        self._parameters = parameters(net)
        structural = {id(parameter): name for name, parameter in self._parameters.items()}
        self._names = {name: structural[id(parameter)] for name, parameter in traced.parameters.items()}
        read = [entry for node in self.nodes for entry in node["inputs"]] + content["heads"]
        self._reads = [(source, output) for source, output, *_ in read]

    def layer(self, norm):
        """The node whose output the BatchNorm normalizes."""
        return self.nodes[norm["inputs"][0][0]]

    def norm_name(self, norm):
        name = self.parameter_name(norm["inputs"][1]) or norm["name"]
        return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)

    def parameter_name(self, entry):
        """Structural name of the parameter that is read there; None for anything else."""
        return self._names.get(self.nodes[entry[0]]["name"])

    def value(self, name):
        return self._parameters[name].list_data()[0].asnumpy()

    def obstacle(self, norm):
        """Why the scale of this BatchNorm has to stay; None when it can go."""
        layer, source = self.layer(norm), norm["inputs"][0][0]
        if layer["op"] not in LAYERS:
            what = "variable" if layer["op"] == "null" else layer["op"]
            return f"it reads the {what} {layer['name']}, no convolution or dense layer"
        if sum(index == source for index, _ in self._reads) > 1:
            return f"the output of {layer['name']} is used elsewhere too"
        if any(self.nodes[index] is norm and output > 0 for index, output in self._reads):
            return "the network reads its mean or variance"
        for owner, entries in ((layer["name"], layer["inputs"][1:]), ("the BatchNorm", norm["inputs"][1:])):
            for entry in entries:
                name = self.parameter_name(entry)
                if name is None:
                    return f"{self.nodes[entry[0]]['name']}, which {owner} reads, is no parameter of the network"
                if sum(index == entry[0] for index, _ in self._reads) > 1:
                    return f"{name} is used more than once"
                if isinstance(self._parameters[name], Constant):
                    return f"{name} is a gluon.Constant"
        axis, channels = self._norm_axis(norm), self._channel_axis(layer)
        if axis != channels:
            return f"it normalizes axis {axis}, the channels of {layer['name']} are on axis {channels}"
        if _eps(norm) > 1:
            return f"eps is {_eps(norm)}, and no running_var of 0 or more would make it 1"
        return None

    def folded_values(self, norm):
        """{structural name: new value} of all parameters that change."""
        layer = self.layer(norm)
        gamma, beta, mean, variance = (self.parameter_name(entry) for entry in norm["inputs"][1:])
        weight, *bias = (self.parameter_name(entry) for entry in layer["inputs"][1:])
        eps = np.float32(_eps(norm))
        scale = 1 if _flag(norm, "fix_gamma", True) else self.value(gamma).astype(np.float64)
        with np.errstate(all="ignore"):
            # var + eps in float32, as BatchNorm computes it: of 1 - eps it is 1, and folding again changes nothing
            alpha = scale / np.sqrt((self.value(variance).astype(np.float32) + eps).astype(np.float64))
            new = {weight: self._scaled_weight(layer, self.value(weight).astype(np.float64), alpha),
                   mean: alpha * self.value(mean), gamma: np.ones_like(alpha), variance: np.full_like(alpha, 1 - eps)}
            if bias:
                new[bias[0]] = alpha * self.value(bias[0])
            new = {name: value.astype(self.value(name).dtype) for name, value in new.items()}
        for name, value in new.items():
            if not (np.isfinite(self.value(name)).all() and np.isfinite(value).all()):
                raise NetworkError(f"{name} is not finite, or would not be with the scale of {self.norm_name(norm)}: "
                                   f"look for NaN, infinity and negative running_var in both")
        return new

    @staticmethod
    def _scaled_weight(layer, weight, alpha):
        if layer["op"] != "Deconvolution":  # (out, ...)
            return weight * alpha.reshape([-1] + [1] * (weight.ndim - 1))
        groups = int(layer["attrs"].get("num_group", 1))  # (in, out / groups, ...)
        grouped = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
        return (grouped * alpha.reshape(groups, 1, -1, 1)).reshape(weight.shape)

    def _norm_axis(self, norm):
        axis = int(norm.get("attrs", {}).get("axis", 1))
        return axis % len(self.shapes[self.layer(norm)["name"]][0])

    def _channel_axis(self, layer):
        if layer["op"] == "FullyConnected":
            return len(self.shapes[layer["name"]][0]) - 1
        layout = layer["attrs"].get("layout", "None")
        return 1 if layout == "None" else layout.index("C")


def _eps(norm):
    return float(norm.get("attrs", {}).get("eps", 1e-3))


def _flag(node, attribute, default):
    return bool(ast.literal_eval(node.get("attrs", {}).get(attribute, str(default))))
