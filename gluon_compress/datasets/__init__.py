"""MNIST, Fashion-MNIST and CIFAR-10, complete and verified; whole batches of images, and augmentations."""
from .augmentation import compose, cutout, random_crop, random_flip
from .batches import Batches
from .images import ImageDataset, cifar10, fashion_mnist, mnist
from .shard import Shard

__all__ = ["Batches", "ImageDataset", "Shard", "cifar10", "compose", "cutout", "fashion_mnist", "mnist", "random_crop",
           "random_flip"]
