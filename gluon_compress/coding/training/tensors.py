"""The parameters that a RateTrainer codes: what they would be without rounding, and what their codes cost."""
from __future__ import annotations

from dataclasses import dataclass

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, Parameter

from ...arguments import mxnet_scalar
from ...errors import NetworkError
from ...network.hooked_trainer import has_dense_gradient
from ...network.interface import CLASSIC
from ...network.values import parameters, value_of
from .code_lengths import CodeLengths, code_lengths
from .steps import LARGEST, LARGEST_LOG2, step_of

__all__ = ["CodedTensor", "coded_tensors", "not_finite"]

FIRST_STEP = 0.5  # of the root mean square of a tensor's values that are not zero
ROUNDED = 1e-4  # how far from whole numbers of a step, in it, values may be that count as rounded before


@dataclass
class CodedTensor:
    """A parameter with its values before rounding; of arrays there is one for each device."""

    name: str
    parameter: Parameter
    latents: list[mx.nd.NDArray]
    counted: np.ndarray  # int8: the codes that the lengths are of
    lengths: CodeLengths
    excess: list[mx.nd.NDArray]  # lengths.first - lengths.more

    @classmethod
    def of(cls, name: str, parameter: Parameter) -> CodedTensor:
        latents = [CLASSIC.own(array).copy() for array in parameter.list_data()]
        codes = np.ones(latents[0].shape, np.int8)  # until they are counted
        return cls(name, parameter, latents, codes, code_lengths(codes), [mx.nd.zeros_like(each) for each in latents])

    def values(self) -> list[mx.nd.NDArray]:
        return [CLASSIC.own(array) for array in self.parameter.list_data()]

    def first_step(self) -> float:
        """One that keeps the codes of a tensor which was rounded before.

        As steps are on a grid, its values before rounding are scaled along, by two percent at most. Zeros say nothing
        of others' size: a pruned weight would begin with far too small a step.
        """
        values = np.abs(self.latents[0].asnumpy().astype(np.float64))
        axes, values = values.ndim, values[values > 0]
        if not values.size:
            return 1.0
        before = common_step(values) if axes > 1 or values.min() < values.max() else None  # gammas may all be 1
        if before is None or abs(np.log2(before)) > LARGEST_LOG2:
            return max(FIRST_STEP * np.sqrt(np.square(values).mean()), values.max() / LARGEST)
        for latent in self.latents:
            latent *= float(step_of(np.log2(before))) / before
        return before

    def check_trained(self) -> None:
        """Raise ``NetworkError`` where the parameter was frozen since: there is no gradient then."""
        if not has_dense_gradient(self.parameter):
            raise NetworkError(f"{self.name} was frozen after the trainer was made, which codes it; accepted: a new "
                               f"RateTrainer, with its layer in exclude (vectors=False for biases, gamma and beta)")

    def bits(self, step: np.float32) -> float:
        return self.lengths.bits(np.abs(self.latents[0].asnumpy()) / step)

    def add_penalty(self, strength: float, step: np.float32) -> mx.nd.NDArray:
        """Add the gradient of ``strength * bits``.

        Returns the derivative of loss and penalty by the logarithm of the step: d(step round(v / step)) / d(ln step) is
        ``w - v``, as rounding counts as the identity, and bits depend on ``v / step`` alone.
        """
        slopes = []
        gradients = [CLASSIC.own(array) for array in self.parameter.list_grad()]
        for value, gradient, latent, excess in zip(self.values(), gradients, self.latents, self.excess):
            near = mx.nd.abs(latent) < float(step)
            pull = mx.nd.sign(latent) * (near * excess + self.lengths.more) * mxnet_scalar(strength / float(step))
            slopes.append((gradient * (value - latent) - pull * latent).sum())
            gradient += pull
        return slopes[0]

    def unround(self) -> None:
        """The parameter's values are those before rounding."""
        for latent, value in zip(self.latents, self.values()):
            mx.nd.identity(latent, out=value)

    def keep(self) -> None:
        """The parameter's values are those before rounding from now on."""
        for latent, value in zip(self.latents, self.values()):
            mx.nd.identity(value, out=latent)

    def round(self, step: np.float32) -> None:
        """The parameter's values are whole numbers of a step."""
        for latent, value in zip(self.latents, self.values()):
            codes = mx.nd.clip(mx.nd.rint(latent / float(step)), -LARGEST, LARGEST)
            rounded = codes.astype("float32", copy=False) * float(step) + 0  # as a file tells them; no negative zeros
            mx.nd.identity(rounded.astype(value.dtype, copy=False), out=value)

    def count(self, codes: np.ndarray) -> None:
        """Lengths are those of these codes from now on."""
        self.counted, self.lengths = codes.astype(np.int8), code_lengths(codes)
        for excess in self.excess:
            excess[:] = self.lengths.first - self.lengths.more

    def codes(self, step: np.float32) -> np.ndarray:
        """The codes that the parameter's values have now."""
        return np.rint(value_of(self.parameter) / step)


def not_finite(name: str) -> NetworkError:
    """The error of a training that goes nowhere."""
    return NetworkError(f"the gradients or values of {name} are not finite: lower the learning rate, and load the "
                        f"network again")


def common_step(values: np.ndarray) -> float | None:
    """The largest step that all ``values``, above 0, are whole numbers of, up to LARGEST; None without one.

    Unlike :func:`~.steps.scale_of`, which knows the steps of this trainer exactly, it finds any.
    """
    some = np.unique(values)
    if len(some) <= LARGEST:
        for smallest in range(1, int((LARGEST + ROUNDED) * some[0] / some[-1]) + 1):
            codes = some / some[0] * smallest
            if np.allclose(codes, np.rint(codes), rtol=0, atol=ROUNDED):
                return some[0] / smallest
    return None


def coded_tensors(net: HybridBlock, weights: list[str], vectors: bool) -> list[CodedTensor]:
    """Those of the parameters named ``weights``, and with ``vectors`` of those of one axis that are trained.

    Raises ``NetworkError`` for a weight that is not trained.
    """
    found = []
    for name, parameter in parameters(net).items():
        if name in weights and not has_dense_gradient(parameter):
            raise NetworkError(f"{name} is frozen, or has a sparse gradient; accepted: weights that are trained, or "
                               f"their layer in exclude")
        vector = vectors and has_dense_gradient(parameter) and len(parameter.list_data()[0].shape) == 1
        if name in weights or vector:
            found.append(CodedTensor.of(name, parameter))
    return found
