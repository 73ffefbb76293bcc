"""The one door: whatever holds a network, opened by what it is."""
from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import mxnet as mx
from mxnet.gluon import HybridBlock

from ..arguments import check_flag, check_integer, listed
from ..files.paths import check_folder, check_path
from ..files.tensorfile import content_of
from ..network.checks import check_context, check_hybrid
from ..records import record_of_network
from .file import found_in_compressed, load_compressed
from .other_formats.found import Found
from .other_formats.gluon_parameters import load_parameters
from .other_formats.module_checkpoint import Wanted, check_wanted
from .other_formats.opening import is_ours, open_other, read_parameters
from .other_formats.places import open_pair

LOGGER = logging.getLogger("gluon_compress")


def load(path: str | PathLike[str], net: HybridBlock | type[HybridBlock] | None = None, ctx: mx.Context | None = None,
         precision: str | None = None, simulate: bool = False, *, epoch: int | None = None,
         inputs: Sequence[str] | None = None, outputs: Sequence[str] | None = None,
         head: str = "softmax") -> HybridBlock:
    """Load a network: a compressed one that :func:`save` wrote, or one that others left in their format.

    What can be opened besides compressed files:

    - a checkpoint of ``Module``, or of Gluon's ``export``, by its prefix or by either of its files
      (``prefix-symbol.json``, ``prefix-0003.params``). Losses and labels are taken out of the graph, so that it
      computes what ``Module.predict`` gives. Graphs are read as MXNet has written them since 0.8;
    - parameters that Gluon saved, into ``net``;
    - the ``model.tar.gz`` of SageMaker's algorithms for image classification, object detection, semantic segmentation
      and linear models, or the folder that it unpacks to; also other folders and archives (.tar, .tar.gz, .zip, .mar)
      that hold one checkpoint;
    - the folder of a GluonTS predictor that was saved as a graph (``SymbolBlockPredictor``).

    What was found is logged (``logging.getLogger("gluon_compress")``, level INFO), and is ``found`` of the network
    that comes back; :func:`describe` gives it without a network. Nothing in a file is executed or trusted: graphs are
    checked node by node, parameters are read in NumPy, archives are unpacked within bounds.

    Parameters
    ----------
    path : str or Path
        A file, a folder, or the prefix of a checkpoint.
    net : HybridBlock or its class, optional
        For a compressed file, a fresh copy of the original network, initialized or not. The channels that the file's
        plan removes are removed from it, then its parameters are set. Without it, a ``SymbolBlock`` is built from the
        graph in the file. For parameters without a graph, the network that they belong to; a class is called without
        arguments.
    ctx : mx.Context, optional
        Where the parameters go; by default where those of ``net`` are, else the CPU, where checkpoints of networks of
        float16 compute in float32: MXNet has no other kernels for them there.
    precision : "fp32", optional
        Load a network on integers as an fp32 ``SymbolBlock`` with the rounded weights.
    simulate : bool
        Load a network on integers that computes the same arithmetic in fp32, which works on any processor.
    epoch : int, optional
        Which parameters of a checkpoint; by default those of its last epoch.
    inputs : list of str, optional
        Names of the graph's inputs, in the order in which the network takes them; by default all variables without a
        value that are neither labels nor weights.
    outputs : list of str, optional
        What the network puts out, by names such as ``fc1_output``; by default what the graph does, without losses.
    head : "softmax" or "logits"
        What a classifier puts out where it was trained with ``SoftmaxOutput`` or ``LogisticRegressionOutput``:
        probabilities, as ``Module.predict`` gives them, or the logits before them, as Gluon's losses and
        :func:`~gluon_compress.distillation.distill` want them. Also where it ends in a plain softmax.

    Returns
    -------
    HybridBlock
        ``net``, a ``SymbolBlock``, or an ``IntegerNetwork``.

    Raises
    ------
    CheckpointError
        For a file that is damaged, truncated, of another kind or of another network, with the one reason. ``net`` is
        then unchanged.
    FileNotFoundError
        When neither a file nor a checkpoint of that prefix is there.
    NetworkError
        For a network on integers of fewer than 8 bits, without ``simulate``: no kernels exist for it.

    >>> net = load("model", epoch=12)                        # model-symbol.json, model-0012.params
    >>> net = load("model.tar.gz", head="logits")            # of SageMaker
    >>> net = load("insightface/model-0000.params", outputs=["fc1_output"])
    >>> net = load("net.params", MyNetwork)
    """
    _check_path(path)
    check_context(ctx)
    check_flag("simulate", simulate)
    if precision not in (None, "fp32"):
        raise ValueError(f"precision is {precision!r}; accepted: 'fp32' or None")
    net = _network(net)
    wanted = _wanted(epoch, inputs, outputs, head, ctx)
    if is_ours(path):
        _refuse_given("a compressed file", path, epoch=epoch, inputs=inputs, outputs=outputs,
                      head=None if head == "softmax" else head)
        return load_compressed(path, net, ctx, precision, simulate)
    if net is not None:
        found, arrays = read_parameters(path, epoch)
        _refuse_given("a file of parameters", path, inputs=inputs, outputs=outputs, precision=precision,
                      head=None if head == "softmax" else head, simulate=simulate or None)
        load_parameters(path, arrays, net, ctx)
        LOGGER.info("%s: %s", os.fspath(path), found.line())
        return net
    opened = open_other(path, wanted, epoch)
    _refuse_given("a network that this package did not save", path, precision=precision, simulate=simulate or None)
    _report(path, opened.found)
    with content_of(path, "network of MXNet"):
        return opened.network(ctx or mx.cpu())


