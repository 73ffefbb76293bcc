"""Every network of two model zoos as ONNX: does it leave, and do ONNX Runtime and OpenVINO compute what MXNet does?

    python benchmarks/onnx_zoo.py                       # all: about two hours on one core; resumable
    python benchmarks/onnx_zoo.py --only "gluon/*"      # those
    python benchmarks/onnx_zoo.py --only "*/se_*" --again   # measure them once more

The 34 networks of mxnet.gluon.model_zoo.vision, and what gluoncv builds without a download: classification,
segmentation, detection, poses, video, depth, tracking. The weights are random, such that the signal keeps its size
(He et al. 2015; gamma between 0.5 and 1; mean and variance of BatchNorm from a pass in training mode, where the network
has one without labels; a twentieth in the last layers of detectors, whose scores would all be 1 otherwise). Each is
measured in a process of its own, which may fail or crash: then its row says so. Rows are added to
``results/onnx_zoo.json`` as they are measured; ``.txt`` is the table.

The difference is the largest of an output, relative to the largest number of that output, at one sample and, where the
file takes any number, at two. SSD and YOLO are taken without their last step, which suppresses overlapping boxes: it
sorts, and scores that are equal but for rounding would change places. tests/test_onnx_detection.py has that step.
"""
import re
import tempfile
import time
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx
import numpy as np
import onnx
import recording
import zoos
from gluon_compress.network import parameters
from gluon_compress.network.graph import Graph
from gluon_compress.network.misfits import shorten
from gluon_compress.tables import format_table

RESULTS = recording.RESULTS / "onnx_zoo.json"
TOLERANCE = 1e-4
TIME_LIMIT = 1800  # seconds for one network
ENGINES = ("onnxruntime", "openvino")
# the shape of an example, by what the names of networks of gluoncv begin with, of those that zoos.py leaves out
SHAPES = {"simple_pose": [(1, 3, 128, 96)], "alpha_pose": [(1, 3, 128, 96)], "mobile_pose": [(1, 3, 128, 96)],
          "siamrpn": [(1, 3, 127, 127), (1, 3, 287, 287)], "monodepth2": [(1, 3, 96, 128)],
          "c3d": [(1, 3, 16, 112, 112)], "p3d": [(1, 3, 16, 112, 112)], "r2plus1d": [(1, 3, 8, 112, 112)],
          "i3d_inception": [(1, 3, 32, 224, 224)], "i3d": [(1, 3, 16, 64, 64)],
          "slowfast_4x16": [(1, 3, 36, 64, 64)], "slowfast_8x8": [(1, 3, 40, 64, 64)],
          "slowfast_16x8": [(1, 3, 80, 64, 64)], "inceptionv3": [(1, 3, 299, 299)], "inceptionv1": [(1, 3, 224, 224)],
          "vgg16": [(1, 3, 224, 224)], "resnet": [(1, 3, 64, 64)]}
HEADS = re.compile(r"rpn|predictor|_score|yolooutput|centernet|heatmap")  # of detectors: large scores all become 1
HEAD = 0.05
LEAST_VARIANCE = 0.01
EARLY = "as in zoos.py"  # the note on rows that were measured before normalize()
KINDS = {"video": "video", "poses": "poses", "depth": "depth", "tracking": "tracking"}


# One network, in a process of its own -----------------------------------------------------------------------------

def choose():
    """``(chosen, left_out)``: as zoos.choose(), with those that are no networks for single images."""
    chosen, left_out = zoos.choose()
    further = {f"gluoncv/{name}": [] for name, reason in left_out.items() if reason in KINDS}
    return {**chosen, **further}, {name: reason for name, reason in left_out.items() if reason not in KINDS}


def kind_of(key, left_out_of_zoos):
    return left_out_of_zoos.get(key.split("/")[1]) or zoos.task(key)


def make(key):
    """``(network, example)``, of random weights with which the signal keeps its size."""
    net, example = random_network(key)
    for parameter in parameters(net).values():
        if HEADS.search(parameter.name) and parameter.name.endswith("weight"):
            parameter.set_data(parameter.data() * HEAD)
    normalize(net, example)
    return net, example


