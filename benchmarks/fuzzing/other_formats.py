"""Networks as others leave them: checkpoints of MXNet, parameters alone, archives of several makers."""
import json
import tempfile
from pathlib import Path

import gluon_compress as gc
import mxnet as mx
import numpy as np
from gluon_compress import network
from gluon_compress.checkpoint import packed_file

from .folders import folder_of, laid_out
from .networks import branches, plain_net, ready
from .use import check_same, forward, loaded

SETTINGS = {"data_shapes": [{"name": "data", "shape": [2, 2, 8, 8]}], "num_classes": "5", "image_shape": "3,8,8"}


def exported(make, name, folder):
    """``(net, example)``, and in the folder what Gluon's ``export`` writes of it, with a loss as Module has it."""
    net, example = ready(make)
    net.hybridize()
    net(example)
    net.export(str(folder / name), epoch=3)
    graph = mx.sym.load(str(folder / f"{name}-symbol.json"))
    mx.sym.SoftmaxOutput(graph, mx.sym.var("softmax_label"), name="softmax").save(str(folder / f"{name}-symbol.json"))
    return net, example


def _use(example):
    """Open what lies at a path, say what it is, compute with it."""
    def use(path):
        found = gc.checkpoint.describe(path)
        forward(loaded(path), example)
        if found.kind != packed_file.NAME:  # which has no losses to leave out
            gc.load(path, head="logits")
        return "loaded"
    return use


def checkpoint_of(make):
    """A pair of files, in a folder."""
    def build(path):
        with tempfile.TemporaryDirectory() as folder:
            _, example = exported(make, "net", Path(folder))
            path.write_bytes(folder_of(Path(folder)))
        use = _use(example)
        return lambda path: use(laid_out(path.read_bytes(), path.with_name("folder")))
    return build


def archive_of(name, files, kind):
    """An archive in the way of one of SageMaker's algorithms, or of GluonTS: ``name`` is that of the checkpoint."""
    def build(path):
        with tempfile.TemporaryDirectory() as folder:
            _, example = exported(plain_net, name, Path(folder))
            for file in files:
                Path(folder, file).write_text(json.dumps(SETTINGS))
            path.write_bytes(folder_of(Path(folder), kind))
        return _use(example)
    return build


def parameters_of(write):
    """Parameters without a graph, for a network that the user has; ``write(path, {name: NDArray})``."""
    def build(path):
        net, example = ready(branches)
        write(path, {name: parameter.data() for name, parameter in network.parameters(net).items()})
        before, after = network.snapshot(net), net(example)

        def use(path):
            network.values.restore_snapshot(net, before)
            try:
                gc.load(path, net)
            except gc.CheckpointError:
                check_same(before, network.snapshot(net))
                check_same({"": after.asnumpy()}, {"": net(example).asnumpy()})
                raise
            forward(net, example)
            return "loaded"
        return use
    return build


def by_mxnet(path, arrays):
    mx.nd.save(str(path), arrays)


def by_numpy(path, arrays):
    with open(path, "wb") as file:
        np.savez(file, **{name: value.asnumpy() for name, value in arrays.items()})


KINDS = {
    "checkpoint": checkpoint_of(plain_net), "checkpoint, branches": checkpoint_of(branches),
    "parameters, .params": parameters_of(by_mxnet), "parameters, .npz": parameters_of(by_numpy),
    "archive, .tar.gz": archive_of("image-classification", ["model-shapes.json"], "tar.gz"),
    "archive, .zip": archive_of("mx-mod", ["additional-params.json", "meta.json"], "zip"),
    "archive, GluonTS": archive_of("prediction_net", ["parameters.json"], "tar"),
}
