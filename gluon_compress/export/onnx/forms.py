"""ONNX operators that many functions of the table write, in the form that each opset wants."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper

from .lengths import Length, Samples, Tensor

AXES_OF_REDUCTIONS_FROM = 18  # the opset in which they became an input, but for ReduceSum, for which it was 13
EQUAL_PARTS_FROM = 18  # the opset in which Split says the number of its parts
LAST = np.iinfo(np.int64).max
FIRST = np.iinfo(np.int64).min + 1


class Forms(ABC):
    """Each method writes operators and gives the name of what the last one makes."""

    opset: int

    @abstractmethod
    def __call__(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Write an ONNX operator."""

    @abstractmethod
    def constant(self, value: Any, dtype: Any = None) -> str:
        """Name of an initializer with this value."""

    @abstractmethod
    def lengths(self, lengths: Sequence[Length]) -> str:
        """Name of the list of these lengths."""

    def integers(self, *values: int) -> str:
        """A list of lengths or axes."""
        return self.constant(values, np.int64)

    def type(self, dtype: Any) -> int:
        """ONNX's number of a type."""
        return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def cast(self, data: str, dtype: Any) -> str:
        return self("Cast", data, to=self.type(dtype))

    def reduce(self, kind: str, data: str, axes: Sequence[int], keepdims: bool = True) -> str:
        if kind == "Sum" or self.opset >= AXES_OF_REDUCTIONS_FROM:
            return self(f"Reduce{kind}", data, self.integers(*axes), keepdims=int(keepdims))
        return self(f"Reduce{kind}", data, axes=list(axes), keepdims=int(keepdims))

    def sum(self, data: str, axes: Sequence[int], keepdims: bool = True) -> str:
        return self.reduce("Sum", data, axes, keepdims)

    def pad(self, data: str, begins: Sequence[int], ends: Sequence[int], value: float, dtype: Any = np.float32) -> str:
        """Widen the axes of an image, those after the first two."""
        if not any(begins) and not any(ends):
            return data
        return self("Pad", data, self.integers(0, 0, *begins, 0, 0, *ends), self.constant(value, dtype))

    def transpose(self, data: str, *axes: int) -> str:
        return data if axes == tuple(range(len(axes))) else self("Transpose", data, perm=axes)

    def squeeze(self, data: str, *axes: int) -> str:
        return self("Squeeze", data, self.integers(*axes)) if axes else data

    def unsqueeze(self, data: str, *axes: int) -> str:
        return self("Unsqueeze", data, self.integers(*axes)) if axes else data

    def reshape(self, data: str, before: Sequence[Length], after: Sequence[Length]) -> str:
        """The same elements in other lengths: 0 keeps one of the batch where it is, -1 finds one out."""
        if tuple(before) == tuple(after):
            return data
        kept = [isinstance(length, Samples) and tuple(before[index:index + 1]) == (length,)
                for index, length in enumerate(after)]
        open_ends = [index for index, length in enumerate(after) if isinstance(length, Samples) and not kept[index]]
        if len(open_ends) > 1:
            return self("Reshape", data, self.lengths(after))
        codes = [0 if same else -1 if index in open_ends else length
                 for index, (same, length) in enumerate(zip(kept, after))]
        return self("Reshape", data, self.integers(*codes))  # type: ignore[arg-type]

    def slice(self, data: str, axis: int, begin: int | None = None, end: int | None = None, step: int = 1) -> str:
        """As Python slices."""
        first = (0 if step > 0 else LAST) if begin is None else begin
        last = (LAST if step > 0 else FIRST) if end is None else end
        return self("Slice", data, *map(self.integers, (first, last, axis, step)))

    def at(self, data: str, axis: int, index: int) -> str:
        """What lies at one index of an axis, without the axis."""
        return self("Gather", data, self.constant(index, np.int64), axis=axis)

    def split(self, data: str, axis: int, parts: int, length: Length) -> list[str]:
        """In equal parts along an axis of this length."""
        if parts == 1:
            return [data]
        if isinstance(length, int):
            return self("Split", data, self.integers(*[length // parts] * parts), outputs=parts, axis=axis)
        equal = {"num_outputs": parts} if self.opset >= EQUAL_PARTS_FROM else {}
        return self("Split", data, outputs=parts, axis=axis, **equal)

    def expand(self, data: str, lengths: Sequence[Length]) -> str:
        return self("Expand", data, self.lengths(lengths))

    def filled(self, tensor: Tensor, value: float) -> str:
        """A tensor of one value."""
        return self.expand(self.constant(value, tensor.dtype), tensor.lengths)

    def affine(self, data: str, factor: float, offset: float, dtype: Any) -> str:
        """factor data + offset."""
        product = data if factor == 1 else self("Mul", data, self.constant(factor, dtype))
        return product if offset == 0 else self("Add", product, self.constant(offset, dtype))

    def nonzero(self, data: str) -> str:
        """Truth values, as MXNet takes any number for one."""
        return self("Cast", data, to=self.type(np.bool_))

    def indices(self, data: str) -> str:
        return self.cast(data, np.int64)
