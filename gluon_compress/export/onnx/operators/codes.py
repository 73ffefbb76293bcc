"""Our own operators on integer codes, which are ONNX's."""
from __future__ import annotations

from ....network.nodes import Node
from ...coded_weights import FOUR_BITS_FROM
from ..table import Unsupported, writes
from ..writer import Writer

SIXTEEN_BITS_FROM = 21


@writes("QuantizeLinear", "DequantizeLinear")
def quantize_linear(node: Node, write: Writer) -> str:
    """code = round(x / scale) + zero, or x = (code - zero) * scale, with one scale or one for each index of axis."""
    data, axis = write.data(node), node.get("axis")
    further = [write.name(entry) if axis is not None else _scalar(node, write, index)
               for index, entry in enumerate(node.inputs) if index]
    for index in range(len(node.inputs)):
        value = write.value(node, index)
        if value is not None and value.dtype.name in ("int4", "uint4") and write.opset < FOUR_BITS_FROM:
            raise Unsupported(f"with codes of 4 bits, which need opset {FOUR_BITS_FROM}")
        if value is not None and value.dtype.name in ("int16", "uint16") and write.opset < SIXTEEN_BITS_FROM:
            raise Unsupported(f"with codes of 16 bits, which need opset {SIXTEEN_BITS_FROM}")
    return write(node.operator, data, *further, axis=axis)


def _scalar(node: Node, write: Writer, index: int) -> str:
    value = write.known(node, index)
    assert value.size == 1, f"{node.name} has no axis, and scales or zero points of shape {value.shape}"
    return write.constant(value.reshape(()))
