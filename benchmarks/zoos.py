"""The networks of two model zoos with random weights: which, how large an image they need, how to build them.

The 34 of mxnet.gluon.model_zoo.vision, and gluoncv's for classification, segmentation and detection. Nothing is
downloaded. A key is "gluon/name" or "gluoncv/name".
"""
import json
import math
import multiprocessing
import os
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
from gluon_compress.network import parameters  # before mxnet: see gluon_compress/runtime

import mxnet as mx  # noqa: I001
import numpy as np
import recording
from mxnet.gluon.model_zoo import model_store, vision
from tqdm import tqdm

PROPOSALS = 16  # regions that the later stages of a detector look at, instead of 300 or 1000
LEFT_OUT = {    # part of gluoncv's module: why its networks are not here
    "action_recognition": "video", "simple_pose": "poses", "alpha_pose": "poses", "siamrpn": "tracking",
    "monodepthv2": "depth", "quantized": "int8 graphs, which exist only together with their weights"}
SEGMENTATION = ("fcn", "pspnet", "deeplabv3", "deeplabv3b_plus", "icnet", "fastscnn", "danet")
DETECTION = ("ssd", "rcnn", "yolo3", "center_net")
DATA_SETS = r"_(voc|coco|ade|citys|mhpv1)$"
CUSTOM = "built for classes of one's own, like the network of that name for a public data set"


def gluoncv_models():
    """{name: constructor} of all that gluoncv has for MXNet."""
    np.float, np.int = float, int  # gluoncv still reads them; NumPy removed them in 1.24
    from gluoncv.model_zoo.model_zoo import _models
    return _models


def choose():
    """``(chosen, left_out)``: {"zoo/name": [names of the same network for other data sets]}, {name: why not}."""
    chosen = {f"gluon/{name}": [] for name in sorted(model_store._model_sha1)}
    left_out, first = {}, {}
    for name, constructor in gluoncv_models().items():
        module = constructor.__module__.split(".")
        reason = next((LEFT_OUT[part] for part in module if part in LEFT_OUT), None)
        if "custom" in name.split("_"):
            reason = reason or CUSTOM
        network = re.sub(DATA_SETS, "", name)
        if reason is not None:
            left_out[name] = reason
        elif network in first:
            chosen[first[network]].append(name)
        else:
            first[network] = f"gluoncv/{name}"
            chosen[first[network]] = []
    return chosen, left_out


def task(key):
    """"classification", "segmentation" or "detection"."""
    zoo, name = key.split("/")
    if zoo == "gluon":
        return "classification"
    module = gluoncv_models()[name].__module__.split(".")
    if set(module) & set(SEGMENTATION) or re.fullmatch("hrnet_.*_s", name):
        return "segmentation"
    return "detection" if set(module) & set(DETECTION) else "classification"


def image_size(key):
    """The usual size for classification and SSD, whose dense layers and anchors need it; less where less will do."""
    name = key.split("/")[1]
    if task(key) == "classification":
        return 32 if name.startswith("cifar_") else 299 if name.startswith(("inception", "xception")) else 224
    if name.startswith("ssd_"):
        return int(name.split("_")[1])
    return 96 if task(key) == "segmentation" else 128


def make(key):
    """The network with random weights, without gradients; and an example."""
    zoo, name = key.split("/")
    if zoo == "gluon":
        net = vision.get_model(name)
    else:
        arguments = {"pretrained": False}
        if task(key) != "classification" and not name.startswith("hrnet_"):
            arguments["pretrained_base"] = False
            if task(key) == "segmentation":
                arguments["crop_size"] = image_size(key)
        net = gluoncv_models()[name](**arguments)
    if name.startswith(("ssd_", "yolo3_")):
        net.set_nms(-1)
    if hasattr(net, "rpn"):
        net.rpn._test_post_nms = net._rpn_test_post_nms = net._rcnn_max_dets = PROPOSALS
        # Regions from the finest level of a feature pyramid only: gluoncv marks those of other levels by batch -1, for
        # which ROIAlign on a CPU reads memory that is not the tensor's, so that no two runs agree.
        net._max_stage = net._min_stage
    net.collect_params().setattr("grad_req", "null")
    net.initialize(force_reinit=True)
    mx.random.seed(0)
    example = mx.nd.random.normal(shape=(1, 3, image_size(key), image_size(key)))
    run(net, example)  # now the shapes are known
    for parameter in parameters(net).values():
        if not isinstance(parameter, mx.gluon.Constant):
            parameter.set_data(random_values(parameter.name, parameter.shape))
    return net, example


