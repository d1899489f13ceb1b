"""Extra evaluations of the trained model at the end of a run, each as defined in its paper.

A protocol is a dataclass that is called with a ``Subject`` and returns numbers by name, or an ``Answer`` with numbers
and pictures. They are reported with the test metrics in the summary and in TensorBoard. ``check_settings(settings)``
and ``check_data(data, autoencoder)`` may reject a run before training. ``protocol=[one,other]`` chooses several, each
with its own keys under ``protocol.one``.
"""

from aerun.protocol.anomaly import Anomaly
from aerun.protocol.disentanglement import Disentanglement
from aerun.protocol.features import Features
from aerun.protocol.finetune import SemiSupervised
from aerun.protocol.label_efficiency import LabelEfficiency
from aerun.protocol.likelihood import Likelihood
from aerun.protocol.linear import LinearSVM, Logistic
from aerun.protocol.nearest_neighbors import NearestNeighbours
from aerun.protocol.samples import Samples
from aerun.protocol.similarity import StructuralSimilarity
from aerun.protocol.subject import Answer, Subject

__all__ = [
    "Anomaly",
    "Answer",
    "Disentanglement",
    "Features",
    "LabelEfficiency",
    "Likelihood",
    "LinearSVM",
    "Logistic",
    "NearestNeighbours",
    "Samples",
    "SemiSupervised",
    "StructuralSimilarity",
    "Subject",
]
