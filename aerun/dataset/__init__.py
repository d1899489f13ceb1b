"""Data sets. Each reads arrays; what happens to them next (splits, transforms, device) is the same for all."""

from aerun.dataset.array import Array
from aerun.dataset.base import Dataset
from aerun.dataset.data import Data, Split, as_float
from aerun.dataset.folder import ImageFolder
from aerun.dataset.given import Given
from aerun.dataset.idx import KMNIST, MNIST, FashionMNIST, FashionMNISTMini
from aerun.dataset.patches import Patches
from aerun.dataset.random import Random
from aerun.dataset.vision import CIFAR10, SVHN

__all__ = [
    "CIFAR10",
    "KMNIST",
    "MNIST",
    "SVHN",
    "Array",
    "Data",
    "Dataset",
    "FashionMNIST",
    "FashionMNISTMini",
    "Given",
    "ImageFolder",
    "Patches",
    "Random",
    "Split",
    "as_float",
]
