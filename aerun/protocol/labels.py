"""How many labels a classifier needs, from codes and from what they compete with."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from aerun.config.schema import Count, Positive, Seed
from aerun.errors import DataError
from aerun.protocol.coding import Coding, Labelled
from aerun.protocol.linear import Logistic, error, root_mean_square
from aerun.protocol.subject import Answer, Subject

log = logging.getLogger(__name__)
FOLDS = 3


@dataclass(frozen=True, kw_only=True)
class LabelEfficiency(Coding):
    """Test error of logistic regression with few labels: from codes, from pixels, from as many principal components.

    For each of ``labels`` so many training images are drawn, ``draws`` times, of every class equally many (up to one).
    The three kinds of features see the same draws. The L2 penalty (see ``Logistic``) is chosen among ``strengths`` by
    cross-validation within the draw, never with other labels; where a class has fewer than 3 images the middle one
    is taken. ``all``: with all labels, too, the penalty chosen as ``protocol=logistic`` does.
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
        """``labels_N/KIND_error`` in per cent, mean over draws, and ``labels_N/KIND_deviation``; N may be ``all``.

        KIND is codes, pixels or pca. One picture, the curves.
        """
        from aerun import figures

        fitted, tested = self.parts(subject)
        count = len(fitted.labels)
        if max(self.labels, default=0) > count:
            raise DataError(f"labels={self.labels}: there are only {count} labelled images")
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

    def _features(self, subject: Subject, fitted: Labelled, tested: Labelled) -> Any:
        """Each kind's name, with its rows [N,D] of the images to fit on and to test on, divided by one number."""
        from sklearn.decomposition import PCA

        def scaled(train: Any, test: Any) -> tuple[Any, Any]:
            scale = root_mean_square(train)
            return train / scale, test / scale

        codes = [self.codes(subject.autoencoder, part) for part in (fitted, tested)]
        size = codes[0].shape[1]
        yield "codes", *scaled(*codes)
        del codes
        pixels = [part.described(lambda images: images) for part in (fitted, tested)]
        yield "pixels", *scaled(*pixels)
        dense = [part.toarray() if hasattr(part, "toarray") else part for part in pixels]
        components = PCA(min(size, *dense[0].shape), svd_solver="covariance_eigh").fit(dense[0])
        yield "pca", *scaled(*(components.transform(part) for part in dense))

    def _errors(self, train: Any, test: Any, labels: Any, truth: Any, draws: list[Any]) -> list[float]:
        """One test error, in per cent, for each draw of rows."""
        import numpy as np
        from sklearn.model_selection import StratifiedKFold

        logistic = Logistic(strengths=self.strengths)
        errors = []
        for rows in draws:
            codes, own = train[rows], labels[rows]
            strength = sorted(self.strengths)[len(self.strengths) // 2]
            if len(self.strengths) > 1 and np.bincount(own)[np.unique(own)].min() >= FOLDS:
                folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(codes, own))
                wrong = {
                    tried: sum(
                        error(logistic.fit(codes[fit], own[fit], tried), codes[rest], own[rest]) for fit, rest in folds
                    )
                    for tried in sorted(self.strengths, reverse=True)
                }
                strength = min(wrong, key=lambda tried: wrong[tried])
            errors.append(error(logistic.fit(codes, own, strength), test, truth))
        return errors

    def _with_all(self, train: Any, test: Any, labels: Any, truth: Any) -> float:
        logistic = Logistic(strengths=self.strengths)
        strength = self.strengths[0] if len(self.strengths) == 1 else logistic.choose(train, labels)[0]
        return error(logistic.fit(train, labels, strength), test, truth)


def balanced_draws(labels: Any, count: int, draws: int, seed: int) -> list[Any]:
    """``draws`` times ``count`` ascending rows of labels[N], of every class as many as of any other, up to one.

    DataError where a class has too few.
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
            own, wanted = np.flatnonzero(labels == name), count // len(classes) + (index in extra)
            if wanted > len(own):
                raise DataError(f"{count} labels of {len(classes)} classes: class {name} has only {len(own)} images")
            rows.append(random.permutation(own)[:wanted])
        chosen.append(np.sort(np.concatenate(rows)))
    return chosen


def mean_and_deviation(values: list[float]) -> tuple[float, float]:
    """The mean, and the sample standard deviation (0 of a single value)."""
    import statistics

    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
