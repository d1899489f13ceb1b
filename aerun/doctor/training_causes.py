"""Verdicts that name a cause in how the model was trained: learning rate, weight decay, frozen layers."""

from __future__ import annotations

import math

from aerun.doctor.examination import Curve, Examination
from aerun.doctor.remedies import LOWER_RATE, choose, lower_learning_rate, original, scaled
from aerun.doctor.symptoms import SMALL_UPDATE, constant_layers, is_bad, is_behind, is_flat
from aerun.doctor.verdict import (
    COLLAPSES,
    DECAY,
    FROZEN,
    POOR,
    TOO_HIGH,
    TOO_LOW,
    Severity,
    Verdict,
    describe_fit,
)

SWINGING_RISE = 0.02  # mean rise of the training loss from epoch to epoch, over its mean
LARGE_UPDATE = 0.3  # relative change of the weights by one update
GOOD_UPDATE = 5e-3


def learning_rate_too_high(e: Examination) -> Verdict | None:
    """Updates as large as the weights, in a net that is dead or saturated, has constant layers, or is far behind PCA;
    or a loss that keeps swinging."""
    curve = e.curve
    if curve is None or curve.epochs < 1:
        return None
    update = curve.update or 0.0
    if update > LARGE_UPDATE and (is_bad(e) or is_behind(e) or (update > 1 and constant_layers(e))):
        evidence = (
            f"one update changed the weights by {update:.0%} of their size in the first epoch{_describe_state(e)}"
        )
        severity: Severity = "sick" if is_bad(e) else "weak"
        remedy = choose(e, lower_learning_rate(e, factor_for(update)), LOWER_RATE)
        return Verdict(TOO_HIGH, severity, evidence, remedy, COLLAPSES | POOR)
    if swings(curve):
        evidence = (
            f"the training loss rose in {curve.ups:.0%} of the epochs of the run's second half, by {curve.jump:.1%} "
            "averaged over all of them"
            + (f"; minibatches explain {curve.chance:.1%}" if curve.chance is not None else "")
        )
        return Verdict(TOO_HIGH, "weak", evidence, choose(e, lower_learning_rate(e, 0.3), LOWER_RATE), POOR)
    return None


def factor_for(update: float) -> float:
    """The power of ten by which the learning rate must fall for updates below half of LARGE_UPDATE; at most 0.1."""
    return min(0.1, 10.0 ** math.floor(math.log10(0.5 * LARGE_UPDATE / update)))


def swings(curve: Curve) -> bool:
    """Whether the training loss rises and falls between epochs by more than the choice of minibatches explains."""
    return curve.epochs >= 4 and (curve.jump or 0) > max(SWINGING_RISE, 2 * (curve.chance or 0))


def weight_decay_too_strong(e: Examination) -> Verdict | None:
    """Every step shrinks the weights noticeably, or their squares outweigh the error, in a net far behind PCA."""
    decay, rate = e.options.number("optimizer.weight_decay"), e.options.number("optimizer.lr")
    if not e.final or not decay or not rate or not (is_bad(e) or is_behind(e)):
        return None
    # Adam and its relatives divide a decay that is part of the gradient by the gradient's own size.
    is_coupled = e.options.coupled_decay
    if decay < 0.03 if is_coupled else decay * rate < 1e-3:
        return None
    effect = "is added to the gradient" if is_coupled else f"removes {decay * rate:.1%} of the weights at each step"
    evidence = f"optimizer.weight_decay={decay:g} {effect}; {describe_fit(e)}"
    follows = COLLAPSES | POOR | {TOO_HIGH}
    remedy = choose(e, "optimizer.weight_decay=0", "no weight decay")
    return Verdict(DECAY, "sick" if is_bad(e) else "weak", evidence, remedy, follows)


def layers_frozen(e: Examination) -> Verdict | None:
    """A part of the net is not trained, and the net is far behind PCA."""
    if not e.final or e.frozen is None or e.frozen.share < 0.05 or not (is_bad(e) or is_behind(e)):
        return None
    evidence = f"{', '.join(e.frozen.layers)}: {e.frozen.share:.0%} of the weights; {describe_fit(e)}"
    remedy = choose(e, "freeze=[]", original(e, "model"), "to train them")
    severity: Severity = "sick" if is_bad(e) else "weak"
    return Verdict(FROZEN, severity, evidence, remedy, COLLAPSES | POOR, or_else="trained weights by init_from")


def learning_rate_too_low(e: Examination) -> Verdict | None:
    """Updates so small that the weights stay near their initial values. No updates at all have another cause."""
    curve = e.curve
    if not e.final or curve is None or curve.update is None or e.fit is None or e.fit.explained > 0.5:
        return None
    if (
        not 0 < curve.update <= SMALL_UPDATE
        or constant_layers(e)
        or (e.pca_explained is not None and e.pca_explained < 0.3)
    ):
        return None
    evidence = (
        f"one update changes the weights by {curve.update:.2g} of their size in the first epoch; {describe_fit(e)}"
    )
    factor = min(100.0, GOOD_UPDATE / curve.update)
    remedy = choose(e, scaled(e, "optimizer.lr", factor), "a higher learning rate")
    return Verdict(TOO_LOW, "sick", evidence, remedy, COLLAPSES | POOR)


def _describe_state(e: Examination) -> str:
    """What is wrong with the net, to follow the cause."""
    if e.outputs is not None and e.outputs.saturated > 0.5:
        return f"; {e.outputs.saturated:.0%} of the outputs are saturated"
    worst = max(e.layers, key=lambda layer: layer.still, default=None)
    if worst is not None and worst.still >= 0.9:
        died = e.curve.died.get(worst.name) if e.curve is not None else None
        since = "" if died is None else f" (first seen in epoch {died})"
        return f"; {worst.still:.0%} of the units of {worst.name} are constant{since}"
    return f"; {describe_fit(e)}" if is_flat(e) or e.fit is not None else ""
