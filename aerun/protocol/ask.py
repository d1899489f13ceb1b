"""All protocols of a run, asked one after the other."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aerun.errors import AerunError, ConfigError
from aerun.protocol.subject import Answer, Subject

if TYPE_CHECKING:
    import numpy as np

    from aerun.core.autoencoder import Autoencoder
    from aerun.dataset.data import Data

log = logging.getLogger(__name__)


@dataclass
class Answers:
    """By protocol: its numbers, or why it has none. Pictures by tag."""

    numbers: dict[str, dict[str, float]] = field(default_factory=dict)
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    unanswered: dict[str, str] = field(default_factory=dict)

    @property
    def flat(self) -> dict[str, float]:
        """All numbers of all protocols."""
        return {name: value for numbers in self.numbers.values() for name, value in numbers.items()}


def check_protocols(protocols: Mapping[str, Any], data: Data, autoencoder: Autoencoder) -> None:
    """ConfigError for a protocol that these data or this model cannot answer, as far as it can tell by then."""
    for name, protocol in protocols.items():
        try:
            protocol.check_data(data, autoencoder)
        except ConfigError as error:
            raise ConfigError(f"protocol.{name}: {error}") from error


def ask(protocols: Mapping[str, Any], subject: Subject) -> Answers:
    """Ask each in turn, the model being in evaluation mode. One that cannot answer takes nothing from the others,
    nor from the run."""
    answers = Answers()
    was_training = subject.autoencoder.training
    try:
        for name, protocol in protocols.items():
            log.info("protocol %s", name)
            subject.autoencoder.eval()
            _ask(name, protocol, subject, answers)
    finally:
        subject.autoencoder.train(was_training)
    return answers


def _ask(name: str, protocol: Any, subject: Subject, answers: Answers) -> None:
    try:
        answer = protocol(subject)
    except Exception as error:  # whatever it is, the run is trained
        ours = isinstance(error, AerunError)
        answers.unanswered[name] = str(error) if ours else f"{type(error).__name__}: {' '.join(str(error).split())}"
        log.error("protocol.%s: %s", name, answers.unanswered[name], exc_info=None if ours else error)
        return
    if isinstance(answer, Answer):
        answers.pictures |= answer.pictures
        answer = answer.numbers
    answers.numbers[name] = {key: float(value) for key, value in answer.items()}
