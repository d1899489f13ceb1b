"""The tables of benchmarks/throughput.py."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.rounds import Spread, paired, spread, table, verdict

Rounds = Mapping[str, Mapping[str, list[dict[str, float]]]]
TITLES = {
    "bound": "bound",
    "bare": "bare loop",
    "bare_adam": "default Adam",
    "aerun": "aerun",
    "quiet": "logging off",
    "loader": "DataLoader",
    "pythae": "pythae",
    "lightning_loader": "Lightning, DataLoader",
    "lightning_tensors": "Lightning, tensors",
}
LEGEND = """
- **bound**: nothing but the model's matrix products and convolutions, at the rate of this machine's best float32
  matrix product, measured in the same rounds.
- **bare loop**: a batch is an index into one uint8 tensor; torch's fused Adam. **default Adam**: the same with
  `torch.optim.Adam` as it comes.
- **aerun**: `aerun.runs.run.run` with default settings, as on the command line, and everything that it writes;
  `train_seconds` of its summary. **logging off**: `trainer.log_every_steps=1000000000 trainer.pictures=0`.
- **DataLoader**: torchvision's data set with `ToTensor`, `DataLoader(shuffle=True)`, the bare loop's step.
- **pythae**: its `BaseTrainer` on ready float tensors, with the same layers.
- **Lightning**: its `Trainer` over that DataLoader, and over a `TensorDataset`; TensorBoard's logger on, progress bar
  off. It and pythae have `torch.optim.Adam` as it comes.
"""


EPOCH = 60_000, 0.015  # images, and the seconds that they may take on a GPU with fc at 512


def target(other: str, model: str, batch: int, device: str) -> float | None:
    """What aerun / other must reach."""
    if device != "cpu":
        gpu = {"bare": 3.0 if model == "conv" else 1.0, "quiet": 0.97, "pythae": 1.0}
        return gpu.get(other)
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
    return [answer["images"] / answer["seconds"] for answer in rounds]


def report(results: Rounds, device: str = "cpu") -> str:
    """Speeds, ratios with their targets, and what a run takes besides training, in Markdown."""
    present = [name for name in TITLES if any(name in rounds for rounds in results.values())]
    others = [name for name in present if name != "aerun"]
    rows = [
        [key, *(f"{spread(speeds(rounds[n])).median / 1000:.3g}" if n in rounds else "" for n in present)]
        for key, rounds in results.items()
    ]
    parts = ["Thousand training images per second, median of the rounds:"]
    parts.append(table(["model, batch", *(TITLES[name] for name in present)], rows))
    if "aerun" in present and others:
        rows = [[key, *(_ratio(key, rounds, other, device) for other in others)] for key, rounds in results.items()]
        parts.append("aerun's speed over each, median of the rounds' own ratios, and whether the target is met:")
        parts.append(table(["aerun /", *(TITLES[name] for name in others)], rows))
        parts.append(missed(results, others, device))
    if device != "cpu" and "aerun" in results.get("fc 512", {}):
        seconds = spread([EPOCH[0] / speed for speed in speeds(results["fc 512"]["aerun"])])
        met = verdict(seconds.median, EPOCH[1], at_most=True)
        parts.append(f"fc 512, an epoch of {EPOCH[0]:,} images, s: {seconds:.4f}, {met}")
    parts += ["<details><summary>All with ranges, and evaluation</summary>", everything(results, device), "</details>"]
    return "\n\n".join(parts)


def _ratio(key: str, rounds: Mapping[str, list[dict[str, float]]], other: str, device: str) -> str:
    if other not in rounds or "aerun" not in rounds:
        return ""
    ratio, wanted = _against(key, rounds, other, device)
    text = f"{ratio.median:.2f}" if ratio.median < 10 else f"{ratio.median:.1f}"
    return text if wanted is None else f"{text} {'met' if ratio.median >= wanted else '**NOT met**'}"


def _against(
    key: str, rounds: Mapping[str, list[dict[str, float]]], other: str, device: str
) -> tuple[Spread, float | None]:
    model, batch = key.split()
    return paired(speeds(rounds["aerun"]), speeds(rounds[other])), target(other, model, int(batch), device)


def missed(results: Rounds, others: list[str], device: str) -> str:
    """How many of the targets are met, and each that is not."""
    total, lines = 0, []
    for key, rounds in results.items():
        for other in others:
            if other not in rounds or "aerun" not in rounds:
                continue
            ratio, wanted = _against(key, rounds, other, device)
            total += wanted is not None
            if wanted is not None and ratio.median < wanted:
                lines.append(f"- {key}: aerun / {TITLES[other]} {ratio:.3f}, {verdict(ratio.median, wanted)}")
    return "\n".join([f"Targets: {total - len(lines)} of {total} met.", *lines])


def everything(results: Rounds, device: str) -> str:
    """A row for each model, batch and contestant."""
    rows = []
    for key, rounds in results.items():
        for name in (name for name in TITLES if name in rounds):
            cells = [key, TITLES[name], f"{spread(speeds(rounds[name])):,.0f}"]
            if "aerun" in rounds and name != "aerun":
                ratio, wanted = _against(key, rounds, name, device)
                cells += [f"{ratio:.3f}", "" if wanted is None else verdict(ratio.median, wanted)]
            else:
                cells += ["", ""]
            evaluated = [r["evaluated"] / r["evaluation_seconds"] for r in rounds[name] if r["evaluated"]]
            cells.append(f"{spread(evaluated).median:,.0f}" if evaluated else "")
            rest = spread([r["rest_seconds"] for r in rounds[name]]).median
            cells.append(f"{rest:.2f}" if rest else "")
            rows.append(cells)
    head = ["model, batch", "", "training images/s", "aerun / it", "target", "evaluated images/s", "rest of a run, s"]
    return table(head, rows)
