"""The evidence -> the verdicts to report: causes first, with their consequences in the same line."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from aerun.doctor.advice import (
    barely_begun,
    class_copied,
    over_fitting,
    samples_unlike_data,
    too_few_epochs,
    too_narrow,
    too_wide,
    worse_than_pca,
)
from aerun.doctor.causes import (
    codebook_collapse,
    diverged,
    double_sigmoid,
    loss_broadcasts,
    posterior_collapse,
    sparsity_too_hard,
    targets_averaged,
    targets_outside,
    targets_shuffled,
)
from aerun.doctor.examination import Examination
from aerun.doctor.symptoms import (
    codes_ignored,
    dead_units,
    nothing_learned,
    off_scale,
    outputs_the_same,
    saturated_output,
    saturated_units,
    signal_lost,
)
from aerun.doctor.training_causes import (
    layers_frozen,
    learning_rate_too_high,
    learning_rate_too_low,
    weight_decay_too_strong,
)
from aerun.doctor.verdict import Verdict

# Deeper causes come first: if two verdicts explain each other, the first is reported.
RULES: list[Callable[[Examination], Verdict | None]] = [
    diverged,
    targets_averaged,
    targets_shuffled,
    loss_broadcasts,
    double_sigmoid,
    targets_outside,
    posterior_collapse,
    codebook_collapse,
    sparsity_too_hard,
    weight_decay_too_strong,
    layers_frozen,
    learning_rate_too_high,
    barely_begun,
    saturated_units,
    dead_units,
    signal_lost,
    saturated_output,
    learning_rate_too_low,
    codes_ignored,
    outputs_the_same,
    nothing_learned,
    off_scale,
    over_fitting,
    too_few_epochs,
    too_narrow,
    worse_than_pca,
    too_wide,
    class_copied,
    samples_unlike_data,
]


def judge(examination: Examination) -> list[Verdict]:
    """The verdicts, the most severe first; none for a healthy model. A verdict that follows from an earlier one becomes
    its consequence."""
    reported: list[Verdict] = []
    for rule in RULES:
        verdict = rule(examination)
        if verdict is None:
            continue
        place = next((i for i, cause in enumerate(reported) if verdict.name in cause.explains), None)
        if place is None:
            reported.append(verdict)
        else:
            cause = reported[place]
            reported[place] = dataclasses.replace(cause, consequences=(*cause.consequences, verdict.name))
    return sorted(reported, key=lambda verdict: verdict.severity != "sick")
