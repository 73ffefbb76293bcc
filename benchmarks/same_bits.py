"""Whether two checkouts compute the same bits: networks on integers, training with rounding, pruning, files.

    python benchmarks/same_bits.py ../other                  # this checkout beside another; about eight minutes
    python benchmarks/same_bits.py ../other --only lenet_mnist --only activations
    python benchmarks/same_bits.py > digests.txt             # of this checkout alone

Each line is a case and the first digits of the SHA-256 of all that came out: outputs, parameters, records, bytes of
files. Both sides run the same cases, those of the script that is started, one after the other on the same machine with
one thread; ``DNNL_MAX_CPU_ISA=AVX2`` in the environment compares what other processors compute. Exits with 1 where
they differ. For changes that are to change nothing.
"""
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx
import numpy as np
from gluon_compress.network import parameters
from mxnet import autograd, gluon
from mxnet.gluon import nn
from mxnet.gluon.model_zoo import vision

QUIET = {"progress": False}
METHODS = ("mse", "minmax", "percentile", "entropy")
SHIPPED = {"lenet_mnist": (1, 28, 28), "alexnet_cifar10": None, "resnet18_cifar10": (3, 32, 32)}
STEPS, BATCH = 3, 8


class Activations(nn.HybridBlock):
    """Leaky ReLU, PReLU of a slope for each channel, ReLU6, concatenation, a layer called twice, a shifted shortcut."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.stem, self.norm, self.leaky = nn.Conv2D(8, 3, padding=1), nn.BatchNorm(), nn.LeakyReLU(0.1)
            self.one, self.prelu = nn.Conv2D(8, 3, padding=1), nn.PReLU(mx.init.Uniform(0.4), 8)
            self.two, self.twice = nn.Conv2D(8, 1), nn.Conv2D(16, 3, padding=1)
            self.branch, self.short = nn.Conv2D(16, 3, padding=1), nn.Conv2D(16, 1)
            self.out_norm, self.hidden, self.head = nn.BatchNorm(), nn.Dense(16), nn.Dense(5)

    def hybrid_forward(self, F, x):
        x = self.leaky(self.norm(self.stem(x)))
        x = F.concat(F.relu(self.two(x)), F.relu(self.prelu(self.one(x))), dim=1)
        x = F.clip(self.twice(F.relu(self.twice(x))), 0, 6)
        x = F.relu(self.out_norm(self.branch(x)) + self.short(x))
        return self.head(F.relu(self.hidden(F.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="avg"))))


BUILT = {
    "activations": (Activations, (3, 16, 16)), "mobilenet": (lambda: vision.mobilenet0_25(classes=5), (3, 32, 32)),
    "mobilenet_v2": (lambda: vision.mobilenet_v2_0_25(classes=5), (3, 32, 32)),
    "resnet_v2": (lambda: vision.resnet18_v2(classes=5), (3, 32, 32)),
    "densenet": (lambda: vision.DenseNet(8, 4, [2, 2], classes=5), (3, 224, 224)),
    "bottleneck": (lambda: gc.models.ResNet(50, 10, thumbnail=True, width=4), (3, 16, 16))}


def network(name):
    """``(net, shape of a sample)``: shipped parameters, or random ones that are the same each time."""
    if name in SHIPPED:
        return gc.params.load(name), SHIPPED[name] or tuple(gc.params.manifest()[name]["input_shape"][-3:])
    make, shape = BUILT[name]
    net = make()
    net.initialize(mx.init.Zero())
    net(mx.nd.zeros((2, *shape)))
    generator = np.random.RandomState(11)
    for _, parameter in sorted(parameters(net).items()):
        value = generator.standard_normal(parameter.shape)
        if value.ndim > 1:
            value *= np.sqrt(2 / np.prod(value.shape[1:]))
        elif parameter.name.endswith(("gamma", "running_var")):
            value = 0.8 + 0.4 * generator.random_sample(parameter.shape)
        else:
            value *= 0.1
        parameter.set_data(mx.nd.array(value))
    return net, shape


def batches(shape, number=2):
    """Batches (images, labels): smooth noise, above zero."""
    generator = np.random.RandomState(13)
    coarse = generator.random_sample((number, BATCH, shape[0], 1 + shape[1] // 4, 1 + shape[2] // 4))
    images = coarse.repeat(4, axis=3).repeat(4, axis=4)[..., :shape[1], :shape[2]]
    images = images + 0.1 * generator.random_sample(images.shape)
    return [(mx.nd.array(image), mx.nd.array(generator.randint(0, 5, BATCH))) for image in images]


def digest(*things):
    """SHA-256 of arrays, bytes and whatever JSON can hold."""
    found = hashlib.sha256()
    for thing in things:
        if isinstance(thing, mx.nd.NDArray):
            thing = thing.asnumpy()
        if isinstance(thing, np.ndarray):
            thing = f"{thing.dtype.str} {thing.shape}\n".encode() + thing.tobytes()
        elif not isinstance(thing, bytes):
            thing = json.dumps(thing, sort_keys=True).encode()
        found.update(thing)
    return found.hexdigest()[:16]


def arrays_of(net):
    return [part for name, parameter in sorted(parameters(net).items()) for part in (name, parameter.data())]


def outputs_of(net, data):
    return [net(images) for images, _ in data]


def bytes_of(net, *records):
    """The bytes of a file, with its header in order: safetensors writes that in another one each time."""
    with tempfile.TemporaryDirectory() as folder:
        gc.save(Path(folder) / "net.gcz", net, *records)
        content = (Path(folder) / "net.gcz").read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.dumps(json.loads(content[8:end]), sort_keys=True).encode() + content[end:]


def integer_digests(int8, data):
    """{what: digest} of a network on integers, and of what it is once it was saved and loaded."""
    found = {"outputs": digest(*outputs_of(int8, data)), "bytes": digest(bytes_of(int8)),
             "record": digest(int8.record.to_dict(), int8.record.processor),
             "codes": digest(*(part for item in sorted(int8.codes.items()) for part in item)),
             "rest": digest(*(part for item in sorted(int8.fp32_values().items()) for part in item)),
             "report": digest(gc.report(int8, data[0][0]).to_dict())}
    with tempfile.TemporaryDirectory() as folder:
        gc.save(Path(folder) / "net.gcz", int8)
        again = gc.load(Path(folder) / "net.gcz", simulate=int8.simulated)
        whole = gc.load(Path(folder) / "net.gcz", precision="fp32")
    found["loaded"] = digest(*outputs_of(again, data), again.record.to_dict(), bytes_of(again))
    found["loaded as fp32"] = digest(*outputs_of(whole, data))
    return found


def quantized(name):
    """{case: digests} of what quantize makes of a network in several ways."""
    net, shape = network(name)
    data = batches(shape)
    ways = {method: {"method": method} for method in METHODS}
    ways.update({"equalized": {"equalize": True}, "plain": {"equalize": False, "correct_bias": False},
                 "simulated": {"simulate": True}, "4 bits": {"simulate": True, "bits": 4},
                 "2 bits equalized": {"simulate": True, "bits": 2, "equalize": True, "method": "minmax"}})
    found = {}
    for way, options in ways.items():
        int8 = gc.quantization.quantize(net, data, **options, **QUIET)
        found[way] = integer_digests(int8, data)
    layers = [name.partition("_again")[0] for name in int8.record.layers]
    found["two excluded"] = integer_digests(
        gc.quantization.quantize(net, data, exclude=[layers[0], layers[len(layers) // 2]], **QUIET), data)
    found["network untouched"] = {"parameters": digest(*arrays_of(net))}
    return found


def bounded(name):
    """A bound of accuracy that not all layers keep: agreement with the fp32 network's outputs."""
    net, shape = network(name)
    data = batches(shape)
    expected = [output.asnumpy() for output in outputs_of(net, data)]

    def closeness(other):
        return -float(sum(np.abs(output.asnumpy() - known).mean()
                          for output, known in zip(outputs_of(other, data), expected)))
    bound = 0.6 * -closeness(gc.quantization.quantize(net, data, **QUIET))
    return {"max_accuracy_drop": integer_digests(
        gc.quantization.quantize(net, data, evaluate=closeness, max_accuracy_drop=bound, **QUIET), data)}


