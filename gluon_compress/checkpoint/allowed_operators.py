"""The operators that a graph from a file may name, what attributes each has, and how large they may be.

An operator not listed here never reaches MXNet: some take addresses of functions from their attributes (`_Native`),
run a user's Python (`Custom`), read files (`_cvimread`), or end the process on input that a file can give them
(`SVMOutput`). The names and kinds of attributes come from MXNet's own registry; the bounds are ours.
"""
from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from typing import Any

from ..files.schema import Malformed
from ..network.registry import all_names, description_of

LAYERS = """
    Activation BatchNorm Convolution Deconvolution Dropout Embedding FullyConnected GroupNorm InstanceNorm
    L2Normalization LRN LayerNorm LeakyReLU Pooling RNN SoftmaxActivation softmax log_softmax UpSampling
    BilinearSampler GridGenerator SpatialTransformer Correlation ROIPooling Pad Crop im2col col2im
    _contrib_AdaptiveAvgPooling2D _contrib_BatchNormWithReLU _contrib_BilinearResize2D _contrib_DeformableConvolution
    _contrib_ModulatedDeformableConvolution _contrib_SyncBatchNorm _contrib_div_sqrt_dim
    _contrib_interleaved_matmul_encdec_qk _contrib_interleaved_matmul_encdec_valatt
    _contrib_interleaved_matmul_selfatt_qk _contrib_interleaved_matmul_selfatt_valatt _rnn_param_concat
    SequenceLast SequenceMask SequenceReverse
"""
DETECTION = """
    _contrib_MultiBoxDetection _contrib_MultiBoxPrior _contrib_MultiBoxTarget _contrib_ROIAlign _contrib_box_decode
    _contrib_box_encode _contrib_box_iou _contrib_box_nms
"""
HEADS = """
    LinearRegressionOutput LogisticRegressionOutput MAERegressionOutput MakeLoss SoftmaxOutput make_loss
    softmax_cross_entropy smooth_l1
"""
ELEMENTWISE = """
    BlockGrad Cast _copy abs amp_cast amp_multicast arccos arccosh arcsin arcsinh arctan arctanh cbrt ceil clip cos cosh
    degrees erf erfinv exp expm1 fix floor gamma gammaln hard_sigmoid log log10 log1p log2 logical_not negative
    ones_like radians rcbrt reciprocal relu rint round rsqrt sigmoid sign sin sinh softsign sqrt square tan tanh trunc
    zeros_like _contrib_gradientmultiplier _contrib_quadratic _contrib_round_ste _contrib_sign_ste
    _div_scalar _equal_scalar _greater_equal_scalar _greater_scalar _hypot_scalar _lesser_equal_scalar _lesser_scalar
    _logical_and_scalar _logical_or_scalar _logical_xor_scalar _maximum_scalar _minimum_scalar _minus_scalar
    _mod_scalar _mul_scalar _not_equal_scalar _plus_scalar _power_scalar _rdiv_scalar _rminus_scalar _rmod_scalar
    _rpower_scalar
"""
TWO_OR_MORE_TENSORS = """
    add_n elemwise_add elemwise_div elemwise_mul elemwise_sub _equal _greater _greater_equal _hypot _lesser
    _lesser_equal _logical_and _logical_or _logical_xor _maximum _minimum _mod _not_equal _power _grad_add
    broadcast_add broadcast_div broadcast_equal broadcast_greater broadcast_greater_equal broadcast_hypot
    broadcast_lesser broadcast_lesser_equal broadcast_logical_and broadcast_logical_or broadcast_logical_xor
    broadcast_maximum broadcast_minimum broadcast_mod broadcast_mul broadcast_not_equal broadcast_power broadcast_sub
    batch_dot dot khatri_rao _linalg_gemm _linalg_gemm2 _linalg_syrk where Concat stack
"""
REDUCTIONS = """
    argmax argmax_channel argmin max mean min moments nanprod nansum norm prod sum argsort sort topk cumsum pick
    batch_take
"""
SHAPES = """
    Flatten Reshape reshape_like SliceChannel SwapAxis _split_v2 broadcast_axis broadcast_like broadcast_to
    depth_to_space space_to_depth diag expand_dims repeat reverse shape_array size_array slice slice_axis slice_like
    squeeze tile transpose take gather_nd scatter_nd one_hot _contrib_arange_like _contrib_index_array
    _identity_with_attr_like_rhs _slice_assign _slice_assign_scalar
"""
CONSTANTS_AND_NOISE = """
    _arange _eye _full _linspace _ones _zeros _random_normal _random_normal_like _random_uniform _random_uniform_like
    _sample_exponential _sample_gamma _sample_multinomial _sample_normal _sample_poisson _sample_uniform
    _npi_arange _npi_bernoulli _npi_eye _npi_full _npi_full_like _npi_identity _npi_linspace _npi_normal _npi_normal_n
    _npi_ones _npi_uniform _npi_uniform_n _npi_zeros
"""
NUMPY_INTERFACE = """
    _np_all _np_any _np_copy _np_cumsum _np_diag _np_dot _np_max _np_min _np_moveaxis _np_prod _np_repeat _np_reshape
    _np_roll _np_squeeze _np_sum _np_transpose _npi_abs _npi_absolute _npi_add _npi_add_scalar _npi_arccos _npi_arccosh
    _npi_arcsin _npi_arcsinh _npi_arctan _npi_arctan2 _npi_arctanh _npi_argmax _npi_argmin _npi_around _npi_average
    _npi_broadcast_to _npi_cast _npi_cbrt _npi_ceil _npi_clip _npi_column_stack _npi_concatenate _npi_copysign _npi_cos
    _npi_cosh _npi_degrees _npi_dstack _npi_einsum _npi_equal _npi_equal_scalar _npi_exp _npi_expand_dims _npi_expm1
    _npi_fix _npi_flip _npi_floor _npi_greater _npi_greater_equal _npi_greater_equal_scalar _npi_greater_scalar
    _npi_hstack _npi_hypot _npi_isfinite _npi_isinf _npi_isnan _npi_less _npi_less_equal _npi_less_equal_scalar
    _npi_less_scalar _npi_log _npi_log10 _npi_log1p _npi_log2 _npi_logical_not _npi_matmul _npi_maximum
    _npi_maximum_scalar _npi_mean _npi_minimum _npi_minimum_scalar _npi_mod _npi_mod_scalar _npi_multiply
    _npi_multiply_scalar _npi_nan_to_num _npi_negative _npi_norm _npi_not_equal _npi_not_equal_scalar _npi_pad
    _npi_power _npi_power_scalar _npi_radians _npi_reciprocal _npi_rint _npi_rmod_scalar _npi_rnn_param_concat
    _npi_rpower_scalar _npi_rsubtract_scalar _npi_rtrue_divide_scalar _npi_sign _npi_sin _npi_sinh _npi_slice _npi_split
    _npi_sqrt _npi_square _npi_stack _npi_std _npi_subtract _npi_subtract_scalar _npi_swapaxes _npi_take _npi_tan
    _npi_tanh _npi_tile _npi_tril _npi_true_divide _npi_true_divide_scalar _npi_trunc _npi_var _npi_vstack _npi_where
    _npi_where_lscalar _npi_where_rscalar _npi_where_scalar2 _npx_relu _npx_reshape _npx_reshape_like _npx_sigmoid
"""
ALLOWED = " ".join((LAYERS, DETECTION, HEADS, ELEMENTWISE, TWO_OR_MORE_TENSORS, REDUCTIONS, SHAPES,
                    CONSTANTS_AND_NOISE, NUMPY_INTERFACE)).split()

