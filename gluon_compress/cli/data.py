"""Data as the command line names them: built-in sets, folders, RecordIO and .npz files, functions of the user's."""
from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .data_options import BUILT_IN, NORMALIZATIONS, PARTS, parse_channels, parse_size
from .failures import Refusal
from .networks import FACTORY, Opened, call_factory
from .run import Run

PREPARED = ("resize", "crop", "normalize", "mean", "std", "grey")  # what belongs to the network, not to the data
ACCEPTED = (f"a folder with a directory for each class, a .rec or .npz file, {', '.join(BUILT_IN)} (with :train or "
            f":test), or package.module:function")


@dataclass(frozen=True)
class Data:
    """Images, or the batches that a user's function has returned.

    Attributes
    ----------
    text : str
        As the user named them.
    dataset : ImageDataset or None
    given : iterable of batches, or None
        What a user's function returned instead.
    held_out : Data or None
        What it returned for making choices.
    batch_size : int
    size : int or None
        Height and width to which the batches are scaled, after normalization.
    """

    text: str
    dataset: Any = None
    given: Any = None
    held_out: Data | None = None
    batch_size: int = 32
    size: int | None = None

    def batches(self, shuffle: bool = False, augment: Any = None) -> Iterable:
        """Batches (input, label). Those of a user's function are as they are."""
        if self.dataset is None:
            return self.given
        return self.dataset.batches(self.batch_size, shuffle, augment, self.size)

    def count(self) -> int:
        """How many images there are; the batches of a user's function are gone through for it."""
        return len(self.dataset) if self.dataset is not None else sum(map(_samples, self.given))

    def sample(self, count: int, seed: int = 0) -> Data:
        """So many of the images, at random but always the same: files are sorted by class, which would mislead.

        Batches of a user's function are as they are.
        """
        if self.dataset is None:
            return self
        import numpy as np
        order = np.random.RandomState(seed).permutation(len(self.dataset))
        return replace(self, dataset=self.dataset.subset(order[:count]))

    def split(self, share: float, seed: int = 0) -> tuple[Data, Data]:
        """``(rest, held out)``: a share of the images, always the same, set aside for making choices.

        A user's function returns the two as a pair; ``Refusal`` where it did not.
        """
        if self.held_out is not None:
            return replace(self, held_out=None), self.held_out
        if self.dataset is None:
            raise Refusal(f"{self.text} returned batches, of which no part can be set aside for making choices; "
                          f"accepted here: a pair (training, held out), or an ImageDataset")
        count = max(1, round(share * len(self.dataset)))
        if count >= len(self.dataset):
            raise Refusal(f"{self.text} has {len(self.dataset)} image(s), too few to set aside a part for making "
                          f"choices; accepted: at least 2")
        rest, held_out = self.dataset.split(count, seed)
        return replace(self, dataset=rest), replace(self, dataset=held_out)

    def __str__(self) -> str:
        if self.dataset is None:
            return self.text
        height, width, channels = self.dataset.images.shape[1:]
        height, width = (self.size, self.size) if self.size else (height, width)
        return (f"{self.text}, {len(self.dataset):,} images {height}x{width}, "
                f"{'grey' if channels == 1 else 'colour'}")


def open_data(run: Run, opened: Opened | None = None, option: str = "data", part: str = "train") -> Data:
    """The data that ``--data``, or another ``option``, names, ready for a network.

    Parameters
    ----------
    run : Run
    opened : Opened, optional
        The network: its file tells how images are normalized, and its outputs must be as many as there are classes.
    option : str
        Whose value names the data; all options of ``data_options`` apply.
    part : "train" or "test"
        Which part of a built-in set is meant where the user does not say.

    Raises
    ------
    Refusal
        For names of nothing, and where the classes do not fit the network.
    Whatever ``gc.datasets.image_folder``, ``record_file`` and ``array_file`` raise.
    """
    text = run.options[option]
    source, colon, rest = text.partition(":")
    if source in BUILT_IN and (not colon or rest in PARTS) and not os.path.lexists(text):
        data = _built_in(run, source, rest or part, opened)
    elif os.path.lexists(text) or source == "folder":
        data = _of_path(run, rest if source == "folder" and not os.path.lexists(text) else text, opened)
    elif FACTORY.fullmatch(text):
        data = _returned(text, call_factory(text), run.options.get("batch_size"), part)
    else:
        raise Refusal(f"{text}: there is no such file or folder; accepted: {ACCEPTED}")
    if data.dataset is not None and data.dataset.skipped:
        run.note(f"{len(data.dataset.skipped)} files of {text} are left out: "
                 f"{', '.join(f'{name} ({reason})' for name, reason in list(data.dataset.skipped.items())[:5])}"
                 f"{', ...' if len(data.dataset.skipped) > 5 else ''}")
    if opened is not None:
        check_classes(opened, data)
    return data


