"""New weights for units that have died."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aerun.contracts import Count, Metric, Observer, Positive, RunView

if TYPE_CHECKING:
    from torch import Tensor, nn

BATCH = 1000  # images


@dataclass(eq=False)
class Resample(Observer):
    """Every ``every_steps`` steps, until ``until_step``, gives dead units the direction of images that are
    reconstructed badly: Bricken et al. 2023, "Towards Monosemanticity", appendix "Neuron Resampling".

    Dead is a unit that none of ``images`` training images activates. For each one an image is drawn, with a probability
    proportional to the square of its squared error. The unit's weights in the decoder become the input of the encoder's
    last layer for that image, with the mean norm of those of the other units; in the encoder the same direction with
    ``scale`` times their mean norm, and a bias of 0. The optimizer's averages of these weights become 0.

    The images and draws depend on the seed and the step alone, so a resumed run resamples equally.
    """

    every_steps: Count
    until_step: Count | None
    images: Count
    scale: Positive

    metrics = (Metric("resampled_units", "units"),)

    def check_settings(self, settings: Any) -> None:
        name = "callback=resample"
        if not settings.model.linear_code or settings.model.tied:
            model = "model.tied=true" if settings.model.tied else settings.name("model")
            raise ValueError(
                f"{name} and {model}: needs an encoder that ends, and a decoder that begins, with a linear layer of "
                "its own, such as those of model=fc or mlp"
            )
        if settings.model.linear_path != "none":
            raise ValueError(
                f"{name} and model.linear_path={settings.model.linear_path}: components are never zero, so no unit is"
            )
        if settings.latent.constrains_code:
            raise ValueError(f"{name} and {settings.name('latent')}: the units of this latent do not become zero")
        if settings.trainer.processes > 1:
            raise ValueError(
                f"{name} and trainer.processes={settings.trainer.processes}: only one of several processes has "
                "callbacks; use one process"
            )

    def begin(self, run: RunView) -> None:
        """ValueError if inputs and targets differ in size."""
        from torch import nn

        def linear(side: nn.Module) -> list[nn.Linear]:
            return [layer for layer in side.modules() if isinstance(layer, nn.Linear)]

        self._run, self._encoder, self._decoder = (
            run,
            linear(run.autoencoder.encoder)[-1],
            linear(run.autoencoder.decoder)[0],
        )
        if self._encoder.weight.shape != self._decoder.weight.T.shape:
            raise ValueError("needs targets of the size of the inputs")

    def step(self, step: int, values: Mapping[str, float] | None) -> None:
        import torch

        if step % self.every_steps or (self.until_step is not None and step > self.until_step):
            return
        model = self._run.autoencoder
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad():
                count = self._resample(step)
        finally:
            model.train(was_training)
        self._run.log.scalars({"train/resampled_units": float(count)}, step)

    def _resample(self, step: int) -> int:
        """Returns the number of units that had died."""
        import torch

        from aerun.base.seeding import Randomness

        generator = Randomness(self._run.seed, torch.device("cpu")).at("resample", step)
        errors, hidden, active = self._examine(generator)
        dead = (~active).nonzero().squeeze(1)
        chances = errors.square() / errors.square().max().clamp_min(1e-30)
        if not len(dead) or not chances.any():
            return 0
        replace = len(dead) > int((chances > 0).sum())
        chosen = hidden[torch.multinomial(chances, len(dead), replace, generator=generator).to(hidden.device)]
        directions = chosen / chosen.norm(dim=1, keepdim=True).clamp_min(1e-12)
        alive = active if active.any() else ~active
        encoder, decoder = self._encoder, self._decoder
        encoder.weight[dead] = directions * (self.scale * encoder.weight[alive].norm(dim=1).mean())
        decoder.weight[:, dead] = directions.T * decoder.weight[:, alive].norm(dim=0).mean()
        encoder.bias[dead] = 0
        for parameter, places in ((encoder.weight, dead), (encoder.bias, dead), (decoder.weight, (slice(None), dead))):
            for average in self._run.optimizer.state.get(parameter, {}).values():
                if isinstance(average, torch.Tensor) and average.shape == parameter.shape:
                    average[places] = 0
        return len(dead)

    def _examine(self, generator: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Squared errors [N] on the host, inputs of the encoder's last layer [N,...], and which units are active."""
        import torch

        model, errors, hidden = self._run.autoencoder, [], []
        hook = self._encoder.register_forward_pre_hook(lambda _, given: hidden.append(given[0]))
        active = torch.zeros(self._encoder.out_features, dtype=torch.bool, device=self._encoder.weight.device)
        try:
            for inputs, targets, labels in self._batches(generator):
                result = model.given(labels)(inputs)
                difference = result.prediction - model.standardise_target(targets)
                errors.append(difference.square().flatten(1).sum(1))
                active |= (result.code != 0).any(0)
        finally:
            hook.remove()
        return torch.cat(errors).cpu(), torch.cat(hidden), active

    def _batches(self, generator: Any) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Inputs and targets of the drawn training images, float, and their labels."""
        import torch

        part = self._run.data.train
        rows = torch.randperm(len(part), generator=generator)[: self.images].sort().values
        for chunk in rows.split(BATCH):
            inputs = _select(part.inputs, chunk)
            targets = inputs if part.targets is part.inputs else _select(part.targets, chunk)
            yield inputs, targets, None if part.labels is None else part.labels[chunk.to(part.labels.device)]


def _select(images: Any, rows: Tensor) -> Tensor:
    """Some of the images, which may be in a file, float."""
    import torch

    chosen = images[rows.to(images.device)] if isinstance(images, torch.Tensor) else images.select(rows)[:]
    floats: Tensor = chosen.float() / 255 if chosen.dtype == torch.uint8 else chosen
    return floats
