"""What :func:`report` counts and measures: costs of layers, sizes of files, times, accuracies, of several networks."""
from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mxnet.gluon import Block, HybridBlock

from .. import runtime
from ..arguments import check_flag, check_integer, check_text, shown
from ..errors import RecordError
from ..files.paths import check_path
from ..network.checks import check_net
from ..network.data import check_repeatable
from ..network.engine_network import EngineNetwork
from ..network.inputs import example_inputs
from ..network.latency import measure_latency
from ..network.values import parameters, value_of
from ..pruning import Sensitivity
from ..quantization import QuantizationRecord, Scales
from ..records import Record, record_of_network
from ..training.evaluation import correct_and_all
from .costs import Codes, layer_costs
from .kernels import operator_times
from .reports import Report

BEFORE, AFTER, ALONE = "before", "after", "network"  # what networks without names are called
PAGES = (".html", ".htm")
REPEATS_OF_OPERATORS = 10
NETWORKS = "a gluon.HybridBlock, a Report, or a dict {name: network or Report}"


def report(net: HybridBlock | EngineNetwork, example: Any, compared_with: Any = None, data: Iterable | None = None,
           path: str | Path | None = None, latency: bool = False, repeats: int = 30, warmup: int = 5, *,
           records: Record | Iterable[Record] = (), layer_times: bool = False, name: str | None = None,
           data_name: str | None = None, progress: bool = True, baseline: Any = None) -> Report:
    """Count what ``net`` costs on ``example``, and return a :class:`Report`; the network stays as it is.

    ::

        print(report(net, example))
        now = report(pruned, example, compared_with=net, data=held_out, path="pruned.gcz", latency=True)
        now.write_html("pruned.html")
        report(int8, example, compared_with={"fp32": before, "pruned": now}, name="pruned, int8")

    Parameters
    ----------
    net : HybridBlock
        Initialized, with known shapes; a SymbolBlock is one too. Of a network that ``export.engine`` gave, the report
        has the file, the time and the accuracy.
    example : NDArray, or tuple of NDArray for a network of several inputs
        A batch ``(batch, ...)``; MACs are per sample of it.
    compared_with : network, Report, or dict of {name: network or Report}, optional
        What stands beside it: networks are counted and measured in the same way; give a Report for the size of
        another file as well. A single one is called "before".
    data : iterable of (input, label) batches, optional
        On which the top-1 accuracy is measured.
    path : str or Path, optional
        The file that the network was saved to: its length on disk is reported. Nothing is written;
        ``write_html`` of what comes back writes the page.
    latency : bool
        Time the forward pass: see :func:`measure_latency`, which takes ``repeats`` and ``warmup``.
    records : Record, or several, optional
        What techniques returned: curves of a Sensitivity and signal-to-noise ratios of a QuantizationRecord are
        shown (an IntegerNetwork brings its own), weights with Scales count as codes, and what was left out is
        listed with the reason.
    layer_times : bool
        Time each layer too: see :func:`operator_times`, which needs a process of its own for each network.
    name : str, optional
        What the network is called; by default "after", or "network" where it stands alone.
    data_name : str, optional
        What the data are called beside the accuracy, such as "CIFAR-10, test".
    progress : bool
        Show progress bars on standard error.
    baseline : deprecated
        The old name of ``compared_with``.

    Raises
    ------
    TypeError
        When ``net`` is not a HybridBlock, or ``example`` not an NDArray.
    NetworkError
        When a network is not initialized, has shapes still to be inferred, or cannot be traced.
    RecordError
        When ``records`` do not belong to the network.
    ValueError
        When the example's shape does not fit, two networks have one name, or ``path`` is that of a page; for
        ``records`` or ``layer_times`` of a network that an engine runs as a whole.
    FileNotFoundError
        When there is no file at ``path``.
    """
    if baseline is not None:
        if compared_with is not None:
            raise TypeError("baseline and compared_with are both given; accepted: compared_with")
        warnings.warn("baseline= is now compared_with=", DeprecationWarning, stacklevel=2)
        compared_with = baseline
    _check_arguments(latency, repeats, warmup, layer_times, progress, path, name, data_name)
    others = _named_networks(compared_with, name)
    if data is not None and any(isinstance(other, Block) for other in others.values()):
        check_repeatable(data, "data")
    measuring: dict[str, Any] = {"data": data, "data_name": data_name, "latency": latency, "repeats": repeats,
                                 "warmup": warmup, "layer_times": layer_times, "progress": progress}
    own = name or (AFTER if list(others) == [BEFORE] else ALONE)
    listed = _listed(records)
    if isinstance(net, EngineNetwork):
        _check_whole(net, listed, layer_times)
    main = _measured(net, example, own, path, listed, **measuring)
    return _with(main, {each: other if isinstance(other, Report) else
                        _measured(other, example, each, None, [], **measuring) for each, other in others.items()})


def _check_arguments(latency: Any, repeats: Any, warmup: Any, layer_times: Any, progress: Any, path: Any,
                     name: Any, data_name: Any) -> None:
    for argument, flag in (("latency", latency), ("layer_times", layer_times), ("progress", progress)):
        check_flag(argument, flag)
    check_integer("repeats", repeats, minimum=1)
    check_integer("warmup", warmup, minimum=0)
    if path is not None:
        check_path("path", path)
        if Path(path).suffix in PAGES:
            raise ValueError(f"path is {str(path)!r}, a page; accepted: the file that the network was saved to; "
                             f"report(...).write_html({str(path)!r}) writes a page")
    for argument, text in (("name", name), ("data_name", data_name)):
        if text is not None:
            check_text(argument, text)


