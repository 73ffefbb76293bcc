"""What a compressed file says of its tensors, and the bytes of each, changed; the checksum is that of the change.

It knows nothing of the forms that tensors have: it changes how many parts there are, where each ends, and what is in
them.
"""
import hashlib
import json

from gluon_compress.checkpoint import header_packing, packed_file

from .json_values import changed_json

SIZES = (0, 1, 2, 3, 5, 7, 8, 9, 255, 4096, 2**20, 2**31 - 1, 2**31, 2**40, 2**48, 2**63)
TYPES = ("float16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool")


def opened(content):
    """``(what the header says, [[bytes of a part, ...] of each tensor])`` of a file of version 3."""
    end = packed_file.BEFORE + int.from_bytes(content[packed_file.BEFORE - 4:packed_file.BEFORE], "little")
    said, parts = header_packing.unpack(content[packed_file.BEFORE:end], 1 << 30), []
    for *_, lengths in said["tensors"]:
        parts.append([])
        for length in lengths if isinstance(lengths, list) else [lengths]:
            parts[-1].append(content[end:end + length])
            end += length
    return said, parts


def closed(said, parts, version=packed_file.VERSION):
    """The bytes of the file, its checksum right."""
    packed = header_packing.packed_text(json.dumps(said).encode())
    start = packed_file.MAGIC + bytes([version])
    rest = len(packed).to_bytes(4, "little") + packed + b"".join(piece for each in parts for piece in each)
    return start + hashlib.sha256(start + rest).digest() + rest


def with_changed_rows(content, chance, damaged):
    """A file of version 3 whose rows, or whose tensors' bytes, are a stranger's; ``damaged(bytes, chance)``."""
    said, parts = opened(content)
    if not parts:
        return closed({**said, "tensors": changed_json([["x/value", "float32", [2], 8]], chance)}, parts)
    if not isinstance(symbol := said["header"]["graph"].get("symbol"), dict | type(None)):
        said["header"]["graph"]["symbol"] = json.loads(symbol)  # in files it is no text
    rows, at = said["tensors"], chance.randrange(len(parts))
    kind = chance.randrange(8)
    if kind == 0:
        said["tensors"] = changed_json(rows, chance)
    elif kind == 1:
        rows[at][2] = _shape(rows[at][2], chance)
    elif kind == 2:
        rows[at][1] = chance.choice(TYPES)
    elif kind == 3:
        _change_parts(rows[at], parts[at], chance)
    elif kind == 4:
        other = chance.randrange(len(parts))
        parts[at], rows[at][3] = parts[other], rows[other][3]
    elif kind == 7 and chance.random() < 0.1:
        return closed(said, parts, chance.choice((0, 1, 2, 4, 255)))
    else:
        _change_content(rows[at], parts[at], chance, damaged)
    return closed(said, parts)


def _shape(shape, chance):
    shape, kind = list(shape), chance.randrange(4)
    if kind == 0 or not shape:
        return [chance.choice(SIZES) for _ in range(chance.randrange(5))]
    if kind == 1:
        chance.shuffle(shape)
    elif kind == 2:
        shape[chance.randrange(len(shape))] = chance.choice(SIZES)
    else:
        shape.insert(chance.randrange(len(shape) + 1), chance.choice((0, 1, 1, 1, 2)))
    return shape


def _change_parts(row, parts, chance):
    """Other parts of the same bytes: one form for another."""
    kind, content = chance.randrange(4), b"".join(parts)
    if kind == 0:
        row[3] = len(content) if isinstance(row[3], list) else [len(content)]
    elif kind == 1:
        cuts = sorted(chance.randrange(len(content) + 1) for _ in range(chance.randrange(9)))
        row[3] = [end - begin for begin, end in zip([0, *cuts], [*cuts, len(content)])]
    elif kind == 2 and isinstance(row[3], list):
        row[3].insert(chance.randrange(len(row[3]) + 1), 0)
    elif isinstance(row[3], list):
        chance.shuffle(row[3])


def _change_content(row, parts, chance, damaged):
    """Another content of one part, with the length that it has."""
    at, kind = chance.randrange(len(parts)), chance.randrange(6)
    part = bytearray(parts[at])
    if kind == 0 and part:  # what a coded tensor begins with: the settings of its model
        part[chance.randrange(min(3, len(part)))] = chance.randrange(256)
    elif kind == 1:
        part = bytearray(chance.randbytes(chance.choice((0, 1, 2, 3, 4, 20, len(part)))))
    elif kind == 2:
        part = part[:chance.choice((0, 1, 2, 3, max(len(part) - 1, 0)))]
    elif kind == 3:
        part += chance.randbytes(chance.choice((1, 8, 200)))
    else:
        part = bytearray(damaged(bytes(part), chance))
    parts[at] = bytes(part)
    lengths = [len(piece) for piece in parts]
    row[3] = lengths if isinstance(row[3], list) else lengths[0]
