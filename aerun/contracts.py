"""The interface of parts: one class for each group, with a default for everything optional.

A part of your own subclasses the class of its group, or simply has the same methods: ``complete`` then adds the missing
defaults to its class. No code depends on the name of a part.

A part with weights or buffers defines ``build``, which returns an ``nn.Module`` with the part's interface. Modules are
built after the seed is set, and treated like any other layer: trained, saved, frozen, and initialized from another
run. Greedy pretraining trains encoder and decoder; sparsity and latent join in its last stage.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import numpy as np
    import torch
    from torch import Generator, Tensor, nn
    from torch.optim import Optimizer as TorchOptimizer

Shape = tuple[int, ...]
T = TypeVar("T")


class _Default:
    """The value of instances that do not set the attribute. The class does not have the attribute, so that a dataclass
    field of that name remains a required key."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            raise AttributeError
        return self.value


def default(value: T) -> T:
    """The default of an optional key of parts."""
    return cast("T", _Default(value))


# What parts return.


class Penalty(NamedTuple):
    """One named term that is added to the reconstruction error.

    ``value`` is the unweighted scalar, which is logged, so that runs with different weights can be compared.
    ``per_image``: the value is in nats per image, and is divided by the number of values of an image if the
    reconstruction error is. ``samples`` [B,k]: if k codes are drawn for each image, the values whose mean it is.
    """

    name: str
    value: Tensor
    weight: float
    per_image: bool = False
    samples: Tensor | None = None


class Diagnostic(NamedTuple):
    """One named scalar that is logged with the loss terms but is not part of the loss."""

    name: str
    value: Tensor


Terms = list[Penalty | Diagnostic]


class Pass(NamedTuple):
    """One pass through an autoencoder, with everything that a penalty may need.

    inputs[B,*input_shape] as the encoder sees them, features (the encoder's linear output), code, logits (the decoder's
    linear output), prediction (after the output activation, to be compared with ``targets``), residual (targets -
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
        """targets - prediction, in the shape of the targets."""
        return self.targets - self.prediction


class Codec(NamedTuple):
    """An encoder and a decoder, both without a final activation.

    - encoder(images[B,*input_shape]) -> features, with ``parameters_per_code`` times the units of the code along
      dimension 1.
    - decoder(code[B,*code_shape]) -> [B,*output_shape]; the autoencoder applies the output activation, so that a loss
      can use the logits.
    - ``cuts``: for sequential encoders and decoders, the boundaries between layer pairs, outermost first. For each
      (end, start), encoder[:end] and decoder[start:] form an autoencoder. None if there are no pairs.
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
    """The optional methods of parts of every group. ``metrics`` declares the numbers that the part reports."""

    metrics: Sequence[Metric] = ()

    def check_settings(self, settings: Any) -> None:
        """ValueError, before anything is loaded, if this part is incompatible with another option of the run
        (``settings.model``, ...). The message names both keys."""
        return None

    def unread_keys(self, settings: Any) -> Mapping[str, str]:
        """Keys of this part that have no effect with these settings, each with the reason."""
        return {}


class Dataset(Part, Protocol):
    """``load`` returns the data; ``normalize`` and ``binarise`` say how they are processed."""

    normalize: str = default("none")
    binarise: str = default("none")

    def check(self) -> None:
        """DataError for problems that are found without loading, such as a folder that does not exist."""
        return None

    if TYPE_CHECKING:

        def load(self, device: torch.device) -> Any:
            """Training, validation and test part, as ``aerun.dataset.data.Data`` on the device."""


class Noise(Part, Protocol):
    """A corruption of the input."""

    if TYPE_CHECKING:

        def __call__(self, images: Tensor, generator: Generator) -> Tensor:
            """images[B,...] float -> corrupted images of the same shape. All randomness comes from the generator."""

    @property
    def is_identity(self) -> bool:
        """Whether it leaves every input unchanged."""
        return False

    def check_shape(self, shape: Sequence[int]) -> None:
        """ValueError for an input shape, without the batch, that it does not support."""
        return None

    def for_evaluation(self) -> Noise:
        """The corruption that is used to evaluate trained models."""
        return self

    def moments(self, positions: int) -> Any:
        """``aerun.noise.pixels.Moments``, which determine the best linear denoiser exactly; None if unknown."""
        return None


