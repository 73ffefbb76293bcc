"""Damaged and forged files, against everything that reads files: what comes of each, counted.

    python benchmarks/fuzz_files.py --unforged 100000 --forged 20000

An *unforged* mutation changes bytes of a file at random. A *forged* one takes the file apart, changes what is in it
(the JSON of its header, the operators, attributes and links of its graph, its tensors), and gives it the checksum that
belongs to it, as a stranger would. Each file is then loaded, in every way there is, in a worker process whose memory is
limited; what loads is used: a forward pass, a training step, the batches of a cache. A worker that dies is a crash, one
that does not answer within the time limit a hang.

Accepted outcomes are an error that is ours (CheckpointError) and a file that loads and is used; or loads, and the
forward pass says with an error why it cannot compute. All others are faults.
"""
import base64
import collections
import json
import lzma
import os
import random
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import click

MEMORY = 1 << 30   # bytes that a load and a use may take
SECONDS = 20       # that they may take
ACCEPTED = ("CheckpointError", "loaded", "loaded, refused in use")
ROOT = Path(__file__).resolve().parent.parent


# ---- the files, and how each is used

def build_cases(folder):
    """{name: (bytes of a good file, use(path))}; ``use`` returns an outcome or raises."""
    import gluon_compress as gc
    import mxnet as mx
    mx.random.seed(1)
    cases = {}
    for name, make, records in (("masks and scales", _plain_net, _masks_and_scales),
                                ("channels", _plain_net, _channels), ("branches", _branches, _nothing),
                                ("operators", _many_operators, _nothing), ("recurrent", _recurrent, _nothing)):
        net, example = _ready(make)
        gc.save(folder / "file", net, *records(net, example))
        cases[name] = (folder / "file").read_bytes(), _network_use(make, example)
    for bits in (8, 4):
        net, example = _ready(_plain_net)
        gc.save(folder / "file", gc.quantization.quantize(net, [example], bits=bits, progress=False, simulate=bits < 8))
        cases[f"int{bits}"] = (folder / "file").read_bytes(), _network_use(_plain_net, example, bits < 8)
    for name, settings in (("training, Adam", ("adam", lambda: {"learning_rate": 0.01})),
                           ("training, scheduler", _scheduled())):
        use = _training_use(*settings)
        use(folder / "state")
        cases[name] = (folder / "state").read_bytes(), use
        (folder / "state").unlink()
    cases["one operator"] = b"", _lone_use()
    for name, use in (("logits", _logits_use()), ("sensitivity", _sensitivity_use())):
        use(folder / "state")
        cases[name] = (folder / "state").read_bytes(), use
        (folder / "state").unlink()
    return cases


def _plain_net():
    from mxnet.gluon import nn
    net = nn.HybridSequential(prefix="plain_")
    with net.name_scope():
        net.add(nn.Conv2D(6, 3, in_channels=2, use_bias=False), nn.BatchNorm(in_channels=6), nn.Activation("relu"),
                nn.Conv2D(8, 3, in_channels=6, activation="relu"), nn.MaxPool2D(2), nn.Flatten(),
                nn.Dense(7, in_units=32, activation="relu"), nn.Dense(5, in_units=7))
    return net, (2, 2, 8, 8)


def _of_function(compute, shape, *layers):
    """A network of these layers, computed by ``compute(F, x, *layers)``."""
    from mxnet.gluon import HybridBlock

    class Network(HybridBlock):
        def __init__(self):
            super().__init__(prefix="net_")
            with self.name_scope():
                self.own = [layer() for layer in layers]
                for layer in self.own:
                    self.register_child(layer)

        def hybrid_forward(self, F, x):
            return compute(F, x, *self.own)
    return Network(), shape


def _branches():
    from mxnet.gluon import nn

    def compute(F, x, first, left, right, transposed, group, prelu, dense):
        x = prelu(first(x))
        x = F.concat(left(x), F.LeakyReLU(right(x), slope=0.1), dim=1) + F.broadcast_mul(x, F.sigmoid(x))
        x = group(F.UpSampling(transposed(x), scale=2, sample_type="nearest"))
        x = F.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="avg", pooling_convention="full")
        return F.softmax(dense(F.contrib.AdaptiveAvgPooling2D(x, output_size=2)), axis=-1)
    return _of_function(compute, (2, 3, 8, 8), lambda: nn.Conv2D(8, 3, padding=1, in_channels=3),
                        lambda: nn.Conv2D(4, 1, in_channels=8),
                        lambda: nn.Conv2D(4, 3, padding=1, groups=2, in_channels=8),
                        lambda: nn.Conv2DTranspose(6, 2, strides=2, in_channels=8),
                        lambda: nn.GroupNorm(3), nn.PReLU, lambda: nn.Dense(5, in_units=24))


