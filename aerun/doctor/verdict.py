"""One finding, the names of all findings, and the phrases that they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aerun.doctor.examination import Examination

Severity = Literal["sick", "weak"]

DIVERGED, RANGE, LOGITS = "diverged", "targets outside the output's range", "sigmoid before a loss of logits"
AVERAGED, SHUFFLED, BROADCAST = "targets averaged", "targets shuffled", "loss ignores which output is whose"
SPARSITY, POSTERIOR, PARTIAL = "sparsity too hard", "posterior collapse", "latent dimensions unused"
CODEBOOK = "codebook collapse"
TOO_HIGH, TOO_LOW = "learning rate too high", "learning rate too low"
DECAY, FROZEN = "weight decay too strong", "layers frozen"
SAME, IGNORED, NOTHING = "outputs the same for every input", "codes ignored by the decoder", "nothing learned"
DEAD, CONSTANT, SATURATED = "dead units", "signal lost", "saturated units"
SATURATED_OUTPUT, OFF_SCALE = "outputs saturated", "reconstructions off scale"
FEW_EPOCHS, OVER_FITTING = "too few epochs", "over-fitting"
NARROW, WIDE, LINEAR = "bottleneck too narrow", "bottleneck too wide", "worse than PCA"
UNLIKE, COPIED = "samples unlike data", "class copied by the code"

# Findings that follow from many causes.
COLLAPSES = frozenset({SAME, IGNORED, NOTHING, DEAD, CONSTANT, SATURATED, SATURATED_OUTPUT, OFF_SCALE})
WORSE_THAN_LINEAR = frozenset({NARROW, LINEAR})
POOR = WORSE_THAN_LINEAR | {FEW_EPOCHS, TOO_LOW, OVER_FITTING, UNLIKE}


@dataclass(frozen=True)
class Verdict:
    """One finding. ``sick``: the model is useless as it is; ``weak``: it works, but less well than it could.

    ``remedy``: what to try first: overrides as they are typed, or plain text if no key helps. ``or_else``: other
    remedies, as text. ``explains``: names of the findings that follow from this one. Those that were found too become
    its ``consequences`` and are not reported separately.
    """

    name: str
    severity: Severity
    evidence: str
    remedy: str
    explains: frozenset[str] = frozenset()
    consequences: tuple[str, ...] = ()
    or_else: str = ""

    @property
    def advice(self) -> str:
        """The remedy and its alternatives."""
        return f"{self.remedy}, or {self.or_else}" if self.or_else else self.remedy

    def __str__(self) -> str:
        after = f"; hence {', '.join(self.consequences)}" if self.consequences else ""
        return f"{self.name}: {self.evidence}{after}; try {self.advice}"


def describe_fit(e: Examination) -> str:
    """The share of the variance that is explained, or the error over that of the mean image if the error is huge."""
    fit = e.fit
    if fit is None:
        return ""
    if fit.explained < -9:
        return f"the error is {1 - fit.explained:.2g} times that of the mean image"
    return f"{fit.explained:.2f} of the variance explained"


def format_ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 5] -> ``0-2, 5``."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][-1] == number - 1:
            ranges[-1].append(number)
        else:
            ranges.append([number])
    return ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in ranges)