LARGEST_INTEGER = 2**31 - 1
LARGEST_ARRAY = 1 << 26  # numbers in an array that an operator makes from its attributes alone
MOST_DIMENSIONS = 32
LONGEST_TEXT = 10_000
# {attribute: (smallest, largest)} of every integer in it. Zeros here divide by zero inside MXNet, negative ones index
# before the array; large ones take memory that nothing else in the file justifies.
BOUNDS = {
    "kernel": (1, 4096), "kernel_size": (1, 255), "stride": (1, 4096), "dilate": (1, 4096), "pad": (0, 4096),
    "adj": (0, 4096), "target_shape": (-1, 1 << 16), "num_filter": (1, 1 << 20), "num_group": (1, 1 << 20),
    "num_groups": (1, 1 << 20), "num_deformable_group": (1, 1 << 20), "num_hidden": (1, 1 << 24),
    "input_dim": (1, LARGEST_INTEGER), "output_dim": (1, 1 << 20), "num_args": (1, 10_000),
    "num_outputs": (1, 10_000), "num_weights": (1, 10_000), "sections": (0, 10_000), "block_size": (1, 1024),
    "scale": (1, 256), "repeats": (0, 1 << 16), "repeat": (1, 1 << 16), "reps": (0, 1 << 16),
    "state_size": (1, 1 << 16), "projection_size": (1, 1 << 16), "num_layers": (1, 1024), "height": (0, 1 << 14),
    "width": (0, 1 << 14), "output_size": (1, 1 << 14), "pooled_size": (1, 1 << 12), "sample_ratio": (-1, 256),
    "pad_width": (0, 1 << 16), "depth": (1, 1 << 24), "nsize": (1, 1 << 16), "heads": (1, 1 << 16),
    "max_displacement": (0, 1 << 10), "stride1": (1, 1 << 10), "stride2": (1, 1 << 10), "pad_size": (0, 1 << 10),
    "ndev": (1, 64), "N": (0, 1 << 24), "M": (0, 1 << 24), "num": (0, LARGEST_ARRAY),
    "axis": (-MOST_DIMENSIONS, MOST_DIMENSIONS - 1), "dim": (-MOST_DIMENSIONS, MOST_DIMENSIONS - 1),
    "axes": (-MOST_DIMENSIONS, MOST_DIMENSIONS - 1), "dim1": (-MOST_DIMENSIONS, MOST_DIMENSIONS - 1),
    "dim2": (-MOST_DIMENSIONS, MOST_DIMENSIONS - 1), "axis1": (-MOST_DIMENSIONS, MOST_DIMENSIONS - 1),
    "axis2": (-MOST_DIMENSIONS, MOST_DIMENSIONS - 1), "batch_axis": (0, MOST_DIMENSIONS - 1),
}
NOT_DECLARED = {"_npi_concatenate": {"axis": "int or None"}}  # attributes that MXNet writes and does not tell of
AVERAGES = ("_npi_mean", "_npi_std", "_npi_var")  # for integers they divide by a number of one byte, which may be zero
# Attributes of any operator, which Gluon, Module and AttrScope set; the integers among them with (smallest, largest).
HIDDEN = re.compile(r"__\w{1,100}__|lr_mult|wd_mult|ctx_group|force_mirroring|mirror_stage|\w{1,100}_(lr|wd)_mult")
HIDDEN_INTEGERS = {"__dtype__": (-1, 12), "__storage_type__": (-1, 2), "__shape__": (-1, LARGEST_INTEGER)}
ENTRY = re.compile(r"[+-]?\d{1,19}L?|None")
CONTEXT = re.compile(r"((cpu|gpu|cpu_pinned)(\(\d{1,3}\))?)?")
PLAIN = re.compile(r"[\w .,\->]*")
NUMBER = re.compile(r"[+-]?(\d{1,400}\.?\d{0,400}|\.\d{1,400})([eE][+-]?\d{1,4})?f?|[+-]?inf|-?nan")


