"""Files of tensors and compressed networks taken apart and put together, with the checksum that belongs to them."""
import base64
import json
import lzma
import struct
import zlib

import numpy as np
from gluon_compress.checkpoint import header_packing, packed_file
from gluon_compress.files import tensorfile
from gluon_compress.files.unpacking import LZMA_FILTERS
from safetensors.numpy import load, save


def taken_apart(content):
    """(kind, header, tensors) of a file's bytes."""
    if packed_file.begins(content):
        end = packed_file.BEFORE + int.from_bytes(content[packed_file.BEFORE - 4:packed_file.BEFORE], "little")
        said = header_packing.unpack(content[packed_file.BEFORE:end], 1 << 30)
        return packed_file.NAME, said["header"], packed_file._content(content, lambda header, where: None)[0]
    length, = struct.unpack("<Q", content[:8])
    metadata = json.loads(content[8:8 + length])["__metadata__"]
    return metadata["kind"], json.loads(lzma.decompress(base64.b64decode(metadata["header"]))), load(content)


def put_together(kind, header, tensors, packed=None):
    """A file's bytes, with the checksum that belongs to them; ``packed`` instead of the header, compressed."""
    tensors = {name: np.ascontiguousarray(tensor).reshape(tensor.shape) for name, tensor in tensors.items()}
    if kind == packed_file.NAME:
        written, contents = packed_file.packed(tensors, header)
        return packed_file.assembled(written if packed is None else packed, contents)
    packed = lzma.compress(json.dumps(header).encode(), preset=0) if packed is None else packed
    text = base64.b64encode(packed).decode()
    return save(tensors, {"format": "gluon_compress", "version": "2", "kind": kind, "header": text,
                          "sha256": tensorfile._digest(kind, tensors, text)})


def packers(kind):
    """[(what comes first, a compressor of what follows)] of the ways in which the headers of such files are packed."""
    if kind != packed_file.NAME:
        return [(b"", lzma.LZMACompressor(preset=0))]
    quick = [{**LZMA_FILTERS[0], "preset": 0}]
    return [(header_packing.LZMA, lzma.LZMACompressor(lzma.FORMAT_RAW, filters=quick)),
            (header_packing.DEFLATED, zlib.compressobj(1, zlib.DEFLATED, header_packing.WINDOW))]
