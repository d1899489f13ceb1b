"""Verdicts that name a cause in how the model was trained: learning rate, weight decay, layers that are held."""

from __future__ import annotations

from aerun.doctor.examination import Curve, Examination
from aerun.doctor.names import COLLAPSES, DECAY, HELD, POOR, TOO_HIGH, TOO_LOW
from aerun.doctor.symptoms import is_bad, is_behind, is_flat, still_layers
from aerun.doctor.verdict import Severity, Verdict
from aerun.doctor.words import explained, times

JUMP = 0.02  # mean rise of the training loss from epoch to epoch
LARGE = 0.3  # relative change of the weights by one update


def learning_rate_too_high(e: Examination) -> Verdict | None:
    """Updates as large as the weights, and a net that is dead or saturated, has layers that are, or is far behind PCA;
    or a loss that keeps jumping."""
    curve = e.curve
    if curve is None or curve.epochs < 1:
        return None
    update = curve.update or 0.0
    if update > LARGE and (is_bad(e) or is_behind(e) or (update > 1 and still_layers(e))):
        evidence = f"one update changed the weights by {update:.0%} of themselves in the first epoch{_state(e)}"
        severity: Severity = "sick" if is_bad(e) else "weak"
        return Verdict(TOO_HIGH, severity, evidence, times(e, "optimizer.lr", 0.1), COLLAPSES | POOR)
    if swings(curve):
        evidence = (
            f"the training loss rose in {curve.ups:.0%} of the epochs of the second half of the run, by "
            f"{curve.jump:.1%} of itself when averaged over all of them"
        )
        return Verdict(TOO_HIGH, "weak", evidence, times(e, "optimizer.lr", 0.3), POOR)
    return None


def swings(curve: Curve) -> bool:
    """Whether the training loss goes up and down from epoch to epoch, by more than minibatches explain."""
    return curve.epochs >= 4 and (curve.jump or 0) > JUMP


def weight_decay_too_strong(e: Examination) -> Verdict | None:
    """Weights that every step shrinks by much, or whose squares outweigh the error, in a net far behind PCA."""
    decay, rate = e.options.number("optimizer.weight_decay"), e.options.number("optimizer.lr")
    if not e.final or not decay or not rate or not (is_bad(e) or is_behind(e)):
        return None
    # Adam's and its like divide a decay that is part of the gradient by the gradient's own size.
    coupled = e.options.coupled_decay
    if decay < 0.03 if coupled else decay * rate < 1e-3:
        return None
    what = "is added to the gradient" if coupled else f"takes {decay * rate:.1%} of the weights at each step"
    evidence = f"optimizer.weight_decay={decay:g} {what}; {explained(e)}"
    after = COLLAPSES | POOR | {TOO_HIGH}
    return Verdict(DECAY, "sick" if is_bad(e) else "weak", evidence, "optimizer.weight_decay=0", after)


def layers_frozen(e: Examination) -> Verdict | None:
    """A part of the net that is not trained, in a net far behind PCA."""
    if not e.final or e.frozen is None or e.frozen.share < 0.05 or not (is_bad(e) or is_behind(e)):
        return None
    evidence = f"{', '.join(e.frozen.layers)}: {e.frozen.share:.0%} of the weights; {explained(e)}"
    return Verdict(HELD, "sick" if is_bad(e) else "weak", evidence, "freeze=[], or init_from", COLLAPSES | POOR)


def learning_rate_too_low(e: Examination) -> Verdict | None:
    """Updates so small that the weights are near where they began; none at all are for another reason."""
    curve = e.curve
    if not e.final or curve is None or curve.update is None or e.fit is None or e.fit.explained > 0.5:
        return None
    if not 0 < curve.update <= 1e-3 or still_layers(e) or (e.pca_explained is not None and e.pca_explained < 0.3):
        return None
    evidence = f"one update changes the weights by {curve.update:.2g} of themselves in the first epoch; {explained(e)}"
    factor = min(100.0, max(3.0, 1e-3 / curve.update))
    return Verdict(TOO_LOW, "sick", evidence, times(e, "optimizer.lr", factor), COLLAPSES | POOR)


def _state(e: Examination) -> str:
    """What is wrong with the net, to be said beside its cause."""
    if e.outputs is not None and e.outputs.saturated > 0.5:
        return f"; {e.outputs.saturated:.0%} of the outputs saturate"
    worst = max(e.layers, key=lambda layer: layer.still, default=None)
    if worst is not None and worst.still >= 0.9:
        died = e.curve.died.get(worst.name) if e.curve is not None else None
        seen = "" if died is None else f", seen from epoch {died} on"
        return f"; {worst.still:.0%} of the units of {worst.name} do not move{seen}"
    return f"; {explained(e)}" if is_flat(e) or e.fit is not None else ""
