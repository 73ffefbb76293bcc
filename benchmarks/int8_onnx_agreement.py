"""Whether int8 ONNX files compute what our int8 networks do, in ONNX Runtime and OpenVINO.

    python benchmarks/int8_onnx_agreement.py              # the shipped networks, all test images: twenty minutes
    python benchmarks/int8_onnx_agreement.py --zoo        # networks of two zoos with random weights: half an hour
    python benchmarks/int8_onnx_agreement.py --zoo --only gluon/alexnet

The shipped networks are quantized as in int8_accuracy.py (the default method, the first draw of calibration images).
Classes are compared image by image with those of our kernels and of the simulated network; the accuracy is beside it.

The networks of zoos have random weights, with BatchNorm statistics of random images, and are compared on other random
images. "difference" is the root mean square of the difference from the simulated network, by the outputs' deviation;
beside it what quantization itself makes of fp32, and the share of the network's integer layers that the engine runs on
integers. Results: ``results/int8_onnx_agreement.json`` and ``.txt``, with ``--zoo`` ``int8_onnx_zoo``.
"""
import json
import tempfile
from pathlib import Path

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx
import numpy as np
import zoos
from gluon_compress.pruning.channels.batch_norm import reestimate_batch_norm
from gluon_compress.quantization import quantize
from gluon_compress.tables import format_table
from int8_accuracy import calibration_images, classes, labels, load
from int8_onnx_engines import classes_of, onnx_runtime, openvino_
from recording import RESULTS, describe_machine, write_result

ENGINES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
ZOO = ("gluon/alexnet", "gluon/vgg11_bn", "gluon/squeezenet1.1", "gluon/densenet121", "gluon/inceptionv3",
       "gluon/mobilenet0.25", "gluon/mobilenetv2_0.25", "gluon/resnet18_v1", "gluon/resnet18_v2", "gluon/resnet50_v1",
       "gluoncv/resnet18_v1b", "gluoncv/se_resnet18_v1", "gluoncv/resnext50_32x4d", "gluoncv/resnest14",
       "gluoncv/shufflenet_v1", "gluoncv/googlenet", "gluoncv/xception", "gluoncv/mobilenetv3_small",
       "gluoncv/cifar_resnet20_v1", "gluoncv/cifar_resnext29_32x4d", "gluoncv/darknet53", "gluoncv/dla34",
       "gluoncv/hrnet_w18_small_v1_c", "gluoncv/residualattentionnet56", "gluoncv/cifar_wideresnet16_10")
CALIBRATION, TEST, AT_ONCE = 16, 32, 8  # images


def shipped(name, folder):
    """Accuracy of fp32, ours, simulated and both engines; agreement of the engines with ours and simulated."""
    net, train, test, resized = load(name)
    truth, found = labels(test), {"fp32": classes(net, test)}
    int8 = quantize(net, calibration_images(train, 0, resized), progress=False)
    found["ours"], found["simulated"] = classes(int8, test), classes(int8.quantized.network(simulate=True), test)
    example = next(iter(test))[0]
    file = gc.export.to_onnx(int8, folder / f"{name}.onnx", example)
    found.update((engine, classes(gc.export.engine(file, engine), test)) for engine in ENGINES)
    return {"images": len(truth), "accuracy": {key: float((value == truth).mean()) for key, value in found.items()},
            "agreement": {f"{one}, {other}": float((found[one] == found[other]).mean())
                          for one, other in (("fp32", "ours"), ("simulated", "ours"), *(
                              (engine, ours) for engine in ENGINES for ours in ("ours", "simulated")))}}


