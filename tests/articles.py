"""The code of the two articles, as far as the errata need it: THE ARTICLES' VERSION, NOT OURS.

Nothing here is meant to be copied. The statements are the articles', down to the Chinese comments; what is
ours is the indentation, which the articles have lost (:func:`as_printed` removes it again), the functions
around top-level code, and the docstrings. Names that the articles do not define stay undefined.

Article 1: mxnet模型压缩与精简:提高深度学习性能的新方法 (MXNet)
Article 2: AI 大模型之 计算机视觉 模型剪枝 结构化 / 非结构化剪枝 指南 (PyTorch)
"""
# ruff: noqa: F821, I001, PERF102, UP008  (as in the articles)
import inspect

import gluon_compress  # before mxnet  # noqa: F401
import mxnet as mx
import numpy as np
from mxnet import nd
from mxnet.gluon import nn


def as_printed(code):
    """The lines of a function, a class or a string as the articles print them: without indentation."""
    source = code if isinstance(code, str) else inspect.getsource(code)
    return "\n".join(line.strip() for line in source.splitlines())


# ---------------------------------------------------------------- article 1, section 1: pruning

class LeNet(nn.Block):
    def __init__(self, **kwargs):
        super(LeNet, self).__init__(**kwargs)
        self.conv = nn.Sequential()
        self.conv.add(nn.Conv2D(channels=20, kernel_size=5, activation='relu'),
                      nn.MaxPool2D(pool_size=2, strides=2),
                      nn.Conv2D(channels=50, kernel_size=3, activation='relu'),
                      nn.MaxPool2D(pool_size=2, strides=2))
        self.dense = nn.Sequential()
        self.dense.add(nn.Dense(128, activation='relu'),
                       nn.Dense(10))
    def forward(self, X):
        conv = self.conv(X)
        output = self.dense(conv.reshape(conv.shape[0], -1))
        return output


def parameter_pruning(model, threshold=0.001):
    parameters = model.collect_params()
    for param_name, param_value in parameters.items():
        if 'dense' not in param_name: # 只对卷积层参数进行剪枝,全连接层不剪枝
            mask = nd.abs(param_value.data()) > threshold
            param_value.set_data(param_value.data() * mask)
            param_value.grad_req = 'null' # 剪枝后参数不再参与梯度计算


# ---------------------------------------------------------------- article 1, section 2: quantization

QUANTIZATION_IMPORTS = """\
import mxnet as mx
from mxnet import gluon, init
from mxnet.gluon import nn
"""


class AlexNet(nn.Block):
    def __init__(self, **kwargs):
        super(AlexNet, self).__init__(**kwargs)
        self.features = nn.Sequential()
        self.features.add(nn.Conv2D(channels=96, kernel_size=11, strides=4, activation='relu'),
                          nn.MaxPool2D(pool_size=3, strides=2),
                          nn.Conv2D(channels=256, kernel_size=5, padding=2, activation='relu'),
                          nn.MaxPool2D(pool_size=3, strides=2),
                          nn.Conv2D(channels=384, kernel_size=3, padding=1, activation='relu'),
                          nn.Conv2D(channels=384, kernel_size=3, padding=1, activation='relu'),
                          nn.Conv2D(channels=256, kernel_size=3, padding=1, activation='relu'),
                          nn.MaxPool2D(pool_size=3, strides=2))
        self.dense = nn.Sequential()
        self.dense.add(nn.Dense(4096, activation='relu'),
                       nn.Dense(4096, activation='relu'),
                       nn.Dense(1000))
    def forward(self, X):
        features = self.features(X)
        output = self.dense(features.reshape(features.shape[0], -1))
        return output


def quantization(model, num_bits=8):
    parameters = model.collect_params()
    for param_name, param_value in parameters.items():  # noqa: B007
        param_value.set_data(mx.nd.round(param_value.data() * ((2**num_bits-1) /
        mx.nd.max(nd.abs(param_value.data())))) / (2**num_bits-1))


# ---------------------------------------------------------------- article 1, section 3: distillation

class ResNet(nn.Block):
    def __init__(self, **kwargs):
        super(ResNet, self).__init__(**kwargs)
        self.features = nn.Sequential()
        self.features.add(nn.Conv2D(channels=64, kernel_size=7, strides=2, padding=3),
                          nn.BatchNorm(),
                          nn.Activation('relu'),
                          nn.MaxPool2D(pool_size=3, strides=2))
        # 省略其他层次
        self.output = nn.Dense(1000)
    def forward(self, X):
        features = self.features(X)
        output = self.output(features.reshape(features.shape[0], -1))
        return output


