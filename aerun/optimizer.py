"""torch's optimizers, with all their keys, their types and ranges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from aerun.contracts import Decay, NonNegative, Optimizer, Positive
from aerun.errors import ConfigError

if TYPE_CHECKING:
    from torch import optim
    from torch.nn import Parameter


@dataclass(frozen=True, kw_only=True)
class _TorchOptimizer(Optimizer):
    """The class of the same name in ``torch.optim``; every field is an argument of that class."""

    lr: Positive
    weight_decay: NonNegative
    maximize: bool
    foreach: bool | None
    differentiable: bool

    def __post_init__(self) -> None:
        settings = asdict(self)
        if self.differentiable:
            raise ValueError("differentiable=true: must be false (training takes no gradient through a step)")
        if settings.get("foreach") and settings.get("fused"):
            raise ValueError("foreach=true and optimizer.fused=true exclude each other")
        if "betas" in settings and len(settings["betas"]) != 2:
            raise ValueError(f"betas={settings['betas']}: must be two numbers, at least 0 and below 1")
        if settings.get("nesterov") and (settings["momentum"] == 0 or settings["dampening"] != 0):
            raise ValueError("nesterov=true needs optimizer.momentum above 0 and optimizer.dampening=0")

    def torch_class(self) -> type[optim.Optimizer]:
        """The class in ``torch.optim`` with the name of this class or, for a subclass elsewhere, of its base class
        here."""
        import torch

        name = next(cls.__name__ for cls in type(self).__mro__ if cls.__module__ == __name__)
        found: type[optim.Optimizer] = vars(torch.optim)[name]
        return found

    def build(self, parameters: Iterable[Parameter]) -> optim.Optimizer:
        """The torch optimizer of ``parameters``. ConfigError for arguments that torch rejects on their device."""
        parameters = list(parameters)
        settings: dict[str, Any] = asdict(self)
        device = parameters[0].device.type
        if settings.get("capturable") and device != "cuda":
            raise ConfigError(f"optimizer.capturable=true: needs trainer.device=cuda; the device is {device}")
        try:
            optimizer: optim.Optimizer = self.torch_class()(parameters, **settings)
        except (ValueError, RuntimeError, TypeError) as error:
            name = self.torch_class().__name__.lower()
            raise ConfigError(f"optimizer={name}: torch rejects its arguments ({error})") from error
        return optimizer


@dataclass(frozen=True, kw_only=True)
class Adam(_TorchOptimizer):
    """Kingma & Ba 2015 (arXiv:1412.6980)."""

    betas: list[Decay]
    eps: NonNegative
    amsgrad: bool
    capturable: bool
    fused: bool | None
    decoupled_weight_decay: bool

    @property
    def couples_weight_decay(self) -> bool:
        return not self.decoupled_weight_decay


@dataclass(frozen=True, kw_only=True)
class AdamW(_TorchOptimizer):
    """Adam with decoupled weight decay: Loshchilov & Hutter 2019 (arXiv:1711.05101)."""

    betas: list[Decay]
    eps: NonNegative
    amsgrad: bool
    capturable: bool
    fused: bool | None


@dataclass(frozen=True, kw_only=True)
class NAdam(_TorchOptimizer):
    """Adam with Nesterov momentum: Dozat 2016."""

    betas: list[Decay]
    eps: NonNegative
    momentum_decay: NonNegative
    decoupled_weight_decay: bool
    capturable: bool

    @property
    def couples_weight_decay(self) -> bool:
        return not self.decoupled_weight_decay


@dataclass(frozen=True, kw_only=True)
class SGD(_TorchOptimizer):
    """Stochastic gradient descent with momentum."""

    momentum: NonNegative
    dampening: NonNegative
    nesterov: bool
    fused: bool | None


@dataclass(frozen=True, kw_only=True)
class RMSprop(_TorchOptimizer):
    """Tieleman & Hinton 2012."""

    alpha: Decay
    eps: NonNegative
    momentum: NonNegative
    centered: bool
    capturable: bool

    @property
    def couples_weight_decay(self) -> bool:
        return True