def _check_whole(net: EngineNetwork, records: Sequence[Record], layer_times: bool) -> None:
    """``ValueError`` for what only layers have."""
    for name, given in (("records are", bool(records)), ("layer_times is", layer_times)):
        if given:
            raise ValueError(f"{name} given, but {net.engine} runs {net.path.name} as a whole, without layers that are "
                             f"known here; accepted: the network in compared_with, or without them")


def _named_networks(compared_with: Any, own: str | None) -> dict[str, Any]:
    """{name: network or Report}; ``TypeError`` or ``ValueError`` for anything else."""
    if compared_with is None:
        return {}
    networks = compared_with if isinstance(compared_with, Mapping) else {BEFORE: compared_with}
    if not networks:
        raise ValueError(f"compared_with is empty; accepted: {NETWORKS}")
    for name, network in networks.items():
        check_text("a name in compared_with", name)
        if not isinstance(network, (Report, Block)):
            what = "compared_with" if networks is not compared_with else f"compared_with[{name!r}]"
            raise TypeError(f"{what} is {shown(network)}; accepted: {NETWORKS}")
    if own in networks:
        raise ValueError(f"name is {own!r}, as a network in compared_with is called; accepted: another name")
    return dict(networks)


def _listed(records: Any) -> list[Record]:
    listed = [records] if isinstance(records, Record) or not isinstance(records, Iterable) else list(records)
    for record in listed:
        if not isinstance(record, Record):
            raise TypeError(f"records has {shown(record)}; accepted: records that techniques returned")
    return listed


def _with(report: Report, others: Mapping[str, Report]) -> Report:
    return Report(**{**vars(report), "compared_with": {
        # what they were compared with is of no interest here
        name: Report(**{**vars(other), "name": name, "compared_with": {}}) for name, other in others.items()}})


def _measured(net: Any, example: Any, name: str, path: str | Path | None, records: Sequence[Record], data: Any,
              data_name: str | None, latency: bool, repeats: int, warmup: int, layer_times: bool,
              progress: bool) -> Report:
    """The report of one network."""
    inputs = example_inputs(example)
    found: dict[str, Any] = {"layers": [], "not_counted": {}}
    if isinstance(net, EngineNetwork):
        path = net.path if path is None else path
        found["engine"] = net.engine
    else:
        found = _counted(net, inputs, records, layer_times, progress)
    if path is not None:
        found.update(file_name=Path(path).name, file_bytes=_bytes_of(Path(path)))
    if data is not None:
        if not isinstance(net, EngineNetwork):
            check_net(net)
        correct, samples = correct_and_all(net, data, "data", progress)
        found.update(accuracy=correct / samples, samples=samples, data_name=data_name)
    if latency:
        found["timing"] = measure_latency(net, example, repeats, warmup)
    return Report(**found, input_shapes=[value.shape for value in inputs], name=name)


def _bytes_of(path: Path) -> int:
    """The length of a file, with that of the weights beside it where OpenVINO's ``.xml`` has the graph alone."""
    weights = path.with_suffix(".bin")
    return path.stat().st_size + (weights.stat().st_size if path.suffix == ".xml" and weights.exists() else 0)


def _counted(net: Any, inputs: Any, records: Sequence[Record], layer_times: bool, progress: bool) -> dict[str, Any]:
    """The fields of a report that are read off the network, its records and its operators."""
    costs = layer_costs(net, inputs, _codes(net, records))
    found: dict[str, Any] = {"layers": costs.layers, "not_counted": costs.not_counted, **_of_records(net, records)}
    if layer_times:
        times = operator_times(net, inputs.nested, REPEATS_OF_OPERATORS, progress)
        found.update(_by_layer(costs.layers, costs.owners, times))
        threads = runtime.status().threads
        found["times_measured"] = (
            f"operators by themselves, one after the other, median of {REPEATS_OF_OPERATORS} passes, batch "
            f"{inputs[0].shape[0]}, {'default threads' if threads is None else f'{threads} thread(s)'}")
    return found


def _codes(net: Any, records: Sequence[Record]) -> dict[str, Codes]:
    """{structural name: Codes} of the weights that ``Scales`` among the records belong to."""
    found = {}
    for record in records:
        if isinstance(record, Scales) and isinstance(net, HybridBlock) and not hasattr(net, "counted"):
            known = parameters(net)
            for name, form in record.forms().items():
                if name not in known:
                    raise RecordError(f"the record of scales belongs to another network: there is no parameter {name} "
                                      f"here")
                codes = form.encode(value_of(known[name]))
                found[name] = Codes(codes, form.tensors()["scale"].size, form.bits)
    return found


def _of_records(net: Any, records: Sequence[Record]) -> dict[str, Any]:
    """What a report keeps of records: given ones, and that of a network on integers."""
    own = record_of_network(net)
    quantization = [getattr(net, "record", None)] if own is not None else []
    quantization += records
    left_out = {layer: f"{type(record).__name__}: {reason}" for record in records
                if not isinstance(record, (QuantizationRecord, Sensitivity))
                for layer, reason in record.left_out.items()}
    return {"quantization": next((each for each in quantization if isinstance(each, QuantizationRecord)), None),
            "sensitivities": [record for record in records if isinstance(record, Sensitivity)], "left_out": left_out}


def _by_layer(layers: list, owners: Mapping[str, str], times: Iterable[tuple[str, str, float]]) -> dict[str, Any]:
    """``layers`` with their times, and the times of all other operators."""
    of_layers: dict[str, float] = defaultdict(float)
    others: dict[str, float] = defaultdict(float)
    for node, operator, milliseconds in times:
        if node in owners:
            of_layers[owners[node]] += milliseconds
        else:
            others[operator] += milliseconds
    timed = [type(layer)(**{**vars(layer), "milliseconds": of_layers.get(layer.name)}) for layer in layers]
    return {"layers": timed, "other_times": dict(sorted(others.items()))}
