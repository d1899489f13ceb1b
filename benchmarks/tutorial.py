"""The tutorials' models on the full Fashion-MNIST: docs/tutorial/README.md, a row of numbers and its pictures each.

    python benchmarks/tutorial.py [NAME ...] [--outputs FOLDER]

Trains the presets of conf/experiment/tutorial that have not been trained yet, as one sweep over the cores of this
machine (outputs/papers_tutorial; a repeated command continues it), then draws the page from the run folders.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from aerun.base.conf import conf_dir  # noqa: E402
from aerun.runs.folder import ENVIRONMENT, FIGURES, PROBES  # noqa: E402
from benchmarks.finished import composed, finished  # noqa: E402
from benchmarks.machine import processor  # noqa: E402

PAGE = ROOT / "docs" / "tutorial"
SWEEP, GIVEN = "papers_tutorial", ["trainer.device=cpu"]
# In the order of the page.
NAMES = [
    *("fc", "topk16", "topk5", "kl_weak", "kl_strong", "lifetime25", "lifetime5"),
    *("deep", "deep_stages", "conv_fc", "denoise_gaussian", "denoise_masking", "conv", "vae"),
]
PATCHES = "ufldl_patches"  # the last section of the page
IMAGES, WIDEST = 10, 440  # of a row of reconstructions; pixels of a picture
PICTURES = {
    "reconstructions": "in, out and error",
    "generated_interpolations": "between the codes of two test images, decoded",
    "generated_samples": "decoded draws from the prior",
    "features_dictionary": "what each unit of the last hidden layer adds",
    "features_first_layer": "what each unit of the first layer responds to",
    "code_heatmap": "codes of 512 test images",
    "code_map": "map of the codes",
}
TEXT = """\
Every classical kind of autoencoder with its own settings: batches of 512, Adam at 1e-3, the rate divided by 10 after
10 epochs without improvement, LeakyReLU. Each is a recipe: `aerun-train experiment=tutorial/NAME`. The last one is
`experiment=ufldl_patches`, which has other data and settings.

The best linear answer is PCA of as many components as the code has numbers, or for a corrupted input the best linear
denoiser. Code values and dead units (those that never move) are those of the test images; the codes of `kl` are never
exactly 0. Minutes are those of the whole run, pictures included."""


@dataclass(frozen=True)
class Run:
    """A finished run of a preset."""

    name: str
    folder: Path
    summary: dict[str, Any]
    config: dict[str, Any]


def main(names: list[str], outputs: Path = ROOT / "outputs") -> None:
    """Train what is missing of these presets (of all, if none are named), and write the page of all that there are."""
    every = [*NAMES, PATCHES]
    names = [name.removeprefix("tutorial/") for name in names] or every
    unknown = sorted(set(names) - set(every))
    if unknown:
        raise SystemExit(f"tutorial: {', '.join(unknown)}: no such model; there are {', '.join(every)}")
    train(names, outputs)
    runs = trained(outputs / SWEEP, every)
    write_page(runs)
    print(f"{PAGE / 'README.md'}: {len(runs)} models")


def train(names: list[str], outputs: Path) -> None:
    """One sweep over these presets, which skips what is finished. SystemExit if a run failed."""
    chosen = ",".join(map(experiment, names))
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "-m", f"experiment={chosen}"]
    command += [
        f"sweep.name={SWEEP}",
        f"hydra.sweep.dir={outputs / SWEEP}",
        "hydra/launcher=joblib",
        *GIVEN,
    ]
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def experiment(name: str) -> str:
    """What a model's preset is called on the command line."""
    return name if name == PATCHES else f"tutorial/{name}"


def trained(sweep: Path, names: Sequence[str]) -> list[Run]:
    """The sweep's finished runs of these presets, as their files are now."""
    configs = composed([f"experiment={experiment(name)}", *GIVEN] for name in names)
    pairs = zip(names, configs, finished(sweep, configs), strict=True)
    return [Run(name, *found, config) for name, config, found in pairs if found is not None]


