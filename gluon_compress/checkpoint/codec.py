"""How one parameter is stored in a compressed file, and how it is read back, everything checked before it is built.

A *layout* says what a parameter is, ``{"shape", "dtype"}`` and with integer codes ``{"bits", "axis"}``; tensors named
``<parameter>/value``, ``/mask`` and ``/scale`` hold it. A ``fill`` stands for one value throughout.
"""
import math
import zlib

import numpy as np

from ..errors import NetworkError
from ..files.schema import SHAPE, Malformed, boolean, choice, fields, integer, maybe, number
from ..files.unpacking import inflate
from ..quantization import dequantize_array
from ..quantization.arithmetic.arrays import largest_code

TOGETHER = "scales and rest"
TYPES = ("float16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool")
# What masks and fills may unpack to when nothing but the file says so: this, and this many times its tensors.
UNPACKED_BYTES, UNPACKED_TIMES = 64 << 20, 256

LAYOUT = fields({"shape": SHAPE, "dtype": choice(*TYPES)},
                {"bits": integer(2, 8), "axis": maybe(integer(0, 31)), "fill": number(),
                 "infinite": boolean})


def encode(parameters, scales, masks=None):
    """``(tensors, layouts)`` of parameters.

    Parameters
    ----------
    parameters : iterable of (name, array, type)
        The array holds integer codes where ``scales`` has the name; the type is that of the parameter.
    scales : dict
        {name: {"bits": int, "axis": int or None, "scale": float32 array}}.
    masks : dict, optional
        {name: bool array}: False where a value is zero, and not stored.
    """
    tensors, layouts = {}, {}
    for name, value, dtype in parameters:
        layouts[name] = layout_of(name, value, dtype)
        if masks and name in masks:
            tensors[f"{name}/mask"] = compress(np.packbits(masks[name]))
            value = value[masks[name]]
        if name in scales:
            bits, axis, tensors[f"{name}/scale"] = (scales[name][part] for part in ("bits", "axis", "scale"))
            layouts[name].update(bits=bits, axis=axis)
            value = pack(value, bits)
        store(name, value, layouts, tensors)
    return tensors, layouts


def put_together(tensors, layouts):
    """Make one tensor of all scales and of all values in float32.

    100 bytes of header for each would be more than many of them are.
    """
    parts = [f"{name}/scale" for name in sorted(layouts) if "bits" in layouts[name]]
    parts += [f"{name}/value" for name in sorted(layouts) if "bits" not in layouts[name]]
    parts = [part for part in parts if part in tensors and tensors[part].dtype == np.float32]
    tensors[TOGETHER] = np.concatenate([tensors.pop(part).ravel() for part in parts])


def take_apart(tensors, layouts):
    """What :func:`put_together` made one tensor of, if there is one; :class:`Malformed` when it is something else."""
    if TOGETHER not in tensors:
        return
    together, position = tensors.pop(TOGETHER), 0
    quantized = [name for name in sorted(layouts) if "bits" in layouts[name]]
    whole = [name for name in sorted(layouts) if not layouts[name].keys() & {"bits", "fill"}
             and layouts[name]["dtype"] == "float32"]
    sizes = {**{f"{name}/scale": layouts[name]["shape"][:1] for name in quantized},
             **{f"{name}/value": layouts[name]["shape"] for name in whole}}
    if together.ndim != 1 or together.dtype != np.float32 or together.size != sum(map(math.prod, sizes.values())):
        raise Malformed(f"tensor {TOGETHER!r} of type {together.dtype} and shape {together.shape} is not all scales "
                        f"and rest")
    for name, shape in sizes.items():
        tensors[name] = together[position:position + math.prod(shape)].reshape(shape)
        position += math.prod(shape)


def store(name, value, layout, tensors):
    """Put an array into the file, or into its header when all its values are the same."""
    if value.size > 1 and value.dtype.kind == "f" and (value == value.flat[0]).all() and np.isfinite(value.flat[0]):
        layout[name]["fill"] = float(value.flat[0])
    else:
        tensors[f"{name}/value"] = value


def layout_of(name, value, dtype):
    """The layout of a parameter that has this value; ``NetworkError`` for NaN. Infinity, of a mask, is noted."""
    layout = {"shape": list(value.shape), "dtype": np.dtype(dtype).name}
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        if np.isnan(value).any():
            raise NetworkError(f"parameter {name} holds NaN: load or train the network again; accepted: numbers")
        layout["infinite"] = True
    return layout


def pack(codes, bits):
    """Codes as int8, or as a stream of ``bits`` bits each when there are fewer than 8."""
    if bits == 8:
        return codes
    shifted = (codes.ravel() + largest_code(bits)).astype(np.uint8)  # 0 ... 2 * q_max
    return np.packbits(np.unpackbits(shifted[:, None], axis=1, count=bits, bitorder="little"))


def unpack(packed, bits, count):
    if bits == 8:
        return packed
    stream = np.unpackbits(packed, count=count * bits).reshape(count, bits)
    shifted = np.packbits(stream, axis=1, bitorder="little").ravel()
    return shifted.astype(np.int8) - np.int8(largest_code(bits))


def compress(array):
    """An array's bytes, deflated: of a sparse mask a third is left."""
    return np.frombuffer(zlib.compress(array.tobytes(), 9), np.uint8)


