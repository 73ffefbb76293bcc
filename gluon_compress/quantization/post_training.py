"""Post-training quantization: from a trained fp32 network and a few hundred inputs to one that runs on integers."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from mxnet.gluon import HybridBlock

from ..arguments import check_choice, check_flag, check_number
from ..network.layer import Which
from .accuracy import keep_accuracy
from .arithmetic.clipping import CLIPS
from .calibration.range_observer import RangeObserver
from .integers import onednn
from .integers.integer_network import IntegerNetwork, lower
from .noise import measure_noise
from .quantizer import Quantizer, check_fp32, check_settings, default_clip
from .rate.curvature import OUTPUTS
from .rate.network import check_rate


def quantize(net: HybridBlock, calibration_data: Iterable[Any], method: str = "mse", select: Which = None,
             exclude: Which = (), bits: int = 8, clip: str | None = None, percentile: float = 99.99,
             batches: int | None = None, correct_bias: bool = True, equalize: bool | None = None,
             evaluate: Callable[[HybridBlock], float] | None = None, max_accuracy_drop: float | None = None,
             simulate: bool = False, progress: bool = True, *, rate: float | None = None,
             outputs: str = "logits") -> IntegerNetwork:
    """An :class:`IntegerNetwork` that computes what ``net`` computes, on integers.

    ``net`` is not changed. Convolutions and dense layers get integer weights, one scale per output channel, with the
    scale of the BatchNorm after them; activations get one scale per tensor, found on the calibration data. Operators
    between them run on integers, too, where nothing is lost by it; the record names every layer that stays fp32 and
    why.

    >>> int8 = quantize(net, calibration_data)
    >>> print(int8.record)
    >>> save("small.gcz", int8)

    Parameters
    ----------
    net : HybridBlock
        Trained, in fp32; may be a SymbolBlock. Inputs with a default value keep it; several outputs come back
        as one list.
    calibration_data : iterable of batches
        A DataLoader or a list; see :mod:`gluon_compress.network.data` for what a batch may be. Some hundred
        samples of the training data, prepared as for inference. They are kept in memory meanwhile.
        An input that is never negative in this data is assumed never to be negative.
    method : "minmax", "percentile", "entropy" or "mse"
        How the threshold of an activation is chosen; see :class:`RangeObserver`.
    select, exclude : name, kind, class or function of layers, or several of these
        Which layers run on integers, by default all that can, and which stay fp32:
        ``exclude=["features.0", "Dense"]``; see :func:`~gluon_compress.network.select_layers`.
    bits : int
        2 to 8, of weights and activations. The integer kernels support only 8; other numbers need ``simulate=True``.
    clip : "max", "percentile" or "mse", optional
        How the scale of a weight is chosen; see :func:`quantize_array`. By default "mse" for 2 bits, else "max".
    percentile : float
        For ``method="percentile"``.
    batches : int, optional
        Use at most this many batches.
    correct_bias : bool
        Subtract from each output channel's bias the mean error that the rounded weights cause there (Nagel et al.,
        "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, section 4.2). Layers without
        bias and without BatchNorm have nothing to correct.
    equalize : bool, optional
        First bring the channels of each tensor between two layers to like ranges; see equalization.py. By default for
        networks with depthwise convolutions, which need it most. A pair of layers is
        skipped unless less noise is expected. The whole step is undone unless it brings the outputs on the
        calibration data closer to those in fp32. The record says what was done.
    evaluate : callable, optional
        ``evaluate(net)`` returns the accuracy, where higher is better. For ``max_accuracy_drop``.
    max_accuracy_drop : float, optional
        Keep as few layers in fp32 as are needed to lose at most this much against ``evaluate(net)``. Use held-out
        data, not the test set.
    simulate : bool
        Run the same integer arithmetic in fp32, on any machine.
    progress : bool
        Show progress bars on standard error.
    rate : float, optional
        First round the weights to what costs least in the error of the outputs and in the bits of the file, as
        :class:`RateRounding` does, whose ``rate`` it is; some thousand samples are wanted then. The file of the network
        takes a fifth. Not with fewer ``bits`` than 8, and networks are not equalized.
    outputs : "logits" or "values"
        For ``rate``: what the network puts out; see :class:`RateRounding`.

    Raises
    ------
    TypeError, ValueError
        For data, names or numbers other than described above, and when nothing is left to quantize.
    NetworkError
        When the network cannot be traced, is quantized already, or int8 networks cannot run here.
    """
    check_settings(method, bits, batches)
    clip = default_clip(bits) if clip is None else clip
    check_choice("clip", clip, CLIPS)
    for name, value in (("correct_bias", correct_bias), ("equalize", False if equalize is None else equalize),
                        ("simulate", simulate), ("progress", progress)):
        check_flag(name, value)
    new_observer = partial(RangeObserver, method, percentile, bits)
    new_observer()  # does it accept these?
    if (max_accuracy_drop is None) != (evaluate is None):
        raise TypeError("max_accuracy_drop and evaluate go together; one of them is missing")
    if evaluate is not None and not callable(evaluate):
        raise TypeError(f"evaluate is {evaluate!r}; accepted: a callable")
    if max_accuracy_drop is not None:
        check_number("max_accuracy_drop", max_accuracy_drop, minimum=0)
    check_choice("outputs", outputs, OUTPUTS)
    if rate is not None:
        rate = check_rate(rate)
        if bits != 8 or equalize:
            raise TypeError(f"rate goes with bits=8 and without equalize; bits is {bits}, equalize {equalize}")
    check_fp32(net)
    if not simulate:
        onednn.check_available(bits)
    quantizer = Quantizer(net, calibration_data, batches)
    quantizer.choose(net, select, exclude)
    if rate is not None:
        quantizer.round_by_rate(rate, progress, outputs)
        equalize = False
    quantizer.calibrate(new_observer, progress)

    def quantized(in_fp32: Mapping[str, str] | None = None, quantizer: Quantizer = quantizer) -> IntegerNetwork:
        made = quantizer.quantized(bits, clip, correct_bias, in_fp32)
        made.record.calibration = f"{method}, {quantizer.seen.samples} samples"
        lowering = lower(made, simulate)
        measure_noise(made, quantizer.values, lowering, quantizer.batches[0])
        return IntegerNetwork(made, simulate, lowering)
    result = None
    if equalize or equalize is None and quantizer.has_depthwise():
        quantizer, result = with_equalization(quantizer, quantized, new_observer, progress)
    result = result or quantized()
    if evaluate is None or max_accuracy_drop is None:
        return result
    return keep_accuracy(net, result, partial(quantized, quantizer=quantizer), quantizer.batches[0], evaluate,
                         max_accuracy_drop, progress)


def with_equalization(quantizer: Quantizer, quantized: Callable[..., IntegerNetwork],
                      new_observer: Callable[[], RangeObserver], progress: bool) -> tuple[Quantizer, IntegerNetwork]:
    """``(Quantizer, IntegerNetwork)`` with channels rescaled, or unchanged where that gains nothing.

    ``quantized(quantizer=...)`` makes the network.
    """
    plain, other = quantized(quantizer=quantizer), quantizer.equalized(progress)
    if other is None:
        plain.record.notes += quantizer.notes
        return quantizer, plain
    other.calibrate(new_observer, progress)
    result = quantized(quantizer=other)
    before, after = (quantizer.output_error(network) for network in (plain, result))
    if after < before:
        return other, result
    quantizer.notes = [f"equalization was tried and not kept: with it the outputs are {100 * after:.3g} % of their "
                       f"norm off, without {100 * before:.3g} %"]
    plain.record.notes += quantizer.notes
    return quantizer, plain
