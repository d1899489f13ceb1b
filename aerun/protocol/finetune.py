"""What pretraining is worth where few images have labels."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aerun.config.schema import Count, NonNegative, NonNegativeInt, Positive, Seed
from aerun.errors import DataError
from aerun.protocol.coding import Coding, Labelled
from aerun.protocol.labels import balanced_draws, mean_and_deviation
from aerun.protocol.subject import Subject

if TYPE_CHECKING:
    from torch import Tensor, nn

    from aerun.core.autoencoder import Autoencoder

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SemiSupervised(Coding):
    """The encoder and a classifier on its code, trained on few labels, beside the same net from fresh weights.

    For each of ``labels`` so many training images are drawn, ``draws`` times, of every class alike (up to one);
    both nets see the same draws and minibatches. The head is one linear layer, or with ``hidden`` units a ReLU layer
    before it. AdamW with ``lr`` and ``weight_decay``, the rate falling by a cosine to zero over ``steps`` minibatches
    of at most ``batch_size``. Nothing is chosen by the test images: the weights after the last step count. Fresh
    weights are those of torch's own initialisation.
    """

    labels: list[Count]
    draws: Count
    hidden: NonNegativeInt
    steps: Count
    batch_size: Count
    lr: Positive
    weight_decay: NonNegative
    draw_seed: Seed

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.labels:
            raise ValueError("labels=[]: must list at least one")

    def __call__(self, subject: Subject) -> dict[str, float]:
        """``labels_N/finetuned_error`` and ``labels_N/scratch_error`` in per cent, mean over draws; ``…_deviation``."""
        fitted, tested = self.parts(subject)
        if max(self.labels) > len(fitted.labels):
            raise DataError(f"labels={self.labels}: there are only {len(fitted.labels)} labelled images")
        classes = int(max(fitted.labels.max(), tested.labels.max())) + 1
        numbers: dict[str, float] = {}
        for count in self.labels:
            draws = balanced_draws(fitted.labels, count, self.draws, self.draw_seed)
            for kind in ("finetuned", "scratch"):
                errors = []
                for number, rows in enumerate(draws):
                    net = self._net(subject.autoencoder, classes, seed=number, fresh=kind == "scratch")
                    self._train(net, fitted, rows, seed=number)
                    errors.append(net.error(tested))
                mean, deviation = mean_and_deviation(errors)
                log.info("%d labels, %s: %.2f %% wrong", count, kind, mean)
                numbers[f"labels_{count}/{kind}_error"] = mean
                if len(errors) > 1:
                    numbers[f"labels_{count}/{kind}_deviation"] = deviation
        return numbers

    def _net(self, autoencoder: Autoencoder, classes: int, seed: int, fresh: bool) -> Net:
        """The encoder, its weights copied or drawn anew, and a head with fresh weights."""
        import torch
        from torch import nn

        model = copy.deepcopy(autoencoder).requires_grad_(True)  # the run may have held some layers
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.draw_seed + seed)
            for module in model.encoder.modules() if fresh else ():
                reset = getattr(module, "reset_parameters", None)
                if callable(reset):
                    reset()
            with torch.no_grad():
                example = torch.zeros(1, *model.input_shape, device=model.device)
                width = self.encode(model, example).flatten(1).shape[1]
            hidden: list[nn.Module] = [nn.Linear(width, self.hidden), nn.ReLU()] if self.hidden else []
            head = nn.Sequential(*hidden, nn.Linear(self.hidden or width, classes)).to(model.device)
        return Net(self, model, head)

    def _train(self, net: Net, part: Labelled, rows: Any, seed: int) -> None:
        import torch
        from torch.nn.functional import cross_entropy

        from aerun.dataset.data import as_float

        drawn = part.chosen(torch.from_numpy(rows))
        images = torch.cat([piece[:] for piece in drawn.images])
        labels = drawn.labels.to(images.device)
        optimizer = torch.optim.AdamW(net.parameters(), self.lr, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        generator = torch.Generator().manual_seed(self.draw_seed + seed)
        size = min(self.batch_size, len(labels))
        order = torch.empty(0, dtype=torch.long)
        net.model.train()
        for _ in range(self.steps):
            if len(order) < size:
                order = torch.randperm(len(labels), generator=generator)
            chosen, order = order[:size].to(images.device), order[size:]
            loss = cross_entropy(net(as_float(images[chosen])), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        net.model.eval()


@dataclass(frozen=True)
class Net:
    """An encoder and a head on its code: images[B,...] in [0,1] -> scores[B,classes]."""

    coding: Coding
    model: Autoencoder
    head: nn.Module

    def __call__(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.coding.encode(self.model, images).flatten(1))
        return scores

    def parameters(self) -> list[nn.Parameter]:
        """Those of the encoder and of the head."""
        return [*self.model.encoder.parameters(), *self.head.parameters()]

    def error(self, part: Labelled) -> float:
        """Per cent of the images that it takes for another class."""
        import torch

        with torch.no_grad():
            scores = part.described(self)
        return 100 * float((scores.argmax(1) != part.labels.numpy()).mean())
