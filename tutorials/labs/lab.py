"""What the three labs share: their images, the bar at the end, and what is handed in.

    python lab1_prune.py            # a lab with its solutions, as a script
    python lab1_prune.py --quick    # on a few hundred images: does everything run?
"""
import json
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

import gluon_compress as gc  # before mxnet

from checking import Verdict, check, sentence

FOLDER = Path(__file__).resolve().parent
QUICK = "--quick" in sys.argv[1:] or "LAB_QUICK" in os.environ
FP32_BITS = 32
TRAINING_IMAGES, HELD_OUT_IMAGES = (1000, 500) if QUICK else (10000, 5000)


class Bar(NamedTuple):
    """What a lab asks for at its end: at most so many bytes, minutes and bits, and at least this accuracy."""

    bytes: int
    accuracy: float
    minutes: float
    bits: int = FP32_BITS


BARS = {1: Bar(27_000, 0.975, 4), 2: Bar(11_000, 0.970, 4, 3), 3: Bar(9_000, 0.975, 6)}
QUICK_BARS = {number: bar._replace(accuracy=0.8) for number, bar in BARS.items()}  # some hundred images teach little


def images(held_out=HELD_OUT_IMAGES):
    """MNIST as ``(training images, held-out images, test images)``; the grader takes the same held-out images."""
    train, test = gc.datasets.mnist()
    train, rest = train.split(5000)
    return train.subset(slice(0, TRAINING_IMAGES)), rest.subset(slice(0, held_out)), test


def loaded(path):
    """The network of a file; one on integers is simulated, so that it says the same on every processor."""
    try:
        net = gc.load(path, simulate=True)
    except ValueError:  # it is not on integers
        net = gc.load(path)
    net.hybridize()
    return net


def bits_of(net):
    """How many bits the weights and activations of a network have: 32 where some or all of its layers are in fp32."""
    on_integers = isinstance(net, gc.quantization.IntegerNetwork) and not net.record.left_out
    return net.record.bits if on_integers else FP32_BITS


def measured(path, data):
    """The bytes of a handed-in file, the share of images that its network recognizes, and its bits."""
    net = loaded(path)
    return Path(path).stat().st_size, gc.training.evaluate(net, data), bits_of(net)


def bar_verdict(number, size, accuracy, bits=0, minutes=None, in_language=None, bars=BARS):
    """The :class:`Verdict` on a file; without ``minutes``, as in the grader, the time does not count."""
    bar = bars[number]
    values = {"bytes": f"{size:,}", "most_bytes": f"{bar.bytes:,}", "over": f"{size - bar.bytes:,}",
              "accuracy": f"{accuracy:.2%}", "least": f"{bar.accuracy:.2%}", "most_minutes": f"{bar.minutes:g}",
              "minutes": "-" if minutes is None else f"{minutes:.1f}", "bits": bits, "most_bits": bar.bits}
    missed = [name for name, holds in (
        ("bar_bytes", size <= bar.bytes), ("bar_accuracy", accuracy >= bar.accuracy), ("bar_bits", bits <= bar.bits),
        ("bar_minutes", minutes is None or minutes <= bar.minutes)) if not holds]
    text = " ".join(sentence(name, in_language, **values) for name in missed or ["bar_reached"])
    return Verdict(not missed, missed[0] if missed else "bar_reached", text)


class Lab:
    """One lab: its images, its checks, and the file that is handed in."""

    def __init__(self, number):
        self.number = number
        self.train, held_out, _ = images()
        self.held_out = held_out.batches(500)
        self.example = next(iter(self.held_out))[0]

    def check(self, task, given):
        check(f"{self.number}.{task}", given)

    def accuracy(self, net):
        """The share of the held-out images that a network recognizes."""
        return gc.training.evaluate(net, self.held_out)

    def hand_in(self, compress):
        """Time ``compress()``, save what it returns, measure the file, and say whether the bar is reached.

        ``compress`` returns a network and a list of records, or the network alone; the file is ``lab1.gcz``,
        ``lab2.gcz`` or ``lab3.gcz`` in the folder where the notebook runs.
        """
        started = time.monotonic()
        returned = compress()
        minutes = (time.monotonic() - started) / 60
        if returned is None or returned is ...:
            return print(sentence("no"), sentence("nothing"))
        net, records = returned if isinstance(returned, tuple) else (returned, [])  # its training took minutes
        path = Path(f"lab{self.number}.gcz")
        on_integers = isinstance(net, gc.quantization.IntegerNetwork)
        gc.save(path, net, *records, **({} if on_integers else {"example": self.example}))
        found = bar_verdict(self.number, *measured(path, self.held_out), minutes,
                            bars=QUICK_BARS if QUICK else BARS)
        print(f"{path}: {found.sentence}")


def curves():
    """What ``measure_curves.py`` has measured, which would take too long in a lab, or need a quiet machine."""
    return json.loads((FOLDER / "curves.json").read_text(encoding="utf-8"))
