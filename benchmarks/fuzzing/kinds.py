"""The kinds of files that are read, a good one of each, and all that a user would do with it.

A use is a function of a path. It returns what came of the file, "loaded" or "CheckpointError", or raises:
``CheckpointError``; :class:`Refused` when something loads and then says why it cannot compute; :class:`HalfChanged`
when a failed load has changed the network; anything else is a fault.
"""
import functools
import tempfile
from pathlib import Path

import gluon_compress as gc
import mxnet as mx
import numpy as np
from gluon_compress import checkpoint, network, training
from gluon_compress.checkpoint import file, packed_file
from gluon_compress.errors import NetworkError
from gluon_compress.files import tensorfile
from gluon_compress.network.resizing import capture, put_back

from . import other_formats
from .folders import folder_of, laid_out
from .networks import branches, fresh, many_operators, plain_net, ready, recurrent, wide_net
from .use import HalfChanged, Refused, check_same, forward, loaded

# Of inputs to graphs of one operator.
SHAPES = ((2, 3, 8, 8), (2, 6), (3, 4, 5), (4,), (1, 1), (2, 2, 4, 4, 4), (2, 8, 3), (6, 5), (2, 4, 6, 6))


@functools.cache
def kind(name):
    """``(content of a good file, use)`` of the kind of this name, one of :data:`KINDS`."""
    mx.random.seed(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        use = KINDS[name](path)
        return path.read_bytes() if path.exists() else b"", use


# ---- compressed networks

def _network_of(make, records=lambda net, example: ()):
    def build(path):
        net, example = ready(make)
        gc.save(path, net, *records(net, example))
        return _network_use(make, example)
    return build


def _integers(bits, rate=None):
    def build(path):
        net, example = ready(plain_net)
        simulate = bits < 8
        gc.save(path, gc.quantization.quantize(net, [example], bits=bits, progress=False, simulate=simulate, rate=rate))
        return _network_use(plain_net, example, simulate)
    return build


def _masks_and_scales(net, example):
    return gc.pruning.prune_magnitude(net, 0.6), gc.quantization.quantize_weights(net, bits=3)


def _zeros(net, example):
    """Zeros without masks, in the second layer alone."""
    gc.pruning.prune_magnitude(net, 0.3, select="1")
    return ()


def _masks_and_codebooks(net, example):
    return gc.pruning.prune_magnitude(net, 0.5), gc.coding.share_weights(net, bits=2)


def _rate(net, example):
    """Weights rounded by rate, masks of what is zero, and the channels that went before."""
    plan = gc.pruning.prune_channels(net, example, 0.3)
    scales = gc.quantization.quantize_weights(net, rate=0.01, calibration_data=[example], progress=False)
    return plan, scales


def _trained_for_rate(net, example):
    """Whole numbers of steps, vectors too, after two updates."""
    trainer = gc.coding.RateTrainer(net, 0.3, "adam", {"learning_rate": 0.01}, frequency=1)
    for _ in range(2):
        with mx.autograd.record():
            loss = net(example).square().sum(axis=1)
        loss.backward()
        trainer.step(len(loss))
    return [trainer.scales]


def _channels(net, example):
    plan = gc.pruning.prune_channels(net, example, 0.5)
    return plan, gc.quantization.quantize_weights(net, bits=8)


def _network_use(make, example, simulate=False):
    """Load without a network in each way, then into one; what loads makes a forward pass."""
    kept = []  # (network, its parameters, its output) that no load has changed

    def use(path):
        refusals = 0
        for load in (lambda: gc.load(path, simulate=simulate), lambda: gc.load(path, precision="fp32"),
                     lambda: checkpoint.records(path)):
            try:
                net = load()
            except gc.CheckpointError:
                refusals += 1
            except (ValueError, NetworkError) as error:  # it holds no such network any more, and says so
                if "simulate=True" not in str(error) and "leave it out" not in str(error):
                    raise
                refusals += 1
            else:
                forward(net, example)
        net, before, output = kept.pop() if kept else _another(make, example)
        try:
            gc.load(path, net)
        except gc.CheckpointError:
            check_same(before, network.snapshot(net))
            if not np.array_equal(output, _output(net, example)):
                raise HalfChanged from None
            kept.append((net, before, output))
            if refusals == 3:
                raise
        else:
            forward(net, example)
        return "loaded"
    return use


def _another(make, example):
    net, before = fresh(make)
    return net, before, _output(net, example)


def _output(net, example):
    """The first of the network's outputs."""
    output = net(example)
    return (output[0] if isinstance(output, (list, tuple)) else output).asnumpy()


def _lone_operator(path):
    """There is no good one: :mod:`.graphs` makes up each. What loads computes on inputs of many shapes."""
    def use(path):
        net, refusals = loaded(path), []
        for shape in SHAPES:
            try:
                forward(net, mx.nd.random.normal(shape=shape))
            except Refused as error:
                refusals.append(error)
        if len(refusals) == len(SHAPES):
            raise refusals[0]
        return "loaded"
    return use


def _of_type(dtype):
    """A network that fp32 inputs do not suit: it is loaded, and its parameters are compared."""
    def build(path):
        net, example = ready(plain_net)
        net.cast(dtype)
        gc.save(path, net)
        before = network.snapshot(net)

        def use(path):
            refused = False
            try:
                loaded(path)
            except (gc.CheckpointError, Refused):
                refused = True
            network.values.restore_snapshot(net, before)
            try:
                gc.load(path, net)
            except gc.CheckpointError:
                check_same(before, network.snapshot(net))
                if refused:
                    raise
            return "loaded"
        return use
    return build


def _second_version(path):
    """As the package wrote them in its version 2: tensors in a safetensors file."""
    net, example = ready(plain_net)
    records = _masks_and_scales(net, example)
    tensors, header = file._content_of(net, records, None)
    tensorfile.write(path, packed_file.NAME, tensors, header)
    return _network_use(plain_net, example)


def _work_folder(path):
    """The folder of a compression that is done, and its use: the same call again, on the same network."""
    net, example = ready(plain_net)
    before = network.snapshot(net)
    data = [(example + number, mx.nd.array([number, 1 - number])) for number in range(2)]
    stages = [gc.coding.Pruning(epochs=1, bisections=0), gc.coding.Rounding(rate=0.01)]

    def use(path):
        folder = laid_out(path.read_bytes(), path.with_name("folder")) if path.exists() else path.with_name("good")
        put_back(net, state)
        network.values.restore_snapshot(net, before)
        try:
            gc.coding.compress(net, data, 1.0, data, stages=stages, folder=folder, progress=False)
        except gc.CheckpointError:
            check_same(before, network.snapshot(net))
            raise
        forward(net, example)
        return "loaded"
    state = capture(net)
    use(path)
    path.write_bytes(folder_of(path.with_name("good")))
    return use


# ---- states of trainings and measurements

class _Stopping(list):
    """Batches that end the training in the second epoch, when they are told to."""

    stops, epochs = False, 0

    def __iter__(self):
        self.epochs += 1
        if self.stops and self.epochs == 2:
            raise InterruptedError
        return super().__iter__()


def _masked_trainer(net, optimizer, settings):
    return gc.pruning.MaskedTrainer(net, gc.pruning.prune_magnitude(net, 0.5), optimizer, settings)


def _rate_trainer(net, optimizer, settings):
    return gc.coding.RateTrainer(net, gc.coding.SizeGoal(200, updates=2), optimizer, settings, frequency=1)


def _centroid_trainer(net, optimizer, settings):
    return gc.coding.CentroidTrainer(net, gc.coding.share_weights(net, 2), optimizer, settings)


def _training(optimizer, settings, make_trainer=_masked_trainer):
    """A state after one epoch of two; using it goes on from there."""
    images = mx.nd.array(np.random.RandomState(1).rand(2, 2, 8, 8))

    def use(path):
        mx.random.seed(2)
        net, _ = ready(plain_net)
        trainer = make_trainer(net, optimizer, settings())
        batches, before = [(images, mx.nd.array([1, 2]))], network.snapshot(net)
        data = _Stopping(batches)
        data.stops = not path.exists()
        try:
            training.fit(net, data, 2, trainer, state_path=path, progress=False, validation_data=batches)
        except gc.CheckpointError:
            check_same(before, network.snapshot(net))
            raise
        except NetworkError as error:  # the weights of the file lead to NaN
            raise Refused(str(error)) from error
        except InterruptedError:
            pass
        return "loaded"

    def build(path):
        use(path)
        return use
    return build


def _logits(path):
    teacher, example = ready(plain_net)
    data = [(example, mx.nd.array([1, 2])), (example + 1, mx.nd.array([0, 2]))]

    def use(path):
        for _ in gc.distillation.cache_logits(teacher, data, path, progress=False):
            pass
        return "loaded"
    use(path)
    return use


def _sensitivity(path):
    net, example = ready(plain_net)

    def use(path):
        before = network.snapshot(net)
        try:
            gc.pruning.measure_sensitivity(net, lambda net: 0.5, example, fractions=(0.3, 0.7), state_path=path,
                                           progress=False)
        finally:
            check_same(before, network.snapshot(net))
        return "loaded"
    use(path)
    return use


def _adam():
    return {"learning_rate": 0.01}


def _momentum():
    return {"momentum": 0.9, "learning_rate": 0.1}


def _momentum_and_scheduler():
    return {"momentum": 0.9, "learning_rate": 0.1, "lr_scheduler": mx.lr_scheduler.FactorScheduler(1, 0.9, base_lr=0.1)}


NETWORKS = {
    "masks and scales": _network_of(plain_net, _masks_and_scales), "channels": _network_of(plain_net, _channels),
    "masks and codebooks": _network_of(plain_net, _masks_and_codebooks),
    "rate": _network_of(plain_net, _rate), "trained for rate": _network_of(plain_net, _trained_for_rate),
    "wide": _network_of(wide_net, _zeros), "branches": _network_of(branches),
    "operators": _network_of(many_operators), "recurrent": _network_of(recurrent),
    "int8": _integers(8), "int4": _integers(4), "int8, rate": _integers(8, 0.01),
    "float16": _of_type("float16"), "float64": _of_type("float64"), "version 2": _second_version,
}
STATES = {  # of tensors
    "training, Adam": _training("adam", _adam), "training, scheduler": _training("sgd", _momentum_and_scheduler),
    "training, rate": _training("adam", _adam, _rate_trainer),
    "training, centroids": _training("sgd", _momentum, _centroid_trainer), "logits": _logits,
}
KINDS = {**NETWORKS, "one operator": _lone_operator, **STATES, "sensitivity": _sensitivity, "work folder": _work_folder,
         **other_formats.KINDS}
