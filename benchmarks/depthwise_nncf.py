"""OpenVINO's side of int8_depthwise.py, in an interpreter with `openvino` and `nncf`.

    python depthwise_nncf.py NETWORK.npz IMAGES.npz OUTPUTS.npz

The images are "calibration" and "test", of 0 to 255; the outputs those of the test images: "fp32", "nncf"
(nncf.quantize as it comes) and "nncf mixed" (its preset with asymmetric activations, which suits other activations than
ReLU).
"""
import json
import sys

import nncf
import numpy as np
import openvino as ov
from openvino import opset13 as ops


def model_of(path, shape):
    """The network of a file of depthwise_networks.py."""
    content = np.load(path)
    image = ops.parameter([-1, *shape], np.float32, name="data")
    found = []
    for position, operator in enumerate(json.loads(str(content["operators"]))):
        arrays = {name.partition(".")[2]: content[name] for name in content.files if name.startswith(f"{position}.")}
        inputs = [found[source] if source >= 0 else image for source in operator["inputs"]]
        found.append(OPERATORS[operator["op"]](inputs, operator, arrays))
    return ov.Model([found[-1]], [image], "network")


def row(array):
    return ops.constant(array.reshape(1, -1, 1, 1))


def convolution(inputs, operator, arrays):
    weight, groups = arrays["weight"], operator["groups"]
    settings = [[operator["stride"]] * 2, [operator["pad"]] * 2, [operator["pad"]] * 2, [1, 1]]
    if groups > 1:
        weight = weight.reshape(groups, -1, *weight.shape[1:])
    function = ops.group_convolution if groups > 1 else ops.convolution
    output = function(inputs[0], ops.constant(weight), *settings)
    return ops.add(output, row(arrays["bias"])) if "bias" in arrays else output


def batch_norm(inputs, operator, arrays):
    return ops.batch_norm_inference(inputs[0], *(ops.constant(arrays[name]) for name in (
        "weight", "bias", "running_mean", "running_var")), epsilon=1e-5)


OPERATORS = {
    "convolution": convolution, "batch_norm": batch_norm,
    "scale": lambda inputs, operator, arrays: ops.multiply(
        ops.subtract(inputs[0], np.float32(operator["minus"])), np.float32(operator["times"])),
    "standardize": lambda inputs, operator, arrays: ops.divide(
        ops.subtract(inputs[0], row(arrays["mean"])), row(arrays["deviation"])),
    "prelu": lambda inputs, operator, arrays: ops.prelu(inputs[0], ops.constant(arrays["slope"])),
    "relu6": lambda inputs, operator, arrays: ops.clamp(inputs[0], 0, 6),
    "add": lambda inputs, operator, arrays: ops.add(*inputs),
    "mean": lambda inputs, operator, arrays: ops.reduce_mean(inputs[0], [2, 3], True),
    "flatten": lambda inputs, operator, arrays: ops.reshape(inputs[0], [0, -1], True),
    "dense": lambda inputs, operator, arrays: ops.add(ops.matmul(
        ops.reshape(inputs[0], [0, -1], True), ops.constant(arrays["weight"]), False, True),
        ops.constant(arrays["bias"].reshape(1, -1)))}


def outputs_of(model, images, precision="f32"):
    compiled = ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    return np.concatenate([compiled(batch)[0] for batch in np.split(images, len(images) // 8)])


def main():
    network, images, outputs = sys.argv[1:]
    with np.load(images) as file:
        calibration, test = file["calibration"], file["test"]
    model = model_of(network, test.shape[1:])
    found = {"fp32": outputs_of(model, test)}
    batches = np.split(calibration, len(calibration))  # one by one, as NNCF wants them
    for name, preset in (("nncf", None), ("nncf mixed", nncf.QuantizationPreset.MIXED)):
        quantized = nncf.quantize(model_of(network, test.shape[1:]), nncf.Dataset(batches), preset=preset,
                                  subset_size=len(batches))
        found[name] = outputs_of(quantized, test)
    np.savez(outputs, **found)


if __name__ == "__main__":
    main()
