"""The contracts of training: what is minimized, by which steps, and by which trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from aerun.contracts.part import CodePart, Part, default
from aerun.contracts.terms import Moment, Pass, Shapes, Terms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Generator, Tensor, nn
    from torch.optim import Optimizer as TorchOptimizer


class Regularizer(CodePart, Protocol):
    """A penalty on the whole pass, in addition to the sparsity and the latent.

    ``rowwise``: penalties are means over rows of the minibatch, or of all rows, which ``Pass.gather`` returns; if
    neither, the run needs one process. ``two_views``: it compares two corruptions of each image, and gets the other one
    as ``Pass.second_view``; ``views``: the noise that makes it, None for the run's own.
    """

    rowwise: ClassVar[bool] = True
    two_views: ClassVar[bool] = False
    views: Any = default(None)

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
