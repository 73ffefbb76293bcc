"""What MXNet's operators mean: one entry for every operator of which the package knows more than its name.

To teach the package an operator, write its entry here. What pruning does with the channels that pass through it is a
rule in ``pruning/channels/rules/``. No other module tells by its name what an operator does: they ask a
:class:`Node`, which asks here. The only exception, for safety, is the list of those that a file may hold,
``checkpoint/allowed_operators.py``.

An operator without an entry is computed as it is, in fp32; it has no layer and counts no multiply-accumulates.

Operators of MXNet's NumPy interface that compute what one of these does are written as it, by ``numpy_operators.py``.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .nodes import Node

SMALL_WINDOW = 16  # an average over more values than this is much smaller than its largest: it gets a range of its own
SLOPES = ("leaky", "prelu")
INTEGERS_AT_ONCE = 4  # products of 8 bits that the kernels add up in one place


def _never(node: Node) -> bool:
    return False


def _always(node: Node) -> bool:
    return True


def _nothing(node: Node) -> None:
    return None


@dataclass(frozen=True)
class Operator:
    """The meaning of an operator. What is not given does not apply to it.

    Attributes
    ----------
    inputs : tuple of str
        What it reads, in order: "data", then "weight" and "bias" of a layer, "gamma", "beta", "mean" and "variance" of
        a normalization, the "slope" of an activation, ...
    defaults : dict
        {attribute: the value that it has where it is not written}.
    channel_axis : callable
        ``channel_axis(node)`` is the axis of the channels, in what it reads and in what it makes.
    kind : str
        Gluon's name of the layer, for operators with a weight; ``{}`` stands for the number of dimensions.
    weight_channels : int
        The axis of the weight along which the output channels lie, those of one group.
    macs_per : "output" or "input"
        Each element of this tensor meets every weight of one slice ``weight[i, ...]`` once, so that there are
        size of the tensor * prod(weight.shape[1:]) multiply-accumulates:

            Convolution     weight (C_out, C_in / groups, *kernel), per element of the output
            Deconvolution   weight (C_in, C_out / groups, *kernel), per element of the input
            FullyConnected  weight (units, in_units),               per element of the output

        Products with the zeros of a padding count, as is usual; so do those with pruned weights.
    macs : callable
        Its multiply-accumulates, where ``macs_per`` does not say them; None where they are not counted.
    sizes : callable
        ``sizes(shape, groups)`` are the attributes that say how large its weight is, or gamma where it has no weight,
        and how many groups it has.
    normalizes : bool
        Whether it is a layer of gamma and beta.
    keeps_statistics : bool
        Whether it is a BatchNorm: in training it uses a batch's mean and variance, in inference running ones.
    as_in_inference : dict
        Attributes with which it computes in training mode what it does in inference, with dense gradients.
    numbers : tuple of str
        Attributes that may hold numbers of channels, besides the ``sizes`` of layers.
    is_identity : callable
        Whether it does nothing in inference.
    moves : bool
        Whether what it makes are the elements of what it reads, each of them once.
    is_homogeneous : callable
        Whether f(s x) = s f(x), channel by channel, for s > 0.
    gain : callable
        How much larger than x a homogeneous f(x) can be.
    ceiling : callable
        The value at which a ReLU cuts off, infinity where it does not; None for all other operators.
    slope_kind : callable
        "leaky" for max(x, 0) + slope * min(x, 0) with a number, "prelu" with a parameter; None for all others.
    ends_in_relu : bool
        Whether it is another operator with a ReLU after it.
    gives_probabilities : bool
        Whether it is a softmax, whose numbers sum up to one.
    adds : bool
        Whether it adds two tensors.
    recurrent : bool
        Whether it goes through its data along axis 0, step by step.
    reshapes : bool
        Whether it gives its elements another ``shape``, which may hold codes; ``reverse`` counts from the right.
    has_body : bool
        Whether it is a loop or a branch, whose body is a graph of its own.
    integer_form : str
        The method of an :class:`Emitter` that writes it on integers.
    integer_obstacle : callable
        Why this one has no integer form, or None.
    """

    inputs: tuple[str, ...] = ("data",)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    channel_axis: Callable[[Node], int | None] = _nothing
    kind: str | None = None
    weight_channels: int = 0
    macs_per: str | None = None
    macs: Callable[[Node], int | None] = _nothing
    sizes: Callable[[tuple[int, ...], int], dict[str, int]] = lambda shape, groups: {}
    normalizes: bool = False
    keeps_statistics: bool = False
    as_in_inference: Mapping[str, str] = field(default_factory=dict)
    numbers: tuple[str, ...] = ()
    moves: bool = False
    is_identity: Callable[[Node], bool] = _never
    is_homogeneous: Callable[[Node], bool] = _never
    gain: Callable[[Node], float] = lambda node: 1
    ceiling: Callable[[Node], float | None] = _nothing
    slope_kind: Callable[[Node], str | None] = _nothing
    ends_in_relu: bool = False
    gives_probabilities: bool = False
    adds: bool = False
    recurrent: bool = False
    reshapes: bool = False
    has_body: bool = False
    integer_form: str | None = None
    integer_obstacle: Callable[[Node], str | None] = _nothing


UNKNOWN = Operator()
OPERATORS: dict[str, Operator] = {}


def _teach(*names: str, **meaning: Any) -> None:
    OPERATORS.update(dict.fromkeys(names, Operator(**meaning)))


# Layers -----------------------------------------------------------------------------------------------------------

def _axis_of_layout(node: Node) -> int:
    return (node.get("layout") or "NC").index("C")


def _last_axis(node: Node) -> int:
    return len(node.shapes[0]) - 1


def _why_no_integer_convolution(node: Node) -> str | None:
    if len(node.get("kernel")) != 2 or (node.get("layout") or "NCHW") != "NCHW":
        return f"a convolution of layout {node.get('layout')} has no integer kernel"
    channels = {shape[1] // node.groups for shape in (node.shapes[0], node.input_shape(0))}
    if node.groups > 1 and channels != {1} and any(number % INTEGERS_AT_ONCE for number in channels):
        return (f"in groups of {' and '.join(map(str, sorted(channels)))} channels, no multiples of "
                f"{INTEGERS_AT_ONCE}, convolutions are no faster on integers")
    return None


def _why_no_integer_recurrence(node: Node) -> str | None:
    return ("of recurrent layers MXNet 1.9.1 has an integer kernel for LSTM alone, and no hybridized network can hold "
            "that, as it has no gradient")


_teach("Convolution", inputs=("data", "weight", "bias"), kind="Conv{}D", macs_per="output", numbers=("num_filter",),
       defaults={"num_group": 1, "no_bias": False, "layout": None}, channel_axis=_axis_of_layout,
       sizes=lambda shape, groups: {"num_filter": shape[0], "num_group": groups},
       integer_form="convolution", integer_obstacle=_why_no_integer_convolution)

_teach("Deconvolution", inputs=("data", "weight", "bias"), kind="Conv{}DTranspose", weight_channels=1,
       macs_per="input", numbers=("num_filter",), channel_axis=_axis_of_layout,
       defaults={"num_group": 1, "no_bias": True, "layout": None},
       sizes=lambda shape, groups: {"num_filter": shape[1] * groups, "num_group": groups})

_teach("FullyConnected", inputs=("data", "weight", "bias"), kind="Dense", macs_per="output", numbers=("num_hidden",),
       defaults={"flatten": True, "no_bias": False}, channel_axis=_last_axis,
       sizes=lambda shape, groups: {"num_hidden": shape[0]},
       integer_form="dense")

_teach("Embedding", inputs=("data", "weight"), kind="Embedding", weight_channels=1, channel_axis=_last_axis,
       sizes=lambda shape, groups: {"output_dim": shape[1]}, as_in_inference={"sparse_grad": "False"},
       numbers=("output_dim",))

def _macs_of_rnn(node: Node) -> int:
    """Each step of each sequence meets all weights of all layers, which the parameters are but for the biases."""
    steps, sequences, _ = node.input_shape(0)
    layers = node.get("num_layers") * (2 if node.get("bidirectional") else 1)
    biases = 2 * layers * {"lstm": 4, "gru": 3}.get(node.get("mode"), 1) * node.get("state_size")
    return steps * sequences * (math.prod(node.input_shape(1)) - biases)


_teach("RNN", inputs=("data", "parameters", "state", "state_cell", "sequence_length"), macs=_macs_of_rnn,
       as_in_inference={"p": "0"},
       defaults={"bidirectional": False, "projection_size": None, "use_sequence_length": False},
       numbers=("state_size",), recurrent=True,
       integer_obstacle=_why_no_integer_recurrence)


# Normalizations ---------------------------------------------------------------------------------------------------

def _axis(node: Node) -> int:
    return node.get("axis") % len(node.shapes[0])


def _second_axis(node: Node) -> int:
    return 1


_BATCH_NORM = {"inputs": ("data", "gamma", "beta", "mean", "variance"), "normalizes": True, "keeps_statistics": True,
               "as_in_inference": {"use_global_stats": "True"}}

_BATCH_NORM_DEFAULTS = {"axis": 1, "eps": 1e-3, "fix_gamma": True, "use_global_stats": False}

_teach("BatchNorm", **_BATCH_NORM, defaults=_BATCH_NORM_DEFAULTS, channel_axis=_axis)

_teach("_contrib_BatchNormWithReLU", **_BATCH_NORM, defaults=_BATCH_NORM_DEFAULTS, channel_axis=_axis,
       ends_in_relu=True)

_teach("_contrib_SyncBatchNorm", **_BATCH_NORM, channel_axis=_second_axis,
       defaults={"eps": 1e-3, "fix_gamma": True, "use_global_stats": False})

_teach("LayerNorm", inputs=("data", "gamma", "beta"), normalizes=True, defaults={"axis": -1}, channel_axis=_axis)

_teach("InstanceNorm", inputs=("data", "gamma", "beta"), normalizes=True, channel_axis=_second_axis)

_teach("GroupNorm", inputs=("data", "gamma", "beta"), normalizes=True, channel_axis=_second_axis,
       defaults={"num_groups": 1}, sizes=lambda shape, groups: {"num_groups": shape[0]})  # one gamma for each group


# Activations ------------------------------------------------------------------------------------------------------

def _ceiling_of_clip(node: Node) -> float | None:
    lowest, highest = float(node.get("a_min")), float(node.get("a_max"))
    return highest if lowest == 0 < highest else None


def _slope_kind(node: Node) -> str | None:
    return node.get("act_type") if node.get("act_type") in SLOPES else None


_teach("relu", is_homogeneous=_always, ceiling=lambda node: math.inf)

_teach("Activation", is_homogeneous=lambda node: node.get("act_type") == "relu",
       ceiling=lambda node: math.inf if node.get("act_type") == "relu" else None)

_teach("clip", ceiling=_ceiling_of_clip)

_teach("LeakyReLU", inputs=("data", "slope"), defaults={"act_type": "leaky", "slope": 0.25}, slope_kind=_slope_kind,
       channel_axis=_second_axis, is_homogeneous=lambda node: _slope_kind(node) is not None)


_teach("softmax", inputs=("data", "length"), gives_probabilities=True)

_teach("SoftmaxActivation", gives_probabilities=True)


# What moves numbers, or leaves them as they are -------------------------------------------------------------------

def _why_no_integer_pooling(node: Node) -> str | None:
    if node.get("pool_type") not in ("max", "avg") or len(node.shapes[0]) != 4:
        return "there is no integer kernel for it"
    if node.get("pool_type") == "max":
        return None
    window = node.get("kernel")
    if node.get("global_pool") or len(window) != 2 or math.prod(window) > SMALL_WINDOW:
        return f"an average over more than {SMALL_WINDOW} values gets a range of its own"
    if node.get("pooling_convention") != "valid" or node.get("count_include_pad") is False and any(node.get("pad")):
        return "its windows reach beyond the border, where the kernel divides by the whole window"
    return None


_teach("Pooling", is_homogeneous=_always, integer_form="pooling", integer_obstacle=_why_no_integer_pooling,
       defaults={"kernel": (), "pad": (), "pool_type": "max", "global_pool": False, "pooling_convention": "valid",
                 "count_include_pad": None})

_teach("_contrib_AdaptiveAvgPooling2D", is_homogeneous=_always)

_teach("UpSampling", is_homogeneous=lambda node: len(node.inputs) == 1, numbers=("num_filter",))

_teach("slice_axis", "slice", numbers=("begin", "end"))

_teach("_contrib_BilinearResize2D", inputs=("data", "like"), is_homogeneous=lambda node: len(node.inputs) == 1)

_teach("_mul_scalar", is_homogeneous=lambda node: node.get("scalar") > 0, gain=lambda node: node.get("scalar"))

_teach("_div_scalar", is_homogeneous=lambda node: node.get("scalar") > 0, gain=lambda node: 1 / node.get("scalar"))

_teach("Flatten", is_homogeneous=_always, moves=True, integer_form="flatten")

_teach("Concat", integer_form="concat", moves=True, defaults={"dim": 1},
       integer_obstacle=lambda node: None if node.get("dim") > 0 else "it is not along the channels")

_teach("_copy", "BlockGrad", is_identity=_always, moves=True)

_teach("Dropout", defaults={"mode": "training"}, is_identity=lambda node: node.get("mode") != "always",
       as_in_inference={"p": "0"})

_teach("elemwise_add", "broadcast_add", inputs=("lhs", "rhs"), adds=True)

_teach("Reshape", defaults={"reverse": False}, numbers=("shape",), moves=True, reshapes=True)

_teach("transpose", "SwapAxis", "expand_dims", moves=True)

_teach("stack", inputs=(), moves=True)

_teach("_np_reshape", "_npx_reshape", numbers=("newshape",))

_teach("broadcast_to", "_npi_broadcast_to", numbers=("shape",))

_teach("broadcast_axis", numbers=("size",))

_teach("repeat", numbers=("repeats",))

_teach("_zeros", "_ones", inputs=(), numbers=("shape",))

_teach("_contrib_interleaved_matmul_selfatt_qk", inputs=("queries_keys_values",), numbers=("heads",))

_teach("_contrib_interleaved_matmul_selfatt_valatt", inputs=("queries_keys_values", "attention"), numbers=("heads",))

_teach("_contrib_interleaved_matmul_encdec_qk", inputs=("queries", "keys_values"), numbers=("heads",))

_teach("_contrib_interleaved_matmul_encdec_valatt", inputs=("keys_values", "attention"), numbers=("heads",))

_teach("_foreach", "_while_loop", "_cond", inputs=(), has_body=True)


# oneDNN's, in fp32 or on integers, with what they compute too -------------------------------------------------------

_teach("_sg_mkldnn_conv", "_sg_mkldnn_fully_connected", inputs=("data", "weight"), macs_per="output")
