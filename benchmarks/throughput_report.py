"""The tables of benchmarks/throughput.py."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.rounds import Spread, paired, spread, table, verdict

Rounds = dict[str, dict[str, list[dict[str, float]]]]
TITLES = {
    "bound": "arithmetic bound",
    "bare": "bare loop",
    "aerun": "aerun",
    "quiet": "aerun, logging off",
    "bare_adam": "bare, default Adam",
    "loader": "usual DataLoader loop",
    "pythae": "pythae",
    "lightning_loader": "Lightning, DataLoader",
    "lightning_tensors": "Lightning, tensors",
}


def target(other: str, model: str, batch: int) -> float | None:
    """What aerun / other must reach."""
    if other == "bare":
        return 0.97 if batch >= 512 else 0.90
    if other == "quiet":
        return 0.97
    if other == "loader" and (model, batch) == ("fc", 512):
        return 6.5
    if other == "pythae":
        return {("fc", 512): 1.6, ("fc", 64): 1.4}.get((model, batch), 1.0)
    return None


def speeds(rounds: list[dict[str, float]]) -> list[float]:
    """Training images per second of each round."""
    return [round["images"] / round["seconds"] for round in rounds]


def report(results: Rounds) -> str:
    """Speeds, ratios with their targets, and what comes beside the training part."""
    present = [name for name in TITLES if any(name in rounds for rounds in results.values())]
    rows = []
    for key, rounds in results.items():
        cells = [f"{_thousands(speeds(rounds[name])):.4g}" if name in rounds else "" for name in present]
        rows.append([key, *cells])
    parts = [
        "Training images per second, in thousands: median of the rounds (lowest-highest).",
        table(["model, batch", *(TITLES[name] for name in present)], rows),
    ]
    if "aerun" in present:
        parts += [
            "aerun against each: median of the rounds' own ratios (lowest-highest), and the target.",
            ratios(results),
        ]
    parts += ["Beside the training part.", beside(results, present)]
    return "\n\n".join(parts)


def _thousands(values: list[float]) -> Spread:
    return spread([value / 1000 for value in values])


def ratios(results: Rounds) -> str:
    """One row for each model, batch and contestant."""
    others = [name for name in TITLES if name != "aerun" and any(name in rounds for rounds in results.values())]
    rows = []
    for key, rounds in results.items():
        model, batch = key.split()
        cells = [key]
        for other in others:
            if other not in rounds:
                cells.append("")
                continue
            ratio = paired(speeds(rounds["aerun"]), speeds(rounds[other]))
            wanted = target(other, model, int(batch))
            cells.append(f"{ratio:.3g}" + ("" if wanted is None else f" {verdict(ratio.median, wanted)}"))
        rows.append(cells)
    return table(["aerun /", *(TITLES[name] for name in others)], rows)


def beside(results: Rounds, present: list[str]) -> str:
    """Evaluation speed, and the rest of an aerun run."""
    timed = [name for name in present if any(r["evaluated"] for rs in results.values() for r in rs.get(name, []))]
    rows = []
    for key, rounds in results.items():
        cells = [key]
        for name in timed:
            values = [r["evaluated"] / r["evaluation_seconds"] for r in rounds.get(name, [])]
            cells.append(f"{_thousands(values).median:.3g}" if values else "")
        for name in ("aerun", "quiet"):
            if name in present:
                cells.append(f"{spread([r['rest_seconds'] for r in rounds[name]]).median:.2f}")
        rows.append(cells)
    rest = [f"rest of {TITLES[name]}, s a run" for name in ("aerun", "quiet") if name in present]
    return table(["evaluation, thousand images/s", *(TITLES[name] for name in timed), *rest], rows)


def section(text: str, absent: dict[str, str], given: argparse.Namespace) -> Any:
    raise NotImplementedError