def _many_operators():
    def compute(F, x):
        x = F.pad(x, mode="edge", pad_width=(0, 0, 0, 0, 1, 1, 1, 1))
        x = F.L2Normalization(F.LRN(x, nsize=3), mode="channel")
        left, right = F.split(x, num_outputs=2, axis=1)
        x = F.transpose(F.tile(left, reps=(1, 2, 1, 1)), axes=(0, 2, 3, 1)).swapaxes(1, 2)
        x = F.slice_axis(F.repeat(x, repeats=2, axis=3), axis=3, begin=1, end=7)
        x = F.reshape(F.depth_to_space(F.transpose(F.slice(x, begin=(0, 0, 0, 0), end=(2, 4, 4, 4)), axes=(0, 3, 1, 2)),
                                       block_size=2), shape=(0, -1, 4))
        x = F.batch_dot(x, x, transpose_b=True) + F.expand_dims(F.mean(right, axis=(1, 2, 3)), 1).reshape((0, 1, 1))
        best = F.topk(x, k=3, axis=-1, ret_typ="indices")
        picked = F.take(F.arange(0, 16, 1), best).clip(0, 9)
        hot = F.one_hot(picked, depth=10).sum(axis=2)
        return F.where(hot > 0, F.exp(-hot), F.zeros_like(hot)), F.cast(F.argmax(x, axis=1), "float32"), \
            F.reverse(F.squeeze(F.stack(F.max(x, axis=1), F.norm(x, axis=1))), axis=0)
    return _of_function(compute, (2, 4, 6, 6))


def _recurrent():
    from mxnet.gluon import nn, rnn

    def compute(F, x, embedding, lstm, norm, dense):
        x = embedding(F.broadcast_mod(F.abs(x.round()), F.ones_like(x) * 11))
        x = norm(lstm(F.swapaxes(x, 0, 1)))
        x = F.SequenceLast(x)
        return F.log_softmax(F.Dropout(dense(x), p=0.3))
    return _of_function(compute, (3, 5), lambda: nn.Embedding(11, 4), lambda: rnn.LSTM(6, num_layers=2, input_size=4,
                        bidirectional=True), lambda: nn.LayerNorm(in_channels=12), lambda: nn.Dense(5, in_units=12))


def _ready(make):
    import mxnet as mx
    net, shape = make()
    net.initialize(mx.init.Xavier())
    example = mx.nd.random.uniform(shape=shape)
    net(example)
    return net, example


def _fresh(make):
    from gluon_compress import network
    net, _ = _ready(make)
    return net, network.snapshot(net)


def _masks_and_scales(net, example):
    import gluon_compress as gc
    masks = gc.pruning.prune_magnitude(net, 0.6)
    return masks, gc.quantization.quantize_weights(net, bits=3)


def _channels(net, example):
    import gluon_compress as gc
    plan = gc.pruning.prune_channels(net, example, 0.5)
    return plan, gc.quantization.quantize_weights(net, bits=8)


def _nothing(net, example):
    return ()


def _scheduled():
    import mxnet as mx
    return "sgd", lambda: {"momentum": 0.9, "learning_rate": 0.1,
                           "lr_scheduler": mx.lr_scheduler.FactorScheduler(1, 0.9, base_lr=0.1)}


def _network_use(make, example, simulate=False):
    """Load without a network and with one; what loads makes a forward pass."""
    import gluon_compress as gc
    from gluon_compress import checkpoint, network

    kept = []  # a fresh network that no load has changed

    def use(path):
        refusals = []
        for load in (lambda: gc.load(path, simulate=simulate), lambda: gc.load(path, precision="fp32"),
                     lambda: checkpoint.records(path)):
            try:
                loaded = load()
            except gc.CheckpointError as error:
                refusals.append(error)
            except ValueError as error:  # simulate=True of a file that holds no int8 network any more
                if "simulate=True is for int8" not in str(error):
                    raise
                refusals.append(error)
            else:
                _forward(loaded, example)
        fresh, before = kept.pop() if kept else _fresh(make)
        try:
            gc.load(path, fresh)
        except gc.CheckpointError:
            _check_same(before, network.snapshot(fresh))
            kept.append((fresh, before))
            if len(refusals) < 3:
                _forward(fresh, example)
            raise
        _forward(fresh, example)
        return "CheckpointError" if len(refusals) == 3 else "loaded"
    return use


