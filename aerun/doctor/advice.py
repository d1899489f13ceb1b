"""Verdicts of models that work, less well than they could: too few epochs, over-fitting, the size of the code."""

from __future__ import annotations

from aerun.doctor.examination import Examination
from aerun.doctor.names import COLLAPSES, FEW, LINEAR, NARROW, OVER, TOO_LOW, WIDE, WORSE
from aerun.doctor.symptoms import is_constrained
from aerun.doctor.verdict import Verdict

# Error over that on training images, and rise of the validation loss: the further apart, the less has to have risen.
PAST_ITS_BEST = ((1.25, 0.05), (1.5, 0.01))


def too_few_epochs(e: Examination) -> Verdict | None:
    """The error was still falling fast when the run ended."""
    curve = e.curve
    if not e.final or curve is None or not curve.falls or barely_begun(e) is not None:
        return None
    if too_wide(e) is not None:  # which goes on towards a copy
        return None
    fall = curve.slope if curve.slope is not None else curve.first_drop
    assert fall is not None
    what = "of each of the last epochs" if curve.slope is not None else "below its mean in the only epoch"
    evidence = f"the error fell by {fall:.0%} {what}, after {curve.epochs} of them"
    if curve.slope is not None:
        evidence = f"the error was still falling by {fall:.0%} an epoch at the end, after {curve.epochs}"
    return Verdict(FEW, "weak", evidence, f"trainer.epochs={max(5, 4 * curve.epochs)}", WORSE)


def barely_begun(e: Examination) -> Verdict | None:
    """Two or three epochs in which the error fell, and little to be seen yet: what is constant, dead or ignored then
    need not stay so."""
    curve, fit = e.curve, e.fit
    if not e.final or curve is None or fit is None or not 1 < curve.epochs <= 3:
        return None
    if curve.fallen is None or curve.fallen < 0.1 or fit.explained > 0.5:
        return None
    evidence = (
        f"the training error is {curve.fallen:.0%} below that of the first epoch, after {curve.epochs}; "
        f"{fit.explained:.2f} of the variance explained"
    )
    return Verdict(FEW, "weak", evidence, f"trainer.epochs={4 * curve.epochs}", COLLAPSES | WORSE | {TOO_LOW})


def over_fitting(e: Examination) -> Verdict | None:
    """The validation loss has risen from its lowest, and images that were trained on come out better."""
    curve, gap = e.curve, None if e.fit is None else e.fit.gap
    if curve is None or curve.rise is None or gap is None:
        return None
    if not any(gap >= least and curve.rise >= rise for least, rise in PAST_ITS_BEST):
        return None
    evidence = (
        f"the validation loss has risen {curve.rise:.0%} above its lowest; the error is {gap:.2f} times that on "
        "training images"
    )
    return Verdict(OVER, "weak", evidence, "trainer.patience=5, more images, or noise=masking", WORSE)


def too_narrow(e: Examination) -> Verdict | None:
    """The code is so small that little comes through it, linear or not, and training has come to rest."""
    fit, pca, size = e.fit, e.pca_explained, e.code_values
    if not e.final or fit is None or pca is None or size is None or is_constrained(e):
        return None
    if fit.explained > 0.5 or pca > 0.5 or fit.explained < 0.05:
        return None
    evidence = f"{size} code value{'s' * (size != 1)}: {fit.explained:.2f} of the variance explained, by PCA {pca:.2f}"
    return Verdict(NARROW, "weak", evidence, f"model.code_size={max(8, 4 * size)}", frozenset({LINEAR}))


def worse_than_pca(e: Examination) -> Verdict | None:
    """Far from what the best linear code of the same size explains, for no other reason that was found. Nets that are
    well but young, above all convolutions with wide codes, may miss a quarter of the variance that PCA has."""
    fit, pca = e.fit, e.pca_explained
    if not e.final or fit is None or pca is None or is_constrained(e) or fit.explained < 0.05:
        return None
    if fit.explained > pca - 0.35:
        return None
    evidence = f"{fit.explained:.2f} of the variance explained, by PCA with as many components {pca:.2f}"
    return Verdict(LINEAR, "weak", evidence, "trainer.epochs times 4, optimizer.lr times 3, or model.activation=gelu")


def too_wide(e: Examination) -> Verdict | None:
    """Nothing keeps the model from copying: it gives back even white noise, or could, and reconstructs all but all."""
    fit, size, values = e.fit, e.code_values, e.input_values
    if fit is None or size is None or values is None or is_constrained(e):
        return None
    copies = fit.noise_explained is not None and fit.noise_explained > 0.8
    if not copies and (size < values or fit.explained < 0.8):
        return None
    evidence = f"{size} code values for {values} of an image, which nothing constrains: {fit.explained:.3f} explained"
    if fit.noise_explained is not None:
        evidence += f", of white noise {fit.noise_explained:.2f}"
    return Verdict(WIDE, "weak", evidence, f"model.code_size={max(2, values // 12)}, sparsity=topk or noise=masking")
