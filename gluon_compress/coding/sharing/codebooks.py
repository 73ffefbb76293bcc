"""The record of shared weights: the few values that the weights of each layer have."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from mxnet.gluon import HybridBlock, Parameter

from ...arguments import shown
from ...errors import NetworkError, RecordError
from ...files.schema import REASONS, Malformed, choice, fields, list_of, mapping, number
from ...network.checks import check_ready
from ...network.values import parameters, value_of
from ...records import Form, Record, codes_of
from ...tables import format_table

MOST_CLUSTERS = 256
TYPES = ("float16", "float32", "float64")


class IndicesAndCodebook(Form):
    """Each weight as the index of its value, and these values; a zero as 0, which is not among them.

    Positive values have the indices 1, 2, ... in ascending order, negative ones -1, -2, ... in descending order. So
    small indices stand for small weights, and neighbours for like weights, which is what the coder expects.
    """

    parts = ("codebook",)

    def __init__(self, name: str, centroids: np.ndarray) -> None:
        self.name, self.centroids = name, centroids
        self.negative = int(np.count_nonzero(centroids < 0))  # how many

    def encode(self, values: np.ndarray) -> np.ndarray:
        places = np.searchsorted(self.centroids, values).clip(max=len(self.centroids) - 1)
        zeros = values == 0
        others = np.count_nonzero(~zeros & (self.centroids[places] != values))
        if others:
            raise RecordError(f"{others} weights of {self.name} are not in its codebook of {len(self.centroids)} "
                              f"values: they changed since share_weights; train with CentroidTrainer, and save its "
                              f"codebooks, or call share_weights again")
        return np.where(zeros, 0, places - self.negative + (places >= self.negative)).astype(np.int32)

    def decode(self, stored: np.ndarray) -> np.ndarray:
        least, most = -self.negative, len(self.centroids) - self.negative
        if stored.size and not least <= stored.min() <= stored.max() <= most:
            wrong = stored.min() if stored.min() < least else stored.max()
            raise Malformed(f"{self.name} has index {wrong} in a codebook of {least} to {most}")
        return np.insert(self.centroids, self.negative, 0)[stored - least]

    def tensors(self) -> dict[str, np.ndarray]:
        return {"codebook": self.centroids}

    @classmethod
    def stored_type(cls, dtype: str) -> str:
        return "int32"

    @classmethod
    def check(cls, name: str, layout: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
        centroids = tensors["codebook"]
        if centroids.dtype.name != layout["dtype"] or not _is_codebook(centroids):
            raise Malformed(f"the codebook of {name} is of type {centroids.dtype} and shape {centroids.shape}; "
                            f"accepted: of type {layout['dtype']}, {ACCEPTED}")

    @classmethod
    def read(cls, name: str, layout: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> IndicesAndCodebook:
        return cls(name, tensors["codebook"])


ACCEPTED = f"1 to {MOST_CLUSTERS} finite numbers other than 0, ascending, each once"


def _is_codebook(centroids: np.ndarray) -> bool:
    return (centroids.ndim == 1 and 1 <= centroids.size <= MOST_CLUSTERS and centroids.dtype.name in TYPES
            and bool(np.isfinite(centroids).all() and (centroids != 0).all() and (np.diff(centroids) > 0).all()))


class Codebooks(Record, in_files="codebooks", form=IndicesAndCodebook):
    """Which values the weights of a network share: plain data, apart from the network.

    A weight is zero, as a pruned one is, or one of its layer's centroids.

    Attributes
    ----------
    centroids : dict
        {structural parameter name: array of the parameter's type}: at most 256 numbers other than 0, ascending, each
        once.
    left_out : dict
        {layer name: why its weights are not shared}.
    """

    title = "record of codebooks"
    schema = fields({"left_out": REASONS, "centroids": mapping(fields({
        "dtype": choice(*TYPES), "values": list_of(number(), least=1, most=MOST_CLUSTERS)}))})
    header_schema = fields({"left_out": REASONS})

    def __init__(self, centroids: Mapping[str, Any], left_out: Mapping[str, str] | None = None) -> None:
        if not isinstance(centroids, Mapping):
            raise TypeError(f"centroids is {shown(centroids)}; accepted: a dict {{parameter name: floats}}")
        self.centroids = {name: np.asarray(values) for name, values in centroids.items()}
        for name, values in self.centroids.items():
            if not _is_codebook(values):
                raise ValueError(f"the centroids of {name} are {shown(values)}; accepted: floats, {ACCEPTED}")
        self.left_out = dict(left_out or {})

    def codes(self, net: HybridBlock) -> dict[str, np.ndarray]:
        """{parameter name: int32 array} of the indices that ``net`` has now, in the order of the values.

        0 is a zero, 1 the smallest positive centroid, -1 the negative one next to zero. Raises ``RecordError`` naming
        the layer when a weight is not among its centroids, as after a training without :class:`CentroidTrainer`.
        """
        return codes_of(self.forms(), self._own_parameters(net))

    def updated(self, net: HybridBlock) -> Codebooks:
        """The record of the same layers with the values that their weights have in ``net`` now.

        Raises ``NetworkError`` for weights that are not finite, ``RecordError`` for some that are no longer shared.
        """
        named, centroids = self._own_parameters(net), {}
        for name in self.centroids:
            value = value_of(named[name])
            if not np.isfinite(value).all():
                raise NetworkError(f"parameter {name} is not finite: lower the learning rate, and load the network "
                                   f"again")
            centroids[name] = np.unique(value[value != 0])
            if not 1 <= centroids[name].size <= MOST_CLUSTERS:
                raise RecordError(f"parameter {name} has {centroids[name].size} different values other than 0; "
                                  f"accepted: 1 to {MOST_CLUSTERS}: train with CentroidTrainer, or call share_weights "
                                  f"again")
        return Codebooks(centroids, self.left_out)

    def summary(self) -> str:
        """A table with a row per parameter whose weights are shared, and one per layer left out."""
        rows = [(name, str(values.size), str(np.count_nonzero(values < 0)), f"{values[0]:.4g}", f"{values[-1]:.4g}", "")
                for name, values in self.centroids.items()]
        rows += [(name, "", "", "", "", f"left out: {reason}") for name, reason in self.left_out.items()]
        return format_table(("parameter", "centroids", "negative", "smallest", "largest", "note"), rows)

    def combined(self, other: Codebooks) -> Codebooks:
        """Both together; where both have a parameter, ``other`` wins, as the later one."""
        left_out = {name: reason for name, reason in self.left_out.items() if name in other.left_out}
        return Codebooks({**self.centroids, **other.centroids}, left_out)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serializable; the centroids survive exactly."""
        return {"centroids": {name: {"dtype": values.dtype.name, "values": values.tolist()}
                              for name, values in self.centroids.items()}, "left_out": self.left_out}

    @classmethod
    def of_checked(cls, record: dict[str, Any]) -> Codebooks:
        with np.errstate(over="ignore"):  # what is infinite in its type is refused
            return cls({name: np.array(book["values"], book["dtype"]) for name, book in record["centroids"].items()},
                       record["left_out"])

    def check(self, net: HybridBlock) -> None:
        """Raise ``RecordError`` unless ``net`` has weights of these names, types and values."""
        self.codes(net)

    def _own_parameters(self, net: HybridBlock) -> dict[str, Parameter]:
        """{name: parameter} of the network, once it has parameters of these names and types."""
        check_ready(net)
        named = parameters(net)
        for name, values in self.centroids.items():
            if name not in named:
                raise RecordError(f"the codebooks belong to another network: there is no parameter {name} here")
            dtype = np.dtype(named[name].dtype)
            if values.dtype != dtype:
                raise RecordError(f"the codebooks belong to another network: {name} is of type {dtype}, its centroids "
                                  f"are {values.dtype}")
        return named

    def forms(self) -> dict[str, Form]:
        return {name: IndicesAndCodebook(name, values) for name, values in self.centroids.items()}

    def header(self) -> dict[str, Any]:
        return {"left_out": self.left_out}

    @classmethod
    def from_file(cls, header: dict[str, Any], forms: Mapping[str, Any]) -> Codebooks:
        return cls({name: form.centroids for name, form in forms.items()}, header["left_out"])
