"""The benefit of pretraining when few images have labels."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aerun.contracts import Count, NonNegative, NonNegativeInt, Positive, Seed
from aerun.errors import ConfigError, DataError
from aerun.protocol.codes import CodeProtocol, LabeledImages
from aerun.protocol.label_efficiency import balanced_draws, mean_and_deviation
from aerun.protocol.subject import Subject

if TYPE_CHECKING:
    from torch import Tensor, nn

    from aerun.core.autoencoder import Autoencoder
    from aerun.dataset.data import Data

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SemiSupervised(CodeProtocol):
    """Fine-tune the encoder with a classifier on its code on few labels, and compare with the same net from scratch.

    - For each number in ``labels``, that many training images are drawn, ``draws`` times, with equally many of every
      class (up to one). Both nets use the same draws and minibatches.
    - The head is one linear layer, preceded by a ReLU layer of ``hidden`` units unless that is 0.
    - AdamW with ``lr`` and ``weight_decay``; the rate falls to zero by a cosine over ``steps`` minibatches of at most
      ``batch_size`` images. The weights after the last step are evaluated; the test images select nothing.
    - The net from scratch has torch's default initialization.
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

    def check_data(self, data: Data, autoencoder: Autoencoder) -> None:
        """Raise ConfigError for a model with weights that are never trained, such as a pretrained network's: new
        weights in their place would be no rival."""
        super().check_data(data, autoencoder)
        fixed = sorted(name for name in autoencoder.fixed if name.startswith("encoder"))
        if fixed:
            raise ConfigError(
                f"{fixed[0]} is never trained, so a net from new weights is no rival; use label_efficiency"
            )

    def __call__(self, subject: Subject) -> dict[str, float]:
        """Return ``labels_N/finetuned_error`` and ``labels_N/scratch_error`` in percent, means over draws, and their
        sample standard deviations ``labels_N/..._deviation``."""
        fitted, tested = self.labeled_parts(subject)
        if max(self.labels) > len(fitted.labels):
            raise DataError(f"labels={self.labels}: there are only {len(fitted.labels)} labeled images")
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
        """Return the encoder, with a copy of its weights or freshly initialized, and an initialized head."""
        import torch
        from torch import nn

        from aerun.base.seeding import restored_generator, seeded

        model = copy.deepcopy(autoencoder).requires_grad_(True)  # the run may have frozen some layers
        with restored_generator(), seeded(self.draw_seed + seed):
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

    def _train(self, net: Net, part: LabeledImages, rows: Any, seed: int) -> None:
        import torch
        from torch.nn.functional import cross_entropy

        from aerun.dataset.data import as_float

        drawn = part.select(torch.from_numpy(rows))
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
    """An encoder and a classifier on its code: images[B,...] in [0,1] -> scores[B,classes]."""

    coding: CodeProtocol
    model: Autoencoder
    head: nn.Module

    def __call__(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.coding.encode(self.model, images).flatten(1))
        return scores

    def parameters(self) -> list[nn.Parameter]:
        """Parameters of the encoder and of the head."""
        return [*self.model.encoder.parameters(), *self.head.parameters()]

    def error(self, part: LabeledImages) -> float:
        """Return the percentage of misclassified images."""
        import torch

        with torch.no_grad():
            scores = part.map_images(self)
        return 100 * float((scores.argmax(1) != part.labels.numpy()).mean())