class Model(Part, Protocol):
    """Builds encoder and decoder. ``code_size``: units of the code, if a key sets them independently of the data."""

    code_size: int | None = default(None)
    output_activation: str = default("identity")
    output_bias: str = default("init")
    tied: bool | None = default(None)

    if TYPE_CHECKING:

        def build(self, input_shape: Shape, output_shape: Shape, parameters_per_code: int) -> Codec:
            """Both shapes are without the batch. ValueError for shapes that the model does not support."""


class Sparsity(Part, Protocol):
    """Applies the code's nonlinearity to the encoder's linear features, then selects or penalizes.

    ``rowwise``: the rows of a minibatch are independent, and penalties are means over rows; otherwise every process of
    a run gets all rows. ``constrains_code``: it limits the code. ``fixes_activation``: the code's nonlinearity cannot
    be chosen. ``penalty``: the name of its penalty in the logs; the weight of the penalty is ``weight``.
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
        """The largest number of nonzero values in a vector code, or in a channel of feature maps; None if unknown."""
        return None

    if TYPE_CHECKING:

        def __call__(self, features: Tensor, training: bool) -> tuple[Tensor, Terms]:
            """features[B,D] or [B,C,H,W] -> code of the same shape, and terms that depend on the features alone."""

    def build(self, code_shape: Shape) -> Any:
        """An ``nn.Module`` with this interface, for a part that has weights or buffers; otherwise the part itself."""
        return self

    def check_code(self, code_shape: Shape) -> None:
        """ValueError for a code shape, without the batch, that it does not support."""
        return None

    def penalties(self, run: Pass) -> Terms:
        """Further terms that depend on the whole pass; means over the rows of the minibatch."""
        return []

    def linear(self) -> Sparsity:
        """A copy without a nonlinearity, for a latent that needs linear features."""
        return self

    def with_max_nonzeros(self, count: int) -> Sparsity:
        """A copy with another ``max_nonzeros``."""
        raise ValueError("has no number of nonzero values")


class Latent(Part, Protocol):
    """Maps the constrained features to the code: unchanged, to the nearest codebook entries, or to a sample.

    ``parameters_per_code``: features for each unit of the code, along dimension 1. ``rowwise``: as in ``Sparsity``.
    ``samples``: how many codes are drawn for each image; None for one (see ``Penalty.samples``).
    """

    parameters_per_code: int = 1
    rowwise: ClassVar[bool] = False
    samples: int | None = default(None)

    @property
    def constrains_code(self) -> bool:
        """Whether it limits the code. Then the features stay linear, and a sparsity that limits the code is
        rejected."""
        return self.parameters_per_code > 1

    def check_settings(self, settings: Any) -> None:
        if self.constrains_code and settings.sparsity.constrains_code:
            hint = f" (set by {settings.name('model')})" if _is_implied("latent", "model", settings) else ""
            raise ValueError(
                f"{settings.name('latent')} and {settings.name('sparsity')} both constrain the code: use sparsity=none "
                f"or latent=deterministic{hint}"
            )

    def draw(self, shape: Shape, generator: Generator) -> Tensor | None:
        """The random numbers of one stochastic pass for codes of that shape [B,...]; None if it is deterministic."""
        return None

    if TYPE_CHECKING:

        def __call__(self, features: Tensor, draw: Tensor | None) -> tuple[Tensor, Terms]:
            """features -> code[B,...] (or [B,k,...] for ``samples`` codes), and terms; deterministic without a draw.

            ``draw`` is what the method ``draw`` returned, and None in evaluation. A module reads ``self.training``.
            """

    def build(self, code_shape: Shape) -> Any:
        """An ``nn.Module`` with this interface, for a part that has weights or buffers; otherwise the part itself."""
        return self

    def check_code(self, code_shape: Shape) -> None:
        """ValueError for a code shape, without the batch, that it does not support."""
        return None

    def penalties(self, run: Pass) -> Terms:
        """Further terms that depend on the whole pass; means over the rows of the minibatch."""
        return []

    def posterior(self, features: Tensor) -> tuple[Tensor, Tensor] | None:
        """Means and log-variances of a Gaussian posterior, each of the code's shape; None if there is none."""
        return None

    def sample_prior(self, shape: Shape, generator: Generator) -> Tensor | None:
        """Codes of that shape [B,...] drawn from the prior; None if there is none."""
        return None