def check_unpacked_size(layouts, tensors):
    """Raise :class:`Malformed` when masks and fills say of more numbers than the file can justify."""
    total = sum(math.prod(layout["shape"]) * np.dtype(layout["dtype"]).itemsize for layout in layouts.values())
    stored = sum(tensor.nbytes for tensor in tensors.values())
    if total > UNPACKED_BYTES + UNPACKED_TIMES * stored:
        raise Malformed(f"{stored} bytes of tensors stand for {total}: too much to believe without the network; "
                        f"give it to load")


def check_stored(layouts, tensors):
    """Raise :class:`Malformed` unless the tensors are those that the layouts need, of the right types and sizes."""
    for name, layout in layouts.items():
        _check_parameter(name, layout, tensors)
    needed = {f"{name}/{part}" for name in layouts for part in ("value", "mask", "scale")}
    for name in tensors.keys() - needed:
        raise Malformed(f"tensor {name!r} belongs to no parameter")


def _check_parameter(name, layout, tensors):
    value, mask, scale = (tensors.get(f"{name}/{part}") for part in ("value", "mask", "scale"))
    if ("fill" in layout) == (value is not None):
        raise Malformed(f"{name} has {'both a fill and' if 'fill' in layout else 'neither a fill nor'} a value")
    if mask is not None and (mask.dtype != np.uint8 or mask.ndim != 1):
        raise Malformed(f"the mask of {name} is of type {mask.dtype} and shape {mask.shape}; accepted: a row of uint8")
    if ("bits" in layout) != (scale is not None) or ("bits" in layout) != ("axis" in layout):
        raise Malformed(f"{name} has only some of bits, axis and a scale")
    if scale is not None:
        _check_scale(name, layout, scale)
    if value is not None:
        expected = layout["dtype"] if "bits" not in layout else "int8" if layout["bits"] == 8 else "uint8"
        if value.dtype != expected:
            raise Malformed(f"the values of {name} are of type {value.dtype}; accepted: {expected}")
        if mask is None and value.size != stored_count(layout, math.prod(layout["shape"])):
            raise Malformed(f"{name} of shape {layout['shape']} has {value.size} stored values")


def _check_scale(name, layout, scale):
    axis, shape = layout["axis"], layout["shape"]
    if layout["dtype"] not in ("float16", "float32", "float64") or "fill" in layout:
        raise Malformed(f"{name} has codes and is of type {layout['dtype']}")
    if axis is not None and axis >= len(shape) or scale.shape != (() if axis is None else (shape[axis],)):
        raise Malformed(f"{name} of shape {shape} has scales of shape {scale.shape} along axis {axis}")
    if scale.dtype != np.float32 or not (np.isfinite(scale) & (scale > 0)).all():
        raise Malformed(f"the scales of {name} are not all positive, finite and of type float32")


def stored_count(layout, count):
    """How many numbers a tensor has that stores ``count`` values: itself, or the bytes of their codes."""
    bits = layout.get("bits", 8)
    return count if bits == 8 else -(-count * bits // 8)


def mask_of(name, layout, tensors):
    count = math.prod(layout["shape"])
    bits = inflate(tensors[f"{name}/mask"].tobytes(), -(-count // 8), f"the mask of {name}")
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=count).view(bool).reshape(layout["shape"])


def codes_of(name, layout, tensors, mask=None):
    """The integer codes of a quantized parameter, of those that ``mask`` keeps; each within its bits."""
    count = math.prod(layout["shape"]) if mask is None else int(mask.sum())
    packed = tensors[f"{name}/value"]
    if packed.size != stored_count(layout, count):
        raise Malformed(f"{name} has {packed.size} bytes of codes for {count} values")
    codes = unpack(packed.ravel(), layout["bits"], count)
    if layout["bits"] < 8 and codes.size and codes.max() > largest_code(layout["bits"]):
        raise Malformed(f"{name} has a code of more than {layout['bits']} bits")
    return codes if mask is not None else codes.reshape(layout["shape"])


def decode(name, layout, tensors):
    """The array of a parameter, once :func:`check_stored` went through; :class:`Malformed` when it is not finite."""
    mask = mask_of(name, layout, tensors) if f"{name}/mask" in tensors else None
    if "fill" in layout:
        value = np.full(layout["shape"] if mask is None else int(mask.sum()), layout["fill"], layout["dtype"])
    elif "bits" in layout:
        value = codes_of(name, layout, tensors, mask)
    else:
        value = tensors[f"{name}/value"]
    if mask is not None:
        value = _scattered(name, value, mask)
    value = value.reshape(layout["shape"])
    if "bits" in layout:
        with np.errstate(over="ignore"):
            value = dequantize_array(value, tensors[f"{name}/scale"], layout["axis"]).astype(layout["dtype"])
    _check_finite(name, layout, value)
    return value


def _scattered(name, value, mask):
    kept = int(mask.sum())
    if value.size != kept:
        raise Malformed(f"{name} has {value.size} values where its mask keeps {kept}")
    scattered = np.zeros(mask.shape, value.dtype)
    scattered[mask] = value.ravel()
    return scattered


def _check_finite(name, layout, value):
    if value.dtype.kind != "f" or np.isfinite(value).all():
        return
    if np.isnan(value).any() or not layout.get("infinite"):
        raise Malformed(f"parameter {name} holds {value[~np.isfinite(value)][0]}; accepted: finite numbers")
