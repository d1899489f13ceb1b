"""Runs the protocols of a run one after the other."""

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
    """The numbers of each protocol, or the reason why it failed (``unanswered``); pictures by tag."""

    numbers: dict[str, dict[str, float]] = field(default_factory=dict)
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    unanswered: dict[str, str] = field(default_factory=dict)

    @property
    def flat(self) -> dict[str, float]:
        """All numbers of all protocols."""
        return {name: value for numbers in self.numbers.values() for name, value in numbers.items()}


def check_protocols(protocols: Mapping[str, Any], data: Data, autoencoder: Autoencoder) -> None:
    """Raise ConfigError if a protocol cannot evaluate this model on these data, as far as that is known in advance."""
    for name, protocol in protocols.items():
        try:
            protocol.check_data(data, autoencoder)
        except ConfigError as error:
            raise ConfigError(f"protocol.{name}: {error}") from error


def run_protocols(protocols: Mapping[str, Any], subject: Subject) -> Answers:
    """Run each protocol with the model in evaluation mode. If one fails, the results of the others and of the run are
    kept."""
    answers = Answers()
    was_training = subject.autoencoder.training
    try:
        for name, protocol in protocols.items():
            log.info("protocol %s", name)
            subject.autoencoder.eval()
            _run_protocol(name, protocol, subject, answers)
    finally:
        subject.autoencoder.train(was_training)
    return answers


def _run_protocol(name: str, protocol: Any, subject: Subject, answers: Answers) -> None:
    try:
        answer = protocol(subject)
    except Exception as error:  # of any kind: the run is trained, and its results must be kept
        ours = isinstance(error, AerunError)
        answers.unanswered[name] = str(error) if ours else f"{type(error).__name__}: {' '.join(str(error).split())}"
        log.error("protocol.%s: %s", name, answers.unanswered[name], exc_info=None if ours else error)
        return
    if isinstance(answer, Answer):
        answers.pictures |= answer.pictures
        answer = answer.numbers
    answers.numbers[name] = {key: float(value) for key, value in answer.items()}
