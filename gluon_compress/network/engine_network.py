"""A network in a file that another engine than MXNet computes: called as a Block is, without layers or parameters."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import mxnet as mx
import numpy as np
from mxnet.gluon import Block

from ..arguments import shown
from ..errors import NetworkError
from .inputs import flat
from .interface import interface_of_array
from .misfits import remedy, shorten


@dataclass(frozen=True)
class Tensor:
    """An input or output as the file has it; ``shape`` has a name, or None, for a length that may vary, or is None."""

    name: str
    shape: tuple[int | str | None, ...] | None
    dtype: np.dtype

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.name} (of any shape) {self.dtype}"
        lengths = ", ".join("any" if length is None else str(length) for length in self.shape)
        return f"{self.name} ({lengths}{',' * (len(self.shape) == 1)}) {self.dtype}"


class Session(Protocol):
    """What an engine makes of a file."""

    engine: str  # its name and version
    inputs: list[Tensor]
    outputs: list[Tensor]
    metadata: dict[str, str]  # what the file says of itself, by name

    def run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """The outputs for one array per input, all of the types and shapes that the file has."""


class EngineNetwork(Block):
    """What :func:`gluon_compress.export.engine` returns.

    Called with one NDArray per input, nested or not, it returns an NDArray, or a list where the file has several
    outputs; ``mx.np`` arrays for such. It has no gradients: to autograd its outputs are constants.

    Attributes
    ----------
    path : Path
    runtime : str
        As it was asked for: "onnxruntime" or "openvino".
    engine : str
        The engine's name and version.
    threads : int
    precision : str
        "int8" where the file has operators that give integers, else by the types of the inputs: "fp32", ...
    inputs, outputs : list of Tensor
        Their names, shapes and types.
    metadata : dict
        {name: text} of what the file says of itself, such as "gluon_compress.version".
    """

    def __init__(self, session: Session, path: Path, runtime: str, threads: int, precision: str) -> None:
        super().__init__()
        self._session = session
        self.path, self.runtime, self.threads, self.precision = path, runtime, threads, precision
        self.engine, self.inputs, self.outputs = session.engine, session.inputs, session.outputs
        self.metadata = session.metadata

    def forward(self, *args: Any) -> Any:
        arrays = flat(args)
        self._check(arrays)
        try:
            results = self._session.run([np.ascontiguousarray(array.asnumpy()) for array in arrays])
        except Exception as error:  # each engine has its own; they have no base but this in common
            shapes = ", ".join(f"{tensor.name} {array.shape}" for tensor, array in zip(self.inputs, arrays))
            raise NetworkError(f"{self.engine} cannot compute {self.path.name} for {shapes}: {shorten(error)}"
                               ) from error
        own = interface_of_array(arrays[0])
        # a view, as NumPy has several types of one width, of which MXNet knows one
        outputs = [own.array(result.view(tensor.dtype), arrays[0].context)
                   for result, tensor in zip(results, self.outputs)]
        return outputs[0] if len(outputs) == 1 else outputs

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(f"the session of {self.engine} for {self.path.name} cannot be copied or pickled; accepted: to "
                        f"open the file once more, gluon_compress.export.engine({str(self.path)!r}, {self.runtime!r}, "
                        f"{self.threads})")

    def __repr__(self) -> str:
        return (f"EngineNetwork({self.path.name} in {self.engine}, {self.threads} thread{'s' * (self.threads > 1)}, "
                f"{self.precision}: {_listed(self.inputs)} -> {_listed(self.outputs)})")

    def _check(self, arrays: list) -> None:
        """``TypeError`` or ``ValueError`` naming the input, unless the arrays are of the file's types and shapes."""
        if len(arrays) != len(self.inputs):
            raise TypeError(f"{len(arrays)} input(s) given to {self.path.name}; accepted: {len(self.inputs)}, "
                            f"{_listed(self.inputs)}")
        lengths: dict[str, tuple[int, str]] = {}  # by the names in the file
        for tensor, array in zip(self.inputs, arrays):
            if not isinstance(array, mx.nd.NDArray):
                raise TypeError(f"input {tensor.name} is {shown(array)}; accepted: an NDArray, as of "
                                f"{tensor}")
            if np.dtype(array.dtype) != tensor.dtype:
                raise ValueError(f"input {tensor.name} is {np.dtype(array.dtype)}{remedy([array])}; accepted: "
                                 f"{tensor.dtype}, as {self.path.name} says")
            if not _fits(array.shape, tensor.shape):
                raise ValueError(f"input {tensor.name} has shape {array.shape}{remedy([array])}; accepted: {tensor}, "
                                 f"as {self.path.name} says")
            for length, name in zip(array.shape, tensor.shape or ()):
                if isinstance(name, str) and lengths.setdefault(name, (length, tensor.name))[0] != length:
                    raise ValueError(f"input {tensor.name} has shape {array.shape}; accepted: {tensor}, with {name} = "
                                     f"{lengths[name][0]} as in input {lengths[name][1]}")


def _fits(shape: tuple[int, ...], wanted: tuple[int | str | None, ...] | None) -> bool:
    return wanted is None or len(shape) == len(wanted) and all(
        length == other if isinstance(other, int) else length > 0 for length, other in zip(shape, wanted))


def _listed(tensors: list[Tensor]) -> str:
    return ", ".join(map(str, tensors))