@functools.cache
def canonical_names() -> dict[str, str]:
    """{name: MXNet's own name} for all names of the operators in :data:`ALLOWED`."""
    allowed = {description_of(name)[0] for name in ALLOWED}
    found = {}
    for name in all_names():
        canonical = description_of(name)[0]
        if canonical in allowed:
            found[name] = canonical
    return found


@functools.cache
def declared_attributes(operator: str) -> dict[str, str]:
    """{name: MXNet's description of its kind} of an operator's attributes.

    One that reads any number of tensors may say how many; ``add_n`` does, though MXNet does not declare it.
    """
    arguments = description_of(operator)[1]
    several = {"num_args": "int"} if any("NDArray-or-Symbol[]" in kind for kind in arguments.values()) else {}
    declared = {**several, **NOT_DECLARED.get(operator, {}), **arguments}
    return {name: kind for name, kind in declared.items() if "NDArray" not in kind
            and kind not in ("Symbol", "Symbol[]", "Symbol or Symbol[]")}


def check_attributes(operator: str, attributes: Mapping[str, Any], where: str) -> None:
    """Raise :class:`Malformed` unless the operator has these attributes, and each is of its kind and within bounds."""
    declared = {} if operator == "null" else declared_attributes(operator)
    for name, value in attributes.items():
        place = f"{where}: attribute {name}"
        if not isinstance(value, str) or len(value) > LONGEST_TEXT or "\0" in value:
            raise Malformed(f"{place} is not a text of at most {LONGEST_TEXT} characters")
        if name in declared:
            _check_kind(declared[name], name, value, place)
        elif name in HIDDEN_INTEGERS:
            _check_integers(entries(value, place), *HIDDEN_INTEGERS[name], place)
        elif not HIDDEN.fullmatch(name):
            raise Malformed(f"{place} is unknown to operator {operator}; accepted: {', '.join(declared) or 'none'}")
    for name in {"shape", "size"} & declared.keys() & attributes.keys():
        _check_product(attributes[name], f"{where}: attribute {name}")
    _check_operator(operator, attributes, where)


def _check_operator(operator: str, attributes: Mapping[str, str], where: str) -> None:
    """Refuse values with which a few operators end the process or take all memory; MXNet does not check them."""
    if operator in ("_arange", "_npi_arange"):
        _check_range(attributes, where)
    elif operator in ("_split_v2", "_npi_split"):
        _check_split(attributes, where)
    elif operator in AVERAGES and not attributes.get("dtype", "None").startswith(("None", "float")):
        raise Malformed(f"{where}: attribute dtype is {attributes['dtype']!r}; accepted: float16, float32, float64")
    elif operator == "_contrib_ROIAlign" and entries(attributes.get("sample_ratio", "-1"), where)[:1] in ([0], [-1]):
        raise Malformed(f"{where}: attribute sample_ratio is missing or below 1: a large box would take all memory")
    elif attributes.get("use_length") == "None":  # a softmax takes its value without checking that there is one
        raise Malformed(f"{where}: attribute use_length is 'None'; accepted: True or False")


