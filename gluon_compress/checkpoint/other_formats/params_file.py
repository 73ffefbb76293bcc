"""MXNet's ``.params`` files, read in NumPy: MXNet's own reader trusts what they say of their lengths and types.

    list        magic 0x112, 0, number of arrays, the arrays, number of names, the names       (integers of 64 bits)
    array       magic (32 bits), [storage type], dimensions, [device], type, values        in 4 forms since MXNet 0.8
    name        length (64 bits), UTF-8

All numbers are little-endian. Since MXNet 2, and for arrays of its NumPy interface, it can also be NumPy's ``.npz``.
"""
from __future__ import annotations

import math
import struct
import zipfile
from os import PathLike
from pathlib import Path
from typing import IO

import numpy as np

from ...files.schema import LONGEST_NAME, Malformed
from ...files.transfer import reason_of

LIST_MAGIC = 0x112
# The beginning of an array: the first form has its number of dimensions in place of a magic number.
WIDE_SHAPE, WITH_STORAGE, NUMPY_SHAPE = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
DENSE, SPARSE = 0, {1: "row_sparse", 2: "csr"}
MOST_DIMENSIONS, MOST_ARRAYS = 32, 100_000
LEAST_BYTES = 4  # of an array, and of a name
TYPES = {0: "float32", 1: "float64", 2: "float16", 3: "uint8", 4: "int32", 5: "int8", 6: "int64", 7: "bool"}
BFLOAT16 = 12
MOST_UNPACKED = 1 << 36  # bytes of an .npz, whose values usually are not deflated at all
DEFLATED_TIMES = 100     # and how many times its own length it may unpack to


def read_params(path: str | PathLike[str]) -> dict[str, np.ndarray]:
    """{name: array} of a ``.params`` file, names as they are there, with ``arg:`` and ``aux:`` where it has them.

    bfloat16 comes as float32, which holds the same numbers. Raises :class:`Malformed` naming the array for whatever
    is not as the format says, does not fit the length of the file, or is sparse; for arrays without names; and for NaN.
    """
    if is_arrays(path):
        arrays = _read_npz(path)
    else:
        arrays = _Reader(Path(path).read_bytes()).named_arrays()
    for name, value in arrays.items():
        if value.dtype.kind == "f" and np.isnan(value).any():
            raise Malformed(f"parameter {name} holds NaN; accepted: numbers")
    return arrays


def is_arrays(path: str | PathLike[str]) -> bool:
    """Whether a file is an archive of NumPy's arrays and nothing else."""
    with open(path, "rb") as file:
        if file.read(4) not in (b"PK\3\4", b"PK\5\6"):
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # zipfile raises a dozen kinds; whoever reads it says what is wrong
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