def open_test_data(run: Run, opened: Opened | None = None) -> Data | None:
    """The data that ``--test`` names, if it is given."""
    return open_data(run, opened, "test", "test") if run.options.get("test") else None


# ---- where data come from

def _built_in(run: Run, name: str, part: str, opened: Opened | None) -> Data:
    import gluon_compress as gc

    options = run.options
    given = [f"--{key}" for key in ("crop", "normalize", "mean", "std", "labels") if options.get(key)]
    if given or options.get("grey") is not None:
        raise Refusal(f"{name} is given with {', '.join(given) or '--grey'}; these are for images of your own")
    dataset = getattr(gc.datasets, name)()[PARTS.index(part)]
    size = parse_size(options.get("resize"))
    if isinstance(size, tuple):
        raise Refusal(f"--resize is {options['resize']}; accepted with {name}: one number")
    if size is None and opened is not None and opened.shapes and len(opened.shapes[0]) == 4:
        wanted = opened.shapes[0][2]
        size = wanted if wanted != dataset.images.shape[1] else None
    data = _with_batches(run, Data(f"{name}:{part}", dataset, size=size))
    return data.sample(options["limit"]) if options.get("limit") else data


def _of_path(run: Run, text: str, opened: Opened | None) -> Data:
    import gluon_compress as gc

    path = Path(text).expanduser()
    if not path.exists():
        raise Refusal(f"{text}: there is no such file or folder; accepted: {ACCEPTED}")
    ending = "/" if path.is_dir() else path.suffix.lower()
    readers = {"/": gc.datasets.image_folder, ".rec": gc.datasets.record_file, ".npz": gc.datasets.array_file}
    if ending not in readers:
        raise Refusal(f"{text} is a file, of no kind of data that is known; accepted: {ACCEPTED}")
    arguments = _preparation(run, opened)
    arguments |= {"limit": run.options.get("limit")}
    if ending != ".npz":
        arguments |= {"skip_bad": bool(run.options.get("skip_bad")), "progress": not run.quiet}
    else:
        arguments.pop("grey")
    if (classes := _classes(run, opened, text, ending == "/")) is not None:
        arguments["classes"] = classes
    run.uses(text)
    dataset = readers[ending](path, **arguments)
    if classes is not None:
        run.remember(images={**run.remembered("images"), "labels": list(dataset.classes)})
    return _with_batches(run, Data(text, dataset))


def _classes(run: Run, opened: Opened | None, text: str, folder: bool) -> Any:
    """The names of the directories in the network's order: a file of the user's, or what an earlier command was told.
    """
    if file := run.options.get("labels"):
        if not folder:
            raise Refusal(f"--labels names the directories of a folder, and {text} is none")
        run.uses(file)
        return file
    earlier = opened.images.get("labels") if opened and folder else None
    if opened and earlier:
        run.note(f"directories are in the order of the labels in {opened.recipe}; --labels FILE says otherwise")
    return earlier


def _with_batches(run: Run, data: Data) -> Data:
    side = data.size or max(data.dataset.images.shape[1:3])
    return replace(data, batch_size=run.options.get("batch_size") or (128 if side <= 64 else 32))


def _returned(text: str, value: Any, batch_size: int | None, part: str) -> Data:
    """What a user's function returned: a data set, batches, or a pair of such."""
    import gluon_compress as gc

    from ..network.data import check_data
    if isinstance(value, tuple) and len(value) == 2 and not hasattr(value[0], "shape"):
        first, second = (_returned(text, each, batch_size, part) for each in value)
        return replace(first, held_out=second) if part == "train" else second
    if isinstance(value, gc.datasets.ImageDataset):
        return Data(text, value, batch_size=batch_size or 32)
    try:
        check_data(value, f"what {text} returned")
    except TypeError as error:
        raise Refusal(str(error)) from error
    return Data(text, given=value)


def _samples(batch: Any) -> int:
    """How many samples a user's batch has, by its label, which stands last."""
    if hasattr(batch, "label"):
        return len(batch.label[0]) - (batch.pad or 0)
    return len(list(batch.values() if isinstance(batch, Mapping) else batch)[-1])


# ---- what becomes of images

