"""The evidence of a run's files alone: logs, summary and configuration, without the model and its data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from aerun.doctor.examination import MIN_IMAGES, Codebook, Examination, Fit, Layer, Options, Samples
from aerun.doctor.loss_curve import DEAD_UNITS, Line, last_stage, measure_curve
from aerun.doctor.part_options import options_of_config


def examine_files(
    config: Mapping[str, Any],
    lines: Sequence[Line],
    summary: Mapping[str, Any] | None,
    declared: Mapping[str, Any] | None = None,
    images: Mapping[str, int] | None = None,
    typed: Collection[str] = (),
) -> Examination:
    """The evidence of a run's files. ``declared``: what its parts declared, and ``images``: how many images each part
    of its data has, if they were saved. The result's ``missing`` lists what only model and data can show."""
    options = options_of_config(config, declared, typed)
    test, baselines = ((summary or {}).get(key, {}) for key in ("test", "baselines"))
    mean, spread = baselines.get("mean_image/mse"), test.get("output_spread")
    fit = None
    if mean and spread is not None and "mse" in test:  # a single test image has no spread
        fit = Fit(explained=1 - test["mse"] / mean, spread=spread)
    stage = last_stage(lines)
    missing = ["targets and their order", "the output's range", "hidden units", "a latent's dimensions", "white noise"]
    return Examination(
        code_values=(summary or {}).get("code_size"),
        fit=fit,
        pca_explained=pca_explained(baselines),
        codebook=codebook_of_lines(lines),
        layers=tuple(layers_of_line(stage[-1])) if stage and _shows_units(stage[-1], images or {}) else (),
        curve=measure_curve(lines, penalty_of(options)) if lines else None,
        options=options,
        samples=samples_of(test),
        missing=tuple(missing if fit is not None else ["the fit: the run has not finished", *missing]),
    )


def _shows_units(line: Line, images: Mapping[str, int]) -> bool:
    """Whether a line was measured on enough images to show which units are constant."""
    count = images.get("validation") or images.get("train", MIN_IMAGES)  # see Loop.part
    return count >= MIN_IMAGES and any(name.endswith("/output_spread") for name in line)


def layers_of_line(line: Line) -> list[Layer]:
    """The layers of a line of metrics.jsonl. It has the share of constant units of the code, and of dead units of other
    layers, which are constant, too; nothing else is known of them."""
    layers = []
    for name, value in line.items():
        part, metric, layer = (*name.split("/"), "", "")[:3]
        if part in ("validation", "probe") and metric == DEAD_UNITS:
            dead = value if layer else None
            layers.append(Layer(layer or "code", None, still=value, dead=dead, saturated=0.0, variation=None))
    return layers


def codebook_of_lines(lines: Sequence[Line]) -> Codebook | None:
    """The use of a quantized latent's entries that the last evaluation reported; None if no line has it."""
    for line in reversed(last_stage(lines)):
        for part in ("validation", "probe"):
            usage, perplexity = (line.get(f"{part}/{name}") for name in ("code_usage", "perplexity"))
            if usage is not None and perplexity is not None:
                return Codebook(usage, perplexity)
    return None


def samples_of(test: Mapping[str, float]) -> Samples | None:
    """The distances that the protocol ``samples`` measured; None if it was not run."""
    name = "frechet_distance"
    if not {name, f"{name}@training", f"{name}@pca"} <= test.keys():
        return None
    return Samples(test[name], test.get(f"{name}@mixture"), test[f"{name}@training"], test[f"{name}@pca"])


def pca_explained(baselines: Mapping[str, float]) -> float | None:
    """The share of the variance that PCA of the code's size explains; None if unknown."""
    pca, mean = baselines.get("pca/mse"), baselines.get("mean_image/mse")
    return 1 - pca / mean if pca is not None and mean else None


def penalty_of(options: Options) -> tuple[str, float] | None:
    """Name of the sparsity's penalty, and its weight in units of the loss; None without one."""
    weight = options.number("sparsity.weight")
    return (options.penalty, weight) if options.penalty and weight else None
