"""Write tests/data/torch_kl_div.json: what PyTorch's KLDivLoss computes, for tests/test_distillation.py.

    pip install torch==2.13.0 numpy
    python benchmarks/torch_kl_div.py

The file holds logits of a student and of a teacher, and for each temperature the value of
``KLDivLoss(reduction="batchmean")`` of the softened logits with its gradient in the student's logits; both without the
factor T**2, which PyTorch leaves to the caller. For the labels, ``CrossEntropyLoss`` with smoothed and with dense
labels. No MXNet is needed here.
"""
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

FILE = Path(__file__).resolve().parent.parent / "tests" / "data" / "torch_kl_div.json"
BATCH, CLASSES = 5, 7
TEMPERATURES = (0.5, 1.0, 4.0, 20.0)
SMOOTHINGS = (0.0, 0.1, 0.6)


def main():
    generator = np.random.default_rng(0)
    arrays = {"student": generator.normal(scale=4, size=(BATCH, CLASSES)),
              "teacher": generator.normal(scale=4, size=(BATCH, CLASSES)),
              "labels": generator.integers(0, CLASSES, size=BATCH),
              "dense_labels": generator.dirichlet(np.ones(CLASSES), size=BATCH)}
    given = {name: torch.tensor(array) for name, array in arrays.items()}

    def value_and_gradient(loss):
        student = given["student"].clone().requires_grad_()
        value = loss(student)
        value.backward()
        return {"value": value.item(), "gradient": student.grad.tolist()}

    def divergence(temperature):
        return value_and_gradient(lambda student: nn.KLDivLoss(reduction="batchmean")(
            torch.log_softmax(student / temperature, dim=1), torch.softmax(given["teacher"] / temperature, dim=1)))

    def cross_entropy(labels, smoothing):
        loss = nn.CrossEntropyLoss(label_smoothing=smoothing)
        return value_and_gradient(lambda student: loss(student, given[labels]))
    results = {"torch": torch.__version__,
               "arrays": {name: array.tolist() for name, array in arrays.items()},
               "kl_div": {str(temperature): divergence(temperature) for temperature in TEMPERATURES},
               "cross_entropy": {f"{labels} {smoothing}": cross_entropy(labels, smoothing)
                                 for labels in ("labels", "dense_labels") for smoothing in SMOOTHINGS}}
    FILE.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{FILE.name}: {FILE.stat().st_size:,} bytes, torch {torch.__version__}")


if __name__ == "__main__":
    main()
