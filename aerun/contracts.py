"""What the rest of aerun asks of a part: one class for each group, with a default for everything optional.

A part of your own subclasses the class of its group, or only has the same methods: ``complete`` then adds the defaults
that it lacks to its class. Nothing recognizes a part by its name.

A part that has weights or buffers offers ``build`` and returns an ``nn.Module`` with the part's own interface. Modules
are built after the seed is set, on the run's device, and from then on they are layers like any other: trained, saved,
frozen, pretrained greedily, and started from another run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np
    import torch
    from torch import Generator, Tensor, nn
    from torch.optim import Optimizer as TorchOptimizer

Shape = tuple[int, ...]
T = TypeVar("T")


class _Default:
    """The value of an instance that has none of its own. The class itself has none, so that a dataclass field of that
    name stays a required key."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            raise AttributeError
        return self.value


def default(value: T) -> T:
    """The default of a key that parts may have."""
    return cast("T", _Default(value))


# What parts return.


class Penalty(NamedTuple):
    """One named term that is added to the reconstruction error.

    ``value`` is the unweighted scalar; logs carry it, so that runs with different weights compare. ``per_image``: the
    value is in nats per image, and is divided by the values of an image wherever the reconstruction error is.
    ``samples`` [B,k]: the values of which it is the mean, where k codes are drawn for each image.
    """

    name: str
    value: Tensor
    weight: float
    per_image: bool = False
    samples: Tensor | None = None


class Diagnostic(NamedTuple):
    """One named scalar that is logged with the loss terms and is no part of the loss."""

    name: str
    value: Tensor


Terms = list[Penalty | Diagnostic]


class Pass(NamedTuple):
    """One pass through an autoencoder, with what a penalty may need.

    inputs[B,*input_shape] as the encoder sees them, features (the encoder's linear output), code, logits (the decoder's
    linear output), prediction (after the output activation, compares with ``targets``), residual (targets -
    prediction), and the two networks.
    """

    inputs: Tensor
    features: Tensor
    code: Tensor
    logits: Tensor
    prediction: Tensor
    targets: Tensor
    encoder: nn.Module
    decoder: nn.Module

    @property
    def residual(self) -> Tensor:
        """What the reconstruction lacks, targets - prediction, of the targets' shape."""
        return self.targets - self.prediction


class Codec(NamedTuple):
    """An encoder and a decoder, both ending linear.

    - encoder(images[B,*input_shape]) -> features, with ``parameters_per_code`` times the units of the code along
      dimension 1.
    - decoder(code[B,*code_shape]) -> [B,*output_shape]; the autoencoder applies the output activation, so that a loss
      can use the logits.
    - ``cuts``: for sequential encoders and decoders, the places between layer pairs, outermost first. For each (end,
      start), encoder[:end] and decoder[start:] form an autoencoder. None if there are no pairs.
    """

    encoder: nn.Module
    decoder: nn.Module
    code_shape: Shape
    cuts: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True)
class Metric:
    """A number that runs report: its name, its unit ("" if it has none), and which direction is better."""

    name: str
    unit: str = ""
    higher_is_better: bool = False


# What each group offers.


class Part(Protocol):
    """What parts of every group may have."""

    def check_settings(self, settings: Any) -> None:
        """Before anything is loaded: ValueError for other options of the run (``settings.model``, ...) that this part
        does not work with. The message names both keys."""
        return None

    def unread_keys(self, settings: Any) -> Mapping[str, str]:
        """Keys of this part that these settings leave without effect, each with the reason."""
        return {}


class Dataset(Part, Protocol):
    """``load`` gives the data; ``normalize`` and ``binarise`` say what was done to them."""

    normalize: str = default("none")
    binarise: str = default("none")

    def check(self) -> None:
        """DataError for what is wrong at first sight, such as a folder that does not exist."""
        return None

    if TYPE_CHECKING:

        def load(self, device: torch.device) -> Any:
            """The parts of the data set, ``aerun.dataset.data.Data``, on the device."""


class Noise(Part, Protocol):
    """A corruption of the input."""

    if TYPE_CHECKING:

        def __call__(self, images: Tensor, generator: Generator) -> Tensor:
            """images[B,...] float -> corrupted images of the same shape, random by the generator alone."""

    @property
    def is_identity(self) -> bool:
        """Whether it leaves every input as it is."""
        return False

    def check_shape(self, shape: Sequence[int]) -> None:
        """ValueError for inputs, without the batch, that it is not defined for."""
        return None

    def for_evaluation(self) -> Noise:
        """The corruption that trained models are asked to undo."""
        return self

    def moments(self, positions: int) -> Any:
        """``aerun.noise.pixels.Moments``, from which the best linear denoiser follows exactly; None: not known."""
        return None