def trained(name):
    """Three steps of training with rounding, and what they become."""
    net, shape = network(name)
    data, found = batches(shape), {}
    for bits in (8, 4):
        qat = gc.quantization.prepare_qat(net, data, bits=bits, **QUIET)
        trainer, loss = gluon.Trainer(qat.collect_params(), "adam", {"learning_rate": 1e-3}), []
        for step in range(STEPS):
            images, labels = data[step % len(data)]
            with autograd.record():
                loss.append(gluon.loss.SoftmaxCrossEntropyLoss()(qat(images), labels))
            loss[-1].backward()
            trainer.step(BATCH)
        converted = qat.convert(simulate=bits < 8)
        found[f"QAT, {bits} bits"] = {"losses": digest(*loss), "parameters": digest(*arrays_of(qat)),
                                      **integer_digests(converted, data)}
    return found


def pruned(name):
    """Weights and channels pruned, scales with them, saved."""
    net, shape = network(name)
    data = batches(shape)
    masks = gc.pruning.prune_magnitude(net, 0.7)
    scales = gc.quantization.quantize_weights(net, bits=8)
    found = {"masks and scales": {"parameters": digest(*arrays_of(net)), "bytes": digest(bytes_of(net, masks, scales)),
                                  "outputs": digest(*outputs_of(net, data))}}
    net, _ = network(name)
    plan = gc.pruning.prune_channels(net, data[0][0], ratio=0.5)
    found["channels"] = {"parameters": digest(*arrays_of(net)), "bytes": digest(bytes_of(net, plan)),
                         "plan": digest(plan.to_dict()), "outputs": digest(*outputs_of(net, data))}
    found["channels, then integers"] = integer_digests(gc.quantization.quantize(net, data, **QUIET), data)
    return found