def _check_kind(kind: str, name: str, value: str, where: str) -> None:
    """Whether text can be a value of MXNet's ``kind``, such as "int, optional, default='1'"."""
    if kind.startswith("{"):
        accepted = [word.strip(" '") for word in kind[1:kind.index("}")].split(",")]
        if value not in accepted:
            raise Malformed(f"{where} is {value[:100]!r}; accepted: {', '.join(accepted)}")
    elif kind.startswith("boolean"):
        if value not in ("0", "1", "True", "False", "true", "false", *(("None",) if "None" in kind else ())):
            raise Malformed(f"{where} is {value[:100]!r}; accepted: True or False")
    elif kind.startswith(("float", "double", "real_t", "tuple of <float>", "tuple of <double>")):
        _check_numbers(value, where)
    elif name == "ctx":
        if not CONTEXT.fullmatch(value):
            raise Malformed(f"{where} is {value[:100]!r}; accepted: cpu(0), gpu(0), ...")
    elif kind.startswith("string"):
        if not PLAIN.fullmatch(value):
            raise Malformed(f"{where} is {value[:100]!r}; accepted: plain text")
    elif kind.startswith(("int", "long", "Shape", "tuple of <long>", ", ")) or not kind:
        smallest = 0 if "non-negative" in kind else -LARGEST_INTEGER - 1
        _check_integers(entries(value, where), *BOUNDS.get(name, (smallest, LARGEST_INTEGER)), where)
    elif kind.startswith("tuple of <Shape"):  # such as ((0, 0), (1, 1))
        _check_integers(entries(re.sub(r"[()]", "", value), where), *BOUNDS[name], where)
    else:
        raise Malformed(f"{where} is of a kind that is not allowed in files: {kind}")


def entries(value: str, where: str) -> list[int | None]:
    """The integers of "3", "(3, 3)", "[3,3]" or "None"; None stays None."""
    items = [item.strip() for item in value.strip().strip("()[]").split(",")]
    if items[-1] == "":
        items.pop()
    if len(items) > LONGEST_TEXT // 2 or not all(ENTRY.fullmatch(item) for item in items):
        raise Malformed(f"{where} is {value[:100]!r}; accepted: an integer, or several in parentheses")
    return [None if item == "None" else int(item.rstrip("L")) for item in items]


def _check_integers(entries: list[int | None], smallest: int, largest: int, where: str) -> None:
    for entry in entries:
        if entry is not None and not smallest <= entry <= largest:
            raise Malformed(f"{where} is {entry}; accepted: {smallest} to {largest}")


def _check_numbers(value: str, where: str) -> None:
    items = value.strip().strip("()[]").split(",")
    if not all(NUMBER.fullmatch(item.strip()) or item.strip() in ("None", "") for item in items):
        raise Malformed(f"{where} is {value[:100]!r}; accepted: a number, or several in parentheses")


def _check_product(value: str, where: str) -> None:
    """Raise :class:`Malformed` when an attribute says to make an array that is too large."""
    count = math.prod(abs(entry) for entry in entries(value or "()", where) if entry)
    if count > LARGEST_ARRAY:
        raise Malformed(f"{where} is {value}; accepted: at most {LARGEST_ARRAY} numbers in all")


def _check_range(attributes: Mapping[str, str], where: str) -> None:
    """Raise :class:`Malformed` when ``_arange`` would make too many numbers."""
    start, stop, step = (attributes.get(name, default) for name, default in
                         (("start", "0"), ("stop", "None"), ("step", "1")))
    start, stop = ("0", start) if stop == "None" else (start, stop)
    try:
        count = (float(stop) - float(start)) / float(step) * int(attributes.get("repeat", 1))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise Malformed(f"{where} does not make a range: {error}") from error
    if not abs(count) <= LARGEST_ARRAY:
        raise Malformed(f"{where} makes {count} numbers; accepted: at most {LARGEST_ARRAY}")


def _check_split(attributes: Mapping[str, str], where: str) -> None:
    """``_split_v2`` takes all memory when asked to make no parts at all."""
    sections, indices = (entries(attributes.get(name, ""), where) for name in ("sections", "indices"))
    if not any(sections) and set(indices) <= {None}:
        raise Malformed(f"{where} splits into no parts; accepted: sections, or indices")
