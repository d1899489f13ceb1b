"""Scores of codes[N,D] by the factors of variation[N,F], whole numbers from 0; each is between 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

CONSTANT = 1e-10  # variance of a code value over the largest one's


def mig(codes: Floats, factors: Ints, bins: int) -> float:
    """The mutual information gap: mean over factors of (I(c_1, v) - I(c_2, v)) / H(v), for the two code values with the
    largest mutual information with the factor. Chen et al. 2018 (arXiv:1802.04942), equation 6.

    Code values are counted in ``bins`` of equal width between their minimum and maximum.
    """
    found = np.array([[mutual_information(_in_bins(code, bins), v) for v in factors.T] for code in codes.T])
    entropies = np.array([mutual_information(v, v) for v in factors.T])
    return _mean_gap(found / np.maximum(entropies, 1e-12))


def sap(codes: Floats, factors: Ints, ordered: Sequence[bool]) -> float:
    """The separated attribute predictability: mean over factors of the difference between the two best scores of single
    code values. Kumar et al. 2018 (arXiv:1711.00848), section 3.

    A score is the squared correlation with an ordered factor; for another one, the accuracy of the best thresholds, as
    many as separate its values, balanced over values.
    """
    found = [
        [
            _squared_correlation(c, v) if o else _threshold_accuracy(c, v)
            for v, o in zip(factors.T, ordered, strict=True)
        ]
        for c in codes.T
    ]
    return _mean_gap(np.array(found))


def factor_vae(codes: Floats, factors: Ints, votes: int, images: int) -> float:
    """The accuracy of a majority vote. Kim & Mnih 2018, "Disentangling by Factorising" (arXiv:1802.05983), section 4.

    For a vote, a factor is drawn and ``images`` that share one of its values; the code value with the smallest variance
    over them, relative to that over all, votes for the factor. Each code value predicts the factor that it voted for
    most in one half of the ``votes``; the score is the accuracy in the other half. Constant code values do not vote.
    """
    variances = codes.var(0)
    active = variances > CONSTANT * max(variances.max(), 1e-300)
    if not active.any():
        return 0.0
    scaled = codes[:, active] / np.sqrt(variances[active])
    random = np.random.default_rng(0)
    counts = np.zeros((2, scaled.shape[1], factors.shape[1]))
    for vote in range(votes):
        factor = random.integers(factors.shape[1])
        value = factors[random.integers(len(factors)), factor]
        rows = random.choice(np.flatnonzero(factors[:, factor] == value), images)
        counts[vote % 2, scaled[rows].var(0).argmin(), factor] += 1
    fitted, tested = counts
    return float(tested[np.arange(len(tested)), fitted.argmax(1)].sum() / tested.sum())


def dci(codes: Floats, factors: Ints, trees: int) -> tuple[float, float, float]:
    """Disentanglement, completeness and informativeness. Eastwood & Williams 2018, "A Framework for the Quantitative
    Evaluation of Disentangled Representations", section 2.

    With R_ij the importance of code value i in a random forest that predicts factor j: disentanglement is the mean of 1
    - H_F(P_i) over code values, weighted by sum_j R_ij, completeness the mean of 1 - H_D(P_j) over factors;
    informativeness is the mean accuracy on the half of the images that the forest did not see.
    """
    from sklearn.ensemble import RandomForestClassifier

    half = len(codes) // 2
    order = np.random.default_rng(0).permutation(len(codes))
    seen, unseen = order[:half], order[half:]
    importances, accuracies = [], []
    for factor in factors.T:
        forest = RandomForestClassifier(trees, max_features=None, random_state=0).fit(codes[seen], factor[seen])
        importances.append(forest.feature_importances_)
        accuracies.append(forest.score(codes[unseen], factor[unseen]))
    found = np.array(importances).T
    weights = found.sum(1) / max(found.sum(), 1e-12)
    disentanglement = float(weights @ (1 - _entropies(found)))
    return disentanglement, float((1 - _entropies(found.T)).mean()), float(np.mean(accuracies))


def mutual_information(first: Ints, second: Ints) -> float:
    """The mutual information, in nats, of two variables with whole values from 0; of one with itself its entropy."""
    counts = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(counts, (first, second), 1)
    joint = counts / counts.sum()
    independent = joint.sum(1, keepdims=True) * joint.sum(0)
    present = joint > 0
    return float((joint[present] * np.log(joint[present] / independent[present])).sum())


def _in_bins(code: Floats, bins: int) -> Ints:
    low, high = code.min(), code.max()
    if high <= low:
        return np.zeros(len(code), np.int64)
    return np.minimum(((code - low) / (high - low) * bins).astype(np.int64), bins - 1)


def _mean_gap(scores: Floats) -> float:
    """Mean over columns of the difference between the two largest values of scores[D,F]; of a single row, its mean."""
    ranked = np.sort(scores, axis=0)[::-1]
    return float((ranked[0] - ranked[1]).mean() if len(ranked) > 1 else ranked[0].mean())


def _squared_correlation(code: Floats, factor: Ints) -> float:
    code, values = code - code.mean(), factor - factor.mean()
    scale = (code @ code) * (values @ values)
    return float((code @ values) ** 2 / scale) if scale > 0 else 0.0


def _threshold_accuracy(code: Floats, factor: Ints) -> float:
    from sklearn.tree import DecisionTreeClassifier

    values = np.unique(factor)
    if len(values) < 2:
        return 0.0
    tree = DecisionTreeClassifier(max_leaf_nodes=len(values), class_weight="balanced", random_state=0)
    predicted = tree.fit(code[:, None], factor).predict(code[:, None])
    return float(np.mean([(predicted[factor == value] == value).mean() for value in values]))


def _entropies(rows: Floats) -> Floats:
    """The entropy of each row, as a distribution over its values, to the base of their number; 1 for a row of zeros."""
    if rows.shape[1] < 2:
        return np.zeros(len(rows))
    sums = rows.sum(1, keepdims=True)
    shares = np.where(sums > 0, rows / np.maximum(sums, 1e-300), 1 / rows.shape[1])
    logarithms = np.log(np.where(shares > 0, shares, 1.0))
    entropies: Floats = -(shares * logarithms).sum(1) / np.log(rows.shape[1])
    return entropies
