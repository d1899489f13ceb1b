"""pythae's own trainer on ready float tensors."""

from __future__ import annotations

import logging
import tempfile
from typing import Any

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import AE, VAE, AEConfig, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor, nn

from benchmarks.contestants.nets import build
from benchmarks.contestants.task import LEARNING_RATE, Round, Task, Train, now, read_images


class Encoder(BaseEncoder):
    """Our layers in the words of the library."""

    def __init__(self, layers: nn.Module, gaussian: bool) -> None:
        super().__init__()
        self.layers, self.gaussian = layers, gaussian

    def forward(self, x: Tensor) -> ModelOutput:
        features = self.layers(x)
        if not self.gaussian:
            return ModelOutput(embedding=features)
        mean, log_variance = features.chunk(2, 1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):
    """Our layers in the words of the library."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, code: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.layers(code))


class Clock(TrainingCallback):
    """When the training and the evaluation of the one epoch began and ended."""

    def __init__(self, device: str) -> None:
        self.device, self.times = device, dict[str, float]()

    def on_train_step_begin(self, training_config: Any, **kwargs: Any) -> None:
        self.times["training"] = now(self.device)

    def on_eval_step_begin(self, training_config: Any, **kwargs: Any) -> None:
        self.times["evaluation"] = now(self.device)

    def on_epoch_end(self, training_config: Any, **kwargs: Any) -> None:
        self.times["end"] = now(self.device)


def prepare(task: Task) -> Train:
    """One epoch a round, over as many images as make so many steps; settings are the library's own."""
    logging.disable(logging.WARNING)
    images, held_out = (part.float() / 255 for part in read_images(task.folder))

    def dataset(part: Tensor) -> BaseDataset:
        return BaseDataset(part, torch.zeros(len(part)))

    def train(steps: int) -> Round:
        net = build(task.model)
        kind, config = (VAE, VAEConfig) if net.gaussian else (AE, AEConfig)
        encoder, decoder = Encoder(net.encoder, net.gaussian), Decoder(net.decoder)
        model = kind(config(input_dim=(1, 28, 28), latent_dim=16), encoder=encoder, decoder=decoder)
        chosen = images[: steps * task.batch]
        with tempfile.TemporaryDirectory() as place:
            settings = BaseTrainerConfig(
                output_dir=place,
                num_epochs=1,
                per_device_train_batch_size=task.batch,
                per_device_eval_batch_size=1000,
                learning_rate=LEARNING_RATE,
                no_cuda=not task.device.startswith("cuda"),
            )
            clock = Clock(task.device)
            BaseTrainer(model, dataset(chosen), dataset(held_out), settings, [clock]).train()
        at = clock.times
        training, evaluation = at["evaluation"] - at["training"], at["end"] - at["evaluation"]
        return Round(len(chosen), training, len(held_out), evaluation)

    return train
