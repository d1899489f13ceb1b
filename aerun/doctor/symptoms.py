"""Verdicts on what is observed, whether or not the cause is known: constant outputs, ignored codes, constant units.

If a cause is found, these become its consequences.
"""

from __future__ import annotations

from aerun.doctor.examination import Examination, Layer
from aerun.doctor.remedies import (
    LOWER_RATE,
    activation_of,
    choose,
    longer,
    lower_learning_rate,
    more_nonzeros,
    original,
    scaled,
)
from aerun.doctor.verdict import (
    CONSTANT,
    DEAD,
    IGNORED,
    NOTHING,
    OFF_SCALE,
    POOR,
    SAME,
    SATURATED,
    SATURATED_OUTPUT,
    Verdict,
)

FLAT_SPREAD = 0.01  # variance of the reconstructions over that of the targets
WORKING_SHARE = 0.6  # of the variance explained
DEAD_LAYER_SHARE = 0.9  # of a layer's units
LARGE_OFFSET = 10.0  # mean square of the inputs' mean image over their variance; around 1 for photographs
SMALL_UPDATE = 1e-3  # relative change of the weights by one update
NORMAL_STD = 0.05  # of initial weights, at which a few hundred inputs of deviation 1 do not saturate a unit
LARGER_WEIGHTS = "larger initial weights"


def is_flat(e: Examination) -> bool:
    """Whether the outputs hardly vary."""
    return e.fit is not None and e.fit.spread < FLAT_SPREAD


def is_bad(e: Examination) -> bool:
    """Whether training cannot continue usefully: the net is constant, saturated or dead, or no better than a
    constant."""
    is_saturated = e.outputs is not None and e.outputs.saturated > 0.5
    is_useless = e.fit is not None and e.fit.explained < 0.1
    return is_flat(e) or is_saturated or is_useless or (bool(constant_layers(e)) and not works(e))


def works(e: Examination) -> bool:
    """Whether most of the variance is explained."""
    return e.fit is not None and e.fit.explained > WORKING_SHARE


def is_constrained(e: Examination) -> bool:
    """Whether something other than its size limits the code: sparsity, noise on the input, a Gaussian latent."""
    return e.options.constrained


def is_behind(e: Examination) -> bool:
    """Whether the model explains much less of the variance than PCA, although only the code's size limits it."""
    if e.fit is None or e.pca_explained is None or is_constrained(e):
        return False
    return e.fit.explained < e.pca_explained - 0.2


def error_over_pca(e: Examination) -> float | None:
    """The error divided by that of PCA with the same code size; None if either is unknown."""
    if e.fit is None or e.pca_explained is None:
        return None
    return (1 - e.fit.explained) / max(1 - e.pca_explained, 1e-9)


def constant_layers(e: Examination) -> list[Layer]:
    """Layers in which nearly all units are constant."""
    return [layer for layer in e.layers if layer.still >= DEAD_LAYER_SHARE and layer.units != 1]


def dead_units(e: Examination) -> Verdict | None:
    """A layer in which nearly all units are 0 for every image (or constant, if only that was recorded), in a net that
    reconstructs badly.

    Up to six dead units in ten are usual in hidden layers, and nearly nine in ten in a healthy code with few nonzeros.
    """
    dead = [layer for layer in e.layers if share_dead(layer) >= DEAD_LAYER_SHARE and layer.units != 1]
    if not dead or works(e):
        return None
    died = e.curve.died if e.curve is not None else {}
    parts = [
        f"{layer.name} {share_dead(layer):.0%}"
        + (f" of {layer.units}" if layer.units is not None else "")
        + (f" (first seen in epoch {died[layer.name]})" if layer.name in died else "")
        for layer in dead
    ]
    follows = frozenset({SAME, IGNORED, NOTHING, CONSTANT}) | POOR
    return Verdict(DEAD, "sick", ", ".join(parts), _revive(e, dead), follows)


def share_dead(layer: Layer) -> float:
    """The share of dead units, or of constant ones if only those were recorded."""
    return layer.still if layer.dead is None else layer.dead


def _revive(e: Examination, dead: list[Layer]) -> str:
    """The remedy for dead layers, by what can be their cause: the user's own code, inputs that have a large mean, few
    nonzeros, or an activation that is 0 for whole ranges."""
    is_code_only = [layer.name for layer in dead] == ["code"]
    centered = "dataset.normalize=standardise" if (e.input_offset or 0.0) > LARGE_OFFSET else None
    return choose(
        e,
        original(e, "model", "sparsity"),
        centered,
        None if centered is None else f"{centered} model.output_activation=identity",
        more_nonzeros(e, 0.1) if is_code_only else None,
        activation_of(e, "model.code_activation" if is_code_only else "model.activation"),
        lower_learning_rate(e),
        LOWER_RATE,
    )


def signal_lost(e: Examination) -> Verdict | None:
    """From some layer on, units are active but hardly differ between images."""
    if e.fit is None or e.fit.explained > 0.1:
        return None
    constant = [
        layer
        for layer in e.layers
        if layer.variation is not None and layer.variation < 1e-5
        if share_dead(layer) < DEAD_LAYER_SHARE and layer.saturated < DEAD_LAYER_SHARE
    ]
    if not constant:
        return None
    first = constant[0]
    evidence = (
        f"from {first.name} on, units are active but barely differ between images (variance / mean square "
        f"{first.variation:.1g})"
    )
    remedy = choose(e, original(e, "model"), "model.activation=leaky_relu", "model.init=xavier", LARGER_WEIGHTS)
    follows = frozenset({SAME, IGNORED, NOTHING}) | POOR
    return Verdict(CONSTANT, "sick", evidence, remedy, follows, or_else="model.init=xavier with optimizer=adam")


