"""The callbacks of aerun. Any ``aerun.contracts.Observer`` can be used as one: ``callback=[ema,mine]``."""

from aerun.callback.averages import EMA
from aerun.callback.resampling import Resample
from aerun.callback.snapshots import Snapshots

__all__ = ["EMA", "Resample", "Snapshots"]
