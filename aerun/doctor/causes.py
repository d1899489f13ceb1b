"""Verdicts that name a cause: data and loss, the output's range, what constrains the code.

Each takes the evidence and says what is wrong, or None. Thresholds lie between what sick and healthy runs showed: see
docs/doctor.md, which is made by ``python benchmarks/doctor.py``.
"""

from __future__ import annotations

import math

from aerun.doctor.examination import Examination
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
)
from aerun.doctor.symptoms import GONE
from aerun.doctor.verdict import Verdict
from aerun.doctor.words import explained, ranges, rounded, times


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
    share = 0.0 if e.fit is None else e.fit.explained
    # Once the code is dead it costs nothing any more, and what it cost is a part of the first epoch's mean.
    dead = e.code is not None and e.code.still >= GONE and curve.first_penalty >= 0.1
    if (worst < 0.5 and not dead) or share > 0.5:
        return None
    evidence = (
        f"the penalty was {curve.first_penalty:.2g} times the reconstruction error in the first epoch, "
        f"{curve.last_penalty:.2g} times in the last; {explained(e)}"
    )
    remedy = f"sparsity.weight={rounded(weight * min(0.1, 0.05 / worst))}"
    return Verdict(SPARSITY, "sick", evidence, remedy, COLLAPSES | POOR | {TOO_HIGH})


def _too_few_left(e: Examination) -> Verdict | None:
    k, size, pca = e.options.number("sparsity.k"), e.code_values, e.pca_explained
    if k is None or size is None or e.fit is None or pca is None:
        return None
    worse = (1 - e.fit.explained) / max(1 - pca, 1e-9)
    if k > 0.05 * size or worse < 2.5 or not 0 <= e.fit.explained <= 0.6:
        return None
    beside = f"{worse:.1f} times PCA's error" if pca < 0.999 else "all of it by PCA"
    evidence = f"{k:g} of {size} code values may differ from 0; {explained(e)}, {beside}"
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
