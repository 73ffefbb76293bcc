"""Depthwise networks with real weights on integers: how far the outputs are off fp32, beside NNCF's.

    /other/python benchmarks/depthwise_networks.py FOLDER
    python benchmarks/int8_depthwise.py FOLDER /other/python

The other interpreter has `tflite`, `openvino` and `nncf`. For each network: the signal-to-noise ratio of the outputs
and how often the largest one is the same, on 64 test images, after calibration on 64 training images, the same for all.
The images are CIFAR-10's, enlarged, of 0 to 255; networks prepare them inside.
Results: ``results/int8_depthwise.json`` and ``.txt``.
"""
import json
import subprocess
import sys
from pathlib import Path

import gluon_compress as gc  # before mxnet

import mxnet as mx  # noqa: I001
import numpy as np
import recording
from depthwise_networks import NETWORKS
from gluon_compress.datasets import cifar10
from gluon_compress.quantization import quantize
from gluon_compress.tables import format_table

COUNT, BATCH = 64, 8
RESULTS = recording.RESULTS / "int8_depthwise.json"
WAYS = {"ours": {}, "ours, simulated": {"simulate": True}, "ours, not equalized": {"equalize": False}}


def symbol_block(path):
    """The network of a file of depthwise_networks.py, for images of 0 to 255."""
    content = np.load(path)
    values, entries = {}, []

    def parameter(name, array):
        values[name] = mx.nd.array(array)
        return mx.sym.var(name, shape=array.shape)

    for position, operator in enumerate(json.loads(str(content["operators"]))):
        arrays = {name.partition(".")[2]: content[name] for name in content.files if name.startswith(f"{position}.")}
        inputs = [entries[source] if source >= 0 else mx.sym.var("data") for source in operator["inputs"]]
        entries.append(OPERATORS[operator["op"]](f"{operator['op']}{position}", inputs, operator, arrays, parameter))
    net = mx.gluon.SymbolBlock(entries[-1], [mx.sym.var("data")])
    for name, p in net.collect_params().items():
        p._load_init(values[name], mx.cpu())
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def _convolution(name, inputs, operator, arrays, parameter):
    settings = {"kernel": operator["kernel"], "stride": (operator["stride"],) * 2, "pad": (operator["pad"],) * 2,
                "num_filter": operator["filters"], "num_group": operator["groups"], "no_bias": "bias" not in arrays}
    return mx.sym.Convolution(inputs[0], *(parameter(f"{name}_{what}", array) for what, array in arrays.items()),
                              name=name, **settings)


def _batch_norm(name, inputs, operator, arrays, parameter):
    names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}
    return mx.sym.BatchNorm(inputs[0], *(parameter(f"{name}_{names[what]}", array) for what, array in arrays.items()),
                            name=name, eps=1e-5, fix_gamma=False, use_global_stats=True)


def _standardize(name, inputs, operator, arrays, parameter):
    mean, deviation = (parameter(f"{name}_{what}", arrays[what].reshape(1, 3, 1, 1)) for what in ("mean", "deviation"))
    return mx.sym.broadcast_div(mx.sym.broadcast_sub(inputs[0], mean), deviation)


OPERATORS = {
    "convolution": _convolution, "batch_norm": _batch_norm, "standardize": _standardize,
    "scale": lambda name, inputs, operator, *_: (inputs[0] - operator["minus"]) * operator["times"],
    "prelu": lambda name, inputs, operator, arrays, parameter: mx.sym.LeakyReLU(
        inputs[0], parameter(f"{name}_gamma", arrays["slope"]), act_type="prelu", name=name),
    "relu6": lambda name, inputs, *_: mx.sym.clip(inputs[0], 0, 6, name=name),
    "add": lambda name, inputs, *_: mx.sym.elemwise_add(*inputs, name=name),
    "mean": lambda name, inputs, *_: mx.sym.Pooling(inputs[0], global_pool=True, pool_type="avg", kernel=(1, 1),
                                                    name=name),
    "flatten": lambda name, inputs, *_: mx.sym.Flatten(inputs[0], name=name),
    "dense": lambda name, inputs, operator, arrays, parameter: mx.sym.FullyConnected(
        inputs[0], parameter(f"{name}_weight", arrays["weight"]), parameter(f"{name}_bias", arrays["bias"]),
        num_hidden=operator["units"], name=name)}


def images(size, count, train):
    """CIFAR-10 images of 0 to 255, enlarged; (count, 3, size, size) float32."""
    data = cifar10()[0 if train else 1]
    found = [mx.image.imresize(data[index][0], size, size, interp=2).asnumpy() for index in range(count)]
    return np.stack(found).transpose(0, 3, 1, 2).astype(np.float32)


def outputs(net, data):
    return np.concatenate([net(mx.nd.array(batch)).asnumpy() for batch in np.split(data, len(data) // BATCH)])


def compared(found, expected):
    """{"snr": dB, "top1": share of images with the same largest output}."""
    found = found.reshape(expected.shape)
    ratio = np.square(expected).sum() / np.square(found - expected).sum()
    same = found.argmax(axis=1) == expected.argmax(axis=1)
    return {"snr": round(10 * float(np.log10(ratio)), 2), "top1": round(float(same.mean()), 4)}


def measure(name, folder, interpreter):
    """{way: what :func:`compared` says}."""
    net = symbol_block(folder / f"{name}.npz")
    calibration, test = (images(NETWORKS[name], COUNT, train) for train in (True, False))
    expected = outputs(net, test)
    batches = [mx.nd.array(batch) for batch in np.split(calibration, COUNT // BATCH)]
    found = {way: compared(outputs(quantize(net, batches, progress=False, **settings), test), expected)
             for way, settings in WAYS.items()}
    np.savez(folder / "images.npz", calibration=calibration, test=test)
    command = [interpreter, Path(__file__).with_name("depthwise_nncf.py"), folder / f"{name}.npz",
               folder / "images.npz", folder / f"{name}_nncf.npz"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with np.load(folder / f"{name}_nncf.npz") as file:
        return {**found, **{f"OpenVINO, {way}": compared(file[way], expected) for way in file.files}}


def text(conditions, results):
    """The table, with what it was measured on."""
    rows = [(name, way, f"{each['snr']:.1f}", f"{100 * each['top1']:.1f} %")
            for name, found in results.items() for way, each in found.items()]
    return (f"{format_table(('network', 'system', 'SNR, dB', 'same top-1'), rows)}\n"
            f"(outputs beside fp32 on {conditions['images']} test images, {conditions['images']} others for "
            f"calibration; {'with' if conditions['vnni'] else 'without'} VNNI; weights as published)")


def main():
    folder, interpreter = Path(sys.argv[1]), sys.argv[2]
    results = {name: measure(name, folder, interpreter) for name in NETWORKS}
    conditions = {"mxnet": mx.__version__, "vnni": "vnni" in " ".join(recording.cpu_flags()), "images": COUNT,
                  "runtime": gc.runtime.status().to_dict()}
    printed = text(conditions, results)
    recording.write_result(RESULTS, {"conditions": conditions, "results": results}, printed)
    print(f"{printed}\nMade: {RESULTS} and .txt")


if __name__ == "__main__":
    main()
