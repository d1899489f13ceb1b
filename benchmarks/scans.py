"""How well experiment=denoise_scans cleans drawings that it has not seen, compared with three filters.

    python benchmarks/scans.py outputs/RUN_FOLDER [--pictures 40]

The run's own test pictures, at their own resolution, get its own marks, of the size and density that they have in its
patches. Writes its section of docs/denoising.md, and docs/images/denoised.png.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.denoising import PAGE_HEAD  # noqa: E402
from benchmarks.page import write_section  # noqa: E402

LENGTHS = ("radius", "length", "width", "blur")  # what a mark has in shares of the image's side
LARGEST = 400_000  # pixels: the filters take long
SHOWN, CUT = 8, 128  # pictures in the figure, and how much of each, in pixels


def unseen(dataset: Any, count: int) -> list[Path]:
    """Test pictures of an image folder, drawn evenly from those that are neither tiny nor huge."""
    from PIL import Image

    arrays = dataset.read_cached() or dataset.read()
    fitting = []
    for path in arrays.test_files or []:
        with Image.open(path) as picture:
            if min(picture.size) >= CUT and picture.width * picture.height <= LARGEST:
                fitting.append(path)
    return fitting[:: max(1, len(fitting) // count)][:count]


def at_size(noise: Any, tile: int, height: int, width: int) -> Any:
    """The corruption of a patch of ``tile`` pixels for a picture: marks as large in pixels, and as dense."""
    if hasattr(noise, "parts"):
        parts = {name: at_size(part, tile, height, width) for name, part in noise.parts.items()}
        return dataclasses.replace(noise, parts=parts)
    if not hasattr(noise, "most"):
        return noise
    share = tile / min(height, width)
    found = {key: getattr(noise, key) for key in LENGTHS if hasattr(noise, key)}
    lengths = {
        key: [v * share for v in value] if isinstance(value, list) else value * share for key, value in found.items()
    }
    return dataclasses.replace(noise, most=round(noise.most * height * width / tile**2), **lengths)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a run of experiment=denoise_scans")
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "denoising.md")
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "images" / "denoised.png")
    arguments = parser.parse_args()
    import torch

    from aerun.base.progress_bar import progress_bar
    from aerun.config.parse import parse
    from aerun.use.contact_sheet import draw_contact_sheet
    from aerun.use.denoising.filter_baselines import Scores, make_filters, score_all
    from aerun.use.denoising.scan_files import read_scan
    from aerun.use.denoising.tiling import denoise
    from aerun.use.image_files import write_png
    from aerun.use.opened_run import open_run

    run = open_run(arguments.run)
    settings = parse(run.config)
    scores, ways, tiles = Scores(), make_filters(), []
    paths = unseen(settings.dataset, arguments.pictures)
    with progress_bar("pictures", len(paths)) as bar:
        for number, path in enumerate(paths):
            seen = read_scan(path).over_white()
            clean = torch.from_numpy(seen).expand(3, -1, -1).contiguous()
            # As in training: from no marks to all of them, which of a whole picture only the density can be.
            noise = at_size(settings.noise, run.shape[1], *clean.shape[1:])
            dirty = noise(clean[None], torch.Generator().manual_seed(number))[0]
            cleaned = denoise(run, dirty)
            score_all(scores, path.stem, dirty.numpy(), cleaned.numpy(), clean.numpy(), ways)
            if number < SHOWN:
                tiles.append((dirty, cleaned, clean))
            bar.update()
    write_png(arguments.figure, draw_contact_sheet(rows_of(tiles, ways, scores), columns=len(tiles), side=CUT))
    print(f"{scores.table()}\n\n{scores.verdict()}")
    text = section(scores, run, len(paths))
    write_section("scans", text, arguments.page, PAGE_HEAD)
    return 0


def rows_of(pictures: list[Any], ways: dict[str, Any], scores: Any) -> list[Any]:
    """The same part of every picture: dirty, cleaned by the run, by the best filter, and clean."""
    from aerun.use.contact_sheet import Tile

    name = max(ways, key=lambda way: scores.means(way).psnr)
    setting, _ = scores.best(name)
    best = ways[name][setting]
    rows: dict[str, list[Any]] = {"with marks": [], "the run": [], f"{name}\n{setting}": [], "without": []}
    for dirty, cleaned, clean in pictures:
        top, left = ((size - CUT) // 2 for size in clean.shape[1:])
        images = dirty.numpy(), cleaned.numpy(), best(dirty.numpy()), clean.numpy()
        for (label, row), image in zip(rows.items(), images, strict=True):
            part = image[:, top : top + CUT, left : left + CUT].clip(0, 1)
            row.append(Tile((part * 255).round().astype(np.uint8), label))
    return [tile for row in rows.values() for tile in row]


def section(scores: Any, run: Any, count: int) -> str:
    """Of docs/denoising.md."""
    from aerun.use.denoising.filter_baselines import INPUT

    lines = ["| mean over pictures | PSNR (dB) | SSIM | setting |", "|---|---|---|---|"]
    for way in scores.of:
        found, (setting, _) = scores.means(way), scores.best(way)
        lines.append(f"| {way} | {found.psnr:.2f} | {found.ssim:.4f} | {setting} |")
    minutes = f"{run.summary['wall_seconds'] / 60:.1f} minutes" if run.summary else "a time not known"
    return f"""## Marks on drawings

Made by `python benchmarks/scans.py RUN` on {date.today()}: `experiment=denoise_scans`, trained in {minutes}; {count} of
its test pictures, at their own resolution, with marks as large and as dense as in training; "{INPUT}": with the
marks. Each filter has the best setting for these very pictures.

{chr(10).join(lines)}

{scores.verdict()}

![Drawings with marks, cleaned by the run, by the best filter, and without marks](images/denoised.png)"""


if __name__ == "__main__":
    sys.exit(main())
