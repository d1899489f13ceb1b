"""The trackers of aerun, which show runs elsewhere. Any ``aerun.contracts.Tracker`` can be used as one:
``tracker=[tensorboard,mine]``."""

from aerun.tracker.rows import CSV
from aerun.tracker.servers import MLflow, Trackio, WandB
from aerun.tracker.tensorboard import TensorBoard

__all__ = ["CSV", "MLflow", "TensorBoard", "Trackio", "WandB"]
