"""Verdicts that say what is seen, for which no cause may be known: constant outputs, ignored codes, units that do not
move. A cause that is found takes them as its consequences."""

from __future__ import annotations

from aerun.doctor.examination import Examination, Layer
from aerun.doctor.names import CONSTANT, DEAD, IGNORED, NOTHING, OFF_SCALE, POOR, SAME, SATURATED, SATURATED_OUTPUT
from aerun.doctor.verdict import Verdict

FLAT = 0.01  # spread of reconstructions over that of targets
WORKS = 0.6  # of the variance explained
GONE = 0.9  # share of a layer's units


def is_flat(e: Examination) -> bool:
    """Whether the outputs hardly vary."""
    return e.fit is not None and e.fit.spread < FLAT


def is_bad(e: Examination) -> bool:
    """Whether the net is in a state that ends training: constant, saturated or dead, or no better than a constant."""
    saturated = e.outputs is not None and e.outputs.saturated > 0.5
    useless = e.fit is not None and e.fit.explained < 0.1
    return is_flat(e) or saturated or useless or (bool(still_layers(e)) and not works(e))


def works(e: Examination) -> bool:
    """Whether most of the variance comes back, whatever else may be strange."""
    return e.fit is not None and e.fit.explained > WORKS


def is_constrained(e: Examination) -> bool:
    """Whether something beside its size limits the code: sparsity, noise on the input, a Gaussian latent."""
    return e.options.constrained


def is_behind(e: Examination) -> bool:
    """Whether much of the variance that PCA has does not come back, and nothing but the code's size limits it."""
    if e.fit is None or e.pca_explained is None or is_constrained(e):
        return False
    return e.fit.explained < e.pca_explained - 0.2


def still_layers(e: Examination) -> list[Layer]:
    """Layers of which hardly a unit moves."""
    return [layer for layer in e.layers if layer.still >= GONE and layer.units > 1]


def dead_units(e: Examination) -> Verdict | None:
    """A layer whose units are all but a few 0 for every image, in a net that reconstructs badly. Up to six in ten in
    hidden layers are usual, and nearly nine in ten in a code of few nonzeros that is healthy."""
    dead = [layer for layer in e.layers if layer.dead >= GONE and layer.units > 1]
    if not dead or works(e):
        return None
    died = e.curve.died if e.curve is not None else {}
    parts = [
        f"{layer.name} {layer.dead:.0%} of {layer.units}"
        + (f" (seen from epoch {died[layer.name]} on)" if layer.name in died else "")
        for layer in dead
    ]
    is_code = any(layer.name == "code" for layer in dead)
    remedy = "model.code_activation=leaky_relu" if is_code and len(dead) == 1 else "model.activation=leaky_relu"
    return Verdict(DEAD, "sick", ", ".join(parts), remedy, frozenset({SAME, IGNORED, NOTHING, CONSTANT}) | POOR)


def signal_lost(e: Examination) -> Verdict | None:
    """Units that are alive, but hardly differ between images, from some layer on."""
    if e.fit is None or e.fit.explained > 0.1:
        return None
    constant = [layer for layer in e.layers if layer.variation < 1e-5 and layer.dead < GONE and layer.saturated < GONE]
    if not constant:
        return None
    first = constant[0]
    evidence = (
        f"from {first.name} on units vary by {first.variation:.1g} of their square over images, alive as they are"
    )
    remedy = "model.init=xavier with optimizer=adam, or model.activation=leaky_relu"
    return Verdict(CONSTANT, "sick", evidence, remedy, frozenset({SAME, IGNORED, NOTHING}) | POOR)


