"""The main measurements, in a line each, whether or not a verdict depends on them."""

from __future__ import annotations

from collections.abc import Mapping

from aerun.doctor.examination import Examination, Layer

REPORTED_SHARE = 0.05  # of a layer's units: smaller shares are not reported


def describe_measurements(e: Examination) -> list[str]:
    """The fit, the used dimensions or entries of the latent, and dead or saturated units by layer; empty if nothing was
    measured."""
    lines = []
    if e.fit is not None:
        pca = "" if e.pca_explained is None else f" (PCA of the same code size: {e.pca_explained:.2f})"
        lines.append(
            f"{e.fit.explained:.2f} of the variance explained{pca}; reconstructions vary {e.fit.spread:.2f} times as "
            "much as targets"
        )
    if e.latent is not None:
        size = len(e.latent.kl)
        lines.append(
            f"{size - len(e.latent.unused)} of {size} latent dimensions are used, KL {sum(e.latent.kl):.2g} nats"
        )
    if e.codebook is not None:
        lines.append(f"{e.codebook.usage:.0%} of the codebook entries are used, perplexity {e.codebook.perplexity:.3g}")
    died = e.curve.died if e.curve is not None else {}
    dead = [_format_share(layer, layer.dead, died) for layer in e.layers if (layer.dead or 0.0) >= REPORTED_SHARE]
    saturated = [_format_share(layer, layer.saturated, {}) for layer in e.layers if layer.saturated >= REPORTED_SHARE]
    kinds = {"at 0 for every image": dead, "at a bound": saturated}
    units = [f"{kind}: {', '.join(shares)}" for kind, shares in kinds.items() if shares]
    return lines + ([f"units {'; '.join(units)}"] if units else [])


def _format_share(layer: Layer, share: float | None, died: Mapping[str, int]) -> str:
    since = f" (first seen in epoch {died[layer.name]})" if layer.name in died else ""
    count = "" if layer.units is None else f" of {layer.units}"
    return f"{layer.name} {share or 0.0:.0%}{count}{since}"
