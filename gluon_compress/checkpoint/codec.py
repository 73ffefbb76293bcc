"""How one parameter is stored in a compressed file, and how it is read back, everything checked before it is built.

A *layout* describes a parameter: its shape, its type, and what the forms of the records say about it. Tensors named
``<parameter>/value``, and ``<parameter>/<part>`` for the parts of its forms, hold it. A ``fill`` stands for one value
throughout. records.py says which forms there are.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..errors import NetworkError, RecordError
from ..files.schema import SHAPE, Malformed, boolean, choice, fields, integer, number
from ..records import FORMS, Check, Form, Record

TOGETHER = "scales and rest"
TYPES = ("float16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool")
# What codes, masks and fills may unpack to on the file's word alone: this, and this many times its bytes.
UNPACKED_BYTES, UNPACKED_TIMES = 64 << 20, 1024

Tensors = dict[str, np.ndarray]
Layout = dict[str, Any]


def all_parts() -> list[str]:
    """The names of all tensors that a parameter may have."""
    return ["value", *(part for form in FORMS for part in form.parts)]


def layout_check() -> Check:
    """The check of a layout, with the settings of all forms."""
    settings = {name: check for form in FORMS for name, check in form.settings.items()}
    return fields({"shape": SHAPE, "dtype": choice(*TYPES)},
                  {"bits": integer(2, 8), "fill": number(), "infinite": boolean, **settings})


# ---- writing

def encode(parameters: Iterable[tuple[str, np.ndarray, Any]],
           records: Iterable[Record]) -> tuple[Tensors, dict[str, Layout]]:
    """``(tensors, layouts)`` of parameters ``(name, array, type)``, in the forms that the records give them.

    The type is that of the parameter; the array may hold codes instead, where a form stores codes.
    """
    forms: dict[str, list[Form]] = {}
    for record in sorted(records, key=lambda record: FORMS.index(record.form) if record.form else -1):
        for name, form in record.forms().items():
            forms.setdefault(name, []).append(form)
    tensors: Tensors = {}
    layouts: dict[str, Layout] = {}
    for name, value, dtype in parameters:
        layouts[name] = layout_of(name, value, dtype)
        for position, form in enumerate(forms.get(name, ())):
            before, value = value, form.encode(value)
            if position and not form.keeps_shape:
                _check_zeros(name, before, value)
            layouts[name].update(form.layout(), **{"bits": form.bits} if form.stores_codes else {})
            tensors.update((f"{name}/{part}", tensor) for part, tensor in form.tensors().items())
        _store(name, value, layouts, tensors)
    return tensors, layouts


def _check_zeros(name: str, values: np.ndarray, kept: np.ndarray) -> None:
    """Raise ``RecordError`` where a form has left out what another one did not encode as zero: it would be lost."""
    if np.count_nonzero(kept) < np.count_nonzero(values):
        raise RecordError(f"pruned weights of {name} are stored as something other than zero; accepted: records whose "
                          f"form keeps zeros, beside masks")


def put_together(tensors: Tensors, layouts: Mapping[str, Layout]) -> None:
    """Join into one tensor all float32 values, and the float32 parts whose shapes follow from the layouts.

    Each tensor takes 100 bytes of header, which is more than many of them have themselves.
    """
    parts = [part for part in _sizes_together(layouts) if part in tensors]
    tensors[TOGETHER] = np.concatenate([tensors.pop(part).ravel() for part in parts])


def _sizes_together(layouts: Mapping[str, Layout]) -> dict[str, tuple[int, ...]]:
    """{tensor: shape} of the tensors that :func:`put_together` joins, in its order."""
    sizes = {f"{name}/{part}": shape for form in FORMS for name in sorted(layouts)
             if form.settings and form.settings.keys() <= layouts[name].keys()
             for part, shape in form.part_shapes(layouts[name]).items()}
    sizes.update((f"{name}/value", tuple(layouts[name]["shape"])) for name in sorted(layouts)
                 if not layouts[name].keys() & {"bits", "fill"} and layouts[name]["dtype"] == "float32")
    return sizes


def layout_of(name: str, value: np.ndarray, dtype: Any) -> Layout:
    """The layout of a parameter with this value. It notes infinite values, which attention masks have.

    Raises ``NetworkError`` for NaN.
    """
    layout: Layout = {"shape": list(value.shape), "dtype": np.dtype(dtype).name}
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        if np.isnan(value).any():
            raise NetworkError(f"parameter {name} holds NaN: load or train the network again; accepted: numbers")
        layout["infinite"] = True
    return layout


def _store(name: str, value: np.ndarray, layouts: dict[str, Layout], tensors: Tensors) -> None:
    """Put an array into the file; where all values are the same, only that value, in the header."""
    if value.size > 1 and value.dtype.kind == "f" and (value == value.flat[0]).all() and np.isfinite(value.flat[0]):
        layouts[name]["fill"] = float(value.flat[0])
    else:
        tensors[f"{name}/value"] = value


def unpack(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """``count`` codes, as int8, of a stream of ``bits`` bits each, less than 8."""
    stream = np.unpackbits(packed, count=count * bits).reshape(count, bits)
    shifted = np.packbits(stream, axis=1, bitorder="little").ravel()
    return shifted.astype(np.int8) - np.int8(_largest(bits))


def _largest(bits: int) -> int:
    """The largest code of so many bits; the smallest is as far below zero, or with 8 bits one farther."""
    return 2 ** (bits - 1) - 1


# ---- checks before reading

def check_unpacked_size(layouts: Mapping[str, Layout], stored: int) -> None:
    """Raise :class:`Malformed` when parameters stand for more bytes than a file of ``stored`` bytes can justify."""
    total = sum(math.prod(layout["shape"]) * np.dtype(layout["dtype"]).itemsize for layout in layouts.values())
    if total > UNPACKED_BYTES + UNPACKED_TIMES * stored:
        raise Malformed(f"a file of {stored} bytes stands for {total}: too much to accept without the network; "
                        f"pass it to load as net")


def take_apart(tensors: Tensors, layouts: Mapping[str, Layout]) -> None:
    """Undo :func:`put_together`, if the file has its tensor; :class:`Malformed` when that has another size or type."""
    if TOGETHER not in tensors:
        return
    together, sizes, position = tensors.pop(TOGETHER), _sizes_together(layouts), 0
    if together.ndim != 1 or together.dtype != np.float32 or together.size != sum(map(math.prod, sizes.values())):
        raise Malformed(f"tensor {TOGETHER!r} of type {together.dtype} and shape {together.shape} is not all scales "
                        f"and rest")
    for name, shape in sizes.items():
        tensors[name] = together[position:position + math.prod(shape)].reshape(shape)
        position += math.prod(shape)


def check_stored(layouts: Mapping[str, Layout], tensors: Tensors) -> None:
    """Raise :class:`Malformed` unless the tensors are those that the layouts need, of the right types and sizes."""
    for name, layout in layouts.items():
        _check_parameter(name, layout, tensors)
    needed = {f"{name}/{part}" for name in layouts for part in all_parts()}
    for name in tensors.keys() - needed:
        raise Malformed(f"tensor {name!r} belongs to no parameter")


def _check_parameter(name: str, layout: Layout, tensors: Tensors) -> None:
    value, forms, stored = tensors.get(f"{name}/value"), forms_of(name, layout, tensors), layout["dtype"]
    if ("fill" in layout) == (value is not None):
        raise Malformed(f"{name} has {'both a fill and' if 'fill' in layout else 'neither a fill nor'} a value")
    for form in forms:
        form.check(name, layout, parts_of(form, name, tensors))
        stored = form.stored_type(stored)
    if "bits" in layout and (value is None or stored != "int8"):
        raise Malformed(f"{name} has codes and {'a fill' if value is None else f'type {stored}'}")
    if value is not None:
        if value.dtype != stored and not is_packed(layout, value):
            raise Malformed(f"the values of {name} are of type {value.dtype}; accepted: {stored}")
        count = _stored_count(layout, value, math.prod(layout["shape"]))
        if all(form.keeps_shape for form in forms) and value.size != count:
            raise Malformed(f"{name} of shape {layout['shape']} has {value.size} stored values")


def forms_of(name: str, layout: Layout, tensors: Tensors) -> list[type[Form]]:
    """The forms that a parameter has, in the order of encoding; :class:`Malformed` where a part of one is missing."""
    forms = []
    for form in FORMS:
        present = [f"{name}/{part}" in tensors for part in form.parts] + [each in layout for each in form.settings]
        if any(present) and not all(present):
            raise Malformed(f"{name} has only some of {', '.join((*form.parts, *form.settings))}")
        if any(present):
            forms.append(form)
    if sum(form.stores_codes for form in forms) != ("bits" in layout):
        raise Malformed(f"{name} has bits without codes, codes without bits, or codes twice")
    return forms


def parts_of(form: type[Form], name: str, tensors: Tensors) -> Tensors:
    """{part: tensor} of a form that the parameter has."""
    return {part: tensors[f"{name}/{part}"] for part in form.parts}


def is_packed(layout: Layout, value: np.ndarray) -> bool:
    """Whether codes of fewer than 8 bits lie without gaps, as they do in files of version 2."""
    return layout.get("bits", 8) < 8 and value.dtype == np.uint8


def _stored_count(layout: Layout, value: np.ndarray, count: int) -> int:
    """How many numbers the tensor of ``count`` values has: ``count``, or the bytes that their packed codes take."""
    return -(-count * layout["bits"] // 8) if is_packed(layout, value) else count


# ---- reading

def read_forms(form: type[Form], layouts: Mapping[str, Layout], tensors: Tensors) -> dict[str, Form]:
    """{parameter: form} of all parameters that have it, after :func:`check_stored` has passed."""
    return {name: form.read(name, layout, parts_of(form, name, tensors)) for name, layout in layouts.items()
            if form in forms_of(name, layout, tensors)}


def decode(name: str, layout: Layout, tensors: Tensors, as_codes: bool = False) -> np.ndarray:
    """The array of a parameter, after :func:`check_stored` has passed; :class:`Malformed` when it is not finite.

    With ``as_codes``, a parameter stored as integer codes is returned as codes.
    """
    forms = [form.read(name, layout, parts_of(form, name, tensors)) for form in forms_of(name, layout, tensors)]
    value = _stored_value(name, layout, forms, tensors)
    for form in reversed(forms):
        if as_codes and form.stores_codes:
            break
        value = form.decode(value)
    value = value.reshape(layout["shape"])
    _check_finite(name, layout, value)
    return value


def _stored_value(name: str, layout: Layout, forms: list[Form], tensors: Tensors) -> np.ndarray:
    """What is stored of a parameter after its forms have encoded it."""
    shape, dtype = tuple(layout["shape"]), layout["dtype"]
    for form in forms:
        shape, dtype = form.stored_shape(shape), form.stored_type(dtype)
    if "fill" in layout:
        return np.full(shape, layout["fill"], dtype)
    count, value = math.prod(shape), tensors[f"{name}/value"]
    if value.size != _stored_count(layout, value, count):
        raise Malformed(f"{name} has {value.size} stored values where there should be "
                        f"{_stored_count(layout, value, count)}")
    if "bits" in layout:
        value = unpack(value.ravel(), layout["bits"], count) if is_packed(layout, value) else value.ravel()
        most = _largest(layout["bits"])
        if layout["bits"] < 8 and value.size and (value.max() > most or value.min() < -most):
            raise Malformed(f"{name} has a code of more than {layout['bits']} bits")
    return value.reshape(shape)


def _check_finite(name: str, layout: Layout, value: np.ndarray) -> None:
    if value.dtype.kind != "f" or np.isfinite(value).all():
        return
    if np.isnan(value).any() or not layout.get("infinite"):
        raise Malformed(f"parameter {name} holds {value[~np.isfinite(value)][0]}; accepted: finite numbers")
