"""What else a trained model is asked at the end of a run, each protocol as its paper has it.

A protocol is a dataclass, called with a ``Subject``, that returns numbers by name (or an ``Answer``: numbers and
pictures); they stand in the summary and in TensorBoard among the test metrics. It may have
``check(settings)`` and ``check_data(data, autoencoder)``, which raise ConfigError before training for what cannot be
answered. Several may be chosen, ``protocol=[one,other]``, each with keys of its own under ``protocol.one``.
"""

from aerun.protocol.finetune import SemiSupervised
from aerun.protocol.labels import LabelEfficiency
from aerun.protocol.likelihood import Likelihood
from aerun.protocol.linear import LinearSVM, Logistic
from aerun.protocol.neighbours import NearestNeighbours
from aerun.protocol.similarity import StructuralSimilarity
from aerun.protocol.subject import Answer, Subject

__all__ = [
    "Answer",
    "LabelEfficiency",
    "Likelihood",
    "LinearSVM",
    "Logistic",
    "NearestNeighbours",
    "SemiSupervised",
    "StructuralSimilarity",
    "Subject",
]