def _lone_use():
    """Load a graph of one operator; what loads computes on inputs of many shapes."""
    import gluon_compress as gc
    import mxnet as mx

    def use(path):
        net, refusals = gc.load(path), []
        for shape in SHAPES:
            try:
                _forward(net, mx.nd.random.normal(shape=shape))
            except Refused as error:
                refusals.append(error)
        if len(refusals) == len(SHAPES):
            raise refusals[0]
        return "loaded"
    return use


class Refused(Exception):
    """The forward pass of a loaded network said why it cannot compute."""


def _forward(net, example):
    import mxnet as mx
    if isinstance(net, dict):
        return
    try:
        net(example)
        mx.nd.waitall()
    except (mx.MXNetError, ValueError, AssertionError, TypeError, IndexError) as error:
        raise Refused(str(error)) from error


def _check_same(before, after):
    if before.keys() != after.keys() or not all((before[name] == after[name]).all() for name in before):
        raise HalfChanged


class HalfChanged(BaseException):
    """A failed load has changed the network."""


class _Stopping(list):
    """Batches that end the training in the second epoch, when they are told to."""

    stops, epochs = False, 0

    def __iter__(self):
        self.epochs += 1
        if self.stops and self.epochs == 2:
            raise InterruptedError
        return super().__iter__()


def _training_use(optimizer, settings):
    """Write the state after one epoch of two when there is none; else go on from it."""
    import gluon_compress as gc
    import mxnet as mx
    import numpy as np
    from gluon_compress import network, training
    images = mx.nd.array(np.random.RandomState(1).rand(2, 2, 8, 8))

    def use(path):
        mx.random.seed(2)
        net, _ = _ready(_plain_net)
        trainer = gc.pruning.MaskedTrainer(net, gc.pruning.prune_magnitude(net, 0.5), optimizer, settings())
        batches, before = [(images, mx.nd.array([1, 2]))], network.snapshot(net)
        data = _Stopping(batches)
        data.stops = not path.exists()
        try:
            training.fit(net, data, 2, trainer, state_path=path, progress=False, validation_data=batches)
        except gc.CheckpointError:
            _check_same(before, network.snapshot(net))
            raise
        except gc.errors.NetworkError as error:  # the weights of the file lead to NaN
            raise Refused(str(error)) from error
        except InterruptedError:
            pass
        return "loaded"
    return use


def _logits_use():
    import gluon_compress as gc
    import mxnet as mx
    teacher, example = _ready(_plain_net)
    data = [(example, mx.nd.array([1, 2])), (example + 1, mx.nd.array([0, 2]))]

    def use(path):
        for _ in gc.distillation.cache_logits(teacher, data, path, progress=False):
            pass
        return "loaded"
    return use


def _sensitivity_use():
    import gluon_compress as gc
    from gluon_compress import network
    net, example = _ready(_plain_net)

    def use(path):
        before = network.snapshot(net)
        try:
            gc.pruning.sensitivity(net, lambda net: 0.5, example, fractions=(0.3, 0.7), state_path=path, progress=False)
        finally:
            _check_same(before, network.snapshot(net))
        return "loaded"
    return use


# ---- mutations