def random_values(name, shape):
    """Values that keep the signal at a size that float32 can hold, over hundreds of layers."""
    if len(shape) > 1:
        return mx.nd.random.normal(0, math.sqrt(2 / math.prod(shape[1:])), shape)  # He et al. 2015
    low, high = {"gamma": (0.5, 1), "var": (0.5, 1.5)}.get(name.rpartition("_")[2], (-0.3, 0.3))
    return mx.nd.random.uniform(low, high, shape)


def run(net, *inputs):
    """Its outputs, however nested, as a list of NumPy arrays."""
    found = []

    def collect(output):
        if isinstance(output, (list, tuple)):
            for part in output:
                collect(part)
        else:
            found.append(output.asnumpy())
    collect(net(*inputs))
    return found


def measured_apart(measure, key, seconds):
    """The row that ``measure(key)`` gives in a new process, whose end is part of the result."""
    context = multiprocessing.get_context("fork")  # the imports take longer than many a network
    receiver, sender = context.Pipe(duplex=False)

    def send_row():
        with redirect_stdout(None):  # gluoncv prints
            sender.send(json.dumps(measure(key)))
    process = context.Process(target=send_row)
    process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            process.kill()
            return {"error": f"not done after {seconds} s"}
        return json.loads(receiver.recv())
    except EOFError:
        process.join()
        return {"error": f"the process ended with {process.exitcode}"}
    finally:
        process.join()


# All networks, one after the other --------------------------------------------------------------------------------

Rows = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Survey:
    """What a script measures of every network.

    Attributes
    ----------
    file : Path
        Of the rows, as JSON; the ``.txt`` beside it is the table.
    choose : callable
        As :func:`choose`.
    measure : callable
        ``measure(key)`` gives the row of a network, in a process of its own that may take so many ``seconds``.
    good : callable
        ``good(row)``: whether nothing failed, so that ``--failed`` need not measure it once more.
    content, table : callable
        ``(rows, chosen, left_out)`` give what the JSON file holds beside the rows, and the text of the table.
    """

    file: Path
    choose: Callable[[], tuple[dict[str, list[str]], dict[str, str]]]
    measure: Callable[[str], dict[str, Any]]
    seconds: int
    good: Callable[[dict[str, Any]], bool]
    content: Callable[[Rows, dict[str, list[str]], dict[str, str]], dict[str, Any]]
    table: Callable[[Rows, dict[str, list[str]], dict[str, str]], str]

    def write(self, rows: Rows) -> str:
        """Both files; the text of the table."""
        everything = rows, *self.choose()
        text = self.table(*everything)
        recording.write_result(self.file, {**self.content(*everything), "rows": rows}, text)
        return text

    def run(self, only: str, again: bool, failed: bool) -> str:
        """Measure the networks whose key fits the pattern ``only``, but for those that are measured already."""
        os.environ["MXNET_GLUON_REPO"] = "no-downloads:/"  # whatever a constructor tries, it fails at once
        rows = json.loads(self.file.read_text())["rows"] if self.file.exists() else {}
        chosen, _ = self.choose()
        wanted = [key for key in chosen if fnmatch(key, only)]
        if not wanted:
            raise click.BadParameter(f"no network matches {only!r}; there are {', '.join(chosen)}", param_hint="--only")
        for key in tqdm([key for key in wanted if again or key not in rows or failed and not self.good(rows[key])],
                        unit="network"):
            rows[key] = measured_apart(self.measure, key, self.seconds)
            self.write(rows)
        return self.write(rows)


def command(survey: Survey, text: str) -> click.Command:
    """The command line of a script with this docstring."""
    @click.command(help=text.split("\n")[0])
    @click.option("--only", default="*", help='Pattern of "zoo/name", such as "gluoncv/ssd_*".')
    @click.option("--again", is_flag=True, help="Measure also what has been measured.")
    @click.option("--failed", is_flag=True, help="Measure also what failed or disagreed.")
    def main(only: str, again: bool, failed: bool) -> None:
        click.echo(survey.run(only, again, failed))
        click.echo(f"Made: {survey.file} and .txt")
    return main
