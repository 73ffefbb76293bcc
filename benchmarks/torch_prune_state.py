"""Write tests/data/torch_prune_state.json: what PyTorch does with the second article's lines, for tests/test_errata.py.

    pip install torch==2.13.0 numpy
    python benchmarks/torch_prune_state.py

The file holds the parameters of ``l1_unstructured`` that have no default, the error without an amount, the names and
shapes of a convolution's state before, pruned and after ``prune.remove``, how many hooks run before its forward pass,
and the rows that ``x.view(-1, 320)`` makes of a batch. No MXNet is needed here.
"""
import inspect
import json
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import prune

FILE = Path(__file__).resolve().parent.parent / "tests" / "data" / "torch_prune_state.json"


def state(module):
    return {"state": {name: list(tensor.shape) for name, tensor in module.state_dict().items()},
            "parameters": sorted(name for name, _ in module.named_parameters()),
            "hooks before the forward pass": len(module._forward_pre_hooks)}


def error_of(call):
    """What the call raises."""
    try:
        call()
    except Exception as error:  # whatever it is goes into the file
        return f"{type(error).__name__}: {error}".splitlines()[0]
    raise AssertionError("no error")


def whole_channels(mask):
    """How many output channels have no weight left."""
    return int((mask.sum(dim=(1, 2, 3)) == 0).sum())


def main():
    torch.manual_seed(0)
    signature = inspect.signature(prune.l1_unstructured)
    found = {"torch": torch.__version__,
             "without a default": [name for name, parameter in signature.parameters.items()
                                   if parameter.default is inspect.Parameter.empty]}
    found["without an amount"] = error_of(lambda: prune.l1_unstructured(nn.Conv2d(1, 10, 5), "weight"))
    conv2 = nn.Conv2d(10, 20, 5)
    found["as built"] = state(conv2)
    prune.l1_unstructured(conv2, "weight", amount=0.5)
    found["pruned"] = state(conv2) | {"channels without weights": whole_channels(conv2.weight_mask)}
    found["loading the pruned state"] = error_of(lambda: nn.Conv2d(10, 20, 5).load_state_dict(conv2.state_dict()))
    prune.remove(conv2, "weight")
    found["removed"] = state(conv2) | {"zeros": int((conv2.weight == 0).sum())}
    structured = nn.Conv2d(10, 20, 5)
    prune.ln_structured(structured, "weight", amount=0.5, n=1, dim=0)
    found["ln_structured"] = state(structured) | {"channels without weights": whole_channels(structured.weight_mask)}
    maps = {"as in the article": (64, 20, 4, 4), "10 channels removed": (64, 10, 4, 4), "32x32 images": (64, 20, 5, 5)}
    found["rows of view(-1, 320)"] = {name: torch.zeros(shape).view(-1, 320).shape[0] for name, shape in maps.items()}
    FILE.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{FILE.name}: torch {torch.__version__}")


if __name__ == "__main__":
    main()
