"""Verdicts on models that work, but less well than they could: too few epochs, over-fitting, the size of the code."""

from __future__ import annotations

from aerun.doctor.examination import Examination, Layer
from aerun.doctor.remedies import choose, longer, scaled
from aerun.doctor.symptoms import error_over_pca, is_behind, is_constrained, works
from aerun.doctor.verdict import (
    COLLAPSES,
    COPIED,
    FEW_EPOCHS,
    LINEAR,
    NARROW,
    OVER_FITTING,
    TOO_LOW,
    UNLIKE,
    WIDE,
    WORSE_THAN_LINEAR,
    Verdict,
    describe_fit,
)

# (error over that on training images, rise of the validation loss above its minimum): both must be reached. The larger
# the gap between the errors, the smaller the rise that is needed.
FAR_BEHIND = 2.5  # times PCA's error
SLOW_FALL = 0.01  # of the error per epoch
USED_LABEL = 0.05  # of the distance between classes (squared), by which another label moves reconstructions
UNLIKE_SHARE = 0.9  # of the way from training images to samples of principal components
OVER_FITTING_THRESHOLDS = ((1.25, 0.05), (1.5, 0.01))


def too_few_epochs(e: Examination) -> Verdict | None:
    """The error was still falling fast when the run ended, or at all, if the model is far behind PCA."""
    curve = e.curve
    if not e.final or curve is None or barely_begun(e) is not None or narrowest_hidden(e) is not None:
        return None
    if not curve.falls and not (is_far_behind(e) and (curve.slope or 0.0) >= SLOW_FALL):
        return None
    if too_wide(e) is not None:  # more epochs would only make it a better copy
        return None
    if curve.slope is not None:
        evidence = f"the error was still falling by {curve.slope:.0%} per epoch after {curve.epochs} epochs"
    else:
        evidence = f"after the only epoch, the error is {curve.first_drop:.0%} below its mean over that epoch"
    if is_far_behind(e):
        evidence += f"; {describe_fit(e)}, {e.pca_explained:.2f} by PCA"
    return Verdict(FEW_EPOCHS, "weak", evidence, choose(e, longer(e, 4, 5), "more epochs"), WORSE_THAN_LINEAR)


def is_far_behind(e: Examination) -> bool:
    """Whether the error is a multiple of PCA's, and much of the variance is missing."""
    return is_behind(e) and not works(e) and (error_over_pca(e) or 0.0) >= FAR_BEHIND


def narrowest_hidden(e: Examination) -> Layer | None:
    """The hidden layer with the fewest units, if it has fewer than the code and the model is far behind PCA."""
    code = e.code
    if code is None or code.units is None or not is_far_behind(e):
        return None
    narrow = [layer for layer in e.hidden if layer.units is not None and layer.units < code.units]
    return min(narrow, key=lambda layer: layer.units or 0, default=None)


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
    return Verdict(FEW_EPOCHS, "weak", evidence, choose(e, longer(e, 4), "more epochs"), follows)


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
    remedy = choose(e, "trainer.patience=5", "noise=masking", "more images")
    return Verdict(OVER_FITTING, "weak", evidence, remedy, WORSE_THAN_LINEAR, or_else="more images or noise=masking")


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
    remedy = choose(e, f"model.code_size={max(8, 4 * size)}", "a larger code")
    return Verdict(NARROW, "weak", evidence, remedy, frozenset({LINEAR}))


def worse_than_pca(e: Examination) -> Verdict | None:
    """Much less variance explained than by the best linear code of the same size: a hidden layer is narrower than the
    code, or no other reason was found.

    Healthy nets, especially convolutions with wide codes, may miss a quarter of the variance that PCA explains.
    """
    fit, pca = e.fit, e.pca_explained
    if not e.final or fit is None or pca is None or fit.explained < 0.05 or not is_far_behind(e):
        return None
    evidence = f"{fit.explained:.2f} of the variance explained; PCA with as many components explains {pca:.2f}"
    narrow = narrowest_hidden(e)
    if narrow is not None and e.code is not None:
        evidence += f"; {narrow.name} has {narrow.units} units, the code {e.code.units}"
        remedy = choose(e, f"model.hidden=[{4 * (e.code.units or 1)}]", "hidden layers that are wider than the code")
        return Verdict(LINEAR, "weak", evidence, remedy)
    remedy = choose(e, longer(e, 4), "a longer training")
    return Verdict(
        LINEAR, "weak", evidence, remedy, or_else=f"{scaled(e, 'optimizer.lr', 3)}, or model.activation=gelu"
    )


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
    remedy = choose(e, f"model.code_size={max(2, values // 12)}", "noise=masking", "a smaller code")
    return Verdict(WIDE, "weak", evidence, remedy, or_else="sparsity=topk or noise=masking")


def class_copied(e: Examination) -> Verdict | None:
    """A conditional model's code carries the class itself, so that its decoder has little use for the label."""
    moved = None if e.fit is None else e.fit.relabeled
    if not e.final or moved is None or moved >= USED_LABEL or e.code_values is None:
        return None
    evidence = (
        f"decoded with another image's label, reconstructions move {moved:.2g} of the way between the classes' mean "
        f"reconstructions: a code of {e.code_values} values contains the class"
    )
    narrower = max(2, e.code_values // 8)
    is_map = e.options.config is not None and e.options.number("model.code_size") is None
    remedy = choose(
        e,
        scaled(e, "latent.beta", 10) if e.options.number("latent.beta") else None,
        "model.code_size=16 latent=gaussian" if is_map else None,
        f"model.code_size={narrower}" if narrower < e.code_values else None,
        "a smaller code",
    )
    is_other = e.latent is None and "latent=" not in remedy
    return Verdict(COPIED, "weak", evidence, remedy, or_else="latent=gaussian" if is_other else "")


def samples_unlike_data(e: Examination) -> Verdict | None:
    """Samples are about as far from test images as those of a Gaussian on principal components, or farther."""
    found = e.samples
    if found is None or found.floor <= found.ceiling:
        return None
    if found.distance - found.ceiling < UNLIKE_SHARE * (found.floor - found.ceiling):
        return None
    evidence = (
        f"Frechet distance {found.distance:.3g} from the test images; {found.ceiling:.3g} for training images, "
        f"{found.floor:.3g} for a Gaussian on principal components"
    )
    if found.mixture is not None:
        evidence += f", {found.mixture:.3g} for codes from a mixture"
    from_prior = e.latent is not None and found.mixture is None
    remedy = choose(
        e,
        "protocol.samples.sources=[mixture]" if from_prior else None,
        None if e.latent is not None else "regularizer=rae_l2",
        "codes from a mixture, or a latent whose codes fill its prior",
    )
    return Verdict(UNLIKE, "weak", evidence, remedy)