class Model(Part, Protocol):
    """Builds encoder and decoder. ``code_size``: units of the code, where a key says so before the data are known."""

    code_size: int | None = default(None)
    output_activation: str = default("identity")
    output_bias: str = default("init")
    tied: bool | None = default(None)

    if TYPE_CHECKING:

        def build(self, input_shape: Shape, output_shape: Shape, parameters_per_code: int) -> Codec:
            """Both shapes without the batch. ValueError for shapes that the model is not made for."""


class Sparsity(Part, Protocol):
    """Applies the code's nonlinearity to the encoder's linear features, then selects or penalizes.

    ``rowwise``: rows of a minibatch do not depend on each other and penalties are means over them; otherwise every
    process of a run is shown all rows. ``constrains_code``: it limits the code. ``fixes_activation``: the code's
    nonlinearity cannot be chosen. ``penalty``: the name of its penalty in the logs; its weight is ``weight``.
    ``selects_in_training_only``: codes are denser in evaluation.
    """

    activation: str = default("identity")
    rowwise: ClassVar[bool] = False
    constrains_code: ClassVar[bool] = True
    fixes_activation: ClassVar[bool] = False
    selects_in_training_only: ClassVar[bool] = False
    penalty: ClassVar[str | None] = None

    @property
    def max_nonzeros(self) -> int | None:
        """At most so many nonzero values in each row of a vector code, in each channel of feature maps; None: no limit
        is known."""
        return None

    if TYPE_CHECKING:

        def __call__(self, features: Tensor, training: bool) -> tuple[Tensor, Terms]:
            """features[B,D] or [B,C,H,W] -> code of the same shape, and terms that the features alone decide."""

    def build(self, code_shape: Shape) -> Any:
        """An ``nn.Module`` with this interface, for a part that has weights or buffers; otherwise the part itself."""
        return self

    def check_code(self, code_shape: Shape) -> None:
        """ValueError for codes, without the batch, that it is not defined for."""
        return None

    def penalties(self, run: Pass) -> Terms:
        """Further terms, of what the whole pass shows; means over the rows of the minibatch."""
        return []

    def linear(self) -> Sparsity:
        """The same without a nonlinearity, for a latent that reads linear features."""
        return self

    def with_max_nonzeros(self, count: int) -> Sparsity:
        """The same with another ``max_nonzeros``."""
        raise ValueError("has no number of nonzero values")


class Latent(Part, Protocol):
    """From the constrained features to the code: themselves, their nearest codebook entries, or a sample.

    ``parameters_per_code``: features for each unit of the code, along dimension 1. ``rowwise``: as in ``Sparsity``.
    ``samples``: codes that are drawn for each image, None for one.
    """

    parameters_per_code: int = 1
    rowwise: ClassVar[bool] = False
    samples: int | None = default(None)

    @property
    def constrains_code(self) -> bool:
        """Whether it limits the code; no sparsity that also does goes with it, and the features stay linear."""
        return self.parameters_per_code > 1

    def check_settings(self, settings: Any) -> None:
        if self.constrains_code and settings.sparsity.constrains_code:
            hint = f" (brought by {settings.name('model')})" if _is_brought("latent", "model", settings) else ""
            raise ValueError(
                f"{settings.name('latent')} and {settings.name('sparsity')} both constrain the code: use sparsity=none "
                f"or latent=deterministic{hint}"
            )

    def draw(self, shape: Shape, generator: Generator) -> Tensor | None:
        """The random numbers of one stochastic pass for codes of that shape [B,...]; None if it needs none."""
        return None

    if TYPE_CHECKING:

        def __call__(self, features: Tensor, draw: Tensor | None) -> tuple[Tensor, Terms]:
            """features -> code[B,...] (or [B,k,...] for ``samples`` codes), and terms; deterministic without a draw."""

    def build(self, code_shape: Shape) -> Any:
        """An ``nn.Module`` with this interface, for a part that has weights or buffers; otherwise the part itself."""
        return self

    def check_code(self, code_shape: Shape) -> None:
        """ValueError for codes, without the batch, that it is not defined for."""
        return None

    def penalties(self, run: Pass) -> Terms:
        """Further terms, of what the whole pass shows; means over the rows of the minibatch."""
        return []

    def posterior(self, features: Tensor) -> tuple[Tensor, Tensor] | None:
        """Means and log-variances of a Gaussian posterior, each of the code's shape; None if there is none."""
        return None

    def sample_prior(self, shape: Shape, generator: Generator) -> Tensor | None:
        """Codes of that shape [B,...] drawn from the prior; None if there is none."""
        return None


