"""Weight quantization: the weights of a network become integer multiples of a scale."""
import numpy as np

from ..arguments import check_flag
from ..errors import RecordError
from ..files.schema import REASONS, either, fields, integer, list_of, mapping, maybe, number
from ..network.checks import check_ready
from ..network.layer import CONVOLUTIONS, select_layers
from ..network.values import parameters, restore_snapshot
from ..tables import format_table
from .arithmetic.arrays import along, dequantize_array, largest_code, quantize_array

_SCALE = number(above=0)
_RECORD = fields({"left_out": REASONS, "layers": mapping(fields({
    "bits": integer(2, 8), "axis": maybe(integer(0, 31)), "scale": either(list_of(_SCALE), _SCALE)}))})
QUANTIZABLE = (*CONVOLUTIONS, "Dense", "Embedding")


class Scales:
    """How the weights of a network were quantized: plain data, apart from the network.

    Attributes
    ----------
    layers : dict
        {structural parameter name: {"bits": int, "axis": int or None, "scale": float32 array}}.
    left_out : dict
        {layer name: why it was not quantized}.
    """

    def __init__(self, layers, left_out=None):
        self.layers = {name: {**layer, "scale": np.asarray(layer["scale"], dtype=np.float32)}
                       for name, layer in layers.items()}
        self.left_out = dict(left_out or {})

    def codes(self, net):
        """{parameter name: int8 codes} of the weights ``net`` has now.

        Raises ``RecordError`` naming the layer when a weight is no longer a multiple of its scale, as after
        training; quantize again then.
        """
        check_ready(net)
        named = parameters(net)
        return {name: self._codes_of(name, named) for name in self.layers}

    def _codes_of(self, name, named):
        if name not in named:
            raise RecordError(f"the scales are of another network: there is no parameter {name} here")
        bits, axis, scale = (self.layers[name][key] for key in ("bits", "axis", "scale"))
        weight = named[name].list_data()[0].asnumpy()
        expected = () if axis is None else weight.shape[axis:axis + 1]
        if scale.shape != expected:
            raise RecordError(f"the scales are of another network: {name} has shape {weight.shape}, "
                              f"its scale {scale.shape}")
        q_max = largest_code(bits)
        codes = np.rint(weight.astype(np.float64) / along(scale, axis, weight.ndim))
        codes = np.clip(codes, -q_max - 1, q_max).astype(np.int8)  # -128 in int8 networks only
        if not np.array_equal(dequantize_array(codes, scale, axis).astype(weight.dtype), weight):
            raise RecordError(f"the weights of {name} are not multiples of their scale: they changed since "
                              f"quantize_weights, call it again")
        return codes

    def summary(self):
        """A table with a row per quantized parameter and one per layer left out."""
        rows = [(name, layer["bits"], "tensor" if layer["axis"] is None else f"axis {layer['axis']}",
                 layer["scale"].size, f"{layer['scale'].min():.3g}", f"{layer['scale'].max():.3g}", "")
                for name, layer in self.layers.items()]
        rows += [(name, "", "", "", "", "", f"untouched: {reason}") for name, reason in self.left_out.items()]
        return format_table(("parameter", "bits", "scale per", "scales", "smallest", "largest", "note"), rows)

    __str__ = __repr__ = summary

    def __or__(self, other):
        """Both together; where both have a parameter, ``other`` counts, as the later one."""
        if not isinstance(other, Scales):
            return NotImplemented
        left_out = {name: reason for name, reason in self.left_out.items() if name in other.left_out}
        return Scales({**self.layers, **other.layers}, left_out)

    def to_dict(self):
        """JSON-serializable; the float32 scales survive exactly."""
        return {"layers": {name: {**layer, "scale": layer["scale"].tolist()} for name, layer in self.layers.items()},
                "left_out": self.left_out}

    @classmethod
    def from_dict(cls, record):
        """The inverse of :meth:`to_dict`; ``RecordError`` for what that did not write."""
        try:
            _RECORD(record, "the record")
            found = cls(record["layers"], record["left_out"])
            for name, layer in found.layers.items():
                _check_scale(name, layer)
            return found
        except ValueError as error:
            raise RecordError(f"this is no record of scales: {error}") from error


def _check_scale(name, layer):
    scale = layer["scale"]
    if scale.ndim != (layer["axis"] is not None) or not (np.isfinite(scale) & (scale > 0)).all():
        raise ValueError(f"the scales of {name} are not finite and positive, one for all or several along an axis")


def quantize_weights(net, bits=8, per_channel=True, select=None, exclude=(), clip="max", percentile=99.9):
    """Round the weights to ``bits`` bits: each becomes ``code * scale`` with an integer code.

    The network still computes in float32, with the rounded weights; :func:`gluon_compress.save` stores
    the codes. Biases and BatchNorm parameters stay as they are. Where a BatchNorm follows, what acts is the
    weight times the BatchNorm's scale; call :func:`fold_batch_norm` first to have that product quantized:

        fold_batch_norm(net, example)
        scales = quantize_weights(net, bits=4, clip="mse")

    With one scale per channel both ways round alike, as the scale takes up the channel's factor; with one per
    layer they don't, nor do the errors of layers compare without the fold.

    Parameters
    ----------
    net : HybridBlock
        Changed in place.
    bits : int
        2 to 8, the sign counted.
    per_channel : bool
        One scale per output channel (per row of an embedding), or one per layer.
    select, exclude : name, kind, class or function of layers, or several of these
        Which layers, and which of them not; see :func:`~gluon_compress.network.select_layers`. By default
        convolutions, dense layers and embeddings.
    clip, percentile
        What the largest code stands for, as of :func:`quantize_array`. "mse" changes the weights least, which need
        not mean the best accuracy: try them. In a channel of fewer than 1000 weights the 99.9th percentile is the
        largest.

    Returns
    -------
    Scales

    Raises
    ------
    ValueError, NetworkError
        For arguments out of range, a selection that matches nothing, weights that are not finite. The network
        is then unchanged.
    """
    check_flag("per_channel", per_channel)
    chosen, left_out = select_layers(net, select, exclude, QUANTIZABLE)
    quantized, weights = {}, {}
    for layer in chosen:
        axis = _output_axis(layer.kind) if per_channel else None
        codes, scale = quantize_array(layer.value(), bits, axis, clip, percentile)
        quantized[layer.parameter_name] = {"bits": bits, "axis": axis, "scale": scale}
        weights[layer.parameter_name] = dequantize_array(codes, scale, axis)
    restore_snapshot(net, weights)
    return Scales(quantized, left_out)


def _output_axis(kind):
    """Transposed convolutions store (in, out, ...), all others (out, in, ...)."""
    return 1 if kind.endswith("Transpose") else 0
