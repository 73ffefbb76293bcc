"""BatchNorm's running statistics, estimated anew after channels were removed.

The mean and variance that a BatchNorm keeps are those of the unpruned network's activations. Estimating them
again on a few batches, without any training, often recovers a good part of the accuracy.
"""
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import islice
from typing import Any, cast

import numpy as np
from mxnet import autograd
from mxnet.gluon import HybridBlock

from ...arguments import check_flag, check_integer
from ...errors import NetworkError
from ...network.checks import check_ready, context_of
from ...network.data import check_data, check_finite_inputs, go_through, inputs_of, number_of_batches
from ...network.graph import Graph
from ...network.inputs import example_inputs
from ...network.misfits import call
from ...network.nodes import Entry, Node, consumers, plain, symbol_of, written
from ...network.norms import norm_name, scale_and_shift
from ...network.values import parameters, set_values, snapshot
from ...tables import progress_bar


def reestimate_batch_norm(net: HybridBlock, data: Iterable[Any], batches: int | None = None,
                          progress: bool = True, *, keep_outputs: bool = False) -> int:
    """Set the running statistics to their means over batches and return the number of layers changed.

    Parameters
    ----------
    net : HybridBlock
        Changed in place: only running means and variances, and with ``keep_outputs`` gamma and beta.
    data : iterable of (input, label) batches, or of inputs
        Training images; the labels are ignored.
    batches : int, optional
        How many to use, at least 1; by default all.
    progress : bool
        Show a progress bar on standard error.
    keep_outputs : bool
        Change gamma and beta along, so that in inference the network computes what it did. It can be trained from
        there: a BatchNorm whose statistics are not those of what it reads, as after :func:`fold_batch_norm`,
        :class:`RateRounding` or a way through ONNX, computes something else in training otherwise.

    A layer that the network calls several times gets the mean over its calls, each of which moves the statistics in
    training.

    Raises
    ------
    TypeError, ValueError
        When ``data`` or ``batches`` is of another kind, when there are no batches, when one does not fit the network,
        and when no BatchNorm of the network uses the statistics of batches; with ``keep_outputs`` where gamma is fixed,
        or something else reads it.
    NetworkError
        When statistics are not finite. Nothing is changed then.

    Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3 ("PreciseBN").
    """
    check_ready(net)
    check_flag("progress", progress)
    check_flag("keep_outputs", keep_outputs)
    check_data(data, "data")
    if batches is not None:
        check_integer("batches", batches, minimum=1)
    named, context = parameters(net), context_of(net)
    graph: Graph | None = None
    totals: dict[str, np.ndarray | float] = defaultdict(float)
    counts: Counter[str] = Counter()
    total_batches = min((number for number in (number_of_batches(data), batches) if number is not None), default=None)
    for batch in progress_bar(islice(go_through(data, "data"), batches), progress, desc="BatchNorm's statistics",
                              total=total_batches, unit="batch"):
        inputs = example_inputs(inputs_of(batch, "data", net, context))
        check_finite_inputs(inputs, "data")
        if graph is None:
            graph = Graph(net, inputs)
            norms = _with_statistics(graph)
            if keep_outputs:
                _check_outputs_can_be_kept(graph, norms)
            names, measure = _statistics(graph, norms)
        graph.output_shapes([array.shape for array in inputs])  # fails when they do not fit
        # In training each BatchNorm normalizes with the batch's own mean and variance.
        with autograd.predict_mode() if keep_outputs else autograd.train_mode():
            measured = call(measure, inputs, "a batch of data")
        for name, value in zip(names, measured):  # a layer that is called twice has its name twice
            totals[name] = totals[name] + value.asnumpy().astype(np.float64)
            counts[name] += 1
    changed = {name: np.asarray(total / counts[name]) for name, total in totals.items()}
    if keep_outputs:
        changed.update(_gammas_and_betas(norms, snapshot(net), changed))
    with np.errstate(over="ignore"):
        changed = {name: value.astype(named[name].dtype) for name, value in changed.items()}
    for name, value in changed.items():
        if not np.isfinite(value).all():
            raise NetworkError(f"{name} would not be finite: look for NaN in the weights and in data, and for "
                               f"negative running_var")
    for name, value in changed.items():
        set_values(named[name], value)
    return len(totals) // 2


