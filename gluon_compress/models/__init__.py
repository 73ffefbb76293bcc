"""The articles' networks, and the two of the published MNIST tables."""
from .alexnet import AlexNet
from .lenet import LeNet
from .lenet5_caffe import LeNet5Caffe
from .lenet_300_100 import LeNet300100
from .resnet import ResNet
from .simple_cnn import SimpleCNN
from .small_conv_net import SmallConvNet

__all__ = ["AlexNet", "LeNet", "LeNet300100", "LeNet5Caffe", "ResNet", "SimpleCNN", "SmallConvNet"]
