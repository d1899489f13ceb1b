"""Lightning's trainer, over torchvision's data set or over ready float tensors."""

from __future__ import annotations

import logging
import tempfile
import warnings
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.contestants.loader import torchvision_sets
from benchmarks.contestants.nets import build
from benchmarks.contestants.task import LEARNING_RATE, Round, Task, Train, now, read_images


class Module(lightning.LightningModule):
    """The network with its loss logged."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self.net = build(model)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        loss = self.net.loss(batch[0])
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self.log("validation/loss", self.net.loss(batch[0]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), LEARNING_RATE)


class Clock(lightning.Callback):
    """When the training and the evaluation of the one epoch began and ended."""

    def __init__(self, device: str) -> None:
        self.device, self.times = device, dict[str, float]()

    def on_train_epoch_start(self, *_: Any) -> None:
        self.times["training"] = now(self.device)

    def on_validation_start(self, *_: Any) -> None:
        self.times["evaluation"] = now(self.device)

    def on_validation_end(self, *_: Any) -> None:
        self.times["end"] = now(self.device)


def prepare(task: Task, tensors: bool = False) -> Train:
    """``tensors``: over ready floats. TensorBoard's logger and checkpoints are on, the progress bar is off."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    sets: list[Dataset[Any]]
    if tensors:
        sets = [TensorDataset(part.float() / 255) for part in read_images(task.folder)]
    else:
        sets = list(torchvision_sets(task.folder))
    training, evaluation = DataLoader(sets[0], task.batch, shuffle=True), DataLoader(sets[1], 1000)

    def train(steps: int) -> Round:
        clock = Clock(task.device)
        with tempfile.TemporaryDirectory() as place:
            trainer = lightning.Trainer(
                max_epochs=1,
                limit_train_batches=min(steps, len(training)),
                accelerator="gpu" if task.device.startswith("cuda") else "cpu",
                devices=1,
                logger=TensorBoardLogger(place),
                default_root_dir=place,
                callbacks=[clock],
                num_sanity_val_steps=0,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(Module(task.model), training, evaluation)
        at, seen = clock.times, min(min(steps, len(training)) * task.batch, len(sets[0]))  # type: ignore[arg-type]
        evaluated = len(sets[1])  # type: ignore[arg-type]
        return Round(seen, at["evaluation"] - at["training"], evaluated, at["end"] - at["evaluation"])

    return train