def normalize(net, example):
    """Give BatchNorm the mean and variance of a batch, by a pass in training mode, where a network has one."""
    layers = []
    net.apply(lambda block: layers.append(block) if isinstance(block, mx.gluon.nn.BatchNorm) else None)
    before = [dict(layer._kwargs) for layer in layers]
    statistics = {parameter: parameter.data().copy() for parameter in net.collect_params(".*running_.*").values()}
    for layer in layers:
        layer._kwargs["momentum"] = 0
    try:
        with mx.autograd.train_mode():
            net(*(mx.nd.concat(*[mx.nd.random.normal(shape=value.shape) for _ in range(2)], dim=0)
                  for value in example))
        mx.nd.waitall()
    except (TypeError, ValueError, AssertionError, AttributeError, mx.MXNetError):  # detectors want labels there
        for parameter, value in statistics.items():
            parameter.set_data(value)
    for parameter in statistics:
        if parameter.name.endswith("running_var"):
            parameter.set_data(mx.nd.maximum(parameter.data(), LEAST_VARIANCE))
    for layer, settings in zip(layers, before):
        layer._kwargs.update(settings)


def random_network(key):
    name = key.split("/")[1]
    if name not in zoos.choose()[1]:
        net, example = zoos.make(key)
        return net, (example,)
    constructor = zoos.gluoncv_models()[name]
    try:
        net = constructor(pretrained=False, pretrained_base=False)
    except TypeError:
        net = constructor(pretrained=False)
    net.collect_params().setattr("grad_req", "null")
    net.initialize(force_reinit=True)
    mx.random.seed(0)
    shapes = next(shapes for beginning, shapes in SHAPES.items() if name.startswith(beginning))
    example = tuple(mx.nd.random.normal(shape=shape) for shape in shapes)
    net(*example)
    for parameter in parameters(net).values():
        if not isinstance(parameter, mx.gluon.Constant):
            parameter.set_data(zoos.random_values(parameter.name, parameter.shape))
    return net, example


def measure(key):
    """The row of one network; ``error`` says at which step it failed."""
    row = {}
    step = "building"
    try:
        with mx.name.NameManager():
            net, example = make(key)
        row["normalized"] = True  # of rows from before normalize() it is False
        row["shapes"] = [value.shape for value in example]
        step = "tracing"
        operators = Counter(node.operator for node in Graph(net, example).nodes if node.operator != "null")
        row.update(operators=len(operators), nodes=sum(operators.values()))
        step = "writing"
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a fixed batch: the table tells
            path, started = Path(folder) / "net.onnx", time.perf_counter()
            gc.export.to_onnx(net, path, example, verify=False)
            row.update(seconds=round(time.perf_counter() - started, 2), **describe(path))
            step = "running it in MXNet"
            batches = [example, tuple(mx.nd.concat(value, value * 0.5, dim=0) for value in example)][:1 + row["batch"]]
            expected = [zoos.run(net, *batch) for batch in batches]
            row["outputs"] = [list(value.shape) for value in expected[0]]
            row["deviation"] = max(float(value.std()) for value in expected[0])
            row["one bit"] = difference(zoos.run(net, *map(nudged, example)), expected[0])
            for engine in ENGINES:
                row[engine] = in_engine(engine, path, batches, expected)
    except Exception as error:  # a row of the table, whatever it is
        row["error"] = f"{step}: {type(error).__name__}: {shorten(error)[:400]}"
    return row


def nudged(value):
    """Each number moved to the next one that float32 has, upward or downward by chance: as much as a rounding does."""
    values = value.asnumpy()
    if values.dtype != np.float32:
        return value
    towards = np.where(np.random.RandomState(0).rand(*values.shape) < 0.5, -np.inf, np.inf).astype(np.float32)
    return mx.nd.array(np.nextafter(values, towards))


def describe(path):
    model = onnx.load(str(path))
    dynamic = any(length.dim_param for value in model.graph.input for length in value.type.tensor_type.shape.dim)
    return {"bytes": path.stat().st_size, "opset": model.opset_import[0].version, "onnx nodes": len(model.graph.node),
            "batch": dynamic}


def in_engine(engine, path, batches, expected):
    """``{"1": difference, "2": difference}`` by the number of samples, or what went wrong as text."""
    try:
        run = {"onnxruntime": open_onnxruntime, "openvino": open_openvino}[engine](path)
        return {str(len(batch[0])): difference(run([value.asnumpy() for value in batch]), wanted)
                for batch, wanted in zip(batches, expected)}
    except Exception as error:  # what an engine cannot do is a cell of the table
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def open_onnxruntime(path):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda arrays: session.run(None, dict(zip(names, arrays)))


def open_openvino(path):
    import openvino
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    return lambda arrays: list(compiled(arrays).values())


def difference(found, expected):
    """The largest, relative to the largest value of its output; NaN counts as infinite."""
    largest = 0.0
    for one, other in zip(found, expected, strict=True):
        if one.shape != other.shape:
            raise ValueError(f"an output of shape {one.shape} instead of {other.shape}")
        found_difference = float(np.abs(one.astype(np.float64) - other).max() / max(np.abs(other).max(), 1e-30))
        largest = max(largest, found_difference if found_difference == found_difference else float("inf"))
    return largest


