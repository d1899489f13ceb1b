"""What each group offers: one class per group, with a default for everything optional."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, cast

from aerun.contracts.terms import Codec, Factors, Metric, Moment, Pass, Shape, Shapes, Terms, TrainingData

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch
    from torch import Generator, Tensor, nn
    from torch.optim import Optimizer as TorchOptimizer

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


class Part(Protocol):
    """The optional methods of parts of every group. ``metrics`` declares the numbers that the part reports.

    ``schedulable``: its keys that the group ``schedule`` may change during training. Training then uses a copy of the
    part that has a tensor without dimensions in the place of the key's number (a noise: the number of the step), which
    it must not read on the host. Evaluation uses the part itself.
    """

    metrics: Sequence[Metric] = ()
    schedulable: ClassVar[Sequence[str]] = ()

    def schedules(self) -> Mapping[str, Callable[[Moment], float]]:
        """Attributes that the part itself changes during training, each with its value in a step."""
        return {}

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

    def true_factors(self) -> Factors | None:
        """The true factors of variation of the test images, in their order; None if they are not known."""
        return None

    def known_features(self) -> Any:
        """The directions [n,F] of which the vectors are sparse combinations, as an array; None if they are not
        known."""
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
    """Builds encoder and decoder. ``code_size``: units of the code, if a key sets them independently of the data.

    ``linear_code``: the encoder ends, and the decoder begins, with a linear layer that has a row for each unit.
    """

    code_size: int | None = default(None)
    output_activation: str = default("identity")
    output_bias: str = default("init")
    tied: bool | None = default(None)
    linear_code: ClassVar[bool] = False

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

    def for_data(self, data: TrainingData) -> Latent:
        """A copy that knows its training data; called before ``build``."""
        return self

    @property
    def codebooks(self) -> Tensor | None:
        """For a quantized code, the entries [S,G,K,d] of G codebooks with S stages each; None for other codes.

        The code consists of vectors of d channels, each the sum of one entry of each stage. The C / d vectors at each
        of P positions are numbered position by position, and shared out among the G codebooks in that order.
        """
        return None

    def indices(self, features: Tensor) -> Tensor:
        """For a quantized code, features[B,...] -> the numbers of its entries, [B,S,G,L] with L = C P / (d G)."""
        raise ValueError("this model's latent is not quantized: its code has no indices")

    def from_indices(self, indices: Tensor) -> Tensor:
        """The code[B,...] that has these ``indices``, to the last bit."""
        raise ValueError("this model's latent is not quantized: its code has no indices")

    def posterior(self, features: Tensor) -> tuple[Tensor, Tensor] | None:
        """Means and log-variances of a Gaussian posterior, each of the code's shape; None if there is none."""
        return None

    def log_prior(self, codes: Tensor) -> Tensor | None:
        """The log density [N] of the prior, in nats, for codes[N,...] of a Gaussian posterior; None if the prior is the
        standard normal."""
        return None

    def sample_prior(self, shape: Shape, generator: Generator) -> Tensor | None:
        """Codes of that shape [B,...] drawn from the prior; None if there is none."""
        return None


class Regularizer(Part, Protocol):
    """A penalty on the whole pass, in addition to the sparsity and the latent.

    ``rowwise``: penalties are means over rows of the minibatch; if not, the run needs one process. ``two_views``: it
    compares two corruptions of each image, and gets the other one as ``Pass.second_view``.
    """

    rowwise: ClassVar[bool] = True
    two_views: ClassVar[bool] = False

    def draw(self, shapes: Shapes, generator: Generator) -> Tensor | None:
        """The random numbers of one pass, rows first [B,...]; the penalties get them as ``Pass.draw``."""
        return None

    if TYPE_CHECKING:

        def penalties(self, run: Pass) -> Terms:
            """Terms that depend on the pass, each with its weight. In evaluation gradients are off: a penalty that
            takes derivatives uses ``torch.enable_grad``."""

    def change_networks(self, encoder: nn.Module, decoder: nn.Module) -> None:
        """Change layers of the new model, in place. ValueError for a model that it cannot change."""
        return None

    def build(self, code_shape: Shape) -> Any:
        """An ``nn.Module`` with this interface, for a part that has weights or buffers; otherwise the part itself."""
        return self

    def check_code(self, code_shape: Shape) -> None:
        """ValueError for a code shape, without the batch, that it does not support."""
        return None


class Loss(Part, Protocol):
    """A reconstruction error, averaged over the batch.

    ``takes_logits``: predictions are the decoder's linear outputs, and targets must be in [0,1]. ``needs_unit_range``:
    targets must be in [0,1]. ``is_likelihood``: it has ``nats``, which become a negative log-likelihood if ``constant``
    is added for each value.
    """

    takes_logits: ClassVar[bool] = False
    needs_unit_range: ClassVar[bool] = False
    is_likelihood: ClassVar[bool] = False
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


class Schedule(Part, Protocol):
    """The course of the number of ``key``, such as ``latent.beta``, during training."""

    key: str

    if TYPE_CHECKING:

        def value(self, at: Moment, final: float) -> float:
            """The number in that step; ``final`` is that of the key, which evaluation always uses."""

    def check_final(self, final: float) -> Sequence[float]:
        """The numbers that the key will have, to be checked as if they were typed. ValueError for a ``final`` number
        that it cannot lead to."""
        return ()


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


def _is_implied(group: str, by: str, settings: Any) -> bool:
    """Whether the option of ``group`` was set by the option that the user typed for ``by``."""
    return by in settings.typed and group not in settings.typed
