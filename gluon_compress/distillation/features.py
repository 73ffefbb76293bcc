"""Features of a teacher for a student: losses between any named layers of any two networks."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import HybridBlock, Parameter, nn

from ..arguments import check_choice, check_number, mxnet_scalar, shown
from ..errors import NetworkError
from ..network.checks import check_hybrid, check_initialized, undone_on_error
from ..network.inputs import example_inputs
from ..network.interface import CLASSIC, in_classic
from ..network.misfits import call, called
from ..network.values import initialize_in, interface_of, parameters
from .feature_losses import KINDS
from .tapping import TappedNetwork
from .teachers import check_no_shared, check_teacher

IMAGES, UNITS = 4, 2  # dimensions of features (batch, channels, height, width) and (batch, units)


@dataclass(frozen=True)
class FeatureLoss:
    """A loss between the outputs of two layers.

    Attributes
    ----------
    student_layer, teacher_layer : str
        Structural names of blocks, such as ``features.3.1``; in a SymbolBlock names of outputs of its graph, such as
        ``resnetv10_stage1_activation0_output``. In the int8 network of ``quantization.quantize``, names of its
        record: the output of a layer on integers, as floats, after the activation and the shortcut that run in it. The
        layers of a simulated int8 network and of a QatNetwork compute codes; use other outputs of their graphs.
    kind : "hint", "attention", "similarity" or "relational"
        See :mod:`gluon_compress.distillation.feature_losses`.
    weight : float
        At least 0: what the loss is multiplied by.

    Raises ``TypeError`` or ``ValueError`` for anything else.
    """

    student_layer: str
    teacher_layer: str
    kind: str = "hint"
    weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("student_layer", "teacher_layer"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} is {getattr(self, name)!r}; accepted: the name of a layer")
        check_choice("kind", self.kind, tuple(KINDS))
        check_number("weight", self.weight, minimum=0)


class FeatureMatcher(HybridBlock):
    """A student beside its teacher, with losses between their features.

    >>> features = [FeatureLoss("features.3", "features.4", "attention", weight=1000)]
    >>> matcher = FeatureMatcher(student, teacher, features, example)
    >>> trainer = gluon.Trainer(matcher.collect_params(), "adam")
    >>> with autograd.record():
    ...     logits, teacher_logits, feature_losses = matcher(inputs)
    ...     losses = distillation_loss(logits, labels, teacher_logits) + feature_losses
    >>> losses.backward()

    Called with a batch, it gives the student's output, the teacher's and the weighted sum of the feature losses per
    sample, ``(batch,)``. The student trains as if it were called itself, with dropout and BatchNorm's statistics; the
    teacher is in inference mode and never on the tape.

    Where the channels of features differ, a hint has an adapter: a 1x1 convolution, or a dense layer for features
    ``(batch, units)``, of the student's features. Adapters are parameters of the matcher, and no part of the student.
    Where heights or widths differ, the larger is pooled to the smaller (adaptive average), for hints and attention.

    Parameters
    ----------
    student, teacher : HybridBlock
        With one input and one output each; they share no parameter. They are traced: side effects
        of your ``forward`` or hooks happen once, and later changes of their structure have no effect here.
    features : list of FeatureLoss
    example : NDArray
        A batch of the input. Where features are pooled, all inputs need its height and width.

    Raises
    ------
    TypeError
        For arguments of another kind.
    ValueError
        For a layer name that matches nothing, a layer that is called several times or has several outputs, and
        features that cannot be compared: the message names the layer.
    NetworkError
        For a network that is not initialized or cannot be traced.
    """

    def __init__(self, student: HybridBlock, teacher: HybridBlock, features: list[FeatureLoss],
                 example: mx.nd.NDArray) -> None:
        features = check_features(features)
        check_hybrid(student)
        check_initialized(student)
        check_teacher(teacher)
        check_no_shared(student, teacher)
        if not isinstance(example, mx.nd.NDArray):
            raise TypeError(f"example is {shown(example)}; accepted: an NDArray, a batch of the input")
        super().__init__()
        with autograd.pause(train_mode=False), undone_on_error(student):
            call(student, example_inputs(example), "example")  # a fresh student gets its shapes
            call(teacher, example_inputs(example), "example")
        tapped_student = TappedNetwork(student, "student", [each.student_layer for each in features])
        tapped_teacher = TappedNetwork(teacher, "teacher", [each.teacher_layer for each in features])
        pairs = zip(features, _features(tapped_student, example), _features(tapped_teacher, example))
        with self.name_scope():
            self.student = student
            self.losses = nn.HybridSequential()
            interface = interface_of(student)  # to which adapters belong, too
            with interface.active():
                for feature, of_student, of_teacher in pairs:
                    self.losses.add(_comparison(feature, of_student, of_teacher))
        initialize_in(interface, self.losses, mx.init.Xavier(), example.context)
        self.losses.hybridize()
        self.student_outputs, self.teacher_outputs = tapped_student, _inference(tapped_teacher)

    def __call__(self, *args: Any) -> Any:
        return in_classic(super().__call__, args)

    def forward(self, inputs: mx.nd.NDArray) -> tuple[mx.nd.NDArray, mx.nd.NDArray, mx.nd.NDArray]:
        if not isinstance(inputs, mx.nd.NDArray):
            raise TypeError(f"inputs is {shown(inputs)}; accepted: an NDArray, a batch of the input")
        teacher_logits, of_teacher = call(self.teacher_outputs, (inputs,), "the input")
        logits, of_student = call(self.student_outputs, (inputs,), "the input")
        return logits, teacher_logits, self.compare(of_student, of_teacher)

    def compare(self, of_student: list[mx.nd.NDArray], of_teacher: list[mx.nd.NDArray]) -> mx.nd.NDArray:
        """The weighted sum of the losses ``(batch,)``, float32, between two lists of features."""
        return in_classic(self._compare, (of_student, of_teacher))

    def _compare(self, of_student: list[mx.nd.NDArray], of_teacher: list[mx.nd.NDArray]) -> mx.nd.NDArray:
        return sum(loss(ours, theirs) for loss, ours, theirs in zip(self.losses, of_student, of_teacher))

    @property
    def adapters(self) -> dict[str, Parameter]:
        """{structural name: Parameter} of the adapters."""
        return parameters(self.losses)


def check_features(features: Any) -> list[FeatureLoss]:
    """The list of features; ``TypeError`` or ``ValueError`` when it is not one."""
    if isinstance(features, FeatureLoss) or not isinstance(features, (list, tuple)):
        raise TypeError(f"features is {features!r}; accepted: a list of FeatureLoss")
    for feature in features:
        if not isinstance(feature, FeatureLoss):
            raise TypeError(f"features has {shown(feature)}; accepted: a list of FeatureLoss")
    if not features:
        raise ValueError("features is empty; accepted: a list of at least one FeatureLoss")
    return list(features)


def _inference(tapped: TappedNetwork) -> Callable[[Any], tuple[mx.nd.NDArray, list[mx.nd.NDArray]]]:
    """The tapped network in inference mode, off the tape."""
    def run(inputs: Any) -> tuple[mx.nd.NDArray, list[mx.nd.NDArray]]:
        with autograd.pause(train_mode=False):
            return tapped(inputs)
    return run


def _features(tapped: TappedNetwork, example: mx.nd.NDArray) -> list[mx.nd.NDArray]:
    """The features of an example, each checked."""
    with autograd.pause(train_mode=False):
        output, features = tapped(example)
    if output.ndim != 2:
        raise ValueError(f"the {tapped.title}'s output is {output.shape}; accepted: logits (batch, classes)")
    for layer, feature in zip(tapped.layers, features):
        where = f"layer {layer} of the {tapped.title}"
        if feature.dtype not in (np.float32, np.float64, np.float16):
            raise ValueError(f"{where} puts out {np.dtype(feature.dtype)}; accepted: floats (take the features of the "
                             f"fp32 network)")
        if feature.ndim < 2 or len(feature) != len(example):
            raise ValueError(f"{where} puts out {feature.shape} for a batch of {len(example)}; accepted: the batch "
                             f"first, and at least two dimensions")
        if not np.isfinite(feature.asnumpy()).all():
            raise NetworkError(f"{where} puts out NaN or infinity")
    return features


def _comparison(feature: FeatureLoss, of_student: mx.nd.NDArray, of_teacher: mx.nd.NDArray) -> _Comparison:
    """The :class:`_Comparison` of two features that fit together; ``ValueError`` naming the layers otherwise."""
    both = (f"{feature.kind} between layer {feature.student_layer} of the student, {of_student.shape}, and layer "
            f"{feature.teacher_layer} of the teacher, {of_teacher.shape}")
    if feature.kind == "attention" and (of_student.ndim, of_teacher.ndim) != (IMAGES, IMAGES):
        raise ValueError(f"{both}; accepted: (batch, channels, height, width)")
    if feature.kind == "hint" and (of_student.ndim != of_teacher.ndim or of_student.ndim not in (IMAGES, UNITS)):
        raise ValueError(f"{both}; accepted: both (batch, channels, height, width) or both (batch, units)")
    sizes, adapter = None, None
    if feature.kind in ("hint", "attention") and of_student.ndim == IMAGES:
        sizes = of_student.shape[2:], of_teacher.shape[2:]
    if feature.kind == "hint" and of_student.shape[1] != of_teacher.shape[1]:
        adapter = of_student.shape[1], of_teacher.shape[1], of_student.ndim
    return _Comparison(feature, sizes, adapter)


def _pooled_sizes(ours: tuple[int, int], theirs: tuple[int, int]) -> tuple:
    """(height, width) to pool each side to, or None for a side that has the smaller size already."""
    smaller = tuple(map(min, ours, theirs))
    return tuple(None if size == smaller else smaller for size in (ours, theirs))


class _Comparison(HybridBlock):
    """One weighted feature loss, in float32, with its adapter and its pooling.

    ``sizes``, (height, width) of both, are those of the example where they matter, otherwise None.
    """

    def __init__(self, feature: FeatureLoss, sizes: tuple | None, adapter: tuple[int, int, int] | None) -> None:
        super().__init__()
        self._feature, self._sizes = feature, sizes
        self._pooled = (None, None) if sizes is None else _pooled_sizes(*sizes)
        with self.name_scope():
            self.adapter = None if adapter is None else _adapter(*adapter)

    def forward(self, of_student: mx.nd.NDArray, of_teacher: mx.nd.NDArray) -> mx.nd.NDArray:
        sizes = of_student.shape[2:], of_teacher.shape[2:]
        differ = self._pooled != (None, None) or sizes[0] != sizes[1]
        if self._sizes is not None and differ and sizes != self._sizes:
            raise ValueError(f"layer {self._feature.student_layer} of the student and layer "
                             f"{self._feature.teacher_layer} of the teacher put out heights and widths {sizes}, and "
                             f"{self._sizes} for the example; accepted where they differ: inputs of one size")
        return super().forward(of_student.astype(np.float32, copy=False), of_teacher.astype(np.float32, copy=False))

    def hybrid_forward(self, F: Any, of_student: Any, of_teacher: Any) -> Any:
        of_student, of_teacher = (
            features if size is None else F.contrib.AdaptiveAvgPooling2D(features, output_size=size)
            for features, size in zip((of_student, of_teacher), self._pooled))
        if self.adapter is not None:
            of_student = CLASSIC.own(called(self.adapter, (of_student,)))
        return mxnet_scalar(self._feature.weight) * KINDS[self._feature.kind](F, of_student, of_teacher)


def _adapter(channels: int, wanted: int, dimensions: int) -> HybridBlock:
    if dimensions == IMAGES:
        return nn.Conv2D(wanted, 1, in_channels=channels)
    return nn.Dense(wanted, in_units=channels)
