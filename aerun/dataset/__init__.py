"""Data sets. Each one reads arrays; splits, transforms and placement on the device are the same for all."""

from aerun.dataset.array import Array
from aerun.dataset.base import Dataset
from aerun.dataset.data import Arrays, Data, Split, as_float
from aerun.dataset.folder import ImageFolder
from aerun.dataset.idx import KMNIST, MNIST, FashionMNIST, FashionMNISTMini
from aerun.dataset.in_memory import InMemory
from aerun.dataset.patches import Patches
from aerun.dataset.random import Random
from aerun.dataset.sprites import Sprites
from aerun.dataset.superposition import Superposition
from aerun.dataset.vision import CIFAR10, SVHN

Given = InMemory  # its name in configurations of older runs and pickled estimators

__all__ = [
    "CIFAR10",
    "KMNIST",
    "MNIST",
    "SVHN",
    "Array",
    "Arrays",
    "Data",
    "Dataset",
    "FashionMNIST",
    "FashionMNISTMini",
    "Given",
    "ImageFolder",
    "InMemory",
    "Patches",
    "Random",
    "Split",
    "Sprites",
    "Superposition",
    "as_float",
]
