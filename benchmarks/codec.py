"""Bits against quality of a picture codec: ``python benchmarks/codec.py RUN [FOLDER] [--pictures 100] [--seed 0]``

Each picture, shown on white at its own size, is written by the run in each of its qualities, and as JPEG, WebP, AVIF
and JPEG XL (``pip install pillow-jxl-plugin``) in several. Sizes are those of whole files. Without FOLDER the pictures
are drawn from the run's test pictures, which were not trained on.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from PIL import Image
from scipy.interpolate import PchipInterpolator

from aerun.base.arguments import Parser, count
from aerun.base.files import format_size
from aerun.base.ssim import WINDOW, ms_ssim
from aerun.cli.command import add_run_arguments, run_command
from aerun.config.parse import parse
from aerun.dataset.decoder import flatten
from aerun.dataset.picture_files import find_pictures, open_picture, pillow_settings
from aerun.use.compression.compress import PictureCodec
from aerun.use.compression.picture import Picture
from aerun.use.opened_run import open_run
from benchmarks.machine import circumstances
from benchmarks.page import write_section

PAGE = Path(__file__).resolve().parent.parent / "docs" / "compress.md"
LARGEST = 4_000_000  # pixels
HIGHEST = 50.0  # dB, of one picture: above, nobody sees a difference, and lossless pictures have no PSNR
FORMATS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "JPEG": ({"format": "JPEG", "optimize": True}, (5, 10, 20, 35, 50, 65, 80, 90, 95)),
    "WebP": ({"format": "WEBP", "method": 6}, (0, 10, 30, 50, 70, 85, 95)),
    "AVIF": ({"format": "AVIF", "speed": 6}, (10, 20, 35, 50, 65, 80, 90)),
    "JPEG XL": ({"format": "JXL"}, (10, 30, 50, 70, 85, 92)),
}
RUN = "the run"


class Point(NamedTuple):
    """Means over pictures: bits per pixel (of all pixels), PSNR and MS-SSIM; the PSNR of all pixels together; bytes of
    a picture."""

    bits: float
    psnr: float
    ms_ssim: float
    pooled: float
    size: float


def read(path: Path) -> np.ndarray | None:
    """uint8 [H,W,3], on white; None for what cannot be read, is too large, or has a single color."""
    try:
        with pillow_settings(), open_picture(path, load=False) as opened:
            if opened.width * opened.height > LARGEST:
                return None
            pixels = np.asarray(flatten(opened).convert("RGB"))
    except Exception:
        return None
    return None if (pixels == pixels[0, 0]).all() else pixels


def saved(options: dict[str, Any], quality: int, pixels: np.ndarray) -> tuple[int, np.ndarray]:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, quality=quality, **options)
    with Image.open(content) as image:
        return len(content.getvalue()), np.asarray(image.convert("RGB"))


def measure(pictures: list[np.ndarray], write: Callable[[np.ndarray], tuple[int, np.ndarray]]) -> Point:
    sizes, errors, similar = [], [], []
    for pixels in pictures:
        size, back = write(pixels)
        sizes.append(size)
        both = [torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float() / 255 for image in (back, pixels)]
        errors.append(float((both[0] - both[1]).square().mean()))
        if min(pixels.shape[:2]) >= WINDOW:
            similar.append(float(ms_ssim(*both)))
    area = [pixels.shape[0] * pixels.shape[1] for pixels in pictures]
    psnr = np.minimum(-10 * np.log10(np.maximum(errors, 1e-12)), HIGHEST)
    pooled = -10 * np.log10(np.average(errors, weights=area))
    return Point(8 * sum(sizes) / sum(area), psnr.mean(), float(np.mean(similar)), float(pooled), float(np.mean(sizes)))


def bd_rate(ours: list[Point], others: list[Point], by: str = "psnr") -> float | None:
    """The mean difference in bits at equal quality, as a share of those of the others: Bjontegaard 2001 (VCEG-M33),
    with piecewise cubic curves. None without qualities in common."""
    curves = []
    for points in (ours, others):
        known = sorted((getattr(point, by), np.log(point.bits)) for point in points)
        quality, bits = (np.array(values) for values in zip(*known, strict=True))
        rising = np.concatenate([[True], np.diff(quality) > 1e-9])
        curves.append((PchipInterpolator(quality[rising], bits[rising]), quality[rising]))
    low, high = (pick(each(q) for _, q in curves) for pick, each in ((max, np.min), (min, np.max)))
    if high <= low:
        return None
    mine, theirs = (curve.integrate(low, high) / (high - low) for curve, _ in curves)
    return float(np.exp(mine - theirs) - 1)


def parser() -> Parser:
    built = Parser("Compare a codec with JPEG, WebP, AVIF and JPEG XL.", "  %(prog)s outputs/RUN_FOLDER --pictures 50")
    add_run_arguments(built)
    built.add_argument("folder", nargs="?", type=Path, help="pictures (default: the run's test pictures)")
    built.add_argument("--pictures", type=count, default=100, help="how many are drawn (100)")
    built.add_argument("--seed", type=int, default=0)
    built.add_argument("--write", metavar="NAME", help="write a section of docs/compress.md about this collection")
    return built


def draw(asked: Any, run: Any) -> tuple[list[np.ndarray], int]:
    """The pictures, and among how many they were drawn."""
    if asked.folder is None:
        dataset: Any = parse(run.config).dataset
        paths = list(dataset.read_cached().test_files)
    else:
        paths = find_pictures(asked.folder).paths
    found: list[np.ndarray] = []
    for place in np.random.default_rng(asked.seed).permutation(len(paths)):
        if len(found) < asked.pictures and (pixels := read(paths[place])) is not None:
            found.append(pixels)
    return found, len(paths)


def work(asked: Any) -> int:
    run = open_run(asked.run, asked.device, asked.trust)
    codec, (pictures, among) = PictureCodec(run), draw(asked, run)
    pixels, seconds = sum(image.shape[0] * image.shape[1] for image in pictures), [0.0, 0.0]

    def by_run(quality: int) -> Callable[[np.ndarray], tuple[int, np.ndarray]]:
        def write(image: np.ndarray) -> tuple[int, np.ndarray]:
            start = time.process_time()
            content = codec.compress(Picture(image), quality)
            middle = time.process_time()
            back = codec.decompress(content).pixels
            seconds[0] += middle - start
            seconds[1] += time.process_time() - middle
            return len(content), back

        return write

    curves: dict[str, list[Point]] = {
        RUN: [measure(pictures, by_run(quality + 1)) for quality in range(codec.qualities)]
    }
    Image.init()
    for name, (options, qualities) in FORMATS.items():
        if name == "JPEG XL":
            try:
                import pillow_jxl  # noqa: F401
            except ImportError:
                continue
        curves[name] = [measure(pictures, partial(saved, options, quality)) for quality in qualities]
    text = report(asked, codec, curves, among, pixels, [share / codec.qualities for share in seconds], len(pictures))
    print(text)
    if asked.write:
        write_section(f"codec {asked.write}", text, PAGE)
    return 0


def report(
    asked: Any,
    codec: PictureCodec,
    curves: dict[str, list[Point]],
    among: int,
    pixels: int,
    seconds: list[float],
    drawn: int,
) -> str:
    name, mine = asked.write or "the test pictures", curves[RUN]
    lines = ["| | bits per pixel | PSNR | MS-SSIM | PSNR of all pixels | bytes of a picture |", "|---" * 6 + "|"]
    for of, points in curves.items():
        labels = range(1, len(points) + 1) if of == RUN else FORMATS[of][1]
        for label, (bits, psnr, similar, pooled, size) in zip(labels, points, strict=True):
            lines.append(f"| {of}, {label} | {bits:.3f} | {psnr:.2f} | {similar:.4f} | {pooled:.2f} | {size:,.0f} |")
    rates = ["| the run's bits at equal quality | by PSNR | by MS-SSIM | by PSNR of all pixels |", "|---|---|---|---|"]
    for of, points in list(curves.items())[1:]:
        found = [bd_rate(mine, points, by) for by in ("psnr", "ms_ssim", "pooled")]
        cells = " | ".join("-" if rate is None else f"{rate:+.0%}" for rate in found)
        rates.append(f"| {of} | {cells} |")
    middle, weights = codec.networks.latent.quality, codec.weight_bytes
    known = np.array(sorted((point.psnr, point.size) for point in curves["JPEG"]))
    saving = float(np.interp(mine[middle - 1].psnr, known[:, 0], known[:, 1])) - mine[middle - 1].size
    pays = f"after {weights / saving:,.0f} pictures" if saving > 0 else "never"
    head = (
        f"{drawn} of {among:,} pictures, {pixels / drawn / 1e6:.2f} megapixels each on average, shown on white. PSNR "
        f"and MS-SSIM are means over pictures, a PSNR counting at most as {HIGHEST:.0f} dB. Sizes are those of whole "
        f"files, without the run: its decoder and entropy model have {format_size(weights)}, which at quality {middle} "
        f"pay, against JPEG of the same PSNR, {pays}. The run took {pixels / 1e6 / seconds[0]:.2f} megapixels per CPU "
        f"second to write and {pixels / 1e6 / seconds[1]:.2f} to read."
    )
    where = circumstances("codec.py", asked.device, "one process", ("torch", "numpy", "pillow", "constriction"))
    return "\n".join([f"## Rate and distortion on {name}", "", head, "", *rates, "", *lines, "", where])


def main() -> int:
    return run_command(parser, work)


if __name__ == "__main__":
    sys.exit(main())
