"""One runtime for BERT: what int8_attention.py starts for each system, as int8_speed_systems.py is started.

The folder has the weights, by Gluon's structural names, and the tokens. ONNX Runtime gets a graph that is written here
operator by operator, in the form in which its own optimizer knows GELU and layer normalization.
"""
import math
import sys
from pathlib import Path

import int8_speed_systems as systems

PLACES, HEADS, UNITS, LAYERS, EPSILON = 128, 12, 768, 12, 1e-5
SAMPLES = 32


def tokens(folder, batch=SAMPLES):
    import numpy as np
    return np.ascontiguousarray(np.load(folder / "tokens.npy")[:batch])


def network(folder, interleaved=False):
    """``(mxnet, network)`` with the weights of the folder; interleaved: those of queries, keys and values in one."""
    import mxnet as mx
    import numpy as np
    from bert import Encoder
    net = Encoder(places=PLACES, heads=HEADS, units=UNITS, layers=LAYERS, interleaved=interleaved)
    net.initialize()
    values = dict(np.load(folder / "weights.npz"))
    for name, parameter in net._collect_params_with_prefix().items():
        if ".qkv." in name:
            parts = [values[name.replace("qkv", part)] for part in ("query", "key", "value")]
            by_head = np.stack([part.reshape(HEADS, UNITS // HEADS, -1) for part in parts], axis=1)
            values[name] = by_head.reshape(parameter.shape)
        parameter.set_data(mx.nd.array(values[name]))
    return mx, net


def prepare(folder):
    """Random weights, as BERT is initialized, and biases; random tokens."""
    import gluon_compress  # noqa: F401
    import mxnet as mx
    import numpy as np
    from bert import Encoder
    mx.random.seed(0)
    rng = np.random.default_rng(0)
    net = Encoder(places=PLACES, heads=HEADS, units=UNITS, layers=LAYERS)
    net.initialize(mx.init.Normal(0.02))
    values = {name: parameter.data().asnumpy() for name, parameter in net._collect_params_with_prefix().items()}
    for name, value in values.items():
        if name.endswith("bias"):
            values[name] = rng.normal(0, 0.02, value.shape).astype(np.float32)
    np.savez(folder / "weights.npz", **values)
    np.save(folder / "tokens.npy", rng.integers(0, 30522, (SAMPLES, PLACES)).astype(np.int32))


def _passes(mx, net):
    def run(data):
        array = mx.nd.array(data, dtype="int32")
        return lambda: net(array).asnumpy()
    return run


def mxnet_fp32(folder, interleaved=False):
    import gluon_compress  # noqa: F401 - sets the threads
    mx, net = network(folder, interleaved)
    net.hybridize(static_alloc=True, static_shape=True)
    return _passes(mx, net)


def mxnet_fp32_interleaved(folder):
    return mxnet_fp32(folder, interleaved=True)


def mxnet_fused(folder):
    import gluon_compress  # noqa: F401

    def run(data):
        mx, net = network(folder, interleaved=True)
        array = mx.nd.array(data, dtype="int32")
        net.optimize_for(array, backend="MKLDNN", static_alloc=True, static_shape=True)
        return lambda: net(array).asnumpy()
    return run


def ours_int8(folder, interleaved=False):
    import gluon_compress as gc
    import numpy as np
    mx, net = network(folder, interleaved)
    batches = [mx.nd.array(part, dtype="int32") for part in np.split(tokens(folder), systems.CALIBRATION_BATCHES)]
    return _passes(mx, gc.quantization.quantize(net, batches, method="minmax", progress=False))


def ours_int8_interleaved(folder):
    return ours_int8(folder, interleaved=True)


class Graph:
    """An ONNX graph, written one operator after the other; a tensor is its name."""

    def __init__(self, values):
        self.values, self.nodes, self.constants = values, [], {}

    def add(self, operator, *inputs, **attributes):
        from onnx import helper
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, [*map(self.tensor, inputs)], [name], name=name, **attributes))
        return name

    def tensor(self, value):
        """The name of a tensor, or of a constant that holds an array or a number."""
        import numpy as np
        if isinstance(value, str):
            return value
        value = np.asarray(value, np.float32) if isinstance(value, float) else np.asarray(value)
        key = value.tobytes(), value.shape, value.dtype.str
        return self.constants.setdefault(key, (f"constant_{len(self.constants)}", value))[0]

    def dense(self, x, name):
        product = self.add("MatMul", x, self.values[f"{name}.weight"].T.copy())
        return self.add("Add", product, self.values[f"{name}.bias"])

    def norm(self, x, name):
        return self.add("LayerNormalization", x, self.values[f"{name}.gamma"], self.values[f"{name}.beta"],
                        epsilon=EPSILON)

    def heads(self, x, order):
        import numpy as np
        return self.add("Transpose", self.add("Reshape", x, np.array([0, 0, HEADS, UNITS // HEADS])), perm=order)

    def layer(self, x, name):
        import numpy as np
        query, key, value = (self.heads(self.dense(x, f"{name}.{part}"), order) for part, order in (
            ("query", (0, 2, 1, 3)), ("key", (0, 2, 3, 1)), ("value", (0, 2, 1, 3))))
        scores = self.add("Div", self.add("MatMul", query, key), math.sqrt(UNITS / HEADS))
        mixed = self.add("MatMul", self.add("Softmax", scores, axis=-1), value)
        mixed = self.add("Reshape", self.add("Transpose", mixed, perm=(0, 2, 1, 3)), np.array([0, 0, UNITS]))
        x = self.norm(self.add("Add", x, self.dense(mixed, f"{name}.proj")), f"{name}.norm1")
        hidden = self.dense(x, f"{name}.ffn1")
        erf = self.add("Add", self.add("Erf", self.add("Div", hidden, math.sqrt(2))), 1.0)
        hidden = self.add("Mul", self.add("Mul", hidden, erf), 0.5)
        return self.norm(self.add("Add", x, self.dense(hidden, f"{name}.ffn2")), f"{name}.norm2")


def prepare_onnx(folder):
    """The fp32 network as ONNX, and as ONNX Runtime wants it before it quantizes."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from onnxruntime.quantization.shape_inference import quant_pre_process
    graph = Graph(dict(np.load(folder / "weights.npz")))
    x = graph.add("Add", graph.add("Gather", graph.values["words.weight"], "tokens"), graph.values["positions"])
    x = graph.norm(x, "norm")
    for number in range(LAYERS):
        x = graph.layer(x, f"layers.{number}")
    first = graph.add("Gather", x, np.array(0), axis=1)
    graph.nodes.append(helper.make_node("Tanh", [graph.dense(first, "pooler")], ["pooled"]))
    inputs = [helper.make_tensor_value_info("tokens", TensorProto.INT32, ["batch", PLACES])]
    outputs = [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["batch", UNITS])]
    constants = [numpy_helper.from_array(value, name) for name, value in graph.constants.values()]
    made = helper.make_graph(graph.nodes, "bert", inputs, outputs, constants)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
              str(folder / "network.onnx"))
    quant_pre_process(str(folder / "network.onnx"), str(folder / "ready.onnx"), skip_symbolic_shape=True)


def onnx_runtime_fp32(folder):
    return systems.onnx_runtime_passes(folder / "network.onnx")


def onnx_runtime_dynamic(folder):
    """Ranges of activations found in each pass, as its documentation advises for transformers; weights per channel."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    file = folder / "dynamic.onnx"
    quantize_dynamic(str(folder / "network.onnx"), str(file), op_types_to_quantize=["MatMul"], per_channel=True,
                     weight_type=QuantType.QInt8)
    return systems.onnx_runtime_passes(file)


def onnx_runtime_static(folder):
    """QDQ, calibrated; products with weights alone, as ours, since those of attention made it slower."""
    import numpy as np
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.batches = iter(np.split(tokens(folder), systems.CALIBRATION_BATCHES))

        def get_next(self):
            batch = next(self.batches, None)
            return None if batch is None else {"tokens": batch}
    ready, file = str(folder / "ready.onnx"), folder / "static.onnx"
    graph = onnx.load(ready).graph
    constants = {constant.name for constant in graph.initializer}
    with_weights = [node.name for node in graph.node if node.op_type == "MatMul" and node.input[1] in constants]
    quantize_static(ready, str(file), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                    nodes_to_quantize=with_weights, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    return systems.onnx_runtime_passes(file)


SYSTEMS = {"MXNet fp32": mxnet_fp32, "MXNet fp32 interleaved": mxnet_fp32_interleaved, "MXNet fp32 fused": mxnet_fused,
           "ours int8": ours_int8, "ours int8 interleaved": ours_int8_interleaved,
           "ONNX Runtime fp32": onnx_runtime_fp32, "ONNX Runtime int8 dynamic": onnx_runtime_dynamic,
           "ONNX Runtime int8 static": onnx_runtime_static}

PREPARATIONS = {"prepare": prepare, "prepare ONNX": prepare_onnx}


def main():
    answers = systems.answering()
    folder = Path(sys.argv[2])
    if sys.argv[1] in PREPARATIONS:
        PREPARATIONS[sys.argv[1]](folder)
    else:
        systems.serve(SYSTEMS[sys.argv[1]](folder), lambda batch: tokens(folder, batch), answers)


if __name__ == "__main__":
    main()