def describe(path: str | PathLike[str], *, epoch: int | None = None, inputs: Sequence[str] | None = None,
             outputs: Sequence[str] | None = None, head: str = "softmax") -> Found:
    """What :func:`load` finds at a path, with the same checks: plain data with ``summary()``; no network is made.

    Raises the same errors. Arguments as for :func:`load`.

    >>> print(describe("model"))
    kind: checkpoint of MXNet
    files: model-symbol.json, model-0012.params
    epoch: 12 of 0, 4, 8, 12
    inputs: data
    outputs: softmax_output
    parameters: 61,706
    softmax: softmax instead of SoftmaxOutput
    """
    _check_path(path)
    wanted = _wanted(epoch, inputs, outputs, head)
    if is_ours(path):
        return found_in_compressed(path)
    return open_other(path, wanted, epoch).found


def load_pair(graph: str | PathLike[str], parameters: str | PathLike[str], head: str = "softmax",
              ctx: mx.Context | None = None) -> tuple[HybridBlock, Found]:
    """``(network, what was found)`` of a graph and parameters whose names do not belong together.

    Arguments, checks and errors as for :func:`load`.
    """
    for path in (graph, parameters):
        check_path("path", path)
    opened = open_pair(Path(graph), Path(parameters), _wanted(None, None, None, head, ctx))
    with content_of(graph, "network of MXNet"):
        return opened.network(ctx or mx.cpu()), opened.found


def _check_path(path: str | PathLike[str]) -> None:
    check_folder("path", path)


def _wanted(epoch: int | None, inputs: Sequence[str] | None, outputs: Sequence[str] | None, head: str,
            ctx: mx.Context | None = None) -> Wanted:
    if epoch is not None:
        check_integer("epoch", epoch, minimum=0)
    return check_wanted(inputs, outputs, head, ctx)


def _network(net: HybridBlock | type[HybridBlock] | None) -> HybridBlock | None:
    if isinstance(net, type) and issubclass(net, HybridBlock):
        try:
            net = net()
        except TypeError as error:
            raise TypeError(f"net is the class {net.__name__}, which cannot be called without arguments ({error}); "
                            f"accepted: a network, {net.__name__}(...)") from error
    if isinstance(net, int):  # as Module.load(prefix, epoch) has it
        raise TypeError(f"net is {net}; accepted: a gluon.HybridBlock or None; for an epoch write load(path, "
                        f"epoch={net})")
    if isinstance(net, (str, os.PathLike)):  # as SymbolBlock.imports has it
        raise TypeError(f"net is {os.fspath(net)!r}; accepted: a gluon.HybridBlock or None; load finds the parameters "
                        f"beside a symbol file, and the symbol beside parameters: give one path")
    if net is not None:
        check_hybrid(net)
        if record_of_network(net) is not None:
            raise TypeError(f"net is an {type(net).__name__}; accepted: a fresh copy of the original network, or None")
    return net


def _refuse_given(what: str, path: str | PathLike[str], **arguments: object) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(f"{name} is {value!r}, which {what} has no use for ({os.fspath(path)}); "
                             f"accepted: leave it out")


def _report(path: str | PathLike[str], found: Found) -> None:
    """Log what was found; warn the caller of :func:`load` of parameters that nothing reads."""
    LOGGER.info("%s: %s", os.fspath(path), found.line())
    unread = [name for name, reason in found.left_out.items() if reason == found.UNREAD]
    if unread:
        warnings.warn(f"{path}: nothing in the graph reads the parameters {listed(unread)}", stacklevel=3)
