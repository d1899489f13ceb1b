"""Every number that a run reports: its name, its unit, and which direction is better. Imports no torch.

Names are paths, and their first parts say where the number was measured: ``test/psnr``, ``stage2/validation/psnr`` and
``baselines/pca/psnr`` are all ``psnr``. A run that reports numbers of its own declares them in summary.json, under
``metrics``: ``{"f2": {"unit": "", "higher_is_better": true}}``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from aerun.contracts import Metric, Observer, Part
from aerun.errors import DataError

PARTS = ("train", "validation", "probe", "test")  # of the data
BASELINES = ("baselines", "test_baseline", "baseline")  # in summary.json, in logs, in older ones; the name follows
NATS, PERCENT, SECONDS = "nats per image", "%", "s"
Metrics = Mapping[str, Metric]  # by name
NONE: Metrics = MappingProxyType({})

# ``_N`` stands for any number: nll_100, labels_10/codes_error.
_LABELS = ("labels_N", "labels_all")
_FEATURES = ("codes", "pixels", "pca", "finetuned", "scratch")
REPORTED = (
    # The loss and its terms.
    Metric("loss"),
    Metric("reconstruction"),
    Metric("reconstruction_nats", NATS),
    Metric("bound_nats", NATS),
    Metric("kl", NATS),
    Metric("kl_sparsity"),
    Metric("l1"),
    # Reconstructions and codes.
    Metric("mse"),
    Metric("sse"),
    Metric("psnr", "dB", higher_is_better=True),
    Metric("psnr_pooled", "dB", higher_is_better=True),
    Metric("input_psnr", "dB", higher_is_better=True),
    Metric("input_psnr_pooled", "dB", higher_is_better=True),
    Metric("ssim", higher_is_better=True),
    Metric("ms_ssim", higher_is_better=True),
    Metric("input_ssim", higher_is_better=True),
    Metric("output_spread", higher_is_better=True),  # 0 where all reconstructions are the same picture
    Metric("active_units", "units per image"),
    Metric("dead_units"),
    # Likelihoods.
    Metric("nll", NATS),
    Metric("nll_error", NATS),
    Metric("nll_N", NATS),
    Metric("nll_all", NATS),
    Metric("nll_all_error", NATS),
    Metric("log_likelihood", NATS, higher_is_better=True),
    Metric("elbo", NATS, higher_is_better=True),
    Metric("likelihood_samples", "samples per image", higher_is_better=True),  # more make the estimate more precise
    Metric("likelihood_images", "images", higher_is_better=True),
    Metric("active_latents", "units", higher_is_better=True),
    Metric("kl_dimension_N", NATS),
    # Samples of the model and test images.
    Metric("frechet_distance"),
    Metric("frechet_deviation"),
    Metric("kernel_distance"),
    Metric("prior_nats", NATS),
    Metric("independent_nats", NATS),
    *(Metric(f"sample_{name}", higher_is_better=True) for name in ("precision", "recall", "density", "coverage")),
    Metric("classifier_error", PERCENT),
    # Classifiers on codes.
    Metric("knn_error", PERCENT),
    *(Metric(f"{name}_{kind}error", PERCENT) for name in ("svm", "logistic") for kind in ("", "validation_")),
    *(Metric(f"{name}_strength") for name in ("svm", "logistic")),
    *(Metric(f"{labels}/{kind}_error", PERCENT) for labels in _LABELS for kind in _FEATURES),
    *(Metric(f"{labels}/{kind}_deviation", PERCENT) for labels in _LABELS for kind in _FEATURES),
    # The training.
    Metric("epoch", "epochs"),
    Metric("step", "steps"),
    Metric("stage"),
    Metric("epochs", "epochs"),
    Metric("steps", "steps"),
    Metric("best_epoch", "epochs"),
    Metric("best_loss"),
    Metric("learning_rate"),
    Metric("gradient_norm"),
    Metric("update_ratio"),
    Metric("loss_roughness"),
    Metric("images_per_second", "images/s", higher_is_better=True),
    Metric("train_seconds", SECONDS),
    Metric("compile_seconds", SECONDS),
    Metric("wall_seconds", SECONDS),
    Metric("precision_difference"),
    # The model and its baselines.
    Metric("code_size", "units"),
    Metric("parameters"),
    Metric("draws", "draws per image"),  # of the regression that estimates the linear filter
    # Not reported by aerun. Protocols of one's own commonly do, and old run folders declare nothing.
    *(Metric(name, higher_is_better=True) for name in ("accuracy", "f1", "auc", "r2")),
)
BY_NAME = {metric.name: metric for metric in REPORTED}


def metric_of(name: str, declared: Metrics = NONE) -> Metric:
    """The metric of a number. For one that nobody has declared, lower is better."""
    return find_metric(name, declared) or Metric(name)


def find_metric(name: str, declared: Metrics = NONE) -> Metric | None:
    """The metric of a number, by ``declared`` first (a run's own) and then as aerun declares it; None if unknown."""
    candidates = list(_candidates(name))
    for known in (declared, BY_NAME):
        for candidate in candidates:
            if candidate in known:
                return known[candidate]
    return None


def _candidates(name: str) -> Iterator[str]:
    """Names that a number may be declared by, the most specific first.

    The stage and the part are left out, then the number in a name and what follows an ``@``, and last the end of the
    path: ``validation/dead_units/encoder.0`` are ``dead_units`` of one layer.
    """
    yield name
    path = name.split("/")
    if len(path) > 1 and re.fullmatch(r"stage\d+", path[0]):
        path = path[1:]
    if len(path) > 1 and path[0] in PARTS:
        path = path[1:]
    elif len(path) > 2 and path[0] in BASELINES:
        path = path[2:]
    for length in range(len(path), 0, -1):
        part = "/".join(path[:length])
        yield part
        yield re.sub(r"_\d+(?=/|$)", "_N", part.partition("@")[0])


def baseline_labels(summary: Mapping[str, Any]) -> dict[str, str]:
    """What to call each baseline of a summary, by its name there."""
    known = summary["baselines"]
    draws = known.get("linear/draws")  # only if the linear map is an estimate
    is_noisy = "linear/mse" in known or "input_psnr" in summary.get("test", {})
    components = min(summary.get("code_size") or 0, image_values(summary) or 0) or summary.get("code_size")
    labels = {
        "mean_image": "mean image",
        "pca": f"PCA, {components} components" + (", clean input" if is_noisy else ""),
        "linear": "best linear map" + (f", {draws:g} draws" if draws else ""),
    }
    return {name: label for name, label in labels.items() if f"{name}/mse" in known}


def image_values(summary: Mapping[str, Any]) -> int | None:
    """How many values a target has, the quotient of its squared error and the mean of that; None if unknown."""
    known = summary["baselines"]
    whole, mean = known.get("mean_image/sse"), known.get("mean_image/mse")
    return round(whole / mean) if whole and mean else None


def declared_by(parts: Iterable[Part | Observer]) -> dict[str, Metric]:
    """The metrics that parts and callbacks declare, by name."""
    return {metric.name: metric for part in parts for metric in part.metrics}


def metrics_to_json(metrics: Iterable[Metric]) -> dict[str, dict[str, Any]]:
    """Metrics as summary.json has them, under ``metrics``."""
    return {metric.name: {"unit": metric.unit, "higher_is_better": metric.higher_is_better} for metric in metrics}


def metrics_from_json(content: Any) -> dict[str, Metric]:
    """The metrics of a summary's ``metrics``; none where the key is missing. DataError for a damaged entry."""
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise DataError("metrics: is not a mapping")
    return {str(name): _metric(str(name), entry) for name, entry in content.items()}


def _metric(name: str, entry: Any) -> Metric:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("higher_is_better"), bool):
        raise DataError(f"metrics.{name}: needs higher_is_better, true or false")
    return Metric(name, str(entry.get("unit") or ""), entry["higher_is_better"])
