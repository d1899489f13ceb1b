"""The evidence: plain numbers, collected once. A number that could not be measured is None, and no verdict uses it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

MIN_IMAGES = 8  # fewer are no evidence


@dataclass(frozen=True)
class Layer:
    """The units of one layer after their activation, over some images. In a convolution each channel is a unit.

    ``units``: how many, if known. ``still``: share of units with one value for all images and positions; ``dead``:
    share of units that are always 0; ``saturated``: share of a sigmoid's or tanh's values within 1 % of a bound;
    ``variation``: the layer's variance over images divided by its mean square, both summed over values.
    """

    name: str
    units: int | None
    still: float
    dead: float | None
    saturated: float
    variation: float | None


@dataclass(frozen=True)
class Fit:
    """Reconstructions of images, as in evaluation, compared with their targets.

    ``explained``: 1 - squared error / squared error of the targets' mean image. ``spread``: variance of the
    reconstructions over images divided by that of the targets, both summed over values. ``own``: share of
    reconstructions that are nearer to their own target than to another image's (0.5 by chance). ``exchanged``: mean
    squared change of the reconstructions when codes are exchanged between images, divided by twice the targets'
    variance; about ``spread`` if the output depends on the code alone. ``relabeled``: of a
    conditional model, the mean squared change of the reconstructions when codes are decoded with another image's label,
    divided by that of the mean reconstructions of both labels. ``code_variation``: the codes' variance divided by their
    mean square. ``gap``: squared error divided by that on training images. ``noise_explained``: ``explained``
    for white noise in [0,1]; 1 if the model copies its input.
    """

    explained: float
    spread: float
    own: float | None = None
    exchanged: float | None = None
    relabeled: float | None = None
    code_variation: float | None = None
    gap: float | None = None
    noise_explained: float | None = None


@dataclass(frozen=True)
class Outputs:
    """The range of the output, [``low``, ``high``], and that of the targets.

    ``outside``: share of target values outside the output's range. ``saturated``: share of output values within 0.001
    of ``low``, minus that of the targets (at least 0), plus the same for ``high``. ``logit_range``: smallest and
    largest logit, for a loss that takes logits.
    """

    low: float
    high: float
    target_low: float
    target_high: float
    outside: float
    saturated: float
    logit_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Pairing:
    """Whether targets match their inputs.

    ``target_variation``: the targets' variance divided by the inputs', if the inputs vary. ``predicted``: share of the
    targets' variance that is explained by the mean target of the 5 nearest inputs, if inputs and targets differ.
    ``loss_rise``: the loss of the targets against themselves, shifted by one image, minus that without the shift,
    divided by the larger of both; 0 if the loss ignores which output belongs to which target.
    """

    target_variation: float | None
    predicted: float | None = None
    loss_rise: float | None = None


@dataclass(frozen=True)
class Latent:
    """A Gaussian latent over some images: KL divergence (nats) and variance of the posterior mean of each dimension.

    ``beta``: weight of the KL divergence relative to the reconstruction error summed over an image's values.
    """

    kl: tuple[float, ...]
    mean_variance: tuple[float, ...]
    beta: float | None = None

    @property
    def unused(self) -> list[int]:
        """Dimensions whose posterior mean has a variance of at most 0.01 (Burda et al. 2016, section 5.2)."""
        return [i for i, variance in enumerate(self.mean_variance) if variance <= 0.01]


@dataclass(frozen=True)
class Codebook:
    """The use of a quantized latent's entries by the evaluated images, as the metrics of these names: ``usage``, the
    share of entries that any image uses, and ``perplexity``, the number of entries that are as diverse."""

    usage: float
    perplexity: float


@dataclass(frozen=True)
class Curve:
    """The course of the training, from metrics.jsonl.

    - ``slope``: share by which the error fell in each of the last epochs (a tenth of the run, at least two), on
      validation or training images, whichever is smaller. ``fallen``: share by which the training error fell since the
      first epoch. ``first_drop``: for a run of one epoch, how far the validation error at its end is below the mean
      training error.
    - ``jump``: mean rise of the training loss between epochs of the second half of the run (falls count as 0), divided
      by the mean training or validation loss there, whichever is larger. ``ups``: share of these changes that are
      rises.
    - ``chance``: the largest mean rise of the training loss between epochs that the choice of minibatches explains,
      relative to its mean, from the changes between minibatches in the second half; None if those were not recorded.
    - ``rise``: last validation loss divided by the lowest, minus 1.
    - ``update``: largest relative change of the weights by one of the recorded updates in the first epoch.
    - ``first_penalty``, ``last_penalty``: the sparsity's weighted penalty divided by the reconstruction error, in the
      first and in the last epoch.
    - ``died``: by layer, the first epoch since which at least nine units in ten were recorded as dead.
    """

    epochs: int
    slope: float | None = None
    fallen: float | None = None
    first_drop: float | None = None
    jump: float | None = None
    ups: float | None = None
    chance: float | None = None
    rise: float | None = None
    update: float | None = None
    first_penalty: float | None = None
    last_penalty: float | None = None
    died: Mapping[str, int] = field(default_factory=dict)

    @property
    def falls(self) -> bool:
        """Whether the error was falling fast when the run ended."""
        if self.slope is not None:
            return self.slope >= 0.1
        return self.first_drop is not None and self.first_drop >= 0.3


@dataclass(frozen=True)
class Samples:
    """Frechet distances to test images, by the protocol ``samples``: of the model's samples, of those of the mixture if
    it was measured in addition, of training images (``ceiling``), and of a Gaussian on principal components
    (``floor``)."""

    distance: float
    mixture: float | None
    ceiling: float
    floor: float


@dataclass(frozen=True)
class Frozen:
    """Frozen layers, and their ``share`` of all weights."""

    layers: tuple[str, ...]
    share: float


@dataclass(frozen=True)
class Options:
    """The configuration, as far as verdicts depend on it.

    ``values``: by ``group.key``, as in config.yaml. The others are what the parts declare (see ``aerun.contracts``):
    ``penalty``: the name of the sparsity's penalty in the logs. ``constrained``: whether sparsity, latent or noise
    limit the code in addition to its size. ``denser_in_evaluation``: whether the sparsity selects in training only.
    ``coupled_decay``: whether weight decay passes through the optimizer's scaling. ``max_nonzeros``: the most
    nonzero code values that the sparsity leaves. ``config``: the whole configuration, if known, and ``typed``: the
    keys or overrides that the user typed, by which remedies are checked.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    penalty: str | None = None
    constrained: bool = False
    denser_in_evaluation: bool = False
    coupled_decay: bool = False
    max_nonzeros: int | None = None
    config: Mapping[str, Any] | None = field(default=None, repr=False)
    typed: Collection[str] = field(default=(), repr=False)

    def value(self, key: str) -> Any:
        """The value of ``group.key``; None if it is unknown."""
        group, _, name = key.partition(".")
        node = (self.config or {}).get(group)
        return self.values.get(key, node.get(name) if isinstance(node, Mapping) else None)

    def number(self, key: str) -> float | None:
        """The value, if it is a number."""
        value = self.value(key)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


@dataclass(frozen=True)
class Examination:
    """All evidence.

    ``final``: false while the run is being trained. ``pca_explained``: share of the variance that PCA of the code's
    size explains, if known. ``input_offset``: the mean square of the inputs' mean image divided by the inputs'
    variance, if they vary. ``missing``: what could not be examined, and why.
    """

    final: bool = True
    state: str | None = None
    error: str | None = None
    code_values: int | None = None
    input_values: int | None = None
    input_offset: float | None = None
    fit: Fit | None = None
    pca_explained: float | None = None
    outputs: Outputs | None = None
    pairing: Pairing | None = None
    latent: Latent | None = None
    codebook: Codebook | None = None
    layers: tuple[Layer, ...] = ()
    curve: Curve | None = None
    options: Options = Options()
    frozen: Frozen | None = None
    samples: Samples | None = None
    missing: tuple[str, ...] = ()

    @property
    def code(self) -> Layer | None:
        """The units of the code."""
        return next((layer for layer in self.layers if layer.name == "code"), None)

    @property
    def hidden(self) -> list[Layer]:
        """The layers before and after the code."""
        return [layer for layer in self.layers if layer.name != "code"]