def has_batch_norm(net: HybridBlock, example: Any) -> bool:
    """Whether :func:`reestimate_batch_norm` has something to estimate; ``example`` is a batch of the input."""
    return bool(_with_statistics(Graph(net, example)))


def _with_statistics(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.meaning.keeps_statistics and not node.get("use_global_stats")]


def _check_outputs_can_be_kept(graph: Graph, norms: list[Node]) -> None:
    """Raise ``ValueError`` unless gamma and beta of each are free to make up for other statistics."""
    read = {*consumers(graph.outputs), *graph.outputs}
    for norm in norms:
        if {(norm, 1), (norm, 2)} & read:
            raise ValueError(f"the network reads the mean or variance of {norm_name(norm)}, which change; accepted "
                             f"with keep_outputs: BatchNorms of which it reads what is normalized")
        for role, (source, _) in zip(norm.meaning.inputs[1:], norm.inputs[1:]):
            if source.parameter is None:
                raise ValueError(f"{role} of {norm.name} is {source.name}, no parameter; accepted with keep_outputs: "
                                 f"BatchNorms whose gamma and beta are parameters of the network")
        if norm.get("fix_gamma"):
            raise ValueError(f"gamma of {norm_name(norm)} is fixed at 1, and cannot make up for another variance; "
                             f"accepted with keep_outputs: BatchNorms with scale=True")
        own = _affine(norm)
        for node in graph.nodes:
            shared = own["parameters"] & {source.parameter for source, _ in node.inputs}
            if shared and _affine(node) != own:
                raise ValueError(f"{min(shared)} is read by {node.name}, too; accepted with keep_outputs: BatchNorms "
                                 f"with parameters of their own, or which share all of them and eps")


def _affine(norm: Node) -> dict[str, Any]:
    """All that tells what a BatchNorm does in inference; of other nodes, what no BatchNorm has."""
    return {"parameters": {source.parameter for source, _ in norm.inputs[1:]}, "eps": norm.get("eps"),
            "fixed": norm.get("fix_gamma"), "normalizes": norm.meaning.keeps_statistics}


def _gammas_and_betas(norms: list[Node], values: dict[str, np.ndarray],
                      statistics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those with which the BatchNorms compute under new statistics what they compute under those in ``values``.

        gamma = alpha sqrt(variance + eps)        beta = shift + alpha mean
    """
    found = {}
    for norm in norms:
        alpha, shift = scale_and_shift(norm, values)
        mean, variance = (statistics[norm.parameters[role]] for role in ("mean", "variance"))
        found[norm.parameters["gamma"]] = alpha * np.sqrt(variance + norm.get("eps"))
        found[norm.parameters["beta"]] = shift + alpha * mean
    return found


def _statistics(graph: Graph, norms: list[Node]) -> tuple[list[str], HybridBlock]:
    """(names of the running means and variances, a network whose outputs are a batch's means and variances)."""
    names: list[str] = []
    statistics: list[Entry] = []
    for node in norms:
        names += [cast(str, cast(Node, statistic).parameter) for statistic in (node.mean, node.variance)]
        statistics += _mean_and_variance(node)
    if not names:
        raise ValueError("the network has no BatchNorm that uses the statistics of batches")
    return names, graph.block(symbol_of(statistics))


def _mean_and_variance(node: Node) -> list[Entry]:
    """The mean and the variance, over a batch, of the channels that a BatchNorm reads."""
    values, over = node.inputs[0], {"axis": node.channel_axis, "exclude": True}
    mean = plain(f"{node.name}_mean_kept", "mean", values, keepdims=True, **over)
    centred = written("broadcast_sub", f"{node.name}_centred", values, mean), 0
    square = plain(f"{node.name}_square", "square", centred)
    return [plain(f"{node.name}_mean", "mean", values, **over), plain(f"{node.name}_variance", "mean", square, **over)]
