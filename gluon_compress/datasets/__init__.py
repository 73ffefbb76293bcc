"""Images with labels: MNIST, Fashion-MNIST and CIFAR-10, your own from files; whole batches of them, augmentations."""
from .array_files import array_file
from .augmentation import compose, cutout, random_crop, random_flip
from .batches import Batches
from .folders import image_folder
from .images import ImageDataset, cifar10, fashion_mnist, mnist
from .record_files import record_file
from .shard import Shard

__all__ = ["Batches", "ImageDataset", "Shard", "array_file", "cifar10", "compose", "cutout", "fashion_mnist",
           "image_folder", "mnist", "random_crop", "random_flip", "record_file"]