def damaged(content, chance):
    """The bytes with some of them changed, taken away, put in or moved."""
    content = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        end = len(content) if chance.random() < 0.5 else min(len(content), 600)
        at, length = chance.randrange(max(end, 1)), chance.choice((1, 1, 4, 64))
        kind = chance.randrange(6)
        if kind == 0:
            content[at:at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            content[at:at + 1] = bytes([(content[at] if at < len(content) else 0) ^ 1 << chance.randrange(8)])
        elif kind == 2:
            del content[at:at + length]
        elif kind == 3:
            content[at:at] = chance.randbytes(length)
        elif kind == 4:
            content[at:at] = content[chance.randrange(max(end, 1)):][:length]
        else:
            del content[at:]
    return bytes(content)


EXTREME = (None, True, False, 0, 1, -1, 2, 3, 7, 127, 255, 2**31 - 1, 2**31, -2**31, 2**63, 10**30, 0.0, -0.5, 1e-45,
           1e38, 1e308, float("nan"), float("inf"), -float("inf"), "", "x", "None", "0", "-1", "(0, 0)", "(-1, -1)",
           "(1000000, 1000000)", "1e30", "nan", "\0", "float32", "int8", "a" * 5000, [], [0], [[]], {}, {"x": 1},
           [2**31 - 1, 2**31 - 1], [1000000, 1000], [-1])


def _changed_json(value, chance):
    """A copy of JSON with one place in it changed."""
    if isinstance(value, dict) and value and chance.random() < 0.93:
        name = chance.choice(sorted(value))
        kind = chance.randrange(12)
        copy = dict(value)
        if kind == 0:
            del copy[name]
        elif kind == 1:
            copy[chance.choice(("x", "", name + "2", *sorted(value)))] = copy.pop(name)
        elif kind == 2:
            copy[name] = value[chance.choice(sorted(value))]
        else:
            copy[name] = _changed_json(value[name], chance)
        return copy
    if isinstance(value, list) and value and chance.random() < 0.93:
        at, kind, copy = chance.randrange(len(value)), chance.randrange(12), list(value)
        if kind == 0:
            del copy[at]
        elif kind == 1:
            copy.insert(at, chance.choice(value))
        elif kind == 2:
            copy[at] = chance.choice(value)
        else:
            copy[at] = _changed_json(value[at], chance)
        return copy
    if isinstance(value, (int, float)) and not isinstance(value, bool) and chance.random() < 0.5:
        return value + chance.choice((-1, 1)) if chance.random() < 0.7 else -value
    if isinstance(value, str) and value[:1] == "{" and chance.random() < 0.98:
        try:
            return json.dumps(_changed_graph(json.loads(value), chance))
        except (LookupError, TypeError, ValueError, AttributeError):  # it was broken before
            return value[:-1]
    return chance.choice(EXTREME)


def _changed_graph(graph, chance):
    """A copy of a graph with an operator, an attribute, a link or the order of nodes changed."""
    graph = json.loads(json.dumps(graph))
    nodes = graph["nodes"]
    operators = [node for node in nodes if node["op"] != "null"]
    node, kind = chance.choice(operators), chance.randrange(9)
    if kind == 0:
        node["op"] = chance.choice(_all_operators())
    elif kind in (1, 2, 3):
        _change_attribute(node, nodes, chance)
    elif kind == 4:
        links = node["inputs"] if node["inputs"] and chance.random() < 0.8 else graph["heads"]
        link = chance.choice(links)
        link[chance.randrange(2)] = chance.choice((0, 1, 2, 5, 2**31, -1, chance.randrange(len(nodes))))
    elif kind == 5:
        operation = chance.randrange(3)
        if operation == 0 and node["inputs"]:
            node["inputs"].pop(chance.randrange(len(node["inputs"])))
        elif operation == 1:
            node["inputs"].append([chance.randrange(len(nodes)), 0, 0])
        else:
            chance.shuffle(node["inputs"])
    elif kind == 6:
        first, second = chance.randrange(len(nodes)), chance.randrange(len(nodes))
        nodes[first], nodes[second] = nodes[second], nodes[first]
    elif kind == 7:
        _put_in(graph, chance)
    else:
        return _changed_json(graph, chance)
    return graph


def _change_attribute(node, nodes, chance):
    attributes = node.setdefault("attrs", {})
    known = sorted(attributes) or ["axis"]
    name = chance.choice(known)
    every = sorted({(name, value) for other in nodes for name, value in other.get("attrs", {}).items()}) or [("a", "1")]
    kind = chance.randrange(5)
    if kind == 0:
        attributes.pop(name, None)
    elif kind == 1:
        attributes.update([chance.choice(every)])
    elif kind == 2:
        attributes[name] = str(chance.choice(EXTREME))
    elif kind == 3:
        attributes[chance.choice(_attributes_of(node["op"]) or known)] = _plausible(chance)
    else:
        attributes[name] = _plausible(chance)


def _plausible(chance):
    """An attribute that could be meant."""
    number = chance.choice((-2, -1, 0, 1, 1, 2, 3, 4, 8, 33, 255, 4096, 10**6))
    return str(chance.choice((number, (number, chance.randrange(-1, 5)), (number,) * 4, number / 3, bool(number % 2),
                              "NHWC", "max", "same", "null", "float16", "int32", "uint8", None)))


def _put_in(graph, chance):
    """Put an operator of any kind between two nodes, with inputs from before it and attributes from nowhere."""
    nodes = graph["nodes"]
    at = chance.randrange(1, len(nodes) + 1)
    operator, attributes, count = _an_operator(chance)
    inputs = [[chance.randrange(at), 0, 0] for _ in range(count)]
    for node in nodes:
        for link in node["inputs"]:
            link[0] += link[0] >= at
    for link in graph["heads"]:
        link[0] += link[0] >= at
    nodes.insert(at, {"op": operator, "name": "put_in", "attrs": attributes, "inputs": inputs})
    later = [node for node in nodes[at + 1:] if node["inputs"]]
    links = chance.choice(later)["inputs"] if later and chance.random() < 0.8 else graph["heads"]
    chance.choice(links)[0] = at


def _an_operator(chance):
    """(name, attributes, number of inputs) that mostly go together."""
    from gluon_compress import allowed_operators, symbol_check
    operator = chance.choice(_allowed_operators())
    for _ in range(10):
        attributes = {name: _plausible(chance) for name in _attributes_of(operator) if chance.random() < 0.5}
        try:
            allowed_operators.check_attributes(allowed_operators.canonical_names()[operator], attributes, "here")
            count, _, _ = symbol_check._signature(operator, symbol_check.settings_of(attributes))
            return operator, attributes, count
        except symbol_check.Malformed:
            pass
    return operator, attributes, chance.choice((1, 1, 2, 3))


def _all_operators():
    from gluon_compress import allowed_operators
    return sorted(allowed_operators._all_names())


def _allowed_operators():
    from gluon_compress import allowed_operators
    return sorted(allowed_operators.canonical_names())


def _attributes_of(operator):
    from gluon_compress import allowed_operators
    try:
        return sorted(allowed_operators.declared_attributes(operator))
    except Exception:  # an operator that a mutation has made up
        return []


def _changed_tensors(tensors, chance):
    import numpy as np
    tensors, name = dict(tensors), chance.choice(sorted(tensors))
    value, kind = tensors[name], chance.randrange(9)
    if kind == 0:
        del tensors[name]
    elif kind == 1:
        tensors[chance.choice(("x", name + "/mask", name.rpartition("/")[0] + "/mask", *sorted(tensors)))] = value
    elif kind == 2:
        tensors[name] = value.ravel()[:chance.choice((0, 1, max(value.size - 1, 0)))]
    elif kind == 3:
        tensors[name] = np.concatenate([value.ravel()] * chance.choice((2, 100)))
    elif kind == 4:
        tensors[name] = value.astype(chance.choice(("float16", "float32", "float64", "int8", "uint8", "int64", "bool")))
    elif kind == 5:
        tensors[name] = value.reshape(chance.choice(((-1,), (1, -1), (-1, 1), (*value.shape, 1))))
    elif kind == 6:
        tensors[name] = np.zeros(chance.choice(((), (0,), (3, 0, 2), (1,))), value.dtype)
    elif value.size:
        tensors[name] = value = value.copy()
        with np.errstate(all="ignore"):
            value.reshape(-1)[chance.randrange(value.size)] = np.float64(
                chance.choice((0, -1, 255, float("nan"), float("inf"), -1e38, 1e-45))).astype(value.dtype)
    return tensors


def taken_apart(content):
    """(kind, header, tensors) of a file's bytes."""
    from safetensors.numpy import load
    length, = struct.unpack("<Q", content[:8])
    metadata = json.loads(content[8:8 + length])["__metadata__"]
    return metadata["kind"], json.loads(lzma.decompress(base64.b64decode(metadata["header"]))), load(content)


def put_together(kind, header, tensors):
    """A file's bytes, with the checksum that belongs to them."""
    import numpy as np
    from gluon_compress import tensorfile
    from safetensors.numpy import save
    tensors = {name: np.ascontiguousarray(tensor).reshape(tensor.shape) for name, tensor in tensors.items()}
    text = base64.b64encode(lzma.compress(json.dumps(header).encode(), preset=0)).decode()
    return save(tensors, {"format": "gluon_compress", "version": "2", "kind": kind, "header": text,
                          "sha256": tensorfile._digest(kind, tensors, text)})


def lone_operator(chance):
    """The bytes of a file whose graph is one operator, of attributes and parameters that mostly go together."""
    import mxnet as mx
    import numpy as np
    operator, attributes, count = _an_operator(chance)
    nodes = [{"op": "null", "name": f"input{index}", "inputs": []} for index in range(count)]
    nodes.append({"op": operator, "name": "lone", "attrs": attributes,
                  "inputs": [[index, 0] for index in range(count)]})
    graph = {"nodes": nodes, "heads": [[count, 0]], "arg_nodes": list(range(count)),
             "attrs": {"mxnet_version": ["int", 10901]}}
    shapes = [chance.choice(SHAPES) for _ in range(count)]
    if count > 1 and chance.random() < 0.7:
        try:
            symbol = mx.sym.load_json(json.dumps(graph))
            arguments, _, others = symbol.infer_shape_partial(input0=shapes[0])
            found = dict(zip(symbol.list_arguments() + symbol.list_auxiliary_states(), arguments + others))
            shapes = [found.get(f"input{index}") or shape for index, shape in enumerate(shapes)]
        except mx.MXNetError:
            pass
    tensors, layout = {}, {}
    for index in range(1, count):
        shape = [size if size > 0 else 2 for size in shapes[index]]
        value = _values(shape, chance) if int(np.prod(shape)) < 10**6 else np.zeros((2,), np.float32)
        layout[f"input{index}"] = {"shape": list(value.shape), "dtype": value.dtype.name}
        tensors[f"input{index}/value"] = value
    inputs = ["input0"] if count else ["data"]
    return put_together("compressed network", {
        "layout": layout, "records": {}, "graph": {"symbol": json.dumps(graph), "inputs": inputs, "dtype": "float32",
                                                   "names": {name: name for name in layout}}}, tensors)


SHAPES = ((2, 3, 8, 8), (2, 6), (3, 4, 5), (4,), (1, 1), (2, 2, 4, 4, 4), (2, 8, 3), (6, 5), (2, 4, 6, 6))


def _values(shape, chance):
    import numpy as np
    generator = np.random.RandomState(chance.randrange(2**31))
    value = generator.randn(*shape)
    kind = chance.randrange(4)
    if kind == 1:
        value = np.floor(np.abs(value) * 3)
    elif kind == 2:
        value = value * 10.0 ** chance.choice((-30, 5, 10, 30))
    return value.astype(chance.choice(("float32",) * 6 + ("float64", "int32", "int64", "uint8", "float16")))


def forged(content, chance):
    """The bytes of a file like this one, but for what a stranger has changed in it."""
    if not content:
        return lone_operator(chance)
    if content[:1] == b"{":  # a state of JSON, which has no checksum
        return json.dumps(_changed_json(json.loads(content), chance)).encode()
    kind, header, tensors = taken_apart(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if tensors and chance.random() < 0.2:
            tensors = _changed_tensors(tensors, chance)
        elif (graph := _graph_in(header)) and chance.random() < 0.5:
            header = {**header, "graph": {**graph, "symbol": _changed_json(graph["symbol"], chance)}}
        else:
            header = _changed_json(header, chance)
    return put_together(kind, header, tensors)


def _graph_in(header):
    """What a header says of a graph, as long as it has one."""
    graph = header.get("graph") if isinstance(header, dict) else None
    return graph if isinstance(graph, dict) and isinstance(graph.get("symbol"), str) else None


# ---- the worker, and what keeps it

def work():
    """Read "case number forged" lines, answer each with its outcome."""
    answers = os.fdopen(os.dup(1), "w")
    sys.stdout = sys.stderr
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(ROOT))
    folder = Path(tempfile.mkdtemp())
    cases = build_cases(folder)
    print(json.dumps(list(cases)), file=answers, flush=True)
    _limit_memory()
    for line in sys.stdin:
        name, number, forge = json.loads(line)
        content, use = cases[name]
        chance = random.Random(f"{name} {number} {forge}")
        changed = (forged if forge else damaged)(content, chance)
        path = folder / "file"
        path.write_bytes(changed)
        before = _memory()
        outcome, said = _outcome(use, path)
        if (grown := _memory() - before) > MEMORY:
            outcome, said = "memory", f"{grown} bytes"
        print(json.dumps([outcome, said[:300]]), file=answers, flush=True)


def _limit_memory():
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 2 * MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _memory():
    """The most that this process has had of memory, and begin anew."""
    status = Path("/proc/self/status").read_text()
    found = int(status.partition("VmHWM:")[2].split()[0]) << 10
    Path("/proc/self/clear_refs").write_text("5")
    return found


def _outcome(use, path):
    from gluon_compress import CheckpointError
    try:
        return use(path), ""
    except CheckpointError as error:
        return "CheckpointError", str(error)
    except Refused as error:
        return "loaded, refused in use", str(error)
    except HalfChanged:
        return "half changed", ""
    except MemoryError as error:
        return "memory", repr(error)
    except BaseException as error:
        return "other exception", repr(error)


class Worker:
    """A process that answers; another one when it died."""

    def __init__(self):
        self.start()

    def start(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive",
                       "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen([sys.executable, __file__, "--worker"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True)
        self.cases = json.loads(self.process.stdout.readline())

    def outcome(self, *job):
        print(json.dumps(job), file=self.process.stdin, flush=True)
        ready, _, _ = select.select([self.process.stdout], [], [], SECONDS)
        if ready and (answer := self.process.stdout.readline()):
            return json.loads(answer)
        if not ready:
            self.process.kill()
        code = self.process.wait()
        self.start()
        return ["crash", signal.Signals(-code).name if code < 0 else f"exit {code}"] if ready else ["hang", ""]

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def run(jobs, report=None):
    """{(what, case): {outcome: count}} and the faults of all (what, case, number) jobs."""
    counts, faults = collections.defaultdict(collections.Counter), []
    worker = Worker()
    started = time.time()
    for done, (what, case, number) in enumerate(jobs):
        outcome, said = worker.outcome(case, number, what == "forged")
        counts[what, case][outcome] += 1
        if outcome not in ACCEPTED:
            faults.append((what, case, number, outcome, said))
            if report is not None:
                report.write(f"{what} {case} {number}: {outcome}: {said}\n")
        if report is not None and done % 500 == 0:
            report.write(f"{done} of {len(jobs)} after {time.time() - started:.0f} s, {len(faults)} faults\n")
            report.flush()
    worker.stop()
    return counts, faults


def jobs_of(unforged, forged_ones, cases, seed):
    """As many (what, case, number) of all cases in turn."""
    return [(what, cases[index % len(cases)], seed + index // len(cases))
            for what, count in (("unforged", unforged), ("forged", forged_ones)) for index in range(count)]


def table(counts):
    outcomes = sorted({outcome for counter in counts.values() for outcome in counter},
                      key=lambda outcome: (*ACCEPTED, outcome).index(outcome))
    lines = [f"{'':40}" + "".join(f"{outcome:>24}" for outcome in outcomes)]
    for (what, case), counter in counts.items():
        lines.append(f"{what + ', ' + case:40}" + "".join(f"{counter[outcome]:24,}" for outcome in outcomes))
    total = sum(counts.values(), collections.Counter())
    lines.append(f"{'all':40}" + "".join(f"{total[outcome]:24,}" for outcome in outcomes))
    return "\n".join(lines)


def case_names():
    worker = Worker()
    worker.stop()
    return worker.cases


@click.command()
@click.option("--unforged", default=1000, help="How many files with bytes changed.")
@click.option("--forged", "forged_ones", default=1000, help="How many whose content is changed and checksum right.")
@click.option("--seed", default=0, help="Number of the first mutation.")
@click.option("--only", default=None, help="One kind of file.")
@click.option("--log", type=click.Path(), default=None, help="Progress and faults, as they come.")
@click.option("--worker", is_flag=True, hidden=True)
def main(unforged, forged_ones, seed, only, log, worker):
    """Mutate files of all kinds, use them, and count what comes of it."""
    if worker:
        return work()
    cases = [only] if only else case_names()
    with open(log or os.devnull, "w") as report:
        counts, faults = run(jobs_of(unforged, forged_ones, cases, seed), report)
    click.echo(table(counts))
    for fault in faults:
        click.echo(" ".join(map(str, fault)))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
