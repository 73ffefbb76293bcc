"""One runtime, one network: what int8_speed.py starts once for each system, in the interpreter of that system.

    python int8_speed_systems.py "ours int8" FOLDER

The folder has the network of one row, made by :func:`prepare`. The process answers each line ``BATCH SECONDS`` on its
standard input with a line of JSON on its standard output: ``{"ms": [...], "outputs": [...]}``, the times of as many
passes as fit into so many seconds, at least one, and the first outputs. The first passes of a batch size are its
warm-up and come for ``BATCH 0``. Nothing here is imported before it is needed: the interpreters have different things.
"""
import json
import os
import runpy
import sys
import time
from pathlib import Path

NUMPY_NAMES = str(Path(__file__).parents[1] / "gluon_compress" / "runtime" / "numpy_names.py")
THREADS = 2
CALIBRATION_BATCHES = 4  # of 8 images; as many as the largest batch that is timed


def calibration(folder):
    """[(8, 3, size, size) float32 array] of what the network was prepared with."""
    import numpy as np
    images = np.load(folder / "images.npy")
    return np.split(images, CALIBRATION_BATCHES)


def images(folder, batch):
    import numpy as np
    return np.ascontiguousarray(np.load(folder / "images.npy")[:batch])


def prepare(name, size, folder):
    """Random weights, and BatchNorm statistics that fit them; as parameters and ONNX."""
    import gluon_compress as gc
    import mxnet as mx
    import numpy as np
    from mxnet import autograd
    from mxnet.gluon.model_zoo import vision
    mx.random.seed(0)
    np.random.seed(0)
    net = vision.get_model(name)
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))  # He et al., 2015
    data = np.random.default_rng(0).normal(size=(8 * CALIBRATION_BATCHES, 3, size, size)).astype(np.float32)
    np.save(folder / "images.npy", data)
    batches = [mx.nd.array(batch) for batch in np.split(data, CALIBRATION_BATCHES)]
    if any(key.endswith("running_mean") for key in net.collect_params()):
        for batch in batches * 6:  # momentum 0.9: 24 batches bring the statistics to 92 % of their way
            with autograd.train_mode():
                net(batch).wait_to_read()
    net(batches[0]).wait_to_read()
    net.save_parameters(str(folder / "network.params"))
    gc.export.to_onnx(net, folder / "network.onnx", batches[0][:1], verify=False)
    (folder / "zoo_name").write_text(name)


def zoo_network(folder):
    import mxnet as mx
    from mxnet.gluon.model_zoo import vision
    net = vision.get_model((folder / "zoo_name").read_text())
    net.load_parameters(str(folder / "network.params"))
    return mx, net


def mxnet_passes(mx, net):
    def run(data):
        array = mx.nd.array(data)
        return lambda: net(array).asnumpy()
    return run


def mxnet_installed(folder):
    runpy.run_path(NUMPY_NAMES)["restore_names"]()  # the one thing without which it does not import
    mx, net = zoo_network(folder)
    net.hybridize()
    return mxnet_passes(mx, net)


def mxnet_threads(folder):
    import gluon_compress  # noqa: F401 - sets the threads
    mx, net = zoo_network(folder)
    net.hybridize(static_alloc=True, static_shape=True)
    return mxnet_passes(mx, net)


def mxnet_fused(folder):
    import gluon_compress  # noqa: F401

    def run(data):
        mx, net = zoo_network(folder)
        array = mx.nd.array(data)
        net.optimize_for(array, backend="MKLDNN", static_alloc=True, static_shape=True)
        return lambda: net(array).asnumpy()
    return run


def ours_int8(folder):
    import gluon_compress as gc
    mx, net = zoo_network(folder)
    batches = [mx.nd.array(batch) for batch in calibration(folder)]
    return mxnet_passes(mx, gc.quantization.quantize(net, batches, method="minmax", progress=False))


def onnx_runtime_passes(file):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda data: lambda: session.run(None, {name: data})[0]


