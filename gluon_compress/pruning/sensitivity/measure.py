"""How much each layer can lose: accuracy against sparsity, or against the fraction of channels removed.

One layer at a time is pruned, the network is evaluated without any training, and the layer gets back what it lost:
Li et al., "Pruning Filters for Efficient ConvNets", 2017, section 3.2, for channels; Han et al., "Learning both
Weights and Connections for Efficient Neural Networks", 2015, figure 6, for weights.
"""
import json
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ...arguments import check_choice, check_flag, check_number, differences, plain, shown
from ...errors import CheckpointError
from ...files.digests import digest_of_arrays
from ...files.paths import check_target
from ...files.schema import Malformed, anything, fields, mapping, number, parse
from ...files.tensorfile import check_regular
from ...files.writing import write_atomically
from ...network.checks import check_ready
from ...network.data import check_repeatable
from ...network.graph import Graph
from ...network.layer import layers, select_layers, selected_and_excluded
from ...network.resizing import capture, put_back
from ...network.values import parameters, snapshot, write_values
from ...tables import progress_bar
from ..channels.chosen_groups import reasons_of_excluded
from ..channels.groups import Dependencies
from ..channels.pruner import prune_channels
from ..weights.magnitude import PRUNABLE, magnitude_masks
from ..weights.masks import on_devices, zero_where_pruned
from .curves import CURVES, ROUNDING, Sensitivity

MOST_BYTES = 16 << 20  # of a saved state
_STATE = fields({"run": mapping(anything), "baseline": number(), "curves": CURVES})
FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
NORMS = {"l1": 1, "l2": 2}
RANKING = ("over", "data", "loss", "seed")  # the arguments of prune_channels that go with a criterion


