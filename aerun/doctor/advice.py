"""Verdicts on models that work, but less well than they could: too few epochs, over-fitting, the size of the code."""

from __future__ import annotations

from aerun.doctor.examination import Examination
from aerun.doctor.symptoms import is_constrained
from aerun.doctor.verdict import (
    COLLAPSES,
    FEW_EPOCHS,
    LINEAR,
    NARROW,
    OVER_FITTING,
    TOO_LOW,
    WIDE,
    WORSE_THAN_LINEAR,
    Verdict,
)

# (error over that on training images, rise of the validation loss above its minimum): both must be reached. The larger
# the gap between the errors, the smaller the rise that is needed.
OVER_FITTING_THRESHOLDS = ((1.25, 0.05), (1.5, 0.01))


def too_few_epochs(e: Examination) -> Verdict | None:
    """The error was still falling fast when the run ended."""
    curve = e.curve
    if not e.final or curve is None or not curve.falls or barely_begun(e) is not None:
        return None
    if too_wide(e) is not None:  # more epochs would only make it a better copy
        return None
    if curve.slope is not None:
        evidence = f"the error was still falling by {curve.slope:.0%} per epoch after {curve.epochs} epochs"
    else:
        evidence = f"after the only epoch, the error is {curve.first_drop:.0%} below its mean over that epoch"
    return Verdict(FEW_EPOCHS, "weak", evidence, f"trainer.epochs={max(5, 4 * curve.epochs)}", WORSE_THAN_LINEAR)


def barely_begun(e: Examination) -> Verdict | None:
    """Two or three epochs in which the error fell, with little explained yet. Units that are constant, dead or ignored
    at that point may recover."""
    curve, fit = e.curve, e.fit
    if not e.final or curve is None or fit is None or not 1 < curve.epochs <= 3:
        return None
    if curve.fallen is None or curve.fallen < 0.1 or fit.explained > 0.5:
        return None
    evidence = (
        f"the training error fell by {curve.fallen:.0%} from the first to the last of {curve.epochs} epochs; "
        f"{fit.explained:.2f} of the variance explained"
    )
    follows = COLLAPSES | WORSE_THAN_LINEAR | {TOO_LOW}
    return Verdict(FEW_EPOCHS, "weak", evidence, f"trainer.epochs={4 * curve.epochs}", follows)


def over_fitting(e: Examination) -> Verdict | None:
    """The validation loss has risen above its minimum, and training images are reconstructed better than others."""
    curve, gap = e.curve, None if e.fit is None else e.fit.gap
    if curve is None or curve.rise is None or gap is None:
        return None
    if not any(gap >= min_gap and curve.rise >= min_rise for min_gap, min_rise in OVER_FITTING_THRESHOLDS):
        return None
    evidence = (
        f"the validation loss rose {curve.rise:.0%} above its minimum; the error is {gap:.2f} times that on training "
        "images"
    )
    return Verdict(
        OVER_FITTING, "weak", evidence, "trainer.patience=5, more images, or noise=masking", WORSE_THAN_LINEAR
    )


def too_narrow(e: Examination) -> Verdict | None:
    """The code is so small that little passes through it, linear or not, and training has converged."""
    fit, pca, size = e.fit, e.pca_explained, e.code_values
    if not e.final or fit is None or pca is None or size is None or is_constrained(e):
        return None
    if fit.explained > 0.5 or pca > 0.5 or fit.explained < 0.05:
        return None
    evidence = (
        f"{size} code value{'s' * (size != 1)}: {fit.explained:.2f} of the variance explained; PCA explains {pca:.2f}"
    )
    return Verdict(NARROW, "weak", evidence, f"model.code_size={max(8, 4 * size)}", frozenset({LINEAR}))


def worse_than_pca(e: Examination) -> Verdict | None:
    """Much less variance explained than by the best linear code of the same size, and no other reason was found.

    Healthy but undertrained nets, especially convolutions with wide codes, may miss a quarter of the variance that PCA
    explains.
    """
    fit, pca = e.fit, e.pca_explained
    if not e.final or fit is None or pca is None or is_constrained(e) or fit.explained < 0.05:
        return None
    if fit.explained > pca - 0.35:
        return None
    evidence = f"{fit.explained:.2f} of the variance explained; PCA with as many components explains {pca:.2f}"
    return Verdict(LINEAR, "weak", evidence, "trainer.epochs times 4, optimizer.lr times 3, or model.activation=gelu")


def too_wide(e: Examination) -> Verdict | None:
    """Nothing prevents the model from copying its input: it reconstructs even white noise, or its code is as large as
    an image and it reconstructs almost everything."""
    fit, size, values = e.fit, e.code_values, e.input_values
    if fit is None or size is None or values is None or is_constrained(e):
        return None
    copies = fit.noise_explained is not None and fit.noise_explained > 0.8
    if not copies and (size < values or fit.explained < 0.8):
        return None
    evidence = (
        f"{size} code values for the {values} values of an image, without a constraint: {fit.explained:.3f} of the "
        "variance explained"
    )
    if fit.noise_explained is not None:
        evidence += f", {fit.noise_explained:.2f} for white noise"
    return Verdict(WIDE, "weak", evidence, f"model.code_size={max(2, values // 12)}, sparsity=topk or noise=masking")
