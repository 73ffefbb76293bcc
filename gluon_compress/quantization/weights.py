"""Weight quantization: the weights of a network become integer multiples of a scale."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mxnet.gluon import HybridBlock

from ..arguments import check_choice, check_flag, check_integer
from ..network.layer import CONVOLUTIONS, select_layers
from ..network.values import restore_snapshot
from .arithmetic.arrays import dequantize_array, quantize_array
from .rate.curvature import OUTPUTS
from .rate.network import RateRounding, check_rate
from .scales import Scales

QUANTIZABLE = (*CONVOLUTIONS, "Dense", "Embedding")


def quantize_weights(net: HybridBlock, bits: int = 8, per_channel: bool = True, select: Any = None, exclude: Any = (),
                     clip: str = "max", percentile: float = 99.9, *, rate: float | None = None,
                     calibration_data: Iterable[Any] | None = None, seed: int = 0, progress: bool = True,
                     outputs: str = "logits") -> Scales:
    """Round the weights to ``bits`` bits: each becomes ``code * scale`` with an integer code.

    Or, with ``rate``, to what costs least in the error of the outputs and in the bits of the file; see
    :class:`RateRounding`, which takes ``calibration_data``, ``select``, ``exclude``, ``seed``, ``progress`` and
    ``outputs``, and tries several rates at little more than the cost of one. Weights that are zero, as pruned ones,
    stay zero; a file is smaller without the masks, as zeros are codes in it.

        scales = quantize_weights(net, rate=1e-2, calibration_data=data)

    The network still computes in float32, with the rounded weights; :func:`gluon_compress.save` stores
    the codes. Biases and BatchNorm parameters stay as they are. Where a BatchNorm follows, the
    weight acts multiplied by the BatchNorm's scale; call :func:`fold_batch_norm` first to quantize that product:

        fold_batch_norm(net, example)
        scales = quantize_weights(net, bits=4, clip="mse")

    With one scale per channel, both ways round alike, as the scale absorbs the channel's factor. With one per layer
    they do not, and without the fold the errors of different layers cannot be compared.

    Parameters
    ----------
    net : HybridBlock
        Changed in place.
    bits : int
        2 to 8, including the sign.
    per_channel : bool
        One scale per output channel (per row of an embedding), or one per layer. With ``rate``: one per output channel
        where these save more than they take.
    select, exclude : name, kind, class or function of layers, or several of these
        Which layers to quantize, and which not; see :func:`~gluon_compress.network.select_layers`. By default
        convolutions, dense layers and embeddings.
    clip, percentile
        What the largest code stands for, as for :func:`quantize_array`. "mse" changes the weights least, which does
        not always give the best accuracy: try them. In a channel of fewer than 1000 weights the 99.9th percentile is
        the largest.
    rate : float, optional
        What a bit for each weight is worth: the square error of the outputs, as a share of their own square. 1e-9 to
        1000 are accepted, 1e-4 to 1 are of use; the larger, the smaller the file.
    calibration_data : iterable of batches, optional
        For ``rate``: inputs, prepared as for inference.
    seed, progress, outputs
        For ``rate``.

    Returns
    -------
    Scales

    Raises
    ------
    ValueError, NetworkError
        For arguments out of range, a selection that matches nothing, weights that are not finite. The network
        is then unchanged.
    """
    if (rate is None) != (calibration_data is None):
        raise TypeError("rate and calibration_data go together; one of them is missing")
    check_integer("seed", seed, minimum=0)
    check_flag("progress", progress)
    check_flag("per_channel", per_channel)
    check_choice("outputs", outputs, OUTPUTS)
    if rate is not None and calibration_data is not None:
        if (bits, clip) != (8, "max"):
            raise TypeError("bits and clip have no use with rate; accepted: leave them out")
        rate = check_rate(rate)
        return RateRounding(net, calibration_data, select, exclude, seed, progress, outputs, per_channel).round(rate)
    chosen, left_out = select_layers(net, select, exclude, QUANTIZABLE)
    quantized, weights = {}, {}
    for layer in chosen:
        axis = output_axis(layer.kind) if per_channel else None
        codes, scale = quantize_array(layer.value(), bits, axis, clip, percentile)
        quantized[layer.parameter_name] = {"bits": int(bits), "axis": axis, "scale": scale}
        weights[layer.parameter_name] = dequantize_array(codes, scale, axis)
    restore_snapshot(net, weights)
    return Scales(quantized, left_out)


def output_axis(kind: str) -> int:
    """The axis of the output channels: transposed convolutions store (in, out, ...), all others (out, in, ...)."""
    return 1 if kind.endswith("Transpose") else 0