class Loss(Part, Protocol):
    """A reconstruction error, averaged over the batch.

    ``takes_logits``: predictions are the decoder's linear outputs. ``needs_unit_range``: targets must lie in [0,1] (so
    they must for a loss that takes logits). ``is_likelihood``: it has ``nats``, and ``constant`` is what each value
    lacks to be a negative log-likelihood. ``changes``: in the course of a training, see ``share``.
    """

    takes_logits: ClassVar[bool] = False
    needs_unit_range: ClassVar[bool] = False
    is_likelihood: ClassVar[bool] = False
    changes: ClassVar[bool] = False
    constant: float = default(0.0)

    if TYPE_CHECKING:

        def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
            """prediction[B,...], target[B,...] of one shape -> scalar."""

        def scale(self, values_per_image: int) -> float:
            """The factor that puts a quantity per image on the scale of this loss."""

    def nats(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The error of each image, summed over its values: prediction[B,k,...], target[B,1,...] -> [B,k]."""
        raise NotImplementedError

    def check_shape(self, shape: Sequence[int]) -> None:
        """ValueError for targets, without the batch, that it is not defined for."""
        return None

    def share(self, progress: float) -> float:
        """For a loss that changes: how much of it is the first of its two, at that part (0 to 1) of the steps."""
        return 1.0

    def while_training(self, share: Tensor) -> Loss:
        """The loss with that share, a scalar tensor that is set before each step."""
        return self


class Optimizer(Part, Protocol):
    """``lr``: the base rate, where a key says so."""

    lr: float | None = default(None)

    @property
    def couples_weight_decay(self) -> bool:
        """Whether weight decay is added to gradients that the optimizer then divides by their own size."""
        return False

    if TYPE_CHECKING:

        def build(self, parameters: Iterable[nn.Parameter]) -> TorchOptimizer:
            """torch's optimizer over these parameters."""


class Scheduler(Part, Protocol):
    """A factor on the optimizer's base rate, as a function of the step and of what was observed before it.

    ``stop_lr``: the run ends below that rate. ``warmup_epochs``: epochs until the base rate is reached.
    """

    stop_lr: float | None = default(None)
    warmup_epochs: float | None = default(None)

    def multiplier(self, step: int, *, total_steps: int, steps_per_epoch: int) -> float:
        """The factor for update number ``step`` (0 is the first)."""
        return 1.0

    def observe(self, loss: float) -> None:
        """Take note of the monitored loss, once per evaluation."""
        return None

    def finished(self, base_rate: float) -> bool:
        """Whether the run should end, its optimizer having that base rate."""
        return False

    def state(self) -> dict[str, Any]:
        """What a continued run must know, as JSON values."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what ``state`` returned."""
        return None


class Trainer(Part, Protocol):
    """How a run trains. See ``aerun.trainer.Joint`` for the keys. A trainer with a ``fit`` of its own gets everything
    that the loop of ours gets (``aerun.training.regime``), and returns the progress when training has ended."""

    epochs: int
    batch_size: int
    steps: int | None = default(None)
    device: str = default("auto")
    threads: int | None = default(None)
    processes: int = default(1)
    precision: Any = default("float32")
    compile: bool = default(False)
    graph: Any = default("auto")
    channels_last: bool = default(False)
    deterministic: bool = default(False)
    clip_norm: float | None = default(None)
    clip_value: float | None = default(None)
    log_every_steps: int = default(50)
    evaluate_every_epochs: int = default(1)
    pictures: int = default(10)
    tsne: bool = default(False)
    patience: int | None = default(None)
    min_delta: float = default(0.0)
    fit: Callable[..., Any] | None = default(None)
    # Of a trainer that pretrains in stages: the epochs of each, and whether weights are untied afterwards.
    stage_epochs: int | list[int] | None = default(None)
    untie_at: str | None = default(None)


class Evaluation(Part, Protocol):
    """A protocol: an extra evaluation of the trained model. ``metrics`` declares the numbers that it reports."""

    metrics: Sequence[Metric] = ()

    if TYPE_CHECKING:

        def __call__(self, subject: Any) -> Any:
            """Numbers by name, or an ``aerun.protocol.Answer``, of an ``aerun.protocol.Subject``."""

    def check_data(self, data: Any, autoencoder: Any) -> None:
        """ConfigError, before training, for data or a model that it cannot evaluate."""
        return None


class RunLog(Protocol):
    """Where observers log: TensorBoard, and the files of the run folder."""

    if TYPE_CHECKING:

        def scalars(self, values: Mapping[str, float], step: int) -> None:
            """Each value under its tag at that step."""

        def picture(self, tag: str, pixels: np.ndarray, step: int) -> None:
            """A picture [H,W] or [H,W,3], uint8: in TensorBoard, and the latest as a PNG file under figures/."""

        def histogram(self, tag: str, values: Tensor, step: int) -> None:
            """The distribution of all values."""

        def weights(self, name: str, tensors: Mapping[str, Tensor]) -> None:
            """Keep the model's tensors as checkpoints/NAME.safetensors, for ``aerun.load(FOLDER, weights=NAME)``."""

        def logged(self) -> list[dict[str, Any]]:
            """The lines of metrics.jsonl of the current stage so far."""

        def flush(self) -> None:
            """Put everything that was logged on disk."""


@dataclass(frozen=True)
class RunView:
    """What observers see of a run, or of a stage of one: the model that trains, its data, where to log.

    ``progress`` counts epochs and steps as they are done; ``epochs`` and ``total_steps`` are the plan. ``stage`` is the
    stage's name, "" in a run without stages and in fine-tuning; ``stage_number`` is 0 without stages, ``is_last`` tells
    the last. ``part`` holds the images that are evaluated after epochs. ``folder`` is None where none is written.
    """

    autoencoder: Any
    data: Any
    noise: Noise
    loss: Loss
    optimizer: TorchOptimizer
    log: RunLog
    progress: Any
    part: Any
    epochs: int
    total_steps: int
    stage: str = ""
    stage_number: int = 0
    is_last: bool = True
    folder: Path | None = None


class EpochEnd(NamedTuple):
    """One finished epoch of the run, from 1. ``numbers`` by tag (``train/loss``, ``validation/mse``, ...);
    ``evaluated``: whether validation numbers are among them; ``ended``: whether the training ends with it;
    ``target_spread``: the variance of the evaluated targets over images, summed over values."""

    epoch: int
    step: int
    numbers: Mapping[str, float]
    evaluated: bool
    ended: bool
    target_spread: float


class Observer:
    """Watches a run; every method is optional. The group ``callback`` takes observers of your own.

    ``optional``: if it raises, it is dropped with a warning and the run continues. ``metrics`` declares the numbers of
    ``measure``. Of several processes only the first has observers.
    """

    optional: bool = False
    metrics: Sequence[Metric] = ()

    def begin(self, run: RunView) -> None:
        """Training begins or is continued: once for the run, or for each of its stages."""

    def step(self, step: int, values: Mapping[str, float] | None) -> None:
        """Update number ``step`` of the run, from 1, was made. ``values`` are the loss terms where they are logged,
        every ``trainer.log_every_steps``; otherwise None, so that nothing waits for the device."""

    def measure(self, autoencoder: Any, part: str, evaluate: Callable[[Any], dict[str, float]]) -> Mapping[str, float]:
        """More numbers of a part of the data, by name, while the autoencoder is evaluated on it: ``validation`` (or
        ``probe``, some training images, without one) after epochs, ``test`` at the end. ``evaluate`` gives the usual
        metrics of any autoencoder on that part."""
        return {}

    def epoch(self, end: EpochEnd) -> None:
        """An epoch has ended, and its numbers are known. The checkpoint comes after this."""

    def saved(self, progress: Any) -> None:
        """A checkpoint was written."""

    def end(self, step: int) -> None:
        """The run has trained, and the model holds its best weights; ``step`` is one after the last."""

    def state(self) -> dict[str, Tensor]:
        """Tensors that a continued run needs; every checkpoint keeps them."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put back what ``state`` returned. Called before ``begin``."""


CONTRACTS: dict[str, type] = {
    "dataset": Dataset,
    "noise": Noise,
    "model": Model,
    "latent": Latent,
    "sparsity": Sparsity,
    "loss": Loss,
    "optimizer": Optimizer,
    "scheduler": Scheduler,
    "trainer": Trainer,
    "protocol": Evaluation,
    "callback": Observer,
}
# What has no default: a part of one's own must have it.
REQUIRED: dict[str, tuple[str, ...]] = {
    "dataset": ("load",),
    "noise": ("__call__",),
    "model": ("build",),
    "latent": ("__call__",),
    "sparsity": ("__call__",),
    "loss": ("__call__", "scale"),
    "optimizer": ("build",),
    "trainer": ("epochs", "batch_size"),
    "protocol": ("__call__",),
}


def lacking(cls: type, group: str) -> list[str]:
    """Names that a class must have to be a part of the group, and does not have."""
    own = {name for base in cls.__mro__ for name in (*vars(base), *inspect.get_annotations(base))}
    return [name for name in REQUIRED.get(group, ()) if name not in own]


def complete(cls: type, group: str) -> None:
    """Give a class that does not subclass its group's contract the defaults for everything that it does not have."""
    contract = CONTRACTS[group]
    if contract in cls.__mro__:
        return
    own = {name for base in cls.__mro__[:-1] for name in (*vars(base), *inspect.get_annotations(base))}
    for base in contract.__mro__:
        if base.__module__ != __name__:
            continue
        for name, value in vars(base).items():
            if not name.startswith("_") and name not in own:
                setattr(cls, name, value)
                own.add(name)


def _is_brought(group: str, by: str, settings: Any) -> bool:
    """Whether an option of ``by`` that the user typed has chosen the option of ``group``."""
    return by in settings.typed and group not in settings.typed
