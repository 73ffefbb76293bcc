"""Write tests/data/torch_prune_masks.safetensors: what torch.nn.utils.prune does, for tests/test_unstructured.py.

    pip install torch==2.13.0 safetensors numpy
    python benchmarks/torch_prune_masks.py

The file holds two weights, of a convolution and of a dense layer, without ties; importance scores for both; and for
each case the masks after each round of pruning, as ``<case>/<round>/<layer>`` in packed bits. The cases, with the
amounts of their rounds, are in the file's metadata as JSON. No MXNet is needed here.
"""
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn
from torch.nn.utils import prune

FILE = Path(__file__).resolve().parent.parent / "tests" / "data" / "torch_prune_masks.safetensors"
SHAPES = {"conv": (6, 4, 3, 3), "dense": (10, 24)}

# Integers are numbers of weights and floats are fractions of what remains: 1 is one weight, 1.0 all of them.
# 0.0625 * 216 is 13.5 and 0.0625 * 456 is 28.5, which round to the even numbers.
AMOUNTS = [[0], [1], [7], [0.0], [0.1], [0.25], [1 / 3], [0.0625], [0.9], [0.5, 0.5], [0.2] * 5, [10, 10],
           [0.3, 25, 0.3], [0, 0.5], [30, 0.625]]
LAYER_ONLY = [[0.995]]  # of both together it would be all of one
GLOBAL_ONLY = [[0.8], [100], [150, 0.4]]


def weights(seed):
    """Arrays of normal numbers, no two of the same magnitude."""
    generator = np.random.default_rng(seed)
    arrays = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    together = np.abs(np.concatenate([array.ravel() for array in arrays.values()]))
    assert len(np.unique(together)) == together.size
    return arrays


def modules(arrays):
    built = {"conv": nn.Conv2d(4, 6, 3), "dense": nn.Linear(24, 10)}
    for name, module in built.items():
        module.weight = nn.Parameter(torch.tensor(arrays[name]))
    return built


def masks(built):
    return {name: module.weight_mask.numpy().astype(np.uint8) for name, module in built.items()}


def layer_round(built, amount, scores):
    for name, module in built.items():
        prune.l1_unstructured(module, "weight", amount, None if scores is None else torch.tensor(scores[name]))


def global_round(built, amount, scores):
    given = None if scores is None else {(module, "weight"): torch.tensor(scores[name])
                                         for name, module in built.items()}
    prune.global_unstructured([(module, "weight") for module in built.values()], prune.L1Unstructured, given,
                              amount=amount)


def random_round(built, amount, scores):
    """Its weights are its own; the tests compare how many go."""
    for module in built.values():
        prune.random_unstructured(module, "weight", amount)


def main():
    torch.manual_seed(0)
    values = weights(0)
    scores = {name: np.abs(array) for name, array in weights(1).items()}
    arrays = {f"weights/{name}": array for name, array in values.items()}
    arrays.update({f"importance/{name}": array for name, array in scores.items()})
    cases = {}
    kinds = [("layer", layer_round, AMOUNTS + LAYER_ONLY, None), ("global", global_round, AMOUNTS + GLOBAL_ONLY, None),
             ("layer_importance", layer_round, [[0.3], [0.4, 11]], scores),
             ("global_importance", global_round, [[0.3], [0.4, 11]], scores),
             ("random", random_round, AMOUNTS, None)]
    for kind, prune_round, every, given in kinds:
        for number, amounts in enumerate(every):
            case = f"{kind}_{number}"
            cases[case] = amounts
            built = modules(values)
            for index, amount in enumerate(amounts):
                prune_round(built, amount, given)
                arrays.update({f"{case}/{index}/{name}": np.packbits(mask) for name, mask in masks(built).items()})
    FILE.parent.mkdir(parents=True, exist_ok=True)
    save_file(arrays, FILE, {"record": json.dumps({"torch": torch.__version__, "cases": cases})})
    print(f"{FILE.name}: {len(cases)} cases, {FILE.stat().st_size:,} bytes, torch {torch.__version__}")


if __name__ == "__main__":
    main()
