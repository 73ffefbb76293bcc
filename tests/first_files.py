"""Files of every kind as the first version wrote them, and what was in them.

    python tests/first_files.py            # at commit f76e295, which made what lies in tests/data/first_files
    python tests/first_files.py third      # when version 3 of compressed files came: tests/data/third_version

They stay as they are: later versions must read them and find the same bits. ``content.json`` has, for each file, the
SHA-256 of each array that was loaded, and the records as JSON.
"""
import hashlib
import json
import sys
from pathlib import Path

import gluon_compress as gc

import mxnet as mx  # noqa: I001
import numpy as np
from networks import NormNet

FOLDER = Path(__file__).resolve().parent / "data" / "first_files"
THIRD = FOLDER.with_name("third_version")


def network():
    """The network of all files, with the same values each time."""
    net = NormNet(prefix="first_")
    net.initialize(mx.init.Zero())
    net(example())
    generator = np.random.RandomState(3)
    for name, parameter in sorted(gc.network.parameters(net).items()):
        values = generator.standard_normal(parameter.shape)
        positive = "running_var" in name or "gamma" in name
        parameter.set_data(mx.nd.array(np.abs(values) + 0.5 if positive else values / 4))
    return net


def example():
    return mx.nd.array(np.random.RandomState(5).rand(8, 3, 12, 12))


def batches():
    """Two batches (input, label) of five classes."""
    generator = np.random.RandomState(7)
    return [(mx.nd.array(generator.rand(8, 3, 12, 12)), mx.nd.array(generator.randint(0, 5, 8))) for _ in range(2)]


def digests(arrays):
    """{name: SHA-256 of the bytes, with type and shape}."""
    return {name: hashlib.sha256(f"{array.dtype.str} {array.shape}\n".encode() + array.tobytes()).hexdigest()
            for name, array in sorted(arrays.items())}


def parameters_of(net):
    return {name: parameter.data().asnumpy() for name, parameter in gc.network.parameters(net).items()}


def masks_as_json(masks):
    return {"kept": digests(masks.kept), "left_out": masks.left_out}


def scales_as_json(scales):
    return {"layers": {name: {"bits": layer["bits"], "axis": layer["axis"], **digests({"scale": layer["scale"]})}
                       for name, layer in scales.weights.items()}, "left_out": scales.left_out}


def train(state_path):
    """One epoch with masks; the state of it stays at ``state_path``."""
    net = network()
    masks = gc.pruning.prune_magnitude(net, 0.5)
    trainer = gc.pruning.MaskedTrainer(net, masks, "adam", {"learning_rate": 0.01})
    gc.training.fit(net, batches(), 1, trainer=trainer, state_path=state_path, progress=False)
    return net


def _compressed(folder):
    """Compressed networks of all kinds, and {name: content}."""
    content = {}
    net = network()
    masks = gc.pruning.prune_magnitude(net, 0.6)
    gc.save(folder / "masks.gcz", net, masks)
    content["masks.gcz"] = {"parameters": digests(parameters_of(net)), "masks": masks_as_json(masks)}
    for bits in (8, 3):
        scales = gc.quantization.quantize_weights(net, bits)
        gc.save(folder / f"masks_scales{bits}.gcz", net, masks, scales)
        content[f"masks_scales{bits}.gcz"] = {"parameters": digests(parameters_of(net)), "masks": masks_as_json(masks),
                                              "scales": scales_as_json(scales)}
    net = network()
    plan = gc.pruning.prune_channels(net, example(), ratio=0.5, round_to=1)
    scales = gc.quantization.quantize_weights(net, 8)
    gc.save(folder / "plan_scales.gcz", net, plan, scales)
    content["plan_scales.gcz"] = {"parameters": digests(parameters_of(net)), "plan": plan.to_dict(),
                                  "scales": scales_as_json(scales)}
    for bits in (8, 4):
        integers = gc.quantization.quantize(network(), batches(), bits=bits, simulate=True, progress=False)
        gc.save(folder / f"integers{bits}.gcz", integers)
        content[f"integers{bits}.gcz"] = {"parameters": digests(integers.fp32_values()),
                                          "codes": digests(integers.codes), "record": integers.record.to_dict(),
                                          "output": integers(example()).asnumpy().tolist()}
    return content


def _states(folder):
    content = {}
    net = train(folder / "training.state")
    content["training.state"] = {"parameters": digests(parameters_of(net))}
    cached = gc.distillation.cache_logits(network(), batches(), folder / "logits.safetensors", progress=False)
    content["logits.safetensors"] = {"logits": [logits.asnumpy().tolist() for _, _, logits in cached]}
    curves = gc.pruning.measure_sensitivity(network(), norm_of_weights, kind="weights", fractions=(0.25, 0.5),
                                    state_path=folder / "sensitivity.json", progress=False)
    content["sensitivity.json"] = {"curves": curves.to_dict()}
    return content


def norm_of_weights(net):
    """Stands for an accuracy: a number that follows from the weights alone, exactly."""
    return float(sum(np.abs(array).astype(np.float64).sum().round(3) for array in parameters_of(net).values()))


def _write(folder, *makers):
    folder.mkdir(parents=True, exist_ok=True)
    content = {name: value for make in makers for name, value in make(folder).items()}
    (folder / "content.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    print("\n".join(f"{path.stat().st_size:>8,} {path}" for path in sorted(folder.iterdir())))


if __name__ == "__main__":
    if sys.argv[1:] == ["third"]:
        _write(THIRD, _compressed)
    else:
        _write(FOLDER, _compressed, _states)
