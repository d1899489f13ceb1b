"""Verdicts that name a cause: data and loss, the output's range, what constrains the code, the learning rate.

Each takes the evidence and says what is wrong, or None. Thresholds lie between what sick and healthy runs showed: see
docs/doctor.md, which is made by ``python benchmarks/doctor.py``.
"""

from __future__ import annotations

import math

from aerun.doctor.examination import Curve, Examination
from aerun.doctor.names import (
    AVERAGED,
    BROADCAST,
    COLLAPSES,
    DIVERGED,
    LOGITS,
    PARTIAL,
    POOR,
    POSTERIOR,
    RANGE,
    SHUFFLED,
    SPARSITY,
    TOO_HIGH,
    TOO_LOW,
)
from aerun.doctor.symptoms import GONE, is_bad, is_behind, is_flat, still_layers
from aerun.doctor.verdict import Severity, Verdict

JUMP = 0.02  # mean rise of the training loss from epoch to epoch
LARGE = 0.3  # relative change of the weights by one update


def diverged(e: Examination) -> Verdict | None:
    """The run ended because a number was not finite."""
    if e.state != "diverged":
        return None
    return Verdict(DIVERGED, "sick", e.error or "a number is not finite", times(e, "optimizer.lr", 0.1), COLLAPSES)


def targets_outside(e: Examination) -> Verdict | None:
    """At least a hundredth of the target values cannot be reached by the output activation."""
    out = e.outputs
    if out is None or out.outside < 0.01:
        return None
    evidence = (
        f"{out.outside:.0%} of the target values lie beyond [{out.low:g}, {out.high:g}], all that the output can be "
        f"(targets reach from {out.target_low:.3g} to {out.target_high:.3g})"
    )
    return Verdict(RANGE, "sick", evidence, "model.output_activation=identity", COLLAPSES | POOR | {TOO_HIGH})


def double_sigmoid(e: Examination) -> Verdict | None:
    """What a loss takes for logits has been through a sigmoid or tanh already, so pictures keep to the middle."""
    if e.outputs is None or e.outputs.logit_range is None:
        return None
    low, high = e.outputs.logit_range
    of_sigmoid, of_tanh = low >= 0 and high <= 1, low >= -1 and high <= 1
    if not (of_sigmoid or of_tanh) or max(abs(low), abs(high)) < 0.9:
        return None
    ends = 1 / (1 + math.exp(-low)), 1 / (1 + math.exp(-high))
    evidence = (
        f"the decoder's outputs, which the loss takes for logits, lie in [{low:.3f}, {high:.3f}], so pictures lie in "
        f"[{ends[0]:.2f}, {ends[1]:.2f}]"
    )
    return Verdict(LOGITS, "sick", evidence, "a decoder that ends linear, or loss=mse", COLLAPSES | POOR)


def targets_averaged(e: Examination) -> Verdict | None:
    """The targets hardly vary, though the inputs do."""
    if e.pairing is None or e.pairing.target_variation > 1e-3:
        return None
    evidence = f"the targets vary {e.pairing.target_variation:.2g} times as much as the inputs: one image for all"
    return Verdict(
        AVERAGED, "sick", evidence, "targets of each image's own: average the loss, not images", COLLAPSES | POOR
    )


def targets_shuffled(e: Examination) -> Verdict | None:
    """Images that are alike have targets that are not."""
    predicted = None if e.pairing is None else e.pairing.predicted
    if predicted is None or predicted > 0.02:
        return None
    evidence = f"targets of the nearest inputs explain {predicted:.2f} of a target's variance (alike inputs: above 0.2)"
    return Verdict(SHUFFLED, "sick", evidence, "inputs and targets in one order, shuffled together", COLLAPSES | POOR)


def loss_broadcasts(e: Examination) -> Verdict | None:
    """The loss is the same whichever target an output is compared with."""
    rise = None if e.pairing is None else e.pairing.loss_rise
    if rise is None or abs(rise) > 1e-4 or (e.pairing is not None and e.pairing.target_variation <= 1e-3):
        return None
    evidence = f"targets in another order change the loss by {rise:.1g} of itself: it compares every output with all"
    return Verdict(BROADCAST, "sick", evidence, "loss=mse, or output and target of one shape", COLLAPSES | POOR)


def sparsity_too_hard(e: Examination) -> Verdict | None:
    """A penalty beside which the reconstruction error counts little, or so few units left that the error is far above
    that of a linear code."""
    if e.fit is None and e.curve is None:
        return None
    return _drowned(e) or _too_few_left(e)


