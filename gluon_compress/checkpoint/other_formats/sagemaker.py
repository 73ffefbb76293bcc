"""What SageMaker's algorithms leave in ``model.tar.gz``.

    image classification     image-classification-symbol.json, image-classification-0010.params, model-shapes.json
    object detection         model_algo_1-symbol.json, model_algo_1-0000.params, hyperparams.json
    semantic segmentation    model_algo-1 (parameters of a network of gluoncv), hyperparams.json
    linear learner           model_algo-1 (a .zip: mx-mod-symbol.json, mx-mod-0000.params, additional-params.json,
                             manifest.json)
    factorization machines   model_algo-1 (a .zip: symbol.json, params, meta.json)
    MXNet container          model-symbol.json, model-0000.params, model-shapes.json
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mxnet as mx
from mxnet.gluon import HybridBlock

from ...errors import CheckpointError, to_install
from ...files.schema import Malformed, parse
from ...files.tensorfile import content_of
from .found import Found
from .gluon_parameters import load_parameters
from .module_checkpoint import Opened, OpenedBlock
from .params_file import read_params

BLOB = "model_algo-1"
SETTINGS_BYTES = 1 << 20
SETTINGS = ("hyperparams.json", "model-shapes.json", "additional-params.json", "meta.json")
KINDS = {"image-classification-symbol.json": "SageMaker image classification",
         "model_algo_1-symbol.json": "SageMaker object detection", "mx-mod-symbol.json": "SageMaker linear learner",
         "meta.json": "SageMaker factorization machines", "model-shapes.json": "network of SageMaker's MXNet container"}
SEGMENTATION = "SageMaker semantic segmentation"
# {hyperparameter: gluoncv's class}, and the sizes that SageMaker trains with when none is given.
ALGORITHMS = {"fcn": "FCN", "psp": "PSPNet", "deeplab": "DeepLabV3"}
BACKBONES = {"resnet-50": "resnet50", "resnet-101": "resnet101"}
CROP_SIZE = 240


def kind_of(names: set[str]) -> str | None:
    """Which of SageMaker's algorithms leaves files of these names."""
    return next((kind for name, kind in KINDS.items() if name in names), None)


def settings_of(folder: Path) -> dict[str, Any]:
    """{name of a file: what it says} of the small JSON files beside a network; what is no JSON is left out."""
    found = {}
    for name in SETTINGS:
        path = folder / name
        if path.is_file() and path.stat().st_size <= SETTINGS_BYTES:
            try:
                found[name] = parse(path.read_bytes(), name)
            except Malformed as error:
                found[name] = str(error)
    return found


def is_segmentation(folder: Path, names: set[str]) -> bool:
    """Whether it holds parameters of a segmentation network, whose hyperparameters name its algorithm."""
    stated = settings_of(folder).get("hyperparams.json")
    return BLOB in names and isinstance(stated, dict) and stated.get("algorithm", "fcn") in ALGORITHMS \
        and "backbone" in stated


def open_segmentation(folder: Path) -> OpenedBlock:
    """The network of gluoncv that the hyperparameters describe, with the parameters that lie beside them.

    Raises ``CheckpointError`` for unknown hyperparameters, for parameters that do not fit, and without gluoncv.
    """
    path, settings = folder / BLOB, settings_of(folder)["hyperparams.json"]
    with content_of(path, "file of MXNet's parameters"):
        arrays = read_params(path)
    found = Found(SEGMENTATION, (path.name, "hyperparams.json"), inputs=("data",), outputs=("segmentation",),
                  parameters=sum(value.size for value in arrays.values()), settings={"hyperparams.json": settings})

    def network(ctx: mx.Context) -> HybridBlock:
        net = _segmentation_network(path, settings, any(name.startswith("auxlayer") for name in arrays))
        load_parameters(path, arrays, net, ctx)
        return net
    return OpenedBlock(found, network)


def _segmentation_network(path: Path, settings: Mapping[str, Any], has_auxiliary_head: bool) -> HybridBlock:
    try:
        import gluoncv.model_zoo as zoo
    except ImportError as error:
        raise CheckpointError(f"{path} belongs to a network of gluoncv, which is not installed here ({error}); "
                              f"accepted: {to_install('zoo')}") from error
    name, backbone = settings.get("algorithm", "fcn"), BACKBONES.get(settings["backbone"])
    classes, crop = (_integer(path, settings, key, default) for key, default in (("num_classes", None),
                                                                                ("crop_size", CROP_SIZE)))
    if backbone is None:
        raise CheckpointError(f"{path.parent} has the backbone {settings['backbone']!r}; accepted: "
                              f"{', '.join(BACKBONES)}")
    return getattr(zoo, ALGORITHMS[name])(nclass=classes, backbone=backbone, aux=has_auxiliary_head,
                                          pretrained_base=False, crop_size=crop)


def _integer(path: Path, settings: Mapping[str, Any], name: str, default: int | None) -> int:
    value = settings.get(name, default)
    if not str(value).isdecimal() or not 0 < int(value) < 10_000:
        raise CheckpointError(f"{path.parent} has {name} {str(value)[:100]!r}; accepted: an integer")
    return int(value)


def named(opened: Opened, kind: str, folder: Path) -> Opened:
    """What was opened, under SageMaker's name for it and with what else its files say."""
    opened.found = replace(opened.found, kind=kind, settings={**opened.found.settings, **settings_of(folder)})
    return opened
