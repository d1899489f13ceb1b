"""The evidence: plain numbers, collected once. What could not be examined is None, and no verdict rests on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Layer:
    """The units of one layer after their activation, over some images; of a convolution a unit is a channel.

    ``still``: share of units with one value for all images and positions; ``dead``: with the value 0; ``saturated``:
    share of a sigmoid's or tanh's values that are within 1 % of a bound; ``variation``: the layer's variance over
    images over its mean square, both summed.
    """

    name: str
    units: int
    still: float
    dead: float
    saturated: float
    variation: float


@dataclass(frozen=True)
class Fit:
    """Reconstructions of images, as in evaluation, beside their targets.

    ``explained``: 1 - squared error / that of the targets' mean image. ``spread``: variance of the reconstructions over
    that of the targets, over images, summed over values. ``own``: share of reconstructions that are nearer to their own
    target than to another image's (by chance 0.5). ``exchanged``: mean squared change of the reconstructions when codes
    are exchanged between images, over twice the targets' variance: about ``spread`` where the code decides all.
    ``code_variation``: the codes' variance over their mean square. ``gap``: squared error over that on training images.
    ``noise_explained``: of white noise between 0 and 1, 1 where the model copies whatever it is given.
    """

    explained: float
    spread: float
    own: float | None = None
    exchanged: float | None = None
    code_variation: float | None = None
    gap: float | None = None
    noise_explained: float | None = None


@dataclass(frozen=True)
class Outputs:
    """What the output can be, and what it should. ``outside``: share of target values beyond ``low`` or ``high``;
    ``saturated``: share of output values within 0.001 of these, less that of the targets (never below 0), both added.
    ``logit_range``: of what a loss that takes logits is given."""

    low: float
    high: float
    target_low: float
    target_high: float
    outside: float
    saturated: float
    logit_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Pairing:
    """Whether targets belong to their inputs. ``target_variation``: the targets' variance over the inputs'.
    ``predicted``: how much of the targets' variance the mean of the targets of the 5 nearest inputs explains, where
    input and target are different images. ``loss_rise``: the loss of targets against themselves, shifted by one image,
    less that of the right order, over the larger: 0 if the loss does not look which output belongs to which target."""

    target_variation: float
    predicted: float | None = None
    loss_rise: float | None = None


@dataclass(frozen=True)
class Latent:
    """A Gaussian latent over some images: KL divergence (nats) and variance of the posterior mean of each dimension.
    ``beta``: weight of the KL divergence against the reconstruction error summed over an image's values."""

    kl: tuple[float, ...]
    mean_variance: tuple[float, ...]
    beta: float | None = None

    @property
    def unused(self) -> list[int]:
        """Dimensions whose posterior mean has a variance of at most 0.01 (Burda et al. 2016, section 5.2)."""
        return [i for i, variance in enumerate(self.mean_variance) if variance <= 0.01]


@dataclass(frozen=True)
class Curve:
    """What metrics.jsonl tells.

    ``slope``: by what share the error fell in each of the last epochs (a tenth of the run, at least two), on validation
    or on training images, whichever is less. ``fallen``: by what share the training error is below that of the first
    epoch.
    ``jump``: mean rise of the training loss from epoch to epoch in the second half of the run (falls count as 0) over
    its mean there, or the validation loss's where that is larger; ``ups``: share of the changes that are upward.
    ``roughness``: mean change from minibatch to minibatch, either way, over the mean, largest of the second half.
    ``rise``: the last validation loss over the lowest, less 1. ``update``: largest relative change of the weights by
    one update, of those looked at, in the first epoch; ``last_update``: in the last.
    ``first_penalty``, ``last_penalty``: the sparsity's weighted penalty over the reconstruction error in the first
    epoch and in the last. ``died``: by layer the first epoch that was looked at with at least 9 of 10 units still.
    """

    epochs: int
    slope: float | None = None
    fallen: float | None = None
    first_drop: float | None = None
    jump: float | None = None
    ups: float | None = None
    roughness: float | None = None
    rise: float | None = None
    update: float | None = None
    last_update: float | None = None
    first_penalty: float | None = None
    last_penalty: float | None = None
    died: Mapping[str, int] = field(default_factory=dict)

    @property
    def falls(self) -> bool:
        """Whether the error was falling fast as the run ended."""
        if self.slope is not None:
            return self.slope >= 0.1
        return self.first_drop is not None and self.first_drop >= 0.3


@dataclass(frozen=True)
class Frozen:
    """Layers that ``freeze`` keeps from being trained, and their ``share`` of all weights."""

    layers: tuple[str, ...]
    share: float


@dataclass(frozen=True)
class Options:
    """What the verdicts read of the configuration: ``values`` by ``group.key``, as in config.yaml, and what the parts
    declare (see ``aerun.contracts``): ``penalty``, the name of the sparsity's penalty in the logs; ``constrained``,
    whether sparsity, latent or noise limit the code besides its size; ``denser_in_evaluation``, whether the sparsity
    selects in training only; ``coupled_decay``, whether weight decay goes through the optimizer's scaling."""

    values: Mapping[str, Any] = field(default_factory=dict)
    penalty: str | None = None
    constrained: bool = False
    denser_in_evaluation: bool = False
    coupled_decay: bool = False

    def number(self, key: str) -> float | None:
        """The value, if it is a number."""
        value = self.values.get(key)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


@dataclass(frozen=True)
class Examination:
    """All evidence. ``final``: of a run that has ended, or of a model as it stands, rather than of one that is being
    trained. ``pca_explained``: by PCA of the code's size, where that is known. ``missing``: what could not be
    examined, and why."""

    final: bool = True
    state: str | None = None
    error: str | None = None
    code_values: int | None = None
    input_values: int | None = None
    fit: Fit | None = None
    pca_explained: float | None = None
    outputs: Outputs | None = None
    pairing: Pairing | None = None
    latent: Latent | None = None
    layers: tuple[Layer, ...] = ()
    curve: Curve | None = None
    options: Options = Options()
    frozen: Frozen | None = None
    missing: tuple[str, ...] = ()

    @property
    def code(self) -> Layer | None:
        """The code's own units."""
        return next((layer for layer in self.layers if layer.name == "code"), None)

    @property
    def hidden(self) -> list[Layer]:
        """The layers before and after the code."""
        return [layer for layer in self.layers if layer.name != "code"]