def build_small_model():
    """The article's top-level lines."""
    small_model = nn.Sequential()
    with small_model.name_scope():
        small_model.add(nn.Conv2D(channels=32, kernel_size=3, strides=1, padding=1),
                        nn.BatchNorm(),
                        nn.Activation('relu'),
                        nn.MaxPool2D(pool_size=2, strides=2),
                        nn.Flatten(),
                        nn.Dense(1000))
    return small_model


def knowledge_distillation(large_model, small_model, temperature=3):
    large_model_probabilities = large_model.softmax()
    small_model_probabilities = small_model.softmax()
    loss = mx.gluon.loss.KLDivLoss()
    with mx.autograd.record():
        output = loss(large_model_probabilities, small_model_probabilities * temperature)
    output.backward()
    optimizer.step(batch_size)


def distillation_loss(large_model_probabilities, small_model_probabilities, temperature=3):
    """The loss of ``knowledge_distillation`` alone, given the probabilities it meant to have."""
    loss = mx.gluon.loss.KLDivLoss()
    return loss(large_model_probabilities, small_model_probabilities * temperature)


# ---------------------------------------------------------------- article 2
# As printed, without the blank lines. The Chinese lines are comments that lost their "#".

PYTORCH_STRUCTURED = """\
python
import torch
import torch.nn as nn
import torch.nn.utils.prune as prune
定义一个简单的卷积神经网络
class SimpleCNN(nn.Module):
def __init__(self):
super(SimpleCNN, self).__init__()
self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
self.fc1 = nn.Linear(320, 50)
self.fc2 = nn.Linear(50, 10)
def forward(self, x):
x = torch.relu(self.conv1(x))
x = torch.max_pool2d(x, 2)
x = torch.relu(self.conv2(x))
x = torch.max_pool2d(x, 2)
x = x.view(-1, 320)
x = torch.relu(self.fc1(x))
x = self.fc2(x)
return x
实例化网络
net = SimpleCNN()
对卷积层进行结构化剪枝
prune.l1_unstructured(net.conv1, 'weight')
prune.l1_unstructured(net.conv2, 'weight')
微调网络
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
criterion = nn.CrossEntropyLoss()
for epoch in range(10):
for data, target in train_loader:
optimizer.zero_grad()
output = net(data)
loss = criterion(output, target)
loss.backward()
optimizer.step()
"""

PYTORCH_UNSTRUCTURED = """\
python
import torch
import torch.nn as nn
import torch.nn.utils.prune as prune
定义一个简单的卷积神经网络
class SimpleCNN(nn.Module):
def __init__(self):
super(SimpleCNN, self).__init__()
self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
self.fc1 = nn.Linear(320, 50)
self.fc2 = nn.Linear(50, 10)
def forward(self, x):
x = torch.relu(self.conv1(x))
x = torch.max_pool2d(x, 2)
x = torch.relu(self.conv2(x))
x = torch.max_pool2d(x, 2)
x = x.view(-1, 320)
x = torch.relu(self.fc1(x))
x = self.fc2(x)
return x
实例化网络
net = SimpleCNN()
对卷积层进行非结构化剪枝
prune.l1_unstructured(net.conv1, 'weight')
prune.l1_unstructured(net.conv2, 'weight')
微调网络
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
criterion = nn.CrossEntropyLoss()
for epoch in range(10):
for data, target in train_loader:
optimizer.zero_grad()
output = net(data)
loss = criterion(output, target)
loss.backward()
optimizer.step()
"""


def pytorch_fine_tuning(net, optimizer, criterion):
    """The article's top-level loop, with what it has by then as arguments."""
    for epoch in range(10):  # noqa: B007
        for data, target in train_loader:
            optimizer.zero_grad()
            output = net(data)
            loss = criterion(output, target)
            loss.backward()
            optimizer.step()


def l1_unstructured(module, name, amount, importance_scores=None):
    """Stand-in for ``torch.nn.utils.prune.l1_unstructured``: PyTorch is no dependency of ours.

    It has that function's signature, in which ``amount`` has no default, and does to ``module``, here a
    dict of arrays, what that does to a module's state (tests/data/torch_prune_state.json): the parameter ``name`` is
    replaced by ``name_orig``, and a mask ``name_mask`` is added that hides the ``amount`` (a fraction)
    of the entries with the lowest absolute value. ``importance_scores`` is not modelled.
    """
    weight = module.pop(name)
    mask = np.ones_like(weight)
    mask.flat[np.argsort(np.abs(weight), axis=None)[:round(amount * weight.size)]] = 0
    module[name + "_orig"], module[name + "_mask"] = weight, mask
    return module
