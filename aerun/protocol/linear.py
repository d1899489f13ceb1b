"""Linear classifiers on codes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, ClassVar

from aerun.contracts import OpenProbability, Positive
from aerun.errors import DataError
from aerun.protocol.codes import CodeProtocol
from aerun.protocol.subject import Subject

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Linear(CodeProtocol):
    """A linear classifier whose L2 penalty is chosen on held-out labeled images.

    The objective is the mean loss over the images plus ``strength / 2 |w|^2``, so a strength has the same meaning for
    any number of images. Codes are divided by the root mean square of their lengths, so it has the same meaning for any
    model. The chosen strength makes the fewest errors on a share ``held_out`` of the images when fitted to the others
    (the larger one of equals); then the classifier is fitted to all images.
    """

    strengths: list[Positive]
    held_out: OpenProbability = 1 / 6

    name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.strengths:
            raise ValueError("strengths=[]: must list at least one")

    def __call__(self, subject: Subject) -> dict[str, float]:
        """Return ``NAME_error`` and ``NAME_validation_error``, the percentages of misclassified test and held-out
        images, and ``NAME_strength``, the chosen one. With a single strength nothing is held out, and no validation
        error is reported.
        """
        fitted, tested = self.labeled_parts(subject)
        codes = self.encode_all(subject.autoencoder, fitted)
        scale = root_mean_square(codes)
        codes /= scale
        labels, numbers = fitted.labels.numpy(), {}
        strength = self.strengths[0]
        if len(self.strengths) > 1:
            strength, numbers[f"{self.name}_validation_error"] = self.choose(codes, labels)
        classifier = self.fit(codes, labels, strength)
        others = self.encode_all(subject.autoencoder, tested) / scale
        numbers[f"{self.name}_error"] = error(classifier, others, tested.labels.numpy())
        numbers[f"{self.name}_strength"] = strength
        return numbers

    def choose(self, codes: Any, labels: Any) -> tuple[float, float]:
        """Return the strength with the fewest errors on held-out rows of codes[N,D], and their percentage."""
        from sklearn.model_selection import train_test_split

        try:
            rest, held = train_test_split(range(len(labels)), test_size=self.held_out, random_state=0, stratify=labels)
        except ValueError as problem:
            raise DataError(f"held_out={self.held_out:g}: {problem}") from problem
        best = (float("inf"), 0.0)
        classifier = None
        for strength in sorted(self.strengths, reverse=True):
            classifier = self.fit(codes[rest], labels[rest], strength, classifier)
            found = error(classifier, codes[held], labels[held])
            log.info("%s: strength %g, %.2f %% of the held-out images wrong", self.name, strength, found)
            best = min(best, (found, -strength))
        return -best[1], best[0]

    def fit(self, codes: Any, labels: Any, strength: float, start: Any = None) -> Any:
        """Return a fitted classifier with ``predict``; ``start`` may be one fitted with another strength."""
        import warnings

        import numpy as np
        from sklearn.exceptions import ConvergenceWarning

        classifier = self.classifier(1 / (strength * len(labels)), start)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            classifier.fit(codes, labels)
        if np.max(classifier.n_iter_) >= classifier.max_iter:
            log.info("%s: strength %g: ended after %d iterations", self.name, strength, classifier.max_iter)
        return classifier

    def classifier(self, inverse: float, start: Any) -> Any:
        """Return an unfitted classifier; ``inverse`` is scikit-learn's C."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Logistic(_Linear):
    """Multinomial logistic regression (scikit-learn's L-BFGS, warm-started from the previous strength).

    For 60,000 codes of 1,000 units, 75 of them nonzero, three strengths and the final fit took 20 s on one core; two
    weak ones and the final fit took about as long.
    """

    name: ClassVar[str] = "logistic"

    def classifier(self, inverse: float, start: Any) -> Any:
        from sklearn.linear_model import LogisticRegression

        classifier = start or LogisticRegression(warm_start=True, max_iter=500, tol=1e-7)
        return classifier.set_params(C=inverse)


@dataclass(frozen=True, kw_only=True)
class LinearSVM(_Linear):
    """Linear support vector machines with squared hinge loss, one versus rest (scikit-learn's dual solver).

    For 50,000 codes of 2,000 units, 15 % of them nonzero, one strength took 5 to 13 s on one core (1e-4 to 1e-6); for
    codes with 79 % nonzeros 19 s at 1e-4.
    """

    name: ClassVar[str] = "svm"

    def classifier(self, inverse: float, start: Any) -> Any:
        from sklearn.svm import LinearSVC

        return LinearSVC(C=inverse, dual=True, tol=0.01, random_state=0)


def root_mean_square(codes: Any) -> float:
    """Return the root mean square of the lengths of the rows of codes[N,D], dense or sparse; 1 if all are zero."""
    import numpy as np
    from scipy.sparse import issparse

    values = codes.data if issparse(codes) else codes
    return float(np.sqrt(np.square(values, dtype=np.float64).sum() / codes.shape[0])) or 1.0


def error(classifier: Any, codes: Any, labels: Any) -> float:
    """Return the percentage of codes[N,D] that the classifier misclassifies."""
    return 100 * float((classifier.predict(codes) != labels).mean())