def saturated_units(e: Examination) -> Verdict | None:
    """Hidden sigmoid or tanh units at their bounds for nearly all images, in a net that reconstructs badly."""
    at_bounds = [layer for layer in e.hidden if layer.saturated >= GONE]
    if not at_bounds or (e.fit is not None and e.fit.explained > 0.4):
        return None
    parts = [f"{layer.saturated:.0%} of the values of {layer.name}" for layer in at_bounds]
    evidence = f"{', '.join(parts)} lie within 1 % of a bound"
    return Verdict(SATURATED, "sick", evidence, "model.init=xavier", frozenset({SAME, IGNORED, NOTHING}) | POOR)


def saturated_output(e: Examination) -> Verdict | None:
    """Nearly all output values at the bounds of the output activation, where the targets are not."""
    if e.outputs is None or e.outputs.saturated < 0.5:
        return None
    evidence = f"{e.outputs.saturated:.0%} more of the output's values are at its bounds than of the targets'"
    value = e.options.number("optimizer.lr")
    remedy = f"optimizer.lr={value * 0.1:.2g}" if value else "a lower learning rate"
    return Verdict(SATURATED_OUTPUT, "sick", evidence, remedy, frozenset({SAME, IGNORED, NOTHING}) | POOR)


def codes_ignored(e: Examination) -> Verdict | None:
    """Codes differ from image to image, but the decoder gives the same whichever it gets."""
    fit = e.fit
    if fit is None or fit.exchanged is None or fit.code_variation is None:
        return None
    if fit.exchanged >= FLAT or fit.code_variation < 1e-3:
        return None
    evidence = (
        f"codes vary by {fit.code_variation:.2g} of their square, but exchanged between images they change the outputs "
        f"by {fit.exchanged:.2g} of the targets' variance"
    )
    return Verdict(
        IGNORED,
        "sick",
        evidence,
        "model.activation=leaky_relu, or no freeze of the decoder",
        frozenset({SAME, NOTHING}) | POOR,
    )


def outputs_the_same(e: Examination) -> Verdict | None:
    """Hardly any variance in the outputs, whatever the reason."""
    if e.fit is None or not is_flat(e):
        return None
    evidence = f"reconstructions vary {e.fit.spread:.2g} times as much as targets, {e.fit.explained:.2f} explained"
    value = e.options.number("optimizer.lr")
    remedy = f"optimizer.lr={value * 0.1:.2g}" if value else "a lower learning rate"
    return Verdict(SAME, "sick", evidence, remedy, frozenset({NOTHING}) | POOR)


def off_scale(e: Examination) -> Verdict | None:
    """Each reconstruction is its own target's, and far from it, too strong most often. So it is after training with a
    lifetime sparsity, which looks at a whole minibatch and is not there in evaluation (Makhzani and Frey 2015): more of
    the code is left."""
    if not e.final or not is_own(e) or e.fit is None or e.fit.explained > 0.05:
        return None
    evidence = (
        f"{e.fit.own:.0%} of the reconstructions are nearer to their own target than to another, but they vary "
        f"{e.fit.spread:.2g} times as much as targets; {e.fit.explained:.2f} of the variance explained"
    )
    lifetime = e.options.denser_in_evaluation
    remedy = "sparsity=topk if pictures are wanted; codes may be good" if lifetime else "a loss that compares values"
    return Verdict(OFF_SCALE, "weak", evidence, remedy, POOR)


def is_own(e: Examination) -> bool:
    """Whether nearly every reconstruction is nearer to its own target than to another's."""
    return e.fit is not None and e.fit.own is not None and e.fit.own >= 0.95


def nothing_learned(e: Examination) -> Verdict | None:
    """No better than the mean image, by outputs that do differ."""
    if not e.final or e.fit is None or e.fit.explained > 0.05 or is_own(e):
        return None
    evidence = f"{e.fit.explained:.2f} of the variance explained: no better than the mean image"
    if e.fit.own is not None:
        evidence += f"; {e.fit.own:.0%} of the reconstructions are nearer to their own target than to another"
    return Verdict(NOTHING, "sick", evidence, "trainer.epochs times 5, or optimizer.lr times 3", POOR)