def write_page(runs: list[Run]) -> None:
    """The page and its pictures, in place of the old ones."""
    for old in PAGE.glob("*.png"):
        old.unlink()
    PAGE.mkdir(parents=True, exist_ok=True)
    sections = [section(run) for run in runs]
    about = json.loads((runs[0].folder / ENVIRONMENT).read_text())
    counts = about["dataset"]["images"]
    head = (
        "# Tutorial models\n\n"
        f"{TEXT}\n\nWritten by `python benchmarks/tutorial.py` from one run of each preset: Fashion-MNIST, "
        f"{counts['train']:,} training, {counts['validation']:,} validation and {counts['test']:,} test images, "
        f"seed 0, one core of "
        f"{processor()}, shared with other work, torch {about['versions']['torch']}.\n"
    )
    (PAGE / "README.md").write_text("\n".join([head, *table(runs), "", *sections]))


def table(runs: list[Run]) -> list[str]:
    """Markdown: a row a model."""
    lines = [
        "| model | code | test MSE per pixel | best linear | PSNR (dB) | values not 0 | dead units | minutes |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for run in runs:
        test, base, summary = run.summary["test"], run.summary["baselines"], run.summary
        linear = base.get("linear/mse", base["pca/mse"])
        lines.append(
            f"| [{run.name}](#{run.name}) | {summary['code_size']} | {test['mse']:.5f} | {linear:.5f} | "
            f"{test['psnr']:.2f} | {test['active_units']:.1f} | {test['dead_units']:.0%} | "
            f"{summary['wall_seconds'] / 60:.1f} |"
        )
    return lines


def section(run: Run) -> str:
    """A model's text, and a row of its pictures."""
    cells = []
    for name, title in PICTURES.items():
        pixels = picture(run, name)
        if pixels is not None:
            file = PAGE / f"{run.name}_{name}.png"
            shrunk(pixels).save(file, optimize=True)
            cells.append((title, f'<img src="{file.name}" alt="{run.name}: {title}" width="360">'))
    half = (len(cells) + 1) // 2
    rows = [gallery(cells[:half]), gallery(cells[half:])]
    return "\n".join([f"## {run.name}\n", f"{described(run.name)}\n", *rows])


def gallery(cells: list[tuple[str, str]]) -> str:
    """Markdown: pictures side by side under their titles."""
    lines = (" | ".join(column) for column in zip(*cells, strict=True))
    title, pictures = (f"| {line} |" for line in lines)
    return "\n".join([title, "|" + "---|" * len(cells), pictures, ""])


def described(name: str) -> str:
    """What the preset's own comment says."""
    lines = (conf_dir() / "experiment" / f"{experiment(name)}.yaml").read_text().splitlines()
    comments = [line[1:].strip() for line in lines if line.startswith("#")]
    return " ".join(line for line in comments[2:]).replace(" ours: ", " Result: ")


def picture(run: Run, name: str) -> Image.Image | None:
    """One of the run's figures: of its reconstructions the first, and of features one kind, those of the patches in."""
    if name == ("features_dictionary" if run.name == PATCHES else "features_first_layer"):
        other = "features_first_layer" if run.name == PATCHES else "features_dictionary"
        if (run.folder / FIGURES / f"{other}.png").exists():
            return None
    if name == "reconstructions":
        return reconstructions(run.folder)
    path = run.folder / FIGURES / f"{name}.png"
    return Image.open(path) if path.exists() else None


def reconstructions(folder: Path) -> Image.Image:
    """The first test images: input, corrupted input where it is, reconstruction, absolute error."""
    import torch

    from aerun import figures

    with np.load(folder / PROBES) as arrays:
        images = {name: torch.from_numpy(arrays[name][:IMAGES]).float() / 255 for name in arrays.files}
    rows = [images["inputs"], images["reconstructions"], (images["reconstructions"] - images["inputs"]).abs()]
    if not images["noisy"].equal(images["inputs"]):
        rows.insert(1, images["noisy"])
    return Image.fromarray(figures.image_rows(rows))


def shrunk(picture: Image.Image) -> Image.Image:
    """At most so wide, in a palette."""
    if picture.width > WIDEST:
        height = round(picture.height * WIDEST / picture.width)
        picture = picture.resize((WIDEST, height), Image.Resampling.LANCZOS)
    if picture.mode == "L":
        return picture.quantize(32)
    return picture.convert("RGB").quantize(128, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--outputs", type=Path, default=ROOT / "outputs", help="where the run folders go")
    arguments = parser.parse_args()
    main(arguments.names, arguments.outputs)