def cases(only):
    """Yield ``(case, {what: digest})`` of the networks that ``only`` names, by default of all."""
    for name in (*SHIPPED, *BUILT):
        if not only or name in only:
            for part in (quantized, trained, pruned, *([bounded] if name in ("lenet_mnist", "activations") else [])):
                for case, digests in part(name).items():
                    yield f"{name}: {case}", digests


def of_checkout(folder, only):
    """{case: digests} that a process prints in which gluon_compress is that of ``folder``."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-W", "ignore", __file__, "--json", *(f"--only={name}" for name in only)],
                          check=True, text=True, stdout=subprocess.PIPE, cwd=folder, env=environment)
    package, *found = map(json.loads, done.stdout.splitlines())
    if Path(package).resolve() != (Path(folder) / "gluon_compress").resolve():
        raise click.ClickException(f"{folder} holds no gluon_compress that could be imported: {package} was")
    return dict(found)


@click.command(help=__doc__.split("\n")[0])
@click.argument("other", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--only", multiple=True, type=click.Choice([*SHIPPED, *BUILT]), help="Of this network; repeat for more.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one line for each case.")
def main(other, only, as_json):
    if other is None:
        if as_json:
            click.echo(json.dumps(str(Path(gc.__file__).parent)))
        for case, digests in cases(only):
            click.echo(json.dumps([case, digests]) if as_json else f"{case}: {digests}")
        return
    here, there = (of_checkout(folder, only) for folder in (Path(__file__).resolve().parent.parent, other.resolve()))
    differing = 0
    for case in {**here, **there}:
        ours, theirs = here.get(case, {}), there.get(case, {})
        different = [what for what in {**ours, **theirs} if ours.get(what) != theirs.get(what)]
        differing += bool(different)
        click.echo(f"{case}: {'the same' if not different else 'DIFFERENT ' + ', '.join(different)}")
    click.echo(f"{len(here)} cases, {differing} differ")
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
