"""What int8_onnx.py asks of an interpreter with `onnxruntime`, `openvino` and `nncf`: their own int8 files, and times.

    python int8_onnx_engines.py references FOLDER     # of FOLDER/network.onnx and FOLDER/images.npy
    python int8_onnx_engines.py measure FOLDER        # prints a line of JSON

In a folder, ``ours.onnx`` is the file that :func:`gluon_compress.export.to_onnx` made. All files of an engine are open
in one process and compute in turn, a fraction of a second each, for a few rounds.
"""
import json
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from int8_speed_systems import (
    CALIBRATION_BATCHES, THREADS, answering, calibration, calibration_reader, images, quartiles)

BATCH, ROUNDS, SECONDS, WARM_UP = 8, 7, 0.25, 3
OURS = "ours.onnx"
FILES = {"OpenVINO": {"NNCF": "nncf.xml", "ours": OURS},
         "ONNX Runtime": {"its own, QDQ": "qdq.onnx", "its own, QOperator": "qoperator.onnx", "ours": OURS}}
LAYERS_ON_INTEGERS = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat")
LAYERS_IN_FLOATS = ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
RESHAPES = ("Reshape", "Flatten")  # move nothing
OPENVINO_LAYERS, OPENVINO_CONVERSIONS = ("Convolution", "FullyConnected", "MatMul"), ("Reorder", "Convert")


def references(folder):
    """What NNCF and ONNX Runtime's quantizer make of the same network with the same images, as they advise it."""
    import nncf
    import openvino
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
    quant_pre_process(str(folder / "network.onnx"), str(folder / "ready.onnx"), skip_symbolic_shape=True)
    for name, form in (("qdq", QuantFormat.QDQ), ("qoperator", QuantFormat.QOperator)):
        quantize_static(str(folder / "ready.onnx"), str(folder / f"{name}.onnx"), calibration_reader(folder),
                        quant_format=form, per_channel=True, activation_type=QuantType.QUInt8,
                        weight_type=QuantType.QInt8)
    data = nncf.Dataset([image[None] for batch in calibration(folder) for image in batch])
    model = openvino.Core().read_model(folder / "network.onnx")
    openvino.save_model(nncf.quantize(model, data, subset_size=8 * CALIBRATION_BATCHES), folder / "nncf.xml")


def onnx_runtime(file, data):
    """``(a pass, {operator: how often it runs})``."""
    import onnx
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = THREADS, 3
    options.optimized_model_filepath = str(file.with_suffix(".optimized"))
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    operators = Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    return lambda: session.run(None, {"data": data})[0], operators


def openvino_(file, data):
    import openvino
    model = openvino.Core().read_model(file)
    model.reshape(data.shape)
    compiled = openvino.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1,
                                                     "INFERENCE_NUM_THREADS": THREADS})
    request = compiled.create_infer_request()
    operators = Counter()
    for operator in compiled.get_runtime_model().get_ordered_ops():
        told = {key: value.astype(str) if hasattr(value, "astype") else str(value)
                for key, value in operator.get_rt_info().items()}
        if told.get("layerType") not in ("Const", "Input", "Output", "Parameter", "Result", "Constant"):
            operators[f"{told['layerType']} {told['runtimePrecision']}"] += 1
    return lambda: request.infer([data])[0], operators


def classes_of(engine, operators):
    """How many layers run on integers and in floats, how many other operators, how many conversions."""
    found = Counter()
    for name, number in operators.items():
        if engine == "ONNX Runtime":
            kind, on_integers = name, name.startswith("Q") or name in (*LAYERS_ON_INTEGERS, "NhwcMaxPool")
            layer = name in LAYERS_ON_INTEGERS + LAYERS_IN_FLOATS
            conversion = name in CONVERSIONS
        else:
            kind, precision = name.split(" ")
            on_integers = precision in ("u8", "i8")
            layer, conversion = kind in OPENVINO_LAYERS, kind in OPENVINO_CONVERSIONS
        if kind in RESHAPES:
            continue
        if conversion:
            found["conversions"] += number
        else:
            found[f"{'layers' if layer else 'others'} {'on integers' if on_integers else 'in floats'}"] += number
    return found


def measure(folder):
    """{engine: {file: medians, quartiles, operators, how far the outputs are from fp32}}."""
    data, fp32 = images(folder, BATCH), np.load(folder / "outputs.npy")
    result = {}
    for engine, files in FILES.items():
        make = onnx_runtime if engine == "ONNX Runtime" else openvino_
        passes, operators = {}, {}
        for name, file in files.items():
            passes[name], operators[name] = make(folder / file, data)
        times = in_turn(passes)
        result[engine] = {name: {**quartiles(times[name]), "operators": operators[name],
                                 "classes": classes_of(engine, operators[name]),
                                 "error": float(np.sqrt(np.mean((passes[name]() - fp32) ** 2)) / fp32.std())}
                          for name in files}
    return result


def in_turn(passes):
    """{name: milliseconds of each pass}."""
    for run in passes.values():
        for _ in range(WARM_UP):
            run()
    times = {name: [] for name in passes}
    for number in range(ROUNDS):
        order = list(passes) if number % 2 else list(passes)[::-1]
        for name in order:
            end = time.perf_counter() + SECONDS
            while True:
                started = time.perf_counter()
                passes[name]()
                times[name].append(1e3 * (time.perf_counter() - started))
                if time.perf_counter() >= end:
                    break
    return times


def main():
    task, folder = sys.argv[1], Path(sys.argv[2])
    answers = answering()
    if task == "references":
        references(folder)
    else:
        print(json.dumps(measure(folder)), file=answers, flush=True)


if __name__ == "__main__":
    main()
