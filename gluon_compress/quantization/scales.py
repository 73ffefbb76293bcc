"""The record of quantized weights: integer codes and the scales of which the weights are multiples."""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from mxnet.gluon import HybridBlock, Parameter

from ..arguments import shown
from ..errors import RecordError
from ..files.schema import REASONS, Malformed, either, fields, integer, list_of, mapping, maybe, number
from ..network.checks import check_ready
from ..network.layer import layer_name
from ..network.values import parameters
from ..records import Form, Record, codes_of
from ..tables import format_table
from .arithmetic.arrays import along, dequantize_array, largest_code

_SCALE = number(above=0)


class CodesAndScale(Form):
    """The integer codes of a weight, and its scales: one for all, or one for each index of an axis."""

    parts = ("scale",)
    settings = {"axis": maybe(integer(0, 31))}
    stores_codes = True

    def __init__(self, name: str, bits: int, axis: int | None, scale: np.ndarray, dtype: str = "float32") -> None:
        self.name, self.bits, self.axis, self.scale, self.dtype = name, bits, axis, scale, dtype

    def encode(self, values: np.ndarray) -> np.ndarray:
        """int8 codes; those of a network on integers, which has no weights in fp32, are codes already."""
        if values.dtype == np.int8:
            return values
        q_max = largest_code(self.bits)
        codes = np.rint(values.astype(np.float64) / along(self.scale, self.axis, values.ndim))
        lowest = -q_max - (self.bits == 8)  # -128 occurs only on the grid of the integer kernels
        codes = np.clip(codes, lowest, q_max).astype(np.int8)
        if not np.array_equal(dequantize_array(codes, self.scale, self.axis).astype(values.dtype), values):
            raise RecordError(f"the weights of {self.name} are not multiples of their scale: they changed since "
                              f"quantize_weights, call it again")
        return codes

    def decode(self, stored: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return dequantize_array(stored, self.scale, self.axis).astype(self.dtype)

    def tensors(self) -> dict[str, np.ndarray]:
        return {"scale": self.scale}

    def layout(self) -> dict[str, Any]:
        return {"axis": self.axis}

    @classmethod
    def part_shapes(cls, layout: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        axis = layout["axis"]
        return {"scale": () if axis is None else tuple(layout["shape"][axis:axis + 1])}

    @classmethod
    def check(cls, name: str, layout: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
        axis, shape, scale = layout["axis"], layout["shape"], tensors["scale"]
        if layout["dtype"] not in ("float16", "float32", "float64"):
            raise Malformed(f"{name} has codes and is of type {layout['dtype']}")
        if axis is not None and axis >= len(shape) or scale.shape != (() if axis is None else (shape[axis],)):
            raise Malformed(f"{name} of shape {shape} has scales of shape {scale.shape} along axis {axis}")
        if scale.dtype != np.float32 or not (np.isfinite(scale) & (scale > 0)).all():
            raise Malformed(f"the scales of {name} are not all positive, finite and of type float32")

    @classmethod
    def read(cls, name: str, layout: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> CodesAndScale:
        return cls(name, layout["bits"], layout["axis"], tensors["scale"], layout["dtype"])


class Scales(Record, in_files="scales", form=CodesAndScale):
    """How the weights of a network were quantized: plain data, apart from the network.

    Each weight is ``code * scale``. The record covers two grids, which differ in the number of steps of ``scale`` up
    to the threshold, for instance the largest weight. :func:`quantize_weights` takes 2**(bits - 1) - 1 steps,
    127 for 8 bits, with codes from -127 to 127. A network on integers of 8 bits takes 127.5 steps, with codes from -128
    to 127, as its kernels do (see integers/onednn.py). The record does not say which grid it is, since codes and
    scales alone determine the weights.

    Attributes
    ----------
    weights : dict
        {structural parameter name: {"bits": int, "axis": int or None, "scale": float32 array}}.
    left_out : dict
        {layer name: why it was not quantized}.
    """

    title = "record of scales"
    schema = fields({"left_out": REASONS, "weights": mapping(fields({
        "bits": integer(2, 8), "axis": maybe(integer(0, 31)), "scale": either(list_of(_SCALE), _SCALE)}))})
    header_schema = fields({"left_out": REASONS})
    renamed = {**Record.renamed, "layers": "weights"}

    def __init__(self, weights: Mapping[str, Mapping[str, Any]], left_out: Mapping[str, str] | None = None) -> None:
        if not isinstance(weights, Mapping):
            raise TypeError(f"weights is {shown(weights)}; accepted: a dict {{parameter name: bits, axis and scale}}")
        self.weights = {name: {**weight, "scale": np.asarray(weight["scale"], dtype=np.float32)}
                        for name, weight in weights.items()}
        for name, weight in self.weights.items():
            scale = weight["scale"]
            if scale.ndim != (weight["axis"] is not None) or not (np.isfinite(scale) & (scale > 0)).all():
                raise ValueError(f"the scale of {name} is {str(scale)[:100]}; accepted: a positive number, or with an "
                                 f"axis one for each of its indices")
        self.left_out = dict(left_out or {})

    @property
    def layers(self) -> dict[str, dict[str, Any]]:
        """``weights`` by layer names; where two layers of a network share a name, theirs are by parameter names."""
        count = Counter(map(layer_name, self.weights))
        return {layer_name(name) if count[layer_name(name)] == 1 else name: weight
                for name, weight in self.weights.items()}

    def codes(self, net: HybridBlock) -> dict[str, np.ndarray]:
        """{parameter name: int8 codes} of the weights ``net`` has now.

        Raises ``RecordError`` naming the layer when a weight is no longer a multiple of its scale, as after
        training; quantize again then.
        """
        return codes_of(self.forms(), self._own_parameters(net))

    def summary(self) -> str:
        """A table with a row per quantized parameter and one per layer left out."""
        rows = [(name, weight["bits"], "tensor" if weight["axis"] is None else f"axis {weight['axis']}",
                 weight["scale"].size, f"{weight['scale'].min():.3g}", f"{weight['scale'].max():.3g}", "")
                for name, weight in self.weights.items()]
        rows += [(name, "", "", "", "", "", f"left out: {reason}") for name, reason in self.left_out.items()]
        return format_table(("parameter", "bits", "scale per", "scales", "smallest", "largest", "note"), rows)

    def combined(self, other: Scales) -> Scales:
        """Both together; where both have a parameter, ``other`` wins, as the later one."""
        left_out = {name: reason for name, reason in self.left_out.items() if name in other.left_out}
        return Scales({**self.weights, **other.weights}, left_out)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serializable; the float32 scales survive exactly."""
        return {"weights": {name: {**weight, "scale": weight["scale"].tolist()}
                            for name, weight in self.weights.items()}, "left_out": self.left_out}

    def check(self, net: HybridBlock) -> None:
        """Raise ``RecordError`` unless ``net`` has weights of these names and shapes, multiples of the scales."""
        self.codes(net)

    def _own_parameters(self, net: HybridBlock) -> dict[str, Parameter]:
        """{name: parameter} of the network, once it has parameters of these names and shapes."""
        check_ready(net)
        named = parameters(net)
        for name, weight in self.weights.items():
            if name not in named:
                raise RecordError(f"the scales belong to another network: there is no parameter {name} here")
            shape, axis = named[name].list_data()[0].shape, weight["axis"]
            if weight["scale"].shape != (() if axis is None else shape[axis:axis + 1]):
                raise RecordError(f"the scales belong to another network: {name} has shape {shape}, its scale "
                                  f"{weight['scale'].shape}")
        return named

    def forms(self) -> dict[str, Form]:
        return {name: CodesAndScale(name, weight["bits"], weight["axis"], weight["scale"])
                for name, weight in self.weights.items()}

    def header(self) -> dict[str, Any]:
        return {"left_out": self.left_out}

    @classmethod
    def from_file(cls, header: dict[str, Any], forms: Mapping[str, Any]) -> Scales:
        return cls({name: {"bits": form.bits, "axis": form.axis, "scale": form.scale}
                    for name, form in forms.items()}, header["left_out"])
