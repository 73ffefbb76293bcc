"""Int8 networks with older instructions than this processor has: exact, accurate, and from the same files.

``DNNL_MAX_CPU_ISA`` hides instructions from oneDNN; it is read once, so that each level is a process of its own.
"""
import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import gluon_compress as gc  # before mxnet

import numpy as np  # noqa: I001
import pytest

TESTS = Path(__file__).resolve().parent
# What oneDNN calls them, and what Linux does; AVX has the integer kernels of SSE41
INSTRUCTIONS = {"SSE41": "sse4_1", "AVX2": "avx2", "AVX512_CORE": "avx512bw", "AVX512_CORE_VNNI": "avx512_vnni"}
FLAGS = Path("/proc/cpuinfo").read_text().split()
LEVELS = [level for level, flag in INSTRUCTIONS.items() if flag in FLAGS] or ["SSE41"]  # others would hide nothing
HIDING = LEVELS if "amx_int8" in FLAGS else LEVELS[:-1]  # without AMX the best one is what test_integer_kernels.py runs
NETWORKS = {"lenet_mnist": 200, "resnet18_cifar10": 50, "alexnet_cifar10": 50}  # and how many test images
LARGEST = "alexnet_cifar10"  # with the oldest instructions alone: its layers are of the same kinds as the others'


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the shipped networks, quantized by whatever instructions this process has."""
    folder = tmp_path_factory.mktemp("levels")
    for name, count in NETWORKS.items():
        train, test = gc.datasets.mnist() if "mnist" in name else gc.datasets.cifar10()
        size = gc.params.manifest()[name]["input_shape"][-1]
        resized = {} if size in (28, 32) else {"size": size}
        net = gc.params.load(name)
        images, _ = next(iter(test.batches(count, **resized)))
        int8 = gc.quantization.quantize(net, train.subset(slice(0, 128)).batches(64, **resized), progress=False)
        gc.save(folder / f"{name}.gcz", int8)
        np.savez(folder / f"{name}.npz", images=images.asnumpy(), outputs=net(images).asnumpy())
    return folder


@pytest.fixture(scope="module")
def run(files):
    """``run(level)``: what instruction_levels.py finds at this level, and the line in which pytest counts."""
    @functools.cache
    def run(level):
        names = [name for name in NETWORKS if name != LARGEST or level == LEVELS[0]]
        kernels = [TESTS / "test_integer_kernels.py"] if level in HIDING else []
        environment = {**os.environ, "DNNL_MAX_CPU_ISA": level, "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, *map(str, [TESTS / "instruction_levels.py", files, ",".join(names),
                                                          *kernels])],
                              env=environment, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        *printed, found = done.stdout.splitlines()
        assert json.loads(found)["networks"].keys() == set(names)
        return json.loads(found), printed
    return run


@pytest.mark.parametrize("level", HIDING)
def test_kernels_compute_what_numpy_does(level, run):
    found, printed = run(level)
    assert found["kernels"] == 0 and re.match(r"[1-9]\d+ passed", printed[-1]), printed[-100:]


@pytest.mark.parametrize("level", LEVELS)
def test_shipped_networks_from_one_file(level, run):
    """Kernels lose what their simulation loses, and little; what is saved again has all 8 bits."""
    found, _ = run(level)
    again = found["networks"]["lenet_mnist"]
    assert again["written as read"] and again["largest code"] >= 127  # 8 bits in full
    for name, network in found["networks"].items():
        assert abs(network["kernels to fp32"] - network["simulation to fp32"]) < 1, (name, network)
        assert network["kernels to fp32"] > 30 and network["agreement"] >= 0.98, (name, network)
        assert (network["narrowed"] > 0) == found["saturates"], (name, network)
