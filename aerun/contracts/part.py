"""What parts of every group offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, TypeVar, cast

from aerun.contracts.terms import Metric, Moment, Shape

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
    it must not read on the host. Evaluation uses the part itself. ``other_groups``: the keys that hold an option of
    another group, or null, each with that group.
    """

    metrics: Sequence[Metric] = ()
    other_groups: ClassVar[Mapping[str, str]] = MappingProxyType({})
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


class CodePart(Part, Protocol):
    """What sparsities, latents and regularizers offer in addition: they may depend on the shape of the code."""

    def build(self, code_shape: Shape) -> Any:
        """An ``nn.Module`` with this interface, for a part that has weights or buffers; otherwise the part itself."""
        return self

    def check_code(self, code_shape: Shape) -> None:
        """ValueError for a code shape, without the batch, that it does not support."""
        return None
