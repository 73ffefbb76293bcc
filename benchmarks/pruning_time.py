"""Time to plan and prune ResNet-50 and DenseNet-121, beside Torch-Pruning on the same networks in the same run.

    python3 -m venv /tmp/beside && /tmp/beside/bin/pip install -e . torch torch-pruning
    /tmp/beside/bin/python benchmarks/pruning_time.py

Both remove half of the channels of every layer but the last, by the L1 norm over the group, from random weights at
224x224, one image, two threads, from the call to the finished smaller network; alternately, five times each, after
one run that is not counted. The torch networks are written out below, since torchvision is not needed otherwise;
the parameter counts before and after are printed, so that it can be seen that they are the same networks.
"""
import time
from importlib.metadata import version

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
import mxnet as mx
import numpy as np
import recording
import torch
import torch_pruning
from gluon_compress.tables import format_table
from mxnet.gluon.model_zoo import vision
from torch import nn

RATIO, REPEATS, THREADS = 0.5, 5, 2


class Bottleneck(nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width))
        self.shortcut = nn.Identity() if stride == 1 and channels == 4 * width else nn.Sequential(
            nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))

    def forward(self, x):
        return torch.relu(self.body(x) + self.shortcut(x))


class ResNet50(nn.Module):
    def __init__(self):
        super().__init__()
        layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        channels = 64
        for stage, blocks in enumerate((3, 4, 6, 3)):
            for block in range(blocks):
                layers.append(Bottleneck(channels, 64 * 2 ** stage, 2 if stage and not block else 1))
                channels = 256 * 2 ** stage
        self.features, self.output = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1)), nn.Linear(2048, 1000)

    def forward(self, x):
        return self.output(self.features(x).flatten(1))


class DenseLayer(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128), nn.ReLU(), nn.Conv2d(128, 32, 3, padding=1, bias=False))

    def forward(self, x):
        return torch.cat([x, self.body(x)], 1)


class DenseNet121(nn.Module):
    def __init__(self):
        super().__init__()
        layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        channels = 64
        for stage, blocks in enumerate((6, 12, 24, 16)):
            for _ in range(blocks):
                layers.append(DenseLayer(channels))
                channels += 32
            if stage < 3:
                layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels // 2, 1, bias=False),
                           nn.AvgPool2d(2, 2)]
                channels //= 2
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.output = nn.Linear(channels, 1000)

    def forward(self, x):
        return self.output(self.features(x).flatten(1))


def ours(name):
    """(seconds, parameters before, parameters after)."""
    net = vision.get_model(name)
    net.initialize(mx.init.Xavier())
    example = mx.nd.zeros((1, 3, 224, 224))
    net(example)
    mx.nd.waitall()
    before = trained_parameters(net)
    started = time.perf_counter()
    gc.pruning.prune_channels(net, example, RATIO, round_to=1)
    mx.nd.waitall()
    seconds = time.perf_counter() - started
    assert net(example).shape == (1, 1000)
    return seconds, before, trained_parameters(net)


def trained_parameters(net):
    return sum(p.data().size for p in net.collect_params().values() if p.grad_req != "null")


def theirs(network):
    net = network().eval()
    example = torch.zeros(1, 3, 224, 224)
    net(example)
    before = sum(p.numel() for p in net.parameters())
    started = time.perf_counter()
    pruner = torch_pruning.pruner.MetaPruner(
        net, example, importance=torch_pruning.importance.GroupMagnitudeImportance(p=1), pruning_ratio=RATIO,
        ignored_layers=[net.output])
    pruner.step()
    seconds = time.perf_counter() - started
    assert net(example).shape == (1, 1000)
    return seconds, before, sum(p.numel() for p in net.parameters())


def main():
    torch.set_num_threads(THREADS)
    result = {"threads": THREADS, "torch": torch.__version__, "torch_pruning": version("torch-pruning"),
              "mxnet": mx.__version__, "networks": {}}
    for name, network in (("resnet50_v1", ResNet50), ("densenet121", DenseNet121)):
        runs = [(ours(name), theirs(network)) for _ in range(REPEATS + 1)][1:]
        result["networks"][name] = {
            who: {"seconds": [run[index][0] for run in runs], "before": runs[0][index][1], "after": runs[0][index][2]}
            for index, who in enumerate(("gluon_compress", "Torch-Pruning"))}
    rows = [(name, who, f"{np.median(entry['seconds']):.3f}", f"{min(entry['seconds']):.3f}",
             f"{max(entry['seconds']):.3f}", f"{entry['before']:,}", f"{entry['after']:,}")
            for name, both in result["networks"].items() for who, entry in both.items()]
    text = format_table(("network", "tool", "median s", "least", "most", "parameters", "after"), rows) + "\n"
    file = recording.RESULTS / "pruning_time.json"
    recording.write_result(file, result, text)
    print(f"{text}Made: {file} and {file.with_suffix('.txt').name}")


if __name__ == "__main__":
    main()