def of_zoo(key, folder):
    """Differences and agreement on random images, and how many layers run on integers."""
    net, example = zoos.make(key)
    size = example.shape[2]
    images = mx.nd.array(np.random.default_rng(0).normal(size=(CALIBRATION + TEST, 3, size, size)))
    if any(name.endswith("running_mean") for name in net.collect_params()):
        reestimate_batch_norm(net, batches(images[:CALIBRATION]), progress=False)
    int8 = quantize(net, batches(images[:CALIBRATION]), method="minmax", progress=False)
    file = gc.export.to_onnx(int8, folder / "net.onnx", images[:2], verify=False)
    test = batches(images[CALIBRATION:])
    found = {"fp32": outputs(net, test), "ours": outputs(int8, test),
             "simulated": outputs(int8.quantized.network(simulate=True), test)}
    found.update((engine, outputs(gc.export.engine(file, engine), test)) for engine in ENGINES)
    expected = found["simulated"]
    deviation = expected.std()
    result = {"layers": len(int8.record.layers), "bytes": file.stat().st_size}
    for name, value in found.items():
        result[name] = {"difference": float(np.sqrt(np.mean((value - expected) ** 2)) / deviation),
                        "agreement": float((value.argmax(axis=1) == expected.argmax(axis=1)).mean())}
    for engine, title in ENGINES.items():
        _, operators = (onnx_runtime if engine == "onnxruntime" else openvino_)(file, images[:AT_ONCE].asnumpy())
        result[engine]["classes"] = classes_of(title, operators)
    return result


def batches(images):
    return [images[start:start + AT_ONCE] for start in range(0, len(images), AT_ONCE)]


def outputs(net, data):
    """(images, ...): the first output, flattened."""
    found = []
    for batch in data:
        output = net(batch)
        output = output[0] if isinstance(output, (list, tuple)) else output
        found.append(output.asnumpy().reshape(len(batch), -1))
    return np.concatenate(found)


def table_of_shipped(rows):
    def share(value):
        return f"{100 * value:.2f} %"
    lines = [(name, *(share(row["accuracy"][key]) for key in ("fp32", "ours", "simulated", *ENGINES)),
              *(share(row["agreement"][f"{engine}, {ours}"]) for engine in ENGINES for ours in ("ours", "simulated")))
             for name, row in rows.items()]
    agreement = [f"{engine} = {ours}" for engine in ENGINES.values() for ours in ("ours", "simulated")]
    return format_table(("network", "fp32", "ours", "simulated", *ENGINES.values(), *agreement), lines)


def table_of_zoo(rows):
    lines = []
    for name, row in rows.items():
        if "failed" in row:
            lines.append((name, row["failed"][:90]))
            continue
        line = [name, row["layers"], *(f"{100 * row[key]['difference']:.1f} %" for key in ("fp32", "ours"))]
        for engine in ENGINES:
            entry = row[engine]
            line += [f"{100 * entry['difference']:.1f} %", f"{100 * entry['agreement']:.0f} %",
                     entry["classes"].get("layers on integers", 0), entry["classes"].get("layers in floats", 0)]
        lines.append(line)
    heads = [f"{title}: {what}" for title in ENGINES.values() for what in ("difference", "same class", "int", "float")]
    heads = ("network", "integer layers", "fp32", "our kernels", *heads)
    return format_table(heads, [(*line, *[""] * (len(heads) - len(line))) for line in lines])


@click.command(help=__doc__.split("\n")[0])
@click.option("--zoo", is_flag=True, help="Networks of two zoos with random weights.")
@click.option("--only", multiple=True, help="These networks.")
@click.option("--again", is_flag=True, help="Measure again what is there.")
def main(zoo, only, again):
    file = RESULTS / ("int8_onnx_zoo.json" if zoo else "int8_onnx_agreement.json")
    result = json.loads(file.read_text()) if file.exists() else {"rows": {}}
    for name in only or (ZOO if zoo else gc.params.names()):
        if name not in result["rows"] or again:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    result["rows"][name] = (of_zoo if zoo else shipped)(name, Path(folder))
                except gc.errors.NetworkError as error:
                    result["rows"][name] = {"failed": str(error)}
            result["machine"] = describe_machine()
            click.echo(f"{name}: {json.dumps(result['rows'][name])[:600]}")
            write(file, result, zoo)
    click.echo(write(file, result, zoo))


def write(file, result, zoo):
    text = (table_of_zoo if zoo else table_of_shipped)(result["rows"]) + f"\n\n({result['machine']['cpu']})\n"
    write_result(file, result, text)
    return text


if __name__ == "__main__":
    main()
