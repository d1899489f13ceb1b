"""What was measured, in a line, whether or not a verdict rests on it."""

from __future__ import annotations

from collections.abc import Mapping

from aerun.doctor.examination import Examination, Layer

WORTH_SAYING = 0.05  # share of a layer's units


def seen(e: Examination) -> list[str]:
    """The fit, the latent's dimensions, and units that never answer, by layer; empty where nothing was measured."""
    lines = []
    if e.fit is not None:
        beside = "" if e.pca_explained is None else f" (PCA of as many components {e.pca_explained:.2f})"
        lines.append(
            f"{e.fit.explained:.2f} of the variance explained{beside}; reconstructions vary {e.fit.spread:.2f} times "
            "as much as targets"
        )
    if e.latent is not None:
        size = len(e.latent.kl)
        lines.append(
            f"{size - len(e.latent.unused)} of {size} latent dimensions are used, KL {sum(e.latent.kl):.2g} nats"
        )
    died = e.curve.died if e.curve is not None else {}
    units = [*_shares(e, "dead", "0 for every image", died), *_shares(e, "saturated", "at a bound", {})]
    return lines + ([f"units: {'; '.join(units)}"] if units else [])


def _shares(e: Examination, name: str, what: str, died: Mapping[str, int]) -> list[str]:
    """The layers of which some units are so."""
    found = [(layer, getattr(layer, name)) for layer in e.layers if getattr(layer, name) >= WORTH_SAYING]
    if not found:
        return []
    return [f"{what}: {', '.join(_share(layer, value, died) for layer, value in found)}"]


def _share(layer: Layer, value: float, died: Mapping[str, int]) -> str:
    since = f" (from epoch {died[layer.name]} on)" if layer.name in died else ""
    return f"{layer.name} {value:.0%} of {layer.units}{since}"
