"""Predictors of GluonTS that its ``serialize`` wrote: only those that were saved as a graph hold one.

    SymbolBlockPredictor           prediction_net-symbol.json, prediction_net-0000.params, parameters.json,
                                   prediction_net-in_out_format.json, input_transform.json, type.txt, version.json
    RepresentableBlockPredictor    prediction_net-network.json (classes and arguments), prediction_net-0000.params
"""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ...files.schema import Malformed, parse
from .module_checkpoint import Opened, Wanted
from .places import ParametersAlone, open_prefix

NAME = "prediction_net"
KIND = "GluonTS predictor"
CLASSES = f"{NAME}-network.json"
SETTINGS_BYTES = 1 << 20
TOLD = ("input_names", "prediction_length", "freq", "lead_time", "batch_size")


def is_predictor(names: set[str]) -> bool:
    return any(name.startswith(f"{NAME}-") for name in names)


def open_predictor(folder: Path, wanted: Wanted, epoch: int | None) -> Opened:
    """The prediction network; ``CheckpointError`` where it was saved as classes of GluonTS, which nothing here runs."""
    if (folder / CLASSES).is_file() and not (folder / f"{NAME}-symbol.json").is_file():
        raise ParametersAlone(f"{folder} holds a GluonTS predictor that was saved as Python classes ({CLASSES}), not "
                              f"as a graph; accepted: one of predictor.as_symbol_block_predictor(batch), or the "
                              f"network, load(path, net)")
    opened = open_prefix(folder / NAME, wanted, epoch, kind=KIND)
    opened.found = replace(opened.found, settings=_settings(folder))
    return opened


def _settings(folder: Path) -> dict[str, Any]:
    """What a user wants to know of the predictor: the names of its inputs, and how far it looks ahead."""
    path = folder / "parameters.json"
    if not path.is_file() or path.stat().st_size > SETTINGS_BYTES:
        return {}
    try:
        stated = parse(path.read_bytes(), path.name)
    except Malformed as error:
        return {path.name: str(error)}
    return {name: stated[name] for name in TOLD if name in stated} if isinstance(stated, dict) else {}