class Loss(Part, Protocol):
    """A reconstruction error, averaged over the batch.

    ``takes_logits``: predictions are the decoder's linear outputs, and targets must be in [0,1]. ``needs_unit_range``:
    targets must be in [0,1]. ``is_likelihood``: it has ``nats``, which become a negative log-likelihood if ``constant``
    is added for each value. ``changes``: it changes during training, see ``share``.
    """

    takes_logits: ClassVar[bool] = False
    needs_unit_range: ClassVar[bool] = False
    is_likelihood: ClassVar[bool] = False
    changes: ClassVar[bool] = False
    constant: float = default(0.0)

    if TYPE_CHECKING:

        def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
            """prediction[B,...], target[B,...] of the same shape -> scalar."""

        def scale(self, values_per_image: int) -> float:
            """The factor that converts a sum over the values of an image to the scale of this loss."""

    def nats(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The error of each image, summed over its values: prediction[B,k,...], target[B,1,...] -> [B,k]."""
        raise NotImplementedError

    def check_shape(self, shape: Sequence[int]) -> None:
        """ValueError for a target shape, without the batch, that it does not support."""
        return None

    def share(self, progress: float) -> float:
        """For a loss that changes: the share of its first part, when ``progress`` (0 to 1) of the steps are done."""
        return 1.0

    def while_training(self, share: Tensor) -> Loss:
        """The loss with that share, a scalar tensor that changes between steps."""
        return self


class Optimizer(Part, Protocol):
    """``lr``: the base rate, if there is a key for it."""

    lr: float | None = default(None)

    @property
    def couples_weight_decay(self) -> bool:
        """Whether weight decay is added to the gradients, which the optimizer then normalizes."""
        return False

    if TYPE_CHECKING:

        def build(self, parameters: Iterable[nn.Parameter]) -> TorchOptimizer:
            """The torch optimizer of these parameters."""


class Scheduler(Part, Protocol):
    """A factor on the optimizer's base rate: a function of the step and of the numbers observed before it.

    ``stop_lr``: the run ends when the rate falls below it. ``warmup_epochs``: epochs until the base rate is reached.
    """

    stop_lr: float | None = default(None)
    warmup_epochs: float | None = default(None)

    def multiplier(self, step: int, *, total_steps: int, steps_per_epoch: int) -> float:
        """The factor for update number ``step`` (0 is the first)."""
        return 1.0

    def observe(self, loss: float) -> None:
        """Called after each evaluation with the monitored number (``trainer.monitor``): lower is better, since a number
        of which higher is better comes with the opposite sign."""
        return None

    def finished(self, base_rate: float) -> bool:
        """Whether the run should end, given the optimizer's base rate."""
        return False

    def state(self) -> dict[str, Any]:
        """The state that a resumed run needs, as JSON values."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned."""
        return None


class Trainer(Part, Protocol):
    """How a run trains. See ``aerun.trainer.Joint`` for the keys.

    A trainer may define ``fit(parts, progress, session)``, with the same arguments as aerun's own loop (see
    ``aerun.training.loop``). It returns the progress when training has ended.
    """

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
    figures: Any = default("all")
    tsne: bool = default(False)
    monitor: str = default("loss")
    patience: int | None = default(None)
    min_delta: float = default(0.0)
    fit: Callable[..., Any] | None = default(None)
    # For a trainer that pretrains in stages: the epochs of each stage, and when tied weights are untied.
    stage_epochs: int | list[int] | None = default(None)
    untie_at: str | None = default(None)


class Evaluation(Part, Protocol):
    """A protocol: an extra evaluation of the trained model."""

    if TYPE_CHECKING:

        def __call__(self, subject: Any) -> Any:
            """The numbers of an ``aerun.protocol.Subject`` by name, or an ``aerun.protocol.Answer``."""

    def check_data(self, data: Any, autoencoder: Any) -> None:
        """ConfigError, before training, for data or a model that it cannot evaluate."""
        return None


class RunLog(Protocol):
    """The log of a run for observers: the files of the run folder, and the trackers.

    ``histograms``: whether a tracker shows the distribution of codes.
    """

    @property
    def histograms(self) -> bool:
        return False

    if TYPE_CHECKING:

        def scalars(self, values: Mapping[str, float], step: int) -> None:
            """Log each value under its tag at that step."""

        def picture(self, tag: str, pixels: np.ndarray, step: int) -> None:
            """Log a picture [H,W] or [H,W,3], uint8, in the trackers and as a PNG file in figures/, which it
            overwrites."""

        def histogram(self, tag: str, values: Tensor, step: int) -> None:
            """Log the distribution of the values."""

        def weights(self, name: str, tensors: Mapping[str, Tensor]) -> None:
            """Write the model's tensors to checkpoints/NAME.safetensors, for ``aerun.load(FOLDER, weights=NAME)``."""

        def logged(self) -> list[dict[str, Any]]:
            """The lines of metrics.jsonl of the current stage so far."""

        def flush(self) -> None:
            """Write everything that was logged to disk."""


@dataclass(frozen=True)
class RunView:
    """A run, or one of its stages, as observers see it: the model that trains, its data, and the log.

    ``progress`` counts completed epochs and steps; ``epochs`` and ``total_steps`` are planned. ``stage`` is the name of
    the stage, "" in a run without stages and in fine-tuning; ``stage_number`` is 0 without stages; ``is_last``: whether
    it is the last stage. ``part`` contains the images that are evaluated after epochs. ``folder`` is None for a run
    without a folder.
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
    """The end of an epoch of the run, counted from 1.

    ``numbers``: by tag (``train/loss``, ``validation/mse``, ...). ``evaluated``: whether they include validation
    numbers. ``ended``: whether the training ends with this epoch. ``target_spread``: the variance of the evaluated
    targets over images, summed over values.
    """

    epoch: int
    step: int
    numbers: Mapping[str, float]
    evaluated: bool
    ended: bool
    target_spread: float


class Evaluate(Protocol):
    """The evaluation on one part of the data."""

    if TYPE_CHECKING:

        def __call__(self, autoencoder: Any) -> dict[str, float]:
            """Return the usual metrics of any autoencoder on that part."""

        def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
            """Yield inputs[B,...], corrupted as the model sees them, and targets[B,...]: equal in every epoch."""


class Observer:
    """Observes a run; every method is optional. Use your own observers with the group ``callback``.

    ``optional``: if it raises an error, it is removed with a warning and the run continues. ``metrics`` declares the
    numbers of ``measure``. With several processes, only rank 0 has observers.
    """

    optional: bool = False
    metrics: Sequence[Metric] = ()

    def begin(self, run: RunView) -> None:
        """Called when training starts or is resumed: once for the run, or for each of its stages."""

    def step(self, step: int, values: Mapping[str, float] | None) -> None:
        """Called after update ``step`` of the run, counted from 1. ``values`` are the loss terms if they are logged,
        every ``trainer.log_every_steps``; otherwise None, so that nothing waits for the device."""

    def measure(self, autoencoder: Any, part: str, evaluate: Evaluate) -> Mapping[str, float]:
        """Return further numbers by name when the autoencoder is evaluated on a part of the data.

        The part is ``validation`` after epochs (``probe``, some training images, if there is no validation part), and
        ``test`` at the end. When a finished run is evaluated again, this is called without ``begin``.
        """
        return {}

    def should_stop(self, numbers: Mapping[str, float]) -> bool:
        """Whether to end the training (with stages: the stage) with this epoch. Called after each evaluation, with the
        numbers of the epoch by tag (``train/loss``, ``validation/psnr``, ...)."""
        return False

    def epoch(self, end: EpochEnd) -> None:
        """Called at the end of an epoch, before its checkpoint."""

    def saved(self, progress: Any) -> None:
        """Called after a checkpoint was written."""

    def end(self, step: int) -> None:
        """Called after training, when the model has its best weights; ``step`` is the last step plus one."""

    def state(self) -> dict[str, Tensor]:
        """Tensors that a resumed run needs; every checkpoint contains them."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state`` returned. Called before ``begin``."""


@dataclass(frozen=True)
class TrackedRun:
    """The run that a tracker logs.

    ``settings``: by dotted key, as in tables of runs; ``typed``: the keys among them that the user typed. ``sweep``:
    the name of its sweep, or None. ``monitor``: the metric that chooses the best epoch. ``again_from``: in a resumed
    run, the first step that is logged again; None for a new run.
    """

    folder: Path
    settings: Mapping[str, bool | float | str]
    typed: frozenset[str] = frozenset()
    sweep: str | None = None
    monitor: str = "loss"
    again_from: int | None = None

    @property
    def name(self) -> str:
        """The name of the run folder."""
        return self.folder.name


class Tracker:
    """Shows runs elsewhere, such as on a server; every method is optional. It receives what the run logs.

    ``optional``: if it raises an error, it is removed with a warning and the run continues. ``reads_rows``: the run
    folder keeps every logged number in ``scalars.csv``. ``projector``: it takes the codes of test images.
    ``histograms``: it takes the distribution of the codes during training. With several processes, only rank 0 has
    trackers.
    """

    optional: bool = default(True)
    reads_rows: bool = default(False)
    projector: bool = default(False)
    histograms: bool = default(False)
    metrics: Sequence[Metric] = ()

    def check_settings(self, settings: Any) -> None:
        """ValueError, before anything is loaded, if it cannot be used."""

    def unread_keys(self, settings: Any) -> Mapping[str, str]:
        """Keys that have no effect with these settings, each with the reason."""
        return {}

    def open(self, run: TrackedRun) -> None:
        """Called before anything is logged."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Receive numbers by name (``train/loss``, ``validation/mse``, ``test/psnr``, ...), in the order of steps."""

    def picture(self, tag: str, png: bytes, step: int) -> None:
        """Receive a picture as the content of a PNG file. Called in another thread than the other methods."""

    def histogram(self, tag: str, values: Tensor, step: int) -> None:
        """Receive values whose distribution is to be shown."""

    def embedding(self, codes: np.ndarray, labels: list[str] | None, thumbnails: np.ndarray | None) -> None:
        """Receive the codes [N,D] of test images with labels and images, uint8 [N,C,H,W]. Called in another thread."""

    def flush(self) -> None:
        """Called before each checkpoint: what was received must be on disk afterwards."""

    def finish(self) -> None:
        """Called when everything is logged and the run has finished."""

    def close(self) -> None:
        """Called at the end, also after an error."""


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
    "tracker": Tracker,
}
# Names without a default, which every part must define.
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


def missing_names(cls: type, group: str) -> list[str]:
    """The names that a part of the group must define and that the class does not have."""
    defined = {name for base in cls.__mro__ for name in (*vars(base), *inspect.get_annotations(base))}
    return [name for name in REQUIRED.get(group, ()) if name not in defined]


def complete(cls: type, group: str) -> None:
    """Add the defaults of everything that it does not define to a class that does not subclass its group's contract."""
    contract = CONTRACTS[group]
    if contract in cls.__mro__:
        return
    defined = {name for base in cls.__mro__[:-1] for name in (*vars(base), *inspect.get_annotations(base))}
    for base in contract.__mro__:
        if base.__module__ != __name__:
            continue
        for name, value in vars(base).items():
            if not name.startswith("_") and name not in defined:
                setattr(cls, name, value)
                defined.add(name)


def _is_implied(group: str, by: str, settings: Any) -> bool:
    """Whether the option of ``group`` was set by the option that the user typed for ``by``."""
    return by in settings.typed and group not in settings.typed
