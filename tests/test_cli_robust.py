"""Whatever happens to a command while it runs: signals, full disks, closed pipes, files that are there."""
import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import gluon_compress as gc  # before mxnet
import mxnet as mx
import numpy as np
import pytest
from full_disk import files_end_at
from gluon_compress.cli import main
from gluon_compress.cli.group import COMMANDS
from mxnet.gluon import nn

ROOT = Path(gc.__file__).resolve().parents[1]
MODULE = '''
import os, signal
import gluon_compress, mxnet as mx, numpy as np
from mxnet.gluon import nn

def net():
    made = nn.HybridSequential()
    made.add(nn.Conv2D(16, 3, padding=1, in_channels=3), nn.BatchNorm(), nn.Activation("relu"),
             nn.Conv2D(16, 3, padding=1, in_channels=16), nn.Activation("relu"), nn.GlobalAvgPool2D(),
             nn.Dense(3, in_units=16))
    made.initialize(mx.init.Xavier())
    return made

class Batches:
    """Four batches; before the given one, counted over all passes, this process gets a signal."""
    def __init__(self, name, when):
        self.name, self.left = name, when
    def __len__(self):
        return 4
    def __iter__(self):
        for number in range(4):
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), getattr(signal, self.name))
            random = np.random.RandomState(number)
            yield mx.nd.array(random.rand(6, 3, 8, 8)), mx.nd.array(random.randint(0, 3, 6))

def quiet(): return Batches("SIGINT", 0), Batches("SIGINT", 0)
''' + "".join(f'def {name.lower()}_{when}(): return Batches("{name}", {when}), Batches("{name}", {when})\n'
              for name in ("SIGINT", "SIGTERM", "SIGHUP") for when in (1, 3, 7))
# {command: (words before the data, words after); what is made}, with robust_module:... as the data
WITH_DATA = {
    "prune": (("prune", "model", "--ratio", "0.5", "--epochs", "3"), "out.gcz"),
    "quantize": (("quantize", "model", "--max-accuracy-drop", "0.5"), "out.gcz"),
    "sensitivity": (("sensitivity", "model"), "out.json"),
    "distill": (("distill", "robust_module:net", "--teacher", "model", "--epochs", "3"), "out.gcz"),
    "compress": (("compress", "model", "--epochs", "3"), "out.gcz"),
    "evaluate": (("evaluate", "model"), None)}
