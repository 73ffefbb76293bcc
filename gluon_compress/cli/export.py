"""``gluon-compress export``: a network leaves, as ONNX or as MXNet's own files."""
from __future__ import annotations

from typing import Any

import click

from .command import command
from .failures import Refusal
from .networks import Opened, example_of, open_network
from .options import Target, network_argument
from .run import Run
from .saving import earlier_records

LOSSES = ("SoftmaxOutput", "LogisticRegressionOutput", "LinearRegressionOutput", "MAERegressionOutput", "SVMOutput")


@command
@network_argument
@click.option("-o", "--output", type=Target(), required=True,
              help="small.onnx; or for MXNet the beginning of names: small for small-symbol.json, small-0000.params.")
@click.option("--format", "form", type=click.Choice(["onnx", "mxnet"]),
              help="[default: onnx for a name that ends in .onnx, else mxnet]")
@click.option("--opset", type=click.IntRange(13), metavar="N", help="ONNX: the version of its operators.")
@click.option("--weights", type=click.Choice(["int8", "int4", "float"]),
              help="ONNX: round the weights in the file. [default: as they are in NETWORK: integers leave as integers]")
@click.option("--verify/--no-verify", default=True, show_default=True,
              help="ONNX: run the file, and compare it with the network, before it is put in place.")
@click.option("--loss", type=click.Choice(LOSSES), help="MXNet: the loss with which Module trains it on.")
def export(run: Run, output: str, form: str | None, **shared: Any) -> None:
    """Write NETWORK for other engines: as ONNX, networks on integers too, or as symbol and parameters of MXNet.

    A network on integers becomes ONNX with QuantizeLinear and DequantizeLinear, which ONNX Runtime and OpenVINO run on
    integers.

    \b
    Examples:
      gluon-compress export model --shape 1,1,28,28 --output model.onnx
      gluon-compress export model --shape 1,1,28,28 --weights int8 --opset 13 --output quarter.onnx
      gluon-compress export model --shape 1,1,28,28 --format mxnet --loss SoftmaxOutput --output copy
    """
    form = form or ("onnx" if output.endswith(".onnx") else "mxnet")
    _check_options(run, form)
    files: list[Any] = [] if form == "onnx" else [f"{output}-symbol.json", f"{output}-0000.params"]
    target = run.target(output, files)
    opened = open_network(run)
    example = example_of(run, opened)
    if run.would(f"write {opened.text} as {'ONNX' if form == 'onnx' else 'files of MXNet'}", *(files or [target])):
        return
    if form == "onnx":
        _to_onnx(run, opened, output, example)
    else:
        import gluon_compress as gc
        gc.export.write_checkpoint(opened.net, output, example, loss_head=run.options["loss"])
    run.give(format=form)
    run.made(target, opened.bytes, files)


def _check_options(run: Run, form: str) -> None:
    """An option of the other format would be without effect."""
    given = ("opset", "weights") if form == "mxnet" else ("loss",)
    for name in given:
        if run.options[name] is not None:
            other = "ONNX" if form == "mxnet" else "files of MXNet"
            raise Refusal(f"--{name} is for {other}, and {run.options['output']} is written as {form}; see --format")


def _to_onnx(run: Run, opened: Opened, output: str, example: Any) -> None:
    import gluon_compress as gc

    from ..records import record_of_network
    weights = run.options["weights"]
    if weights is None and record_of_network(opened.net) is None:
        weights = earlier_records(opened).get("scales")
    gc.export.to_onnx(opened.net, output, example, opset=run.options["opset"],
                      weights=None if weights == "float" else weights, verify=run.options["verify"],
                      metadata={"trained_on": opened.trained_on} if opened.trained_on else None)
