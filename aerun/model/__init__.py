"""Pairs of an encoder and a decoder, built for the shape of the data; nothing here depends on a data set."""

from aerun.model.conv_deep import DeepConvolutional
from aerun.model.convolutional import Convolutional
from aerun.model.from_modules import Modules
from aerun.model.fully_connected import FullyConnected
from aerun.model.fully_conv import FullyConvolutional
from aerun.model.pooled import PooledConvolutional
from aerun.model.pretrained import Pretrained
from aerun.model.same_size import SameSizeConvolutional
from aerun.model.spec import Codec
from aerun.model.unet import UNet

__all__ = [
    "Codec",
    "Convolutional",
    "DeepConvolutional",
    "FullyConnected",
    "FullyConvolutional",
    "Modules",
    "PooledConvolutional",
    "Pretrained",
    "SameSizeConvolutional",
    "UNet",
]
