"""Pictures for the gallery's commands, and of what they did."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from benchmarks.scans import at_size, unseen

MARKED = 6  # pictures to be cleaned


def queries(folder: Path, count: int = 3) -> list[str]:
    """Names of pictures of the collection, spread over its folders."""
    from aerun.use.image_files import find_images

    names = [name for name, _ in find_images(folder)]
    return [names[len(names) * (2 * i + 1) // (2 * count)] for i in range(count)]


def mark(out: Path, places: Mapping[str, str]) -> None:
    """Test pictures of the run of scans: as they are in out/clean, with its own marks in out/dirty."""
    import torch

    from aerun.config.parse import parse
    from aerun.use.denoising.scan_files import read_scan
    from aerun.use.image_files import to_uint8, write_png
    from aerun.use.opened_run import open_run

    run = open_run(places["scans"])
    settings = parse(run.config)
    for number, path in enumerate(unseen(settings.dataset, MARKED)):
        clean = torch.from_numpy(read_scan(path).over_white()).expand(3, -1, -1).contiguous()
        noise = at_size(settings.noise, run.shape[1], *clean.shape[1:])
        dirty = noise(clean[None], torch.Generator().manual_seed(number))[0]
        for name, image in (("clean", clean), ("dirty", dirty)):
            write_png(out / name / f"{path.stem}.png", to_uint8(image).transpose(1, 2, 0))


def side_by_side(out: Path) -> None:
    """A sheet of the pictures with marks and, below, what became of them."""
    from aerun.use.collection.thumbnails import read_thumbnail
    from aerun.use.contact_sheet import Tile, draw_contact_sheet
    from aerun.use.image_files import write_png

    names = sorted(path.name for path in (out / "cleaned").iterdir())
    pictures = ((row, read_thumbnail(out / row / name)) for row in ("dirty", "cleaned") for name in names)
    tiles = [Tile(pixels, row) for row, pixels in pictures if pixels is not None]
    write_png(out / "cleaned.png", draw_contact_sheet(tiles, columns=len(names)))


def crop(out: Path, places: Mapping[str, str]) -> None:
    """Nine tenths of the width and of the height of a drawing of the collection."""
    path = Path(places["folder"]) / queries(Path(places["folder"]))[1]
    with Image.open(path) as picture:
        width, height = (round(0.9 * side) for side in picture.size)
        part = picture.convert("RGBA").crop((picture.width - width, 0, picture.width, height))
    out.mkdir(parents=True, exist_ok=True)
    part.save(out / "part.png")
