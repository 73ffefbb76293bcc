"""What other frameworks' files look like: each is refused with one sentence that says what it is."""
from __future__ import annotations

import zipfile
from pathlib import Path

BEGINNING = 64  # bytes
MAGIC = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as Keras saves networks",
    b"\x80\x02": "a pickle, as old PyTorch and scikit-learn save networks; it would run code",
    b"\x80\x03": "a pickle, which would run code",
    b"\x80\x04": "a pickle, which would run code",
    b"\x80\x05": "a pickle, which would run code",
    b"\x0a\x23\xd7\xce": "a RecordIO file, which holds data and no network",
    b"binf": "an XGBoost model",
    b"{L\x00": "an XGBoost model",
    b"\xfd7zXZ": "an .xz archive; unpack it first",
    b"BZh": "a .bz2 archive; unpack it first",
    b"7z\xbc\xaf": "a .7z archive; unpack it first",
    b"\x7fELF": "a program or a library",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GGUF": "a GGUF file of llama.cpp",
}
ENDINGS = {
    ".onnx": "an ONNX file",
    ".pb": "a graph of TensorFlow", ".tflite": "a network of TensorFlow Lite", ".h5": "a network of Keras",
    ".keras": "a network of Keras", ".pt": "a network of PyTorch", ".pth": "a network of PyTorch",
    ".caffemodel": "a network of Caffe", ".prototxt": "a network of Caffe", ".rec": "RecordIO data, not a network",
    ".states": "the state of an optimizer, which Module saves beside a checkpoint; it would be unpickled",
    ".pkl": "a pickle, which would run code", ".pickle": "a pickle, which would run code",
    ".joblib": "a pickle, which would run code", ".mlmodel": "a network of Core ML",
}

def foreign(path: Path) -> str | None:
    """What a file is, by its beginning or its ending, if it is none of ours and not of MXNet; else None."""
    with open(path, "rb") as file:
        beginning = file.read(BEGINNING)
    if not beginning:
        return "an empty file"
    for magic, what in MAGIC.items():
        if beginning.startswith(magic):
            return what
    if beginning[4:8] == b"TFL3":
        return "a network of TensorFlow Lite"
    return ENDINGS.get(path.suffix.lower())


def foreign_archive(path: Path) -> str | None:
    """What a .zip is, by the names in it, if another framework wrote it."""
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):  # the last: of a version zipfile cannot read
        return None
    if "data.pkl" in names:
        return "a network of PyTorch, which is a pickle in an archive; it would run code"
    return "a network of Keras" if {"config.json", "model.weights.h5"} <= names else None
