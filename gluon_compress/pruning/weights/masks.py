"""Masks: which weights of a network are pruned."""
from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, Parameter

from ...arguments import check_text, shown
from ...errors import RecordError
from ...files.schema import REASONS, SHAPE, Malformed, fields, mapping, text
from ...files.unpacking import inflate
from ...network.checks import check_floats, check_ready
from ...network.interface import CLASSIC
from ...network.values import leave_store, parameters, value_of
from ...records import Form, Record
from ...tables import format_table


class KeptValues(Form):
    """A mask, and the values that it keeps; all others are zero. Files of version 2 hold the mask deflated."""

    parts = ("mask",)
    stage = 1
    keeps_shape = False

    def __init__(self, name: str, mask: np.ndarray) -> None:
        self.name, self.mask = name, mask

    def encode(self, values: np.ndarray) -> np.ndarray:
        return values[self.mask]

    def decode(self, stored: np.ndarray) -> np.ndarray:
        values = np.zeros(self.mask.shape, stored.dtype)
        values[self.mask] = stored
        return values

    def tensors(self) -> dict[str, np.ndarray]:
        return {"mask": self.mask}

    def stored_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (int(np.count_nonzero(self.mask)),)

    @classmethod
    def check(cls, name: str, layout: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
        mask = tensors["mask"]
        deflated = mask.dtype == np.uint8 and mask.ndim == 1
        if not deflated and (mask.dtype != bool or mask.shape != tuple(layout["shape"])):
            raise Malformed(f"the mask of {name} is of type {mask.dtype} and shape {mask.shape}; accepted: bool and "
                            f"{tuple(layout['shape'])}, or a row of uint8")

    @classmethod
    def read(cls, name: str, layout: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> KeptValues:
        if tensors["mask"].dtype == bool:
            return cls(name, tensors["mask"])
        count = math.prod(layout["shape"])
        bits = inflate(tensors["mask"].tobytes(), -(-count // 8), f"the mask of {name}")
        mask = np.unpackbits(np.frombuffer(bits, np.uint8), count=count).view(bool)
        return cls(name, mask.reshape(layout["shape"]))


class Masks(Record, in_files="masks", form=KeptValues):
    """Which weights of a network are pruned: plain data, apart from the network.

    Attributes
    ----------
    kept : dict
        {structural parameter name: bool NumPy array of the parameter's shape}; False where pruned.
    left_out : dict
        {layer name: why it was not pruned}.

    >>> masks = prune_magnitude(net, sparsity=0.9)
    >>> masks.sparsity
    0.9
    >>> masks.apply(fresh_net)          # prunes the same weights there
    """

    title = "record of masks"
    schema = fields({"kept": mapping(fields({"shape": SHAPE, "bits": text(1 << 31)})), "left_out": REASONS})
    header_schema = fields({"left_out": REASONS})

    def __init__(self, kept: Mapping[str, Any], left_out: Mapping[str, str] | None = None) -> None:
        if not isinstance(kept, Mapping):
            raise TypeError(f"kept is {shown(kept)}; accepted: a dict {{parameter name: array of True and False}}")
        self.kept = {name: _as_mask(name, mask) for name, mask in kept.items()}
        if not isinstance(left_out, (Mapping, type(None))):
            raise TypeError(f"left_out is {shown(left_out)}; accepted: a dict {{layer name: why}}, or None")
        self.left_out = dict(left_out or {})

    @property
    def sparsity(self) -> float:
        """Fraction of pruned weights, over all masked parameters together."""
        weights = sum(mask.size for mask in self.kept.values())
        return sum(int((~mask).sum()) for mask in self.kept.values()) / weights if weights else 0.0

    @property
    def digest(self) -> str:
        """SHA-256 of the names and the bits; equal for equal masks."""
        digest = hashlib.sha256()
        for name, mask in sorted(self.kept.items()):
            digest.update(name.encode() + np.packbits(mask).tobytes())
        return digest.hexdigest()

    def apply(self, net: HybridBlock) -> HybridBlock:
        """Set the pruned weights of ``net`` to zero and return ``net``.

        A trainer whose key-value store updates the weights makes a new store, as after Gluon's ``set_data``.

        Raises ``RecordError`` naming the parameter when the masks do not fit, and ``NetworkError`` when servers hold
        the weights; ``net`` is then unchanged.
        """
        pairs = self.fitted(net)
        for parameter, _ in pairs:
            leave_store(parameter)
        for parameter, mask in pairs:
            zero_where_pruned(parameter.list_data(), on_devices(parameter, mask))
        return net

    def freeze(self, net: HybridBlock) -> HybridBlock:
        """Exclude the masked parameters, whole, from training (``grad_req='null'``) and return ``net``.

        The surviving weights do not change either: fine-tuning cannot repair these layers, and only the layers that
        were not pruned can make up for them. (The article's loop freezes its convolutions in this way, with their
        biases.) :class:`MaskedTrainer` holds only the pruned weights.
        """
        for parameter, _ in self.fitted(net):
            parameter.grad_req = "null"
        return net

    def fitted_masks(self, net: HybridBlock) -> dict[str, np.ndarray]:
        """``kept``, after a check that ``net`` has zeros wherever it is False; ``RecordError`` otherwise."""
        for (name, mask), (parameter, _) in zip(self.kept.items(), self.fitted(net)):
            regrown = np.count_nonzero(value_of(parameter)[~mask])
            if regrown:
                raise RecordError(f"{regrown} pruned weights of {name} are no longer zero: train with "
                                  f"MaskedTrainer, or call masks.apply(net)")
        return self.kept

    def fitted(self, net: HybridBlock) -> list[tuple[Parameter, np.ndarray]]:
        """[(Parameter, mask)], or ``RecordError`` when the masks belong to another network."""
        check_ready(net)
        check_floats(net)
        named = parameters(net)
        for name, mask in self.kept.items():
            if name not in named:
                raise RecordError(f"the masks belong to another network: there is no parameter {name} here")
            shape = named[name].list_data()[0].shape
            if shape != mask.shape:
                raise RecordError(f"the masks belong to another network: {name} has shape {shape}, "
                                  f"its mask {mask.shape}")
        return [(named[name], mask) for name, mask in self.kept.items()]

    def summary(self) -> str:
        """A table with a row per masked parameter and one per layer left out."""
        rows = [(name, f"{mask.size:,}", f"{mask.size - mask.sum():,}", f"{1 - mask.mean():.4f}", "")
                for name, mask in self.kept.items()]
        size = sum(mask.size for mask in self.kept.values())
        rows.append(("all masked", f"{size:,}", f"{round(self.sparsity * size):,}", f"{self.sparsity:.4f}", ""))
        rows += [(name, "", "", "", f"left out: {reason}") for name, reason in self.left_out.items()]
        return format_table(("parameter", "weights", "zeros", "sparsity", "note"), rows)

    def combined(self, other: Masks) -> Masks:
        """The masks that prune what either prunes."""
        for name in self.kept.keys() & other.kept.keys():
            if self.kept[name].shape != other.kept[name].shape:
                raise RecordError(f"the masks are of different networks: {name} has shape {self.kept[name].shape} "
                                  f"in one, {other.kept[name].shape} in the other")
        kept = {name: mask & other.kept.get(name, True) for name, mask in {**other.kept, **self.kept}.items()}
        left_out = {name: reason for name, reason in self.left_out.items() if name in other.left_out}
        return Masks(kept, left_out)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serializable: masks as packed bits in base64."""
        return {"kept": {name: {"shape": list(mask.shape),
                                "bits": base64.b64encode(np.packbits(mask).tobytes()).decode("ascii")}
                         for name, mask in self.kept.items()},
                "left_out": self.left_out}

    @classmethod
    def of_checked(cls, record: dict[str, Any]) -> Masks:
        return cls({name: _unpacked(mask["bits"], mask["shape"]) for name, mask in record["kept"].items()},
                   record["left_out"])

    def check(self, net: HybridBlock) -> None:
        self.fitted_masks(net)

    def forms(self) -> dict[str, Form]:
        return {name: KeptValues(name, mask) for name, mask in self.kept.items()}

    def header(self) -> dict[str, Any]:
        return {"left_out": self.left_out}

    @classmethod
    def from_file(cls, header: dict[str, Any], forms: Mapping[str, Any]) -> Masks:
        return cls({name: form.mask for name, form in forms.items()}, header["left_out"])


def _as_mask(name: str, mask: Any) -> np.ndarray:
    """The mask as a bool array; ``TypeError`` or ``ValueError`` for anything else, such as text."""
    check_text("a name in kept", name)
    try:
        array = np.asarray(mask)
    except ValueError as error:
        raise ValueError(f"kept[{name!r}] is not an array: {error}; accepted: an array of True and False") from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"kept[{name!r}] is {shown(mask)}; accepted: an array of True and False")
    return array.astype(bool)


def _unpacked(text: str, shape: list[int]) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(base64.b64decode(text, validate=True), np.uint8))
    count = math.prod(shape)
    if len(bits) != -(-count // 8) * 8:
        raise ValueError(f"{len(bits)} bits for a mask of shape {tuple(shape)}")
    return bits[:count].reshape(shape)


def on_devices(parameter: Parameter, mask: np.ndarray) -> list[mx.nd.NDArray]:
    """The mask as an NDArray on each device of the parameter."""
    return [mx.nd.array(mask, context, "uint8") for context in parameter.list_ctx()]


def zero_where_pruned(arrays: Iterable[mx.nd.NDArray], masks: Iterable[mx.nd.NDArray]) -> None:
    """Set to zero in place, whatever layout oneDNN has given the arrays: ``set_data`` fails on some."""
    for array, mask in zip(map(CLASSIC.own, arrays), masks):
        # not array *= mask: Adamax divides 0 by 0 where a gradient is zero, and NaN * 0 is NaN
        mx.nd.where(mask, array, mx.nd.zeros_like(array), out=array)
