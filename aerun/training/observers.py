"""The observers of a run, in one fixed order, and where the checkpoint stands among them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

from aerun.contracts import EpochEnd, Evaluate, Observer, RunView
from aerun.errors import AerunError, CallbackError

log = logging.getLogger(__name__)
CHECKPOINT = "checkpoint"
# Everything that is logged of an epoch must be on disk before its checkpoint: that is the point to go back to.
ORDER = ("tracker", "pictures", "doctor", "callback", CHECKPOINT, "progress", "record", "pruning")


class Observers:
    """Calls every observer in ORDER. ``callback`` is the user's own, by name: what one raises is reported under its
    name, and one that is ``optional`` is dropped instead. Processes of a run other than the first have none."""

    def __init__(self, callback: Mapping[str, Observer] | None = None, **ours: Observer) -> None:
        self._callbacks = dict(callback or {})
        self._ours = ours
        unknown = ours.keys() - set(ORDER)
        assert not unknown, unknown
        self._arrange()

    def _arrange(self) -> None:
        mine = {f"callback.{name}": observer for name, observer in self._callbacks.items()}
        self._ordered: list[tuple[str, Observer | None]] = []
        for name in ORDER:
            if name == "callback":
                self._ordered += mine.items()
            elif name == CHECKPOINT or name in self._ours:
                self._ordered.append((name, self._ours.get(name)))
        # Steps are many: only those who watch them are called.
        self._stepping = [
            (name, observer) for name, observer in self._all() if type(observer).step is not Observer.step
        ]

    def _all(self) -> Iterator[tuple[str, Observer]]:
        for name, observer in self._ordered:
            if observer is not None:
                yield name, observer

    @property
    def callbacks(self) -> Mapping[str, Observer]:
        """The user's own, without those that were dropped."""
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
        """Whether any observer ends the training; all are asked."""
        answers = [self._call(name, "should_stop", observer.should_stop, numbers) for name, observer in [*self._all()]]
        return any(answers)

    def epoch(self, end: EpochEnd, checkpoint: Callable[[], None]) -> None:
        """Show every observer the epoch, and call ``checkpoint`` at its place among them."""
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
        """Put back what ``state`` gave."""
        for name, observer in list(self._callbacks.items()):
            own = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
            if own:
                self._call(f"callback.{name}", "restore", observer.restore, own)

    def _call(self, name: str, event: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call an observer's method; an error of a callback names it."""
        try:
            return function(*arguments)
        except Exception as error:
            own = name.removeprefix("callback.")
            if own not in self._callbacks or isinstance(error, AerunError):
                raise
            text = f"callback={own}: {type(error).__name__} in {event}: {' '.join(str(error).split())}"
            if not self._callbacks[own].optional:
                raise CallbackError(text) from error
            log.warning("%s; it is dropped, and the run continues without it", text)
            del self._callbacks[own]
            self._arrange()
            return None