class _Reader:
    """The content of a file, read from front to back; what lies beyond its end is :class:`Malformed`."""

    def __init__(self, content: bytes) -> None:
        self.content, self.position = content, 0

    def named_arrays(self) -> dict[str, np.ndarray]:
        magic, reserved = self.numbers("QQ", "the beginning")
        if magic != LIST_MAGIC or reserved:
            raise Malformed("it does not begin as parameters of MXNet do")
        count = self.count("arrays")
        arrays = [self.array(f"array {index} of {count}") for index in range(count)]
        names = [self.name(index) for index in range(self.count("names"))]
        if len(names) != len(arrays):
            raise Malformed(f"it has {len(arrays)} arrays and {len(names)} names; accepted: a name for each array")
        if len(set(names)) != len(names):
            raise Malformed(f"it names {next(name for name in names if names.count(name) > 1)!r} twice")
        if self.position != len(self.content):
            raise Malformed(f"{len(self.content) - self.position} bytes follow what it says that it holds")
        return dict(zip(names, arrays))

    def numbers(self, form: str, where: str) -> tuple[int, ...]:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}"), where))

    def take(self, length: int, where: str) -> bytes | memoryview:
        if length > len(self.content) - self.position:
            raise Malformed(f"it ends within {where}: {length} bytes are wanted, {len(self.content) - self.position} "
                            f"are there")
        self.position += length
        return memoryview(self.content)[self.position - length:self.position]

    def count(self, of: str) -> int:
        number, = self.numbers("Q", f"the number of {of}")
        if number * LEAST_BYTES > len(self.content) - self.position:
            raise Malformed(f"it would have {number} {of}, for which it is too short")
        if number > MOST_ARRAYS:
            raise Malformed(f"it has {number} {of}; accepted: at most {MOST_ARRAYS}")
        return number

    def name(self, index: int) -> str:
        length, = self.numbers("Q", f"name {index}")
        if length > LONGEST_NAME:
            raise Malformed(f"name {index} has {length} characters; accepted: at most {LONGEST_NAME}")
        try:
            return bytes(self.take(length, f"name {index}")).decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"name {index} is no text: {error}") from error

    def array(self, where: str) -> np.ndarray:
        shape = self.shape(where)
        _device, _number = self.numbers("ii", where)
        kind, = self.numbers("i", where)
        if kind != BFLOAT16 and kind not in TYPES:
            raise Malformed(f"{where} is of type {kind}; accepted: {', '.join(TYPES.values())}, bfloat16")
        dtype = np.dtype("uint16" if kind == BFLOAT16 else TYPES[kind])
        values = np.frombuffer(self.take(math.prod(shape) * dtype.itemsize, where), dtype).reshape(shape)
        if kind == BFLOAT16:
            return (values.astype(np.uint32) << 16).view(np.float32)
        if dtype.kind == "b" and (values.view(np.uint8) > 1).any():
            raise Malformed(f"{where} is of type bool and holds other numbers than 0 and 1")
        return values

    def shape(self, where: str) -> tuple[int, ...]:
        magic, = self.numbers("I", where)
        if magic in (WITH_STORAGE, NUMPY_SHAPE):
            storage, = self.numbers("i", where)
            if storage != DENSE:
                raise Malformed(f"{where} is {SPARSE.get(storage, f'of storage type {storage}')}; accepted: dense")
        dimensions = self.numbers("i", where)[0] if magic >= WIDE_SHAPE else magic
        if not 0 <= dimensions <= MOST_DIMENSIONS or magic > NUMPY_SHAPE:
            raise Malformed(f"{where} has {dimensions} dimensions; accepted: at most {MOST_DIMENSIONS}")
        shape = self.numbers(f"{dimensions}{'q' if magic >= WIDE_SHAPE else 'I'}", where)
        if magic != NUMPY_SHAPE and 0 in (dimensions, *shape) or any(size < 0 for size in shape):
            raise Malformed(f"{where} has shape {shape}; accepted: an array with values")
        return shape


def _read_npz(path: str | PathLike[str]) -> dict[str, np.ndarray]:
    length, arrays = Path(path).stat().st_size, {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            unpacked = sum(member.file_size for member in members)
            if unpacked > min(MOST_UNPACKED, DEFLATED_TIMES * length):
                raise Malformed(f"its {length} bytes unpack to {unpacked}; accepted: {DEFLATED_TIMES} times its length")
            for member in members:
                with archive.open(member) as file:
                    arrays[member.filename.removesuffix(".npy")] = _read_npy(file, member)
    except Malformed:
        raise
    except Exception as error:  # zipfile and zlib raise a dozen kinds
        raise Malformed(f"it is a damaged archive: {reason_of(error)}") from error
    return arrays


def _read_npy(file: IO[bytes], member: zipfile.ZipInfo) -> np.ndarray:
    if not member.filename.endswith(".npy"):
        raise Malformed(f"it holds {member.filename!r}; accepted: arrays of NumPy")
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = reader(file)
    if dtype.name not in TYPES.values():
        raise Malformed(f"{member.filename} is of type {dtype}; accepted: {', '.join(TYPES.values())}")
    size = math.prod(shape) * dtype.itemsize
    if size > member.file_size or len(content := file.read(size + 1)) != size:
        raise Malformed(f"{member.filename} of shape {shape} does not have {size} bytes of values")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if by_columns else "C")


def without_prefixes(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays without ``arg:`` and ``aux:``, which tell parameters from BatchNorm's statistics."""
    plain: dict[str, np.ndarray] = {}
    for name, value in arrays.items():
        short = name[4:] if name.startswith(("arg:", "aux:")) else name
        if short in plain:
            raise Malformed(f"it has {short!r} twice, as arg:{short} and as aux:{short}")
        plain[short] = value
    return plain
