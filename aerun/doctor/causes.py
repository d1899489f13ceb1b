"""Verdicts that name a cause in the data, the loss, the output's range, or the constraint on the code.

Each takes the evidence and returns what is wrong, or None. Thresholds lie between the values of sick and of healthy
runs: see docs/doctor.md, which ``python benchmarks/doctor.py`` writes.
"""

from __future__ import annotations

import math

from aerun.doctor.examination import Examination
from aerun.doctor.remedies import LOWER_RATE, choose, lower_learning_rate, more_nonzeros, original, scaled, two_digits
from aerun.doctor.symptoms import DEAD_LAYER_SHARE, error_over_pca
from aerun.doctor.verdict import (
    AVERAGED,
    BROADCAST,
    CODEBOOK,
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
    Verdict,
    describe_fit,
    format_ranges,
)

MIN_CODE_USAGE = 0.25  # of the entries; trained codebooks with restarts use nearly all
FREE_NATS = 0.5  # per dimension: then its mean varies by about 0.6, far above what counts as unused


def diverged(e: Examination) -> Verdict | None:
    """The run ended because a number was not finite. Its error says why, and what to try."""
    if e.state != "diverged":
        return None
    evidence, said, remedy = (e.error or "a number is not finite").rpartition("; try ")
    if not said:  # by an older version
        evidence, remedy = remedy, lower_learning_rate(e) or LOWER_RATE
    return Verdict(DIVERGED, "sick", evidence, choose(e, remedy, "inputs of a smaller scale"), COLLAPSES)


def targets_outside(e: Examination) -> Verdict | None:
    """The output activation cannot reach at least a hundredth of the target values."""
    out = e.outputs
    if out is None or out.outside < 0.01:
        return None
    evidence = (
        f"{out.outside:.0%} of the target values lie outside [{out.low:g}, {out.high:g}], the range of the output "
        f"activation (targets range from {out.target_low:.3g} to {out.target_high:.3g})"
    )
    remedy = choose(e, "model.output_activation=identity", "targets in the output's range")
    return Verdict(RANGE, "sick", evidence, remedy, COLLAPSES | POOR | {TOO_HIGH})


def double_sigmoid(e: Examination) -> Verdict | None:
    """The loss takes logits, but the decoder already ends in a sigmoid or tanh, so images stay near the middle of the
    range."""
    if e.outputs is None or e.outputs.logit_range is None:
        return None
    low, high = e.outputs.logit_range
    is_sigmoid, is_tanh = low >= 0 and high <= 1, low >= -1 and high <= 1
    if not (is_sigmoid or is_tanh) or max(abs(low), abs(high)) < 0.9:
        return None
    darkest, brightest = 1 / (1 + math.exp(-low)), 1 / (1 + math.exp(-high))
    evidence = (
        f"the decoder's outputs, which the loss takes as logits, lie in [{low:.3f}, {high:.3f}], so images lie in "
        f"[{darkest:.2f}, {brightest:.2f}]"
    )
    linear = "a decoder that ends in a linear layer"
    remedy = choose(e, original(e, "model"), "loss=mse", linear)
    return Verdict(LOGITS, "sick", evidence, remedy, COLLAPSES | POOR, or_else=linear if remedy != linear else "")


def targets_averaged(e: Examination) -> Verdict | None:
    """The targets hardly vary, although the inputs do."""
    if e.pairing is None or e.pairing.target_variation is None or e.pairing.target_variation > 1e-3:
        return None
    evidence = f"targets vary {e.pairing.target_variation:.2g} times as much as inputs: one target for all images"
    remedy = choose(e, original(e, "dataset"), "one target per image: average the loss, not the images")
    return Verdict(AVERAGED, "sick", evidence, remedy, COLLAPSES | POOR)


def targets_shuffled(e: Examination) -> Verdict | None:
    """Similar images have dissimilar targets."""
    predicted = None if e.pairing is None else e.pairing.predicted
    if predicted is None or predicted > 0.02:
        return None
    evidence = (
        f"the targets of the nearest inputs explain {predicted:.2f} of a target's variance (of matching pairs: more "
        "than 0.2)"
    )
    together = "the same order for inputs and targets: shuffle them together"
    remedy = choose(e, original(e, "dataset"), together)
    return Verdict(SHUFFLED, "sick", evidence, remedy, COLLAPSES | POOR)


def loss_broadcasts(e: Examination) -> Verdict | None:
    """The loss does not depend on the target with which an output is compared."""
    rise = None if e.pairing is None else e.pairing.loss_rise
    if rise is None or abs(rise) > 1e-4 or targets_averaged(e) is not None:
        return None
    evidence = f"reordering the targets changes the loss by {rise:.1g} of its value: it compares every output with all"
    same_shape = "outputs and targets of the same shape"
    remedy = choose(e, original(e, "loss"), "loss=mse", same_shape)
    return Verdict(BROADCAST, "sick", evidence, remedy, COLLAPSES | POOR, or_else=same_shape)


def sparsity_too_hard(e: Examination) -> Verdict | None:
    """The penalty outweighs the reconstruction error, or so few units are left that the error is far above that of a
    linear code."""
    if e.fit is None and e.curve is None:
        return None
    return _penalty_dominates(e) or _too_few_nonzeros(e)