def _preparation(run: Run, opened: Opened | None) -> dict[str, Any]:
    """The arguments of the readers: what the options say, else what an earlier command was told of this network."""
    options = {name: run.options.get(name) for name in PREPARED}
    earlier = opened.images if opened else {}
    taken = {name: value for name, value in earlier.items() if options.get(name, value) is None}
    if any(options[name] is not None for name in ("normalize", "mean", "std")):
        taken = {name: value for name, value in taken.items() if name not in ("normalize", "mean", "std")}
    if opened and taken:
        run.note(f"{', '.join(f'{name} {value}' for name, value in taken.items())}: as in {opened.recipe}")
        options |= taken
    _of_zoo(run, opened, options)
    if options["grey"] is None and opened is not None:
        options["grey"] = channels_of(opened) == 1
    mean, std = _normalization(run, options, opened)
    run.remember(images={name: value for name, value in options.items() if value is not None})
    return {"resize": parse_size(options["resize"]), "crop": parse_size(options["crop"]), "mean": mean, "std": std,
            "grey": bool(options["grey"])}


def _of_zoo(run: Run, opened: Opened | None, options: dict[str, Any]) -> None:
    """Networks of the zoos take the middle of images whose shorter side is 8/7 as long."""
    if opened is None or not opened.text.startswith("zoo:") or options["resize"] or options["crop"]:
        return
    crop = opened.shapes[0][2]
    options["resize"], options["crop"] = str(round(crop * 8 / 7)), str(crop)
    run.note(f"images are scaled to {options['resize']} and cropped to {crop}, as {opened.text} takes them")


def _normalization(run: Run, options: dict[str, Any],
                   opened: Opened | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std); ``options`` get the name of those that nobody gave."""
    import gluon_compress as gc

    from ..datasets.images import NORMALIZATION
    from ..datasets.reading import IMAGENET_MEAN, IMAGENET_STD
    mean, std = parse_channels(options["mean"]), parse_channels(options["std"])
    if (mean is None) != (std is None) or mean and options["normalize"]:
        raise Refusal("accepted: --mean together with --std, or --normalize alone")
    if mean and std:
        return mean, std
    name, channels = options["normalize"], 1 if options["grey"] else 3
    if name is None and opened is not None and opened.text.startswith("params:"):
        name = gc.params.manifest()[opened.text.partition(":")[2]]["dataset"]
    if name is None and channels == 3 and not (opened and opened.text.startswith("zoo:")):
        run.note("images are normalized by the mean and standard deviation of ImageNet; --normalize says otherwise")
    name = options["normalize"] = name or ("0-1" if options["grey"] else "imagenet")
    known = {**NORMALIZATION, "imagenet": (IMAGENET_MEAN, IMAGENET_STD), "0-1": ((0.0,) * channels, (1.0,) * channels),
             "0-255": ((0.0,) * channels, (1 / 255,) * channels)}
    assert set(NORMALIZATIONS) <= set(known)
    return known[name]


def channels_of(opened: Opened) -> int | None:
    """How many channels a network's images have, by its first convolution or its file; None where it has none."""
    from mxnet.gluon import HybridBlock

    from ..errors import GluonCompressError
    from ..network import layers
    from ..network.values import known_shape
    if not isinstance(opened.net, HybridBlock):
        return opened.shapes[0][1] if opened.shapes and len(opened.shapes[0]) == 4 else None
    try:
        first = next((layer for layer in layers(opened.net) if layer.kind == "Conv2D"), None)
    except GluonCompressError:  # it has shapes that are known once it has seen an input
        shapes = map(known_shape, opened.net.collect_params().values())
        return next((shape[1] or None for shape in shapes if shape and len(shape) == 4), None)
    return first.weight.list_data()[0].shape[1] if first else None


def check_classes(opened: Opened, data: Data) -> None:
    """``Refusal`` unless images fit the network, and it has an output for each class."""
    from ..network.inputs import flat
    from ..network.misfits import call

    if data.dataset is None or not len(data.dataset):
        return
    inputs, _ = next(iter(replace(data, dataset=data.dataset.subset(slice(0, 1))).batches()))
    outputs = call(opened.net, [inputs], f"an image of {data.text}")
    shapes = [value.shape for value in flat(outputs)]
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise Refusal(f"{opened.text} puts out {' and '.join(map(str, shapes))} for an image; accepted with labelled "
                      f"images: a classifier's (1, classes) alone" + ("" if len(shapes) == 1 else
                      ", say of a package.module:function that returns a network with this output"))
    there, labels = len(data.dataset.classes), int(data.dataset.labels.max()) + 1
    if (there and there != outputs.shape[1]) or labels > outputs.shape[1]:
        raise Refusal(f"{data.text} has {there or f'labels up to {labels - 1}, thus {labels}'} classes, and "
                      f"{opened.text} {outputs.shape[1]} outputs; accepted: as many (--labels FILE names the "
                      f"directories in the order of the outputs; some may be missing)")
