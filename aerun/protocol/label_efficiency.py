"""Accuracy of a classifier against the number of labels, on codes and on baseline features."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from aerun.contracts import Count, Positive, Seed
from aerun.errors import DataError
from aerun.protocol.codes import CodeProtocol, LabeledImages
from aerun.protocol.linear import Logistic, error, root_mean_square
from aerun.protocol.subject import Answer, Subject

log = logging.getLogger(__name__)
FOLDS = 3  # of the cross-validation


@dataclass(frozen=True, kw_only=True)
class LabelEfficiency(CodeProtocol):
    """Test error of logistic regression with few labels on codes, on pixels, and on as many principal components.

    - For each number in ``labels``, that many training images are drawn, ``draws`` times, with equally many of every
      class (up to one). The three kinds of features use the same draws.
    - The L2 penalty (see ``Logistic``) is chosen from ``strengths`` by cross-validation within the draw, so no further
      labels are used; if a class has fewer than 3 images, the middle strength is used.
    - ``all``: also fit with all labels, choosing the penalty like ``protocol=logistic``.
    """

    labels: list[Count]
    all: bool
    draws: Count
    strengths: list[Positive]
    draw_seed: Seed

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.strengths or not (self.labels or self.all):
            raise ValueError("labels and strengths must list at least one each")

    def __call__(self, subject: Subject) -> Answer:
        """Return ``labels_N/KIND_error`` in percent, the mean over draws, and ``labels_N/KIND_deviation``, with a
        picture of the curves. N may be ``all``; KIND is codes, pixels or pca.
        """
        from aerun import figures

        fitted, tested = self.labeled_parts(subject)
        count = len(fitted.labels)
        if max(self.labels, default=0) > count:
            raise DataError(f"labels={self.labels}: there are only {count} labeled images")
        draws = {number: balanced_draws(fitted.labels, number, self.draws, self.draw_seed) for number in self.labels}
        numbers: dict[str, float] = {}
        curves: dict[str, list[tuple[int, float, float]]] = {}
        truth = fitted.labels.numpy(), tested.labels.numpy()
        for kind, train, test in self._features(subject, fitted, tested):
            found = {number: self._errors(train, test, *truth, rows) for number, rows in draws.items()}
            if self.all:
                found[count] = [self._with_all(train, test, *truth)]
            for number, errors in found.items():
                mean, deviation = mean_and_deviation(errors)
                name = f"labels_{number if number in draws else 'all'}"
                numbers[f"{name}/{kind}_error"] = mean
                if len(errors) > 1:
                    numbers[f"{name}/{kind}_deviation"] = deviation
                curves.setdefault(kind, []).append((number, mean, deviation))
        return Answer(numbers, {"protocol/label_efficiency": figures.label_curves(curves)})

    def _features(self, subject: Subject, fitted: LabeledImages, tested: LabeledImages) -> Any:
        """Yield each kind's name and its rows [N,D] for fitting and for testing, scaled by one number."""
        from scipy.sparse import issparse
        from sklearn.decomposition import PCA

        def scaled(train: Any, test: Any) -> tuple[Any, Any]:
            scale = root_mean_square(train)
            return train / scale, test / scale

        codes = [self.encode_all(subject.autoencoder, part) for part in (fitted, tested)]
        size = codes[0].shape[1]
        yield "codes", *scaled(*codes)
        del codes
        pixels = [part.map_images(lambda images: images) for part in (fitted, tested)]
        yield "pixels", *scaled(*pixels)
        dense = [part.toarray() if issparse(part) else part for part in pixels]
        components = PCA(min(size, *dense[0].shape), svd_solver="covariance_eigh").fit(dense[0])
        yield "pca", *scaled(*(components.transform(part) for part in dense))

    def _errors(self, train: Any, test: Any, labels: Any, truth: Any, draws: list[Any]) -> list[float]:
        """Return one test error in percent for each draw of rows."""
        import numpy as np
        from sklearn.model_selection import StratifiedKFold

        logistic = Logistic(strengths=self.strengths)
        errors = []
        for rows in draws:
            codes, drawn = train[rows], labels[rows]
            strength = sorted(self.strengths)[len(self.strengths) // 2]
            if len(self.strengths) > 1 and np.bincount(drawn)[np.unique(drawn)].min() >= FOLDS:
                folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(codes, drawn))
                totals = {
                    candidate: sum(
                        error(logistic.fit(codes[fit], drawn[fit], candidate), codes[rest], drawn[rest])
                        for fit, rest in folds
                    )
                    for candidate in sorted(self.strengths, reverse=True)
                }
                strength = min(totals, key=lambda candidate: totals[candidate])
            errors.append(error(logistic.fit(codes, drawn, strength), test, truth))
        return errors

    def _with_all(self, train: Any, test: Any, labels: Any, truth: Any) -> float:
        logistic = Logistic(strengths=self.strengths)
        strength = self.strengths[0] if len(self.strengths) == 1 else logistic.choose(train, labels)[0]
        return error(logistic.fit(train, labels, strength), test, truth)


def balanced_draws(labels: Any, count: int, draws: int, seed: int) -> list[Any]:
    """Draw ``draws`` times ``count`` rows of labels[N], ascending, with equally many of every class, up to one.

    DataError if a class has too few.
    """
    import numpy as np

    labels = np.asarray(labels)
    classes = np.unique(labels)
    chosen = []
    for number in range(draws):
        random = np.random.default_rng([seed, count, number])
        extra = set(random.permutation(len(classes))[: count % len(classes)].tolist())
        rows = []
        for index, name in enumerate(classes.tolist()):
            members, wanted = np.flatnonzero(labels == name), count // len(classes) + (index in extra)
            if wanted > len(members):
                raise DataError(
                    f"{count} labels of {len(classes)} classes: class {name} has only {len(members)} images"
                )
            rows.append(random.permutation(members)[:wanted])
        chosen.append(np.sort(np.concatenate(rows)))
    return chosen


def mean_and_deviation(values: list[float]) -> tuple[float, float]:
    """Return the mean and the sample standard deviation (0 for a single value)."""
    import statistics

    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
