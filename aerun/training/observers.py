"""The observers of a run, and the fixed order of their calls, including the checkpoint."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

from aerun.config.deferred import built
from aerun.config.settings import Settings
from aerun.contracts import EpochEnd, Evaluate, Observer, RunView
from aerun.errors import AerunError, CallbackError

log = logging.getLogger(__name__)
CHECKPOINT = "checkpoint"
# Everything logged for an epoch must be on disk before its checkpoint, from which a killed run continues.
ORDER = ("tracker", "pictures", "doctor", "callback", CHECKPOINT, "progress", "record", "pruning")


class Observers:
    """Calls all observers in ORDER.

    ``callback``: the user's observers by name. An error of one is reported with its name; an ``optional`` one is
    removed instead. Only rank 0 has observers.
    """

    def __init__(self, callback: Mapping[str, Observer] | None = None, **builtin: Observer) -> None:
        self._callbacks = dict(callback or {})
        self._builtin = builtin
        unknown = builtin.keys() - set(ORDER)
        assert not unknown, unknown
        self._arrange()

    def _arrange(self) -> None:
        callbacks = {f"callback.{name}": observer for name, observer in self._callbacks.items()}
        self._ordered: list[tuple[str, Observer | None]] = []
        for name in ORDER:
            if name == "callback":
                self._ordered += callbacks.items()
            elif name == CHECKPOINT or name in self._builtin:
                self._ordered.append((name, self._builtin.get(name)))
        # There are many steps, so only observers that define ``step`` are called.
        self._stepping = [
            (name, observer) for name, observer in self._all() if type(observer).step is not Observer.step
        ]

    def _all(self) -> Iterator[tuple[str, Observer]]:
        for name, observer in self._ordered:
            if observer is not None:
                yield name, observer

    @property
    def callbacks(self) -> Mapping[str, Observer]:
        """The user's observers, without those that were removed."""
        return self._callbacks

    def begin(self, run: RunView) -> None:
        """See ``Observer.begin``."""
        for name, observer in list(self._all()):
            self._call(name, "begin", observer.begin, run)

    def step(self, step: int, values: Mapping[str, float] | None) -> None:
        """See ``Observer.step``."""
        for name, observer in self._stepping:
            self._call(name, "step", observer.step, step, values)

    def measure(self, autoencoder: Any, part: str, evaluate: Evaluate) -> dict[str, float]:
        """The numbers of all observers."""
        numbers: dict[str, float] = {}
        for name, observer in list(self._all()):
            found = self._call(name, "measure", observer.measure, autoencoder, part, evaluate)
            numbers |= {key: float(value) for key, value in (found or {}).items()}
        return numbers

    def should_stop(self, numbers: Mapping[str, float]) -> bool:
        """Whether any observer ends the training; all observers are called."""
        answers = [self._call(name, "should_stop", observer.should_stop, numbers) for name, observer in [*self._all()]]
        return any(answers)

    def epoch(self, end: EpochEnd, checkpoint: Callable[[], None]) -> None:
        """Call all observers at the end of an epoch, and ``checkpoint`` at its place in the order."""
        for name, observer in list(self._ordered):
            if name == CHECKPOINT:
                checkpoint()
            elif observer is not None:
                self._call(name, "epoch", observer.epoch, end)

    def saved(self, progress: Any) -> None:
        """See ``Observer.saved``."""
        for name, observer in list(self._all()):
            self._call(name, "saved", observer.saved, progress)

    def end(self, step: int) -> None:
        """See ``Observer.end``."""
        for name, observer in list(self._all()):
            self._call(name, "end", observer.end, step)

    def state(self) -> dict[str, Tensor]:
        """The tensors of all callbacks, by ``name.key``."""
        found: dict[str, Tensor] = {}
        for name, observer in self._callbacks.items():
            state = self._call(f"callback.{name}", "state", observer.state) or {}
            found |= {f"{name}.{key}": value for key, value in state.items()}
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state`` returned."""
        for name, observer in list(self._callbacks.items()):
            tensors = {
                key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")
            }
            if tensors:
                self._call(f"callback.{name}", "restore", observer.restore, tensors)

    def _call(self, name: str, event: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method of an observer. CallbackError, with its name, if a callback raises an error."""
        try:
            return function(*arguments)
        except Exception as error:
            callback = name.removeprefix("callback.")
            if callback not in self._callbacks or isinstance(error, AerunError):
                raise
            text = f"callback={callback}: {type(error).__name__} in {event}: {' '.join(str(error).split())}"
            if not self._callbacks[callback].optional:
                raise CallbackError(text) from error
            log.warning("%s; it is removed, and the run continues without it", text)
            del self._callbacks[callback]
            self._arrange()
            return None


def own_callbacks(settings: Settings) -> dict[str, Observer]:
    """Copies of the configured callbacks: callbacks have state, and settings must not change."""
    return {name: copy.deepcopy(built(callback)) for name, callback in settings.callback.items()}