# The table --------------------------------------------------------------------------------------------------------

HEADER = ("network", "example", "operators", "ONNX nodes", "opset", "batch", "MB", "in ONNX Runtime", "in OpenVINO",
          "s", "note")


def agrees(row, engine):
    found = row.get(engine)
    return isinstance(found, dict) and all(value < TOLERANCE for value in found.values())


def good(row):
    return all(agrees(row, engine) for engine in ENGINES)


def table(rows, chosen, left_out):
    unfit = zoos.choose()[1]
    kinds = {key: f"{key.split('/')[0]}, {kind_of(key, unfit)}" for key in chosen}
    lines = []
    for kind in dict.fromkeys(kinds.values()):
        found = [key for key in chosen if key in rows and kinds[key] == kind]
        if found:
            count = {engine: sum(agrees(rows[key], engine) for key in found) for engine in ENGINES}
            lines += [f"{kind}: {sum('bytes' in rows[key] for key in found)} of {len(found)} leave, "
                      f"{count['onnxruntime']} agree in ONNX Runtime, {count['openvino']} in OpenVINO", "",
                      format_table(HEADER, [cells(key, rows[key], chosen[key]) for key in found]), ""]
    built = [row for row in rows.values() if "nodes" in row]
    agree = {engine: sum(agrees(row, engine) for row in built) for engine in ENGINES}
    lines[:0] = [f"Of {len(built)} networks that build without a download and trace, "
                 f"{sum('bytes' in row for row in built)} leave; {agree['onnxruntime']} agree to {TOLERANCE:g} in ONNX "
                 f"Runtime, {agree['openvino']} in OpenVINO.", ""]
    return "\n".join([*lines, *notes(rows, chosen, left_out), ""])


def notes(rows, chosen, left_out):
    versions = ", ".join(f"{name} {version(name)}" for name in ("onnx", *ENGINES, "numpy"))
    missing = [key for key in chosen if key not in rows]
    found = [
        f"{versions}; random weights, float32, one thread; OpenVINO told to compute in float32.",
        "Differences: the largest of an output, relative to its largest value, at one sample / at two.",
        "one bit: how far MXNet's own outputs move, in that measure, when the numbers of the example move by their "
        "last bit; given where an engine does not agree.",
        "SSD and YOLO without the suppression of overlapping boxes; detectors with later stages look at "
        f"{zoos.PROPOSALS} regions, feature pyramids at those of the finest level.",
        "s: seconds of writing without the comparison, beside other work on the machine.",
        f"Left out: {len(left_out)} of gluoncv: " + "; ".join(
            f"{reason} ({count})" for reason, count in Counter(left_out.values()).most_common()) + ".",
        "Networks that differ in their data set only are one row, which names the others."]
    early = sum(not row.get("normalized", True) for row in rows.values())
    if early:
        found.append(f"{EARLY} ({early} rows): weights without normalize(): mean of BatchNorm between -0.3 and 0.3, "
                     "variance between 0.5 and 1.5; the last layers of detectors as all others.")
    return found + ([f"Still to be measured: {len(missing)} networks."] if missing else [])


def cells(key, row, others):
    remarks = [row["error"]] if "error" in row else []
    remarks += [f"{engine}: {row[engine]}" for engine in ENGINES if isinstance(row.get(engine), str)]
    if "one bit" in row and not all(agrees(row, engine) for engine in ENGINES):
        remarks.append(f"one bit: {row['one bit']:.0e}")
    if not row.get("normalized", True):
        remarks.append(EARLY)
    if others:
        remarks.append(f"stands for {', '.join(others)} too")
    shapes = ", ".join("x".join(map(str, shape)) for shape in row.get("shapes", ()))
    size = f"{row['bytes'] / 1e6:.1f}" if "bytes" in row else "-"
    batch = {True: "any", False: "fixed", None: "-"}[row.get("batch")]
    return (key.split("/")[1], shapes, row.get("operators", "-"), row.get("onnx nodes", "-"), row.get("opset", "-"),
            batch, size, *(shown(row.get(engine)) for engine in ENGINES), row.get("seconds", "-"), "; ".join(remarks))


def shown(found):
    return " / ".join(f"{value:.0e}" for value in found.values()) if isinstance(found, dict) else \
        "-" if found is None else "cannot"


def content(rows, chosen, left_out):
    return {"machine": recording.describe_machine(), "tolerance": TOLERANCE}


SURVEY = zoos.Survey(RESULTS, choose, measure, TIME_LIMIT, good, content, table)

if __name__ == "__main__":
    zoos.command(SURVEY, __doc__)()