def _penalty_dominates(e: Examination) -> Verdict | None:
    curve, weight = e.curve, e.options.number("sparsity.weight")
    if curve is None or weight is None or curve.first_penalty is None or curve.last_penalty is None:
        return None
    # Without a fit, only a penalty that is still large tells: many a good run begins with a large one.
    worst = curve.last_penalty if e.fit is None else max(curve.first_penalty, curve.last_penalty)
    explained = 0.0 if e.fit is None else e.fit.explained
    # A dead code has no penalty any more; only the mean over the first epoch still shows what it was.
    is_dead = e.code is not None and e.code.still >= DEAD_LAYER_SHARE and curve.first_penalty >= 0.01
    if (worst < 0.5 and not is_dead) or explained > 0.5:
        return None
    evidence = (
        f"the penalty was {curve.first_penalty:.2g} times the reconstruction error in the first epoch, "
        f"{curve.last_penalty:.2g} times in the last{'' if e.fit is None else f'; {describe_fit(e)}'}"
    )
    remedy = choose(
        e,
        f"sparsity.weight={two_digits(weight * min(0.01 if is_dead else 0.1, 0.05 / max(worst, 0.05)))}",
        "a smaller penalty",
    )
    return Verdict(SPARSITY, "sick", evidence, remedy, COLLAPSES | POOR | {TOO_HIGH})


def _too_few_nonzeros(e: Examination) -> Verdict | None:
    k, size, pca = e.options.max_nonzeros, e.code_values, e.pca_explained
    if k is None or size is None or e.fit is None or pca is None:
        return None
    error_ratio = error_over_pca(e) or 0.0
    if k > 0.05 * size or error_ratio < 2.5 or not 0 <= e.fit.explained <= 0.6:
        return None
    baseline = f"{error_ratio:.1f} times PCA's error" if pca < 0.999 else "PCA explains all of it"
    evidence = f"at most {k:g} of {size} code values are nonzero; {describe_fit(e)}, {baseline}"
    remedy = choose(e, more_nonzeros(e, 0.1), "more nonzero code values")
    return Verdict(SPARSITY, "sick", evidence, remedy, COLLAPSES | POOR)


def posterior_collapse(e: Examination) -> Verdict | None:
    """No dimension of a Gaussian latent, or hardly one, carries information about the image."""
    latent = e.latent
    if latent is None:
        return None
    total, size, unused = sum(latent.kl), len(latent.kl), latent.unused
    beta = "" if latent.beta is None else f", beta {latent.beta:g} with the error summed over an image"
    is_collapsed = len(unused) == size or total < 0.01 * size
    used = f"{size - len(unused)} of {size} dimensions are used (their means have a variance above 0.01)"
    evidence = f"{used}, KL {total:.2g} nats{beta}; unused: {format_ranges(unused)}"
    explained = 1.0 if e.fit is None else e.fit.explained
    if is_collapsed or (len(unused) > size / 2 and explained < 0.2):
        return Verdict(POSTERIOR, "sick", evidence, _smaller_beta(e), COLLAPSES | POOR)
    is_partial = latent.beta is not None and latent.beta > 1 and len(unused) > size / 2
    if is_partial and (explained < 0.5 or (1 - explained) > 1.5 * (1 - (e.pca_explained or 0.0))):
        return Verdict(PARTIAL, "weak", evidence, _smaller_beta(e), POOR)
    return None


def _smaller_beta(e: Examination) -> str:
    """A weight of 1, which is the evidence lower bound; where it is not larger, a divergence that costs nothing up to
    FREE_NATS per dimension, then a weight that rises over half of the run."""
    beta = e.latent.beta if e.latent is not None else None
    if beta is not None and beta > 1:
        return choose(e, "latent.beta=1", f"latent.free_bits={FREE_NATS}", "a smaller weight of the KL term")
    epochs = e.options.number("trainer.epochs")
    rising = f"latent.warmup_epochs={max(1, round(epochs / 2))}" if epochs else None
    smaller = scaled(e, "latent.beta", 0.1) if beta else None
    return choose(e, f"latent.free_bits={FREE_NATS}", rising, smaller, "a smaller weight of the KL term")


def codebook_collapse(e: Examination) -> Verdict | None:
    """Few entries of a quantized latent's codebooks are used.

    Replacing unused entries is the first remedy, unit vectors the second (Yu et al. 2021, arXiv:2110.04627, section
    3.2), a smaller codebook the last.
    """
    use = e.codebook
    if not e.final or use is None or use.usage >= MIN_CODE_USAGE:
        return None
    evidence = f"{use.usage:.1%} of the codebook entries are used, as diverse as {use.perplexity:.2g} entries"
    entries = e.options.number("latent.entries")
    often = "latent.restart=0.1 latent.restart_every=20"
    rare = (e.options.number("latent.restart") or 0.0) < 0.1 or (e.options.number("latent.restart_every") or 0) > 20
    smaller = f"latent.entries={max(2, round(2 * use.usage * entries))}" if entries is not None else None
    remedy = choose(
        e,
        often if rare else None,
        "latent.distance=cosine",
        scaled(e, "latent.entropy", 10) if e.options.number("latent.entropy") else "latent.entropy=0.1",
        smaller,
        "a smaller codebook",
    )
    return Verdict(CODEBOOK, "weak", evidence, remedy, POOR, or_else=smaller if smaller not in (None, remedy) else "")