def _drowned(e: Examination) -> Verdict | None:
    curve, weight = e.curve, e.options.number("sparsity.weight")
    if curve is None or weight is None or curve.first_penalty is None or curve.last_penalty is None:
        return None
    worst = max(curve.first_penalty, curve.last_penalty)
    explained = 0.0 if e.fit is None else e.fit.explained
    # Once the code is dead it costs nothing any more, and what it cost is a part of the first epoch's mean.
    dead = e.code is not None and e.code.still >= GONE and curve.first_penalty >= 0.1
    if (worst < 0.5 and not dead) or explained > 0.5:
        return None
    evidence = (
        f"the penalty was {curve.first_penalty:.2g} times the reconstruction error in the first epoch, "
        f"{curve.last_penalty:.2g} times in the last; {_explained(e)}"
    )
    remedy = f"sparsity.weight={_round(weight * min(0.1, 0.05 / worst))}"
    return Verdict(SPARSITY, "sick", evidence, remedy, COLLAPSES | POOR | {TOO_HIGH})


def _too_few_left(e: Examination) -> Verdict | None:
    k, size, pca = e.options.number("sparsity.k"), e.code_values, e.pca_explained
    if k is None or size is None or e.fit is None or pca is None or pca >= 1:
        return None
    worse = (1 - e.fit.explained) / (1 - pca)
    if k > 0.05 * size or worse < 2.5 or e.fit.explained > 0.6:
        return None
    evidence = f"{k:g} of {size} code values may differ from 0; {_explained(e)}, {worse:.1f} times PCA's error"
    return Verdict(SPARSITY, "sick", evidence, f"sparsity.k={round(max(4 * k, 0.1 * size))}", COLLAPSES | POOR)


def posterior_collapse(e: Examination) -> Verdict | None:
    """No dimension of a Gaussian latent tells anything of the image, or nearly none."""
    latent = e.latent
    if latent is None:
        return None
    total, size, unused = sum(latent.kl), len(latent.kl), latent.unused
    weight = "" if latent.beta is None else f", beta {latent.beta:g} per value summed over an image"
    gone = len(unused) == size or total < 0.01 * size
    used = f"{size - len(unused)} of {size} dimensions are used (means vary by more than 0.01)"
    evidence = f"{used}, KL {total:.2g} nats{weight}"
    explained = 1.0 if e.fit is None else e.fit.explained
    if gone or (len(unused) > size / 2 and explained < 0.2):
        return Verdict(POSTERIOR, "sick", f"{evidence}; unused: {ranges(unused)}", _less_beta(e), COLLAPSES | POOR)
    few = latent.beta is not None and latent.beta > 1 and len(unused) > size / 2
    if few and (explained < 0.5 or (1 - explained) > 1.5 * (1 - (e.pca_explained or 0.0))):
        return Verdict(PARTIAL, "weak", f"{evidence}; unused: {ranges(unused)}", _less_beta(e), POOR)
    return None


def _less_beta(e: Examination) -> str:
    beta = e.latent.beta if e.latent is not None else None
    if beta is not None and beta > 1:
        return "latent.beta=1"
    return times(e, "latent.beta", 0.1) if beta else "a smaller weight of the KL term"


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


def learning_rate_too_low(e: Examination) -> Verdict | None:
    """Updates so small that the weights are near where they began; none at all are for another reason."""
    curve = e.curve
    if not e.final or curve is None or curve.update is None or e.fit is None or e.fit.explained > 0.5:
        return None
    if not 0 < curve.update <= 1e-3 or still_layers(e) or (e.pca_explained is not None and e.pca_explained < 0.3):
        return None
    evidence = f"one update changes the weights by {curve.update:.2g} of themselves in the first epoch; {_explained(e)}"
    return Verdict(TOO_LOW, "sick", evidence, times(e, "optimizer.lr", 10), COLLAPSES | POOR)


def _state(e: Examination) -> str:
    """What is wrong with the net, to be said beside its cause."""
    if e.outputs is not None and e.outputs.saturated > 0.5:
        return f"; {e.outputs.saturated:.0%} of the outputs saturate"
    worst = max(e.layers, key=lambda layer: layer.still, default=None)
    if worst is not None and worst.still >= 0.9:
        died = e.curve.died.get(worst.name) if e.curve is not None else None
        seen = "" if died is None else f", seen from epoch {died} on"
        return f"; {worst.still:.0%} of the units of {worst.name} do not move{seen}"
    return f"; {_explained(e)}" if is_flat(e) or e.fit is not None else ""


def _explained(e: Examination) -> str:
    fit = e.fit
    if fit is None:
        return ""
    if fit.explained < -9:
        return f"the error is {1 - fit.explained:.2g} times that of the mean image"
    return f"{fit.explained:.2f} of the variance explained"


def times(e: Examination, key: str, factor: float) -> str:
    """An override: the present value times a factor."""
    value = e.options.number(key)
    return f"{key}={_round(value * factor)}" if value is not None else f"{key} times {factor:g}"


def _round(value: float) -> str:
    return f"{value:.2g}"


def ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 5] -> ``0-2, 5``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]}" if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