def saturated_units(e: Examination) -> Verdict | None:
    """Hidden sigmoid or tanh units at their bounds for nearly all images, in a net that reconstructs badly."""
    at_bounds = [layer for layer in e.hidden if layer.saturated >= DEAD_LAYER_SHARE]
    if not at_bounds or (e.fit is not None and e.fit.explained > 0.4):
        return None
    parts = [f"{layer.saturated:.0%} of the values of {layer.name}" for layer in at_bounds]
    evidence = f"{', '.join(parts)} lie within 1 % of a bound"
    std = f"model.init_std={NORMAL_STD}" if (e.options.number("model.init_std") or 0.0) > NORMAL_STD else None
    remedy = choose(e, std, "model.init=xavier", "model.activation=leaky_relu", "smaller initial weights")
    return Verdict(SATURATED, "sick", evidence, remedy, frozenset({SAME, IGNORED, NOTHING}) | POOR)


def saturated_output(e: Examination) -> Verdict | None:
    """Nearly all output values are at the bounds of the output activation, but the targets are not."""
    if e.outputs is None or e.outputs.saturated < 0.5:
        return None
    evidence = f"{e.outputs.saturated:.0%} more output values than target values lie at the output's bounds"
    follows = frozenset({SAME, IGNORED, NOTHING}) | POOR
    rate = lower_learning_rate(e) if moves(e) else None
    remedy = choose(e, original(e, "model"), rate, "model.output_activation=identity", "an output without bounds")
    return Verdict(SATURATED_OUTPUT, "sick", evidence, remedy, follows)


def codes_ignored(e: Examination) -> Verdict | None:
    """Codes differ between images, but the decoder's output hardly depends on them."""
    fit = e.fit
    if fit is None or fit.exchanged is None or fit.code_variation is None:
        return None
    if fit.exchanged >= FLAT_SPREAD or fit.code_variation < 1e-3:
        return None
    evidence = (
        f"codes differ between images (variance / mean square {fit.code_variation:.2g}), but exchanging them changes "
        f"the outputs by {fit.exchanged:.2g} of the targets' variance"
    )
    trained = "a decoder that is trained and whose activations pass gradients"
    rate = lower_learning_rate(e) if moves(e) else None
    remedy = choose(e, original(e, "model"), "freeze=[]", activation_of(e, "model.activation"), rate, trained)
    return Verdict(IGNORED, "sick", evidence, remedy, frozenset({SAME, NOTHING}) | POOR)


def outputs_the_same(e: Examination) -> Verdict | None:
    """The outputs hardly vary, for whatever reason."""
    if e.fit is None or not is_flat(e):
        return None
    evidence = (
        f"reconstructions vary {e.fit.spread:.2g} times as much as targets; {e.fit.explained:.2f} of the variance "
        "explained"
    )
    rate = lower_learning_rate(e) if moves(e) else scaled(e, "optimizer.lr", 10)
    return Verdict(
        SAME, "sick", evidence, choose(e, original(e, "model"), rate, LOWER_RATE), frozenset({NOTHING}) | POOR
    )


def moves(e: Examination) -> bool:
    """Whether updates are large enough for the learning rate to be too high; True if they were not recorded."""
    return e.curve is None or e.curve.update is None or e.curve.update > SMALL_UPDATE


def off_scale(e: Examination) -> Verdict | None:
    """Each reconstruction belongs to its target, but is far from it, usually too strong.

    A lifetime sparsity causes this: it selects over a minibatch and does nothing in evaluation (Makhzani and Frey
    2015), where codes therefore have more nonzeros.
    """
    if not e.final or not matches_targets(e) or e.fit is None or e.fit.explained > 0.05:
        return None
    evidence = (
        f"{e.fit.own:.0%} of the reconstructions are nearer to their own target than to another, but they vary "
        f"{e.fit.spread:.2g} times as much as targets; {e.fit.explained:.2f} of the variance explained"
    )
    is_lifetime = e.options.denser_in_evaluation
    if is_lifetime:
        remedy, or_else = choose(e, "sparsity=topk", "a sparsity that selects in evaluation, too"), "the codes alone"
    else:
        remedy, or_else = choose(e, original(e, "loss"), "a loss that compares values"), ""
    return Verdict(OFF_SCALE, "weak", evidence, remedy, POOR, or_else=or_else)


def matches_targets(e: Examination) -> bool:
    """Whether nearly every reconstruction is nearer to its own target than to another image's."""
    return e.fit is not None and e.fit.own is not None and e.fit.own >= 0.95


def nothing_learned(e: Examination) -> Verdict | None:
    """The outputs differ between images, but are no better than the mean image."""
    if not e.final or e.fit is None or e.fit.explained > 0.05 or matches_targets(e):
        return None
    evidence = f"{e.fit.explained:.2f} of the variance explained: no better than the mean image"
    if e.fit.own is not None:
        evidence += f"; {e.fit.own:.0%} of the reconstructions are nearer to their own target than to another"
    remedy = choose(e, original(e, "model"), longer(e, 5), "a longer training")
    return Verdict(NOTHING, "sick", evidence, remedy, POOR, or_else=scaled(e, "optimizer.lr", 3))