def onnx_runtime_fp32(folder):
    return onnx_runtime_passes(folder / "network.onnx")


def onnx_runtime_int8(folder):
    """Static, QDQ, weights per channel in int8 and activations in uint8, as its documentation advises for x86."""
    file = folder / "onnx_runtime_int8.onnx"
    if not file.exists():
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
        ready = folder / "onnx_runtime_ready.onnx"
        quant_pre_process(str(folder / "network.onnx"), str(ready), skip_symbolic_shape=True)
        quantize_static(str(ready), str(file), calibration_reader(folder), quant_format=QuantFormat.QDQ,
                        per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    return onnx_runtime_passes(file)


def calibration_reader(folder):
    """The images as ONNX Runtime's quantizer asks for them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.batches, self.name = iter(calibration(folder)), _input_name(folder)

        def get_next(self):
            batch = next(self.batches, None)
            return None if batch is None else {self.name: batch}
    return Reader()


def _input_name(folder):
    import onnx
    return onnx.load(folder / "network.onnx").graph.input[0].name


def openvino_passes(file, **properties):
    import openvino

    def run(data):
        model = openvino.Core().read_model(file)
        model.reshape(data.shape)
        compiled = openvino.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1,
                                                         "INFERENCE_NUM_THREADS": THREADS, **properties})
        request = compiled.create_infer_request()
        return lambda: request.infer([data])[0]
    return run


def openvino_fp32(folder):
    return openvino_passes(folder / "network.onnx", INFERENCE_PRECISION_HINT="f32")  # bf16 where it can, otherwise


def openvino_int8(folder):
    file = folder / "openvino_int8.xml"
    if not file.exists():
        import nncf
        import openvino
        data = nncf.Dataset([image[None] for batch in calibration(folder) for image in batch])
        openvino.save_model(nncf.quantize(openvino.Core().read_model(folder / "network.onnx"), data,
                                          subset_size=8 * CALIBRATION_BATCHES), file)
    return openvino_passes(file)


SYSTEMS = {"MXNet as installed": mxnet_installed, "MXNet fp32": mxnet_threads, "MXNet fp32 fused": mxnet_fused,
           "ours int8": ours_int8, "ours int8, naive engine": ours_int8,
           "ONNX Runtime fp32": onnx_runtime_fp32, "ONNX Runtime int8": onnx_runtime_int8,
           "OpenVINO fp32": openvino_fp32, "OpenVINO int8": openvino_int8}
WARM_UP = 3


def serve(make, inputs, answers):
    """``make(inputs(batch))`` returns a function of one pass."""
    batch_passes = {}
    for line in sys.stdin:
        batch, seconds = int(line.split()[0]), float(line.split()[1])
        if batch not in batch_passes:
            batch_passes.clear()  # the memory of the last batch size
            batch_passes[batch] = make(inputs(batch))
            for _ in range(WARM_UP):
                batch_passes[batch]()
        milliseconds, end = [], time.perf_counter() + seconds
        while not milliseconds or time.perf_counter() < end:
            started = time.perf_counter()
            outputs = batch_passes[batch]()
            milliseconds.append(1e3 * (time.perf_counter() - started))
        print(json.dumps({"ms": milliseconds, "outputs": outputs[0].tolist()}), file=answers, flush=True)


def answering():
    """Where the answers go; what the libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def quartiles(milliseconds):
    """Median and quartiles of the passes, and how many there are."""
    import numpy as np
    lower, median, upper = np.percentile(milliseconds, [25, 50, 75]).tolist()
    return {"median_ms": median, "lower_quartile_ms": lower, "upper_quartile_ms": upper, "passes": len(milliseconds)}


def main():
    answers = answering()
    if sys.argv[1] == "prepare":
        prepare(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
    else:
        folder = Path(sys.argv[2])
        serve(SYSTEMS[sys.argv[1]](folder), lambda batch: images(folder, batch), answers)


if __name__ == "__main__":
    main()