def measure_sensitivity(net, evaluate, example=None, kind="weights", fractions=FRACTIONS, select=None, exclude=(),
                        criterion="l1", state_path=None, progress=True, **ranking):
    """Measure how the accuracy falls when single layers are pruned, without any training.

    Parameters
    ----------
    net : HybridBlock
        Afterwards, also after an error or Ctrl-C, bit for bit as it was; what ``evaluate`` does to the parameters,
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
        What to remove of a layer's weights or channels, each in (0, 1). One that leaves a layer none is left out there.
    select, exclude : name, kind, class or function of layers, or several of these
        Which layers, and which of them not; see :func:`~gluon_compress.network.select_layers`. By default
        convolutions and dense layers, or all that can lose channels. Layers whose channels go together are measured
        once, all together, when one of them is selected and none excluded.
    criterion : str or callable
        "l1" or "l2" for weights; for channels whatever :func:`prune_channels` takes.
    state_path : str or Path, optional
        The results are kept here, as JSON, after each measurement. A killed run, called again with the same
        arguments, goes on from there, once ``evaluate`` has said of the whole network what it said before. Functions
        among the arguments are known by their names, so that a lambda cannot be; ``data`` is not compared.
    progress : bool
        Show a progress bar on standard error.
    **ranking
        For ``kind="channels"``: ``over``, ``data``, ``loss`` and ``seed`` of :func:`prune_channels`. It goes through
        ``data`` at each measurement, so that it cannot be a generator.

    Returns
    -------
    Sensitivity

    Raises
    ------
    TypeError
        When an argument is of another kind than above, or ``evaluate`` returns no number.
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
    if state_path is not None:
        check_target("state_path", state_path)
        for name, function in (("criterion", criterion), ("loss", ranking.get("loss"))):
            _check_has_name(name, function)
    fractions = _ascending(fractions)
    if kind == "weights":
        prune, groups, sizes, untouched = _of_weights(net, select, exclude, criterion, ranking)
    else:
        prune, groups, sizes, untouched = _of_channels(net, example, select, exclude, criterion, ranking)
    leaves_some = {name: [fraction for fraction in fractions if round(fraction * sizes[name]) < sizes[name]]
                   for name in groups}
    for name in [name for name in groups if not leaves_some[name]]:
        untouched.update(dict.fromkeys(groups.pop(name), f"each fraction would leave none of its {sizes[name]} {kind}"))
    if not groups:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in untouched.items())
        raise ValueError(f"no layer can be measured: {reasons or 'the network has none'}")
    record = Sensitivity(kind, _name(criterion), fractions, groups, untouched, curves={name: {} for name in groups})
    todo = [(name, fraction) for name in groups for fraction in leaves_some[name]]
    _measure(net, evaluate, prune, record, todo, ranking, state_path, progress)
    return record


def _measure(net, evaluate, prune, record, todo, ranking, state_path, progress):
    """Fill in the record: the baseline, and the (name, fraction) of ``todo`` but for those that the state has."""
    before = snapshot(net)
    run = {"parameters_sha256": digest_of_arrays(before), "kind": record.kind, "criterion": record.criterion,
           "fractions": record.fractions, "layers": record.layers,
           **{name: _name(value) if callable(value) else str(value)
              for name, value in ranking.items() if name != "data"}}
    if state_path is not None and Path(state_path).exists():
        _restore(state_path, run, record, todo)
    with progress_bar(show=progress, desc=f"sensitivity of {record.kind}", total=len(todo) + 1, unit="evaluation",
                      initial=sum(map(len, record.curves.values()))) as bar:
        for name, fraction in [(None, 0.0), *todo]:
            if name is not None and fraction in record.curves[name]:
                continue
            what = "the whole network" if name is None else f"{name} without {fraction:g}"
            bar.set_postfix_str(what)
            with _put_back_everything(net, before):
                if name is not None:
                    prune(record.layers[name], fraction)
                accuracy = evaluate(net)
            check_number(f"evaluate(net), {what},", accuracy)
            if name is None:
                _check_same_baseline(record.baseline, accuracy, state_path)
                record.baseline = float(accuracy)
            else:
                record.curves[name][fraction] = float(accuracy)
            if state_path is not None:
                _save(state_path, run, record)
            bar.update()


def _of_weights(net, select, exclude, criterion, ranking):
    """``(prune(layer names, fraction), {name: layer names}, {name: weights}, {layer name: why it takes no part})``."""
    check_choice("criterion", criterion, tuple(NORMS))
    if ranking:
        raise TypeError(f"{', '.join(ranking)} given for kind='weights'; accepted for kind='channels' only")
    chosen, left_out = select_layers(net, select, exclude, PRUNABLE)

    def prune(names, fraction):
        masks = magnitude_masks(net, fraction, norm=NORMS[criterion], select=names)
        for parameter, mask in masks.fitted(net):
            zero_where_pruned(parameter.list_data(), on_devices(parameter, mask))
    return (prune, {layer.name: [layer.name] for layer in chosen},
            {layer.name: layer.value().size for layer in chosen}, left_out)


def _of_channels(net, example, select, exclude, criterion, ranking):
    """As :func:`_of_weights`; the sizes are numbers of channels, of the smallest part of what goes together."""
    for name in ranking:
        if name not in RANKING:
            raise TypeError(f"sensitivity has no argument {name!r}; accepted besides its own: {', '.join(RANKING)}")
    check_repeatable(ranking.get("data"), "data")
    if example is None:
        raise TypeError("example is missing; kind='channels' needs a batch of the network's input")
    plan = prune_channels(net, example, 0.0, criterion, round_to=1, **ranking)  # removes nothing, tells what could go
    selected, excluded = selected_and_excluded(net, select, exclude)
    untouched = {layer.name: plan.left_out.get(layer.name, "it makes no channels") for layer in layers(net)
                 if layer.name not in plan.layers}
    groups, sizes = {}, {}
    for parts in _connected(Dependencies(Graph(net, example), net).groups):
        names = list(dict.fromkeys(name for part in parts for name in part.layers if name in plan.layers))
        if excluded & set(names):
            untouched.update(reasons_of_excluded(names, excluded))
        elif not selected & set(names):
            untouched.update(dict.fromkeys(names, "not selected"))
        else:
            groups[names[0]], sizes[names[0]] = names, min(len(part.units) for part in parts)

    def prune(names, fraction):
        prune_channels(net, example, dict.fromkeys(names, fraction), criterion, round_to=1, **ranking)
    return prune, groups, sizes, untouched


def _connected(groups):
    """Lists of groups that share layers, directly or through others: they cannot have ratios of their own."""
    found = []
    for group in groups:
        apart, together = [], []
        for parts in found:
            if any(set(part.layers) & set(group.layers) for part in parts):
                together += parts
            else:
                apart.append(parts)
        found = [*apart, [*together, group]]
    return found


@contextmanager
def _put_back_everything(net, before):
    """Behind the ``with`` block, ``net`` has its sizes again, and the values ``before``."""
    state = capture(net)
    try:
        yield
    finally:
        put_back(net, state)
        for name, parameter in parameters(net).items():
            write_values(parameter, before[name])  # what a key-value store holds was never changed


def _ascending(fractions):
    try:
        fractions = list(fractions)
    except TypeError:
        raise TypeError(f"fractions is {shown(fractions)}; accepted: a list of numbers between 0 and 1") from None
    for fraction in fractions:
        check_number("a fraction", fraction, above=0, below=1)
    if not fractions or len(set(fractions)) < len(fractions):
        raise ValueError(f"fractions is {plain(fractions)}; accepted: at least one number, none of them twice")
    return sorted(map(float, fractions))


def _check_has_name(what, function):
    if isinstance(function, partial) or getattr(function, "__name__", "") == "<lambda>":
        raise TypeError(f"{what} is {function!r}, by whose name the file at state_path could not tell it from another "
                        f"one; accepted beside state_path: a function made with def")


def _name(function):
    """Of a criterion or a loss: itself, or of a function, or of the class of an object that can be called."""
    return function if isinstance(function, str) else getattr(function, "__qualname__", type(function).__qualname__)


def _save(path, run, record):
    content = {"run": run, "baseline": record.baseline, "curves": record.curves_as_pairs()}
    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(content, indent=1)))


def _check_same_baseline(there, here, path):
    """The state cannot hold ``evaluate``, only what it said of the whole network."""
    if there is not None and abs(there - here) > ROUNDING:
        raise CheckpointError(f"{path} was measured with another evaluate: the accuracy of the whole network is "
                              f"{there} there, {here} here; delete it or choose another path")


def _restore(path, run, record, todo):
    """Take over what was measured before; ``CheckpointError`` when the file is damaged or of another run."""
    content = _read_state(path)
    curves = {name: dict(pairs) for name, pairs in content["curves"].items()}
    if differing := differences(content["run"], run):
        raise CheckpointError(f"{path} is of another run: {differing}; delete it or choose another path")
    unknown = {(name, fraction) for name, curve in curves.items() for fraction in curve} - set(todo)
    if unknown or curves.keys() != record.curves.keys():
        raise CheckpointError(f"{path} is damaged: its curves are not those of its layers and fractions; delete it "
                              f"or choose another path")
    record.baseline, record.curves = content["baseline"], {name: curves[name] for name in record.curves}


def _read_state(path):
    check_regular(path)
    try:
        if Path(path).stat().st_size > MOST_BYTES:
            raise Malformed(f"it has more than {MOST_BYTES} bytes")
        content = parse(Path(path).read_bytes(), "it")
        _STATE(content, "it")
        return content
    except Malformed as error:
        raise CheckpointError(f"{path} is no state of a sensitivity measurement, or is damaged ({error}); "
                              f"delete it or choose another path") from error
