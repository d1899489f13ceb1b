"""What logs, summary and configuration tell by themselves, without the model and its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aerun.doctor.curve import DEAD_UNITS, Line, curve_of, last_stage
from aerun.doctor.examination import Examination, Fit, Layer, Options
from aerun.doctor.options import options_of_config


def from_files(
    config: Mapping[str, Any],
    lines: Sequence[Line],
    summary: Mapping[str, Any] | None,
    declared: Mapping[str, Any] | None = None,
) -> Examination:
    """The evidence of a run's files, ``declared`` being what its parts declared; ``missing`` names what needs more."""
    options = options_of_config(config, declared)
    test, baselines = ((summary or {}).get(key, {}) for key in ("test", "baselines"))
    mean, spread = baselines.get("mean_image/mse"), test.get("output_spread")
    fit = None
    if mean and spread is not None and "mse" in test:
        fit = Fit(explained=1 - test["mse"] / mean, spread=spread)
    missing = ["targets and their order", "the output's range", "hidden units", "a latent's dimensions", "white noise"]
    return Examination(
        code_values=(summary or {}).get("code_size"),
        fit=fit,
        pca_explained=pca_explained(baselines),
        layers=tuple(layers_of_line(last_stage(lines)[-1])) if last_stage(lines) else (),
        curve=curve_of(lines, penalty_of(options)) if lines else None,
        options=options,
        missing=tuple(missing if fit is not None else ["the fit, of a run that has not finished", *missing]),
    )


def layers_of_line(line: Line) -> list[Layer]:
    """Units that do not move, of the layers that a line of metrics.jsonl names; of what else there is nothing is
    known."""
    layers = []
    for name, value in line.items():
        part, found, layer = (*name.split("/"), "", "")[:3]
        if part in ("validation", "probe") and found == DEAD_UNITS:
            layers.append(Layer(layer or "code", 2, value, value, 0.0, 1.0))
    return layers


def pca_explained(baselines: Mapping[str, float]) -> float | None:
    """What PCA of the code's size explains of the variance."""
    pca, mean = baselines.get("pca/mse"), baselines.get("mean_image/mse")
    return 1 - pca / mean if pca is not None and mean else None


def penalty_of(options: Options) -> tuple[str, float] | None:
    """Name and weight, in units of the loss, of the sparsity's penalty."""
    weight = options.number("sparsity.weight")
    return (options.penalty, weight) if options.penalty and weight else None
