"""One input, whose channels stay apart: activations, pooling, reductions over other axes."""
from __future__ import annotations

from ....network.nodes import Node
from ..tracking import Labels, Tracker
from .combining import side_by_side, together
from .table import Inputs, Outputs, only_on, rule, stop


@rule("Activation", "relu", "sigmoid", "tanh", "softsign", "hard_sigmoid", "clip", "_copy", "Dropout", "BlockGrad",
      "Cast", "abs", "sign", "negative", "exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "rsqrt",
      "cbrt", "rcbrt", "square", "reciprocal", "erf", "erfinv", "floor", "ceil", "round", "rint", "fix", "trunc",
      "sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "arcsinh", "arccosh", "arctanh", "degrees",
      "radians", "gamma", "gammaln", "logical_not", "smooth_l1", "_plus_scalar", "_minus_scalar", "_rminus_scalar",
      "_mul_scalar", "_div_scalar", "_rdiv_scalar", "_power_scalar", "_rpower_scalar", "_maximum_scalar",
      "_minimum_scalar", "_mod_scalar", "_equal_scalar", "_not_equal_scalar", "_greater_scalar",
      "_greater_equal_scalar", "_lesser_scalar", "_lesser_equal_scalar", "_hypot_scalar", "_rmod_scalar",
      "_logical_and_scalar", "_logical_or_scalar", "_logical_xor_scalar", "_contrib_quadratic", "_contrib_round_ste",
      "_contrib_sign_ste", "_contrib_gradientmultiplier", "zeros_like", "ones_like", "make_loss", "MakeLoss")
def _unary(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    return [inputs[0]]


@rule("_contrib_div_sqrt_dim")
def _div_sqrt_dim(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    if inputs[0] is not None and inputs[0].axis == len(node.shapes[0]) - 1:
        return stop(node, inputs, tracker, "it divides by the number of channels")
    return [inputs[0]]


@rule("Crop")
def _crop(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """It crops the pixels to the size of a second input."""
    if len(inputs) > 1:
        tracker.pin(inputs[1] if inputs[1] is not None and inputs[1].axis > 1 else None, "its size is read")
    return [only_on(1, node, inputs[0], tracker)]


@rule("UpSampling")
def _upsampling(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """Several inputs are concatenated or added; a bilinear one has a weight of its own (C, 1, height, width)."""
    if node.get("sample_type") == "bilinear":
        data = only_on(1, node, inputs[0], tracker)
        if data is not None:
            tracker.assign(node, 1, 0, data.ids)
            tracker.count(node, "num_filter", None, data.ids)
        return [data]
    if node.get("multi_input_mode") == "sum":
        return together(node, inputs, tracker)
    return side_by_side(1, node, inputs, tracker)


@rule("Pooling", "_contrib_AdaptiveAvgPooling2D", "_contrib_BilinearResize2D")
def _spatial(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """It works over the pixels of each channel."""
    layout = node.get("layout") or "NC"
    if len(inputs) > 1:  # BilinearResize2D takes the size of a second input
        tracker.pin(inputs[1] if inputs[1] is not None and inputs[1].axis > 1 else None, "its size is read")
    return [only_on(layout.index("C"), node, inputs[0], tracker)]


@rule("BilinearSampler", "SpatialTransformer")
def _sampled(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """It takes pixels at the places that the second input says, or at those that follow from it."""
    tracker.pin(inputs[1], f"read by {node.operator} ({node.name}) as places")
    return [only_on(1, node, inputs[0], tracker)]


@rule("_contrib_arange_like")
def _arange_like(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    """Positions along one axis, or of all elements."""
    data, axis = inputs[0], node.get("axis")
    if data is not None and (axis is None or axis % len(node.input_shape(0)) == data.axis):
        return stop(node, inputs, tracker, "it reads the number of channels")
    return [None]


@rule("sum", "mean", "max", "min", "prod", "nansum", "nanprod", "norm", "argmax", "argmin")
def _reduction(node: Node, inputs: Inputs, tracker: Tracker) -> Outputs:
    data = inputs[0]
    if data is None:
        return [None]
    dimensions = len(node.input_shape(0))
    axes = node.get("axis")
    axes = range(dimensions) if axes in (None, ()) else (axes,) if isinstance(axes, int) else axes
    axes = {axis % dimensions for axis in axes}
    if node.get("exclude", False):
        axes = set(range(dimensions)) - axes
    if data.axis in axes:
        if node.operator == "sum":  # that of the kept ones
            return [None]
        return stop(node, inputs, tracker, "it reduces over the channels")
    keep = node.get("keepdims", False)
    return [Labels(data.axis - (0 if keep else sum(axis < data.axis for axis in axes)), data.ids)]
