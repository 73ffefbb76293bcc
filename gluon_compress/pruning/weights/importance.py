"""Criteria of single weights: those of criteria.py, and importances that a user gives."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ...arguments import shown
from ...files.digests import digest_of_arrays
from ...network.layer import Layer, layers
from ..criteria import Criterion, WeightCriterion, function_name, named_criterion
from .given import by_parameter_name, finite_array


@dataclass(frozen=True)
class GivenImportance(Criterion):
    """{layer or parameter name: array}, or a function from a :class:`~gluon_compress.network.Layer` to an array."""

    given: Mapping[str, Any] | Callable[[Layer], Any] = field(repr=False)

    def of_weights(self, net: HybridBlock, chosen: list[Layer]) -> dict[str, np.ndarray]:
        if isinstance(self.given, Mapping):
            arrays = by_parameter_name("criterion", self.given, layers(net))
            for layer in chosen:
                if layer.parameter_name not in arrays:
                    raise ValueError(f"criterion has no entry for layer {layer.name}: give one, or leave the layer "
                                     f"out with exclude")
        else:
            arrays = {layer.parameter_name: self.given(layer) for layer in chosen}
        return {layer.parameter_name: finite_array("criterion", layer.parameter_name, arrays[layer.parameter_name],
                                                   layer.value().shape) for layer in chosen}

    def functions(self) -> dict[str, Callable[..., Any]]:
        return {} if isinstance(self.given, Mapping) else {"criterion": self.given}

    def settings(self) -> dict[str, Any]:
        if not isinstance(self.given, Mapping):
            return {"criterion": function_name(self.given)}
        arrays = {name: np.asarray(value.asnumpy() if isinstance(value, mx.nd.NDArray) else value, np.float64)
                  for name, value in self.given.items()}
        return {"criterion": "given", "importances_sha256": digest_of_arrays(arrays)}


def weight_criterion(criterion: Any) -> Criterion:
    """The criterion that a user means for single weights: an object, name, dict, function, or None for ``|w|``."""
    if criterion is None:
        return WeightCriterion("l1")
    if isinstance(criterion, Criterion):
        return criterion
    if isinstance(criterion, str):
        return named_criterion(criterion)
    if isinstance(criterion, Mapping) or (callable(criterion) and not isinstance(criterion, type)):
        return GivenImportance(criterion)
    raise TypeError(f"criterion is {shown(criterion)}; accepted: 'l1', 'l2', 'random', Random(seed), a dict "
                    f"{{layer name: array}}, a function of a layer, or None")
