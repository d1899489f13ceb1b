"""Encoder and decoder pairs. The data's shape decides theirs; nothing here knows a data set."""

from aerun.model.conv_deep import DeepConvolutional
from aerun.model.convolutional import Convolutional
from aerun.model.fully_connected import FullyConnected
from aerun.model.pooled import PooledConvolutional
from aerun.model.same_size import SameSizeConvolutional
from aerun.model.unet import UNet

__all__ = [
    "Convolutional",
    "DeepConvolutional",
    "FullyConnected",
    "PooledConvolutional",
    "SameSizeConvolutional",
    "UNet",
]
