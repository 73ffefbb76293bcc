"""How much each layer can lose: accuracy against sparsity, or against the fraction of channels removed.

One layer at a time is pruned, the network is evaluated without any training, and the layer gets back what it lost:
Li et al., "Pruning Filters for Efficient ConvNets", 2017, section 3.2, for channels; Han et al., "Learning both
Weights and Connections for Efficient Neural Networks", 2015, figure 6, for weights.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mxnet.gluon import HybridBlock

from ...arguments import check_choice, check_flag, check_number, plain, shown
from ...files.digests import digest_of_arrays
from ...files.paths import check_target
from ...network.checks import check_ready
from ...network.graph import Graph
from ...network.layer import Which, layers, select_layers, selected_and_excluded
from ...network.resizing import capture, put_back
from ...network.values import parameters, snapshot, write_values
from ...tables import progress_bar
from ..channels.chosen_groups import reasons_of_excluded
from ..channels.groups import Dependencies, Group
from ..channels.pruner import prune_channels
from ..criteria import Criterion, channel_criterion
from ..weights.importance import weight_criterion
from ..weights.magnitude import PRUNABLE, magnitude_masks
from ..weights.masks import on_devices, zero_where_pruned
from .curves import Sensitivity
from .state import State, check_functions_have_names

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def measure_sensitivity(net: HybridBlock, evaluate: Callable[[HybridBlock], float], example: Any = None,
                        kind: str = "weights", fractions: Iterable[float] = FRACTIONS, select: Which = None,
                        exclude: Which = (), criterion: Any = "l1", state_path: str | Path | None = None,
                        progress: bool = True) -> Sensitivity:
    """Measure how the accuracy falls when single layers are pruned, without any training.

    Parameters
    ----------
    net : HybridBlock
        Restored bit for bit afterwards, even after an error or Ctrl-C; what ``evaluate`` does to the parameters,
        for instance BatchNorm statistics in training mode, is undone too.
    evaluate : callable
        ``evaluate(net)`` returns a finite number, the higher the better:
        ``lambda net: gluon_compress.training.evaluate(net, validation_data)``. Called once for the network
        as it is, and once per layer and fraction. Take held-out data, not the test set.
    example : NDArray or tuple of NDArray
        A batch of the network's input, for ``kind="channels"`` only.
    kind : "weights" or "channels"
        Zeros, as by :func:`prune_magnitude`, or channels removed, as by :func:`prune_channels`.
    fractions : iterable of float
        What to remove of a layer's weights or channels, each in (0, 1). A layer is not
        measured at a fraction that would empty it.
    select, exclude : name, kind, class or function of layers, or several of these
        Which layers to measure, and which not; see :func:`~gluon_compress.network.select_layers`. By default
        convolutions and dense layers, or all that can lose channels. Layers whose channels go together are measured
        once, all together, when one of them is selected and none excluded.
    criterion : str, criterion, dict or function
        What :func:`prune_magnitude` takes for weights, with "l1" for ``|w|``, or :func:`prune_channels` for channels.
        ``Taylor(data)`` goes through its ``data`` at each measurement, so it cannot be a generator.
    state_path : str or Path, optional
        The results are kept here, as JSON, after each measurement. A killed run, called again with the same
        arguments, goes on from there, once ``evaluate`` has given the same result for the whole network. Functions
        of a criterion are recognized by name, so a lambda cannot be; the ``data`` of one is not compared.
    progress : bool
        Show a progress bar on standard error.

    Returns
    -------
    Sensitivity

    Raises
    ------
    TypeError
        When an argument is of a kind not listed above, or ``evaluate`` does not return a number.
    ValueError
        For fractions out of range, layers that match nothing, an accuracy that is not finite, and when no layer
        can be measured.
    NetworkError
        When the network is not initialized, cannot be traced or has weights that are not finite.
    CheckpointError
        When the file at ``state_path`` is damaged, of another run or of another ``evaluate``.
    """
    check_ready(net)
    if not callable(evaluate):
        raise TypeError(f"evaluate is {evaluate!r}; accepted: a function from the network to its accuracy")
    check_choice("kind", kind, ("weights", "channels"))
    check_flag("progress", progress)
    criterion = weight_criterion(criterion) if kind == "weights" else channel_criterion(criterion)
    criterion.check_repeatable()
    if state_path is not None:
        check_target("state_path", state_path)
        check_functions_have_names(criterion)
    fractions = _ascending(fractions)
    if kind == "weights":
        parts = _of_weights(net, select, exclude, criterion)
    else:
        parts = _of_channels(net, example, select, exclude, criterion)
    bearable = {name: [fraction for fraction in fractions if round(fraction * size) < size]
                for name, size in parts.sizes.items()}
    for name in [name for name, some in bearable.items() if not some]:
        reason = f"each fraction would leave none of its {parts.sizes[name]} {kind}"
        parts.left_out.update(dict.fromkeys(parts.groups.pop(name), reason))
    if not parts.groups:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in parts.left_out.items())
        raise ValueError(f"no layer can be measured: {reasons or 'the network has none'}")
    record = Sensitivity(kind, criterion.settings()["criterion"], fractions, parts.groups, parts.left_out,
                         curves={name: {} for name in parts.groups})
    measurements = [(name, fraction) for name in parts.groups for fraction in bearable[name]]
    _measure(net, evaluate, parts.prune, record, measurements, _state(state_path, net, record, criterion), progress)
    return record


@dataclass
class _Parts:
    """What can be measured: one layer of weights, or all layers whose channels go together."""

    prune: Callable[[list[str], float], None]  # these layers, by this fraction
    groups: dict[str, list[str]]  # {name of a part: its layers}
    sizes: dict[str, int]  # {name of a part: how many weights or channels it has}
    left_out: dict[str, str]


def _state(path: str | Path | None, net: HybridBlock, record: Sensitivity, criterion: Criterion) -> State | None:
    """The file that keeps the measurements of this run, if any."""
    if path is None:
        return None
    run = {"parameters_sha256": digest_of_arrays(snapshot(net)), "kind": record.kind, **criterion.settings(),
           "fractions": record.fractions, "layers": record.layers}
    return State(Path(path), run)


def _measure(net: HybridBlock, evaluate: Callable[[HybridBlock], float], prune: Callable[[list[str], float], None],
             record: Sensitivity, measurements: list[tuple[str, float]], state: State | None, progress: bool) -> None:
    """Fill in the record: the baseline, and each (name, fraction) of ``measurements`` that the state does not have."""
    before = snapshot(net)
    if state is not None:
        state.restore(record, measurements)
    with progress_bar(show=progress, desc=f"sensitivity of {record.kind}", total=len(measurements) + 1,
                      unit="evaluation", initial=sum(map(len, record.curves.values()))) as bar:
        for name, fraction in [("", 0.0), *measurements]:
            if name and fraction in record.curves[name]:
                continue
            what = f"{name} without {fraction:g}" if name else "the whole network"
            bar.set_postfix_str(what)
            with _put_back_everything(net, before):
                if name:
                    prune(record.layers[name], fraction)
                accuracy = evaluate(net)
            check_number(f"evaluate(net), {what},", accuracy)
            if name:
                record.curves[name][fraction] = float(accuracy)
            else:
                if state is not None:
                    state.check_same_baseline(record.baseline, accuracy)
                record.baseline = float(accuracy)
            if state is not None:
                state.save(record)
            bar.update()


def _of_weights(net: HybridBlock, select: Which, exclude: Which, criterion: Criterion) -> _Parts:
    chosen, left_out = select_layers(net, select, exclude, PRUNABLE)
    criterion.of_weights(net, chosen)  # fails now, not after the baseline

    def prune(names: list[str], fraction: float) -> None:
        masks = magnitude_masks(net, fraction, select=names, criterion=criterion)
        for parameter, mask in masks.fitted(net):
            zero_where_pruned(parameter.list_data(), on_devices(parameter, mask))
    return _Parts(prune, {layer.name: [layer.name] for layer in chosen},
                  {layer.name: layer.value().size for layer in chosen}, left_out)


def _of_channels(net: HybridBlock, example: Any, select: Which, exclude: Which, criterion: Criterion) -> _Parts:
    """Each size is that of the smallest part of the channels pruned together."""
    if example is None:
        raise TypeError("example is missing; kind='channels' needs a batch of the network's input")
    plan = prune_channels(net, example, 0.0, criterion, round_to=1)  # removes nothing, tells what could go
    selected, excluded = selected_and_excluded(net, select, exclude)
    left_out = {layer.name: plan.left_out.get(layer.name, "it makes no channels") for layer in layers(net)
                if layer.name not in plan.layers}
    groups, sizes = {}, {}
    for connected in _connected(Dependencies(Graph(net, example), net).groups):
        names = list(dict.fromkeys(name for group in connected for name in group.layers if name in plan.layers))
        if excluded & set(names):
            left_out.update(reasons_of_excluded(names, excluded))
        elif not selected & set(names):
            left_out.update(dict.fromkeys(names, "not selected"))
        else:
            groups[names[0]], sizes[names[0]] = names, min(len(group.units) for group in connected)

    def prune(names: list[str], fraction: float) -> None:
        prune_channels(net, example, dict.fromkeys(names, fraction), criterion, round_to=1)
    return _Parts(prune, groups, sizes, left_out)


def _connected(groups: list[Group]) -> list[list[Group]]:
    """Lists of groups that share layers, directly or through others: they cannot have ratios of their own."""
    lists: list[list[Group]] = []
    for group in groups:
        apart, together = [], []
        for others in lists:
            if any(set(other.layers) & set(group.layers) for other in others):
                together += others
            else:
                apart.append(others)
        lists = [*apart, [*together, group]]
    return lists


@contextmanager
def _put_back_everything(net: HybridBlock, before: dict[str, np.ndarray]) -> Iterator[None]:
    """After the ``with`` block, ``net`` has its sizes again, and the values ``before``."""
    sizes = capture(net)
    try:
        yield
    finally:
        put_back(net, sizes)
        for name, parameter in parameters(net).items():
            write_values(parameter, before[name])  # what a key-value store holds was never changed


def _ascending(fractions: Iterable[float]) -> list[float]:
    try:
        fractions = list(fractions)
    except TypeError:
        raise TypeError(f"fractions is {shown(fractions)}; accepted: a list of numbers between 0 and 1") from None
    for fraction in fractions:
        check_number("a fraction", fraction, above=0, below=1)
    if not fractions or len(set(fractions)) < len(fractions):
        raise ValueError(f"fractions is {plain(fractions)}; accepted: at least one number, none of them twice")
    return sorted(map(float, fractions))
