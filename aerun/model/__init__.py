"""Encoder and decoder pairs. The data's shape decides theirs; nothing here knows a data set."""

from aerun.model.convolutional import Convolutional
from aerun.model.fully_connected import FullyConnected
from aerun.model.pooled import PooledConvolutional
from aerun.model.same_size import SameSizeConvolutional

__all__ = ["Convolutional", "FullyConnected", "PooledConvolutional", "SameSizeConvolutional"]
