"""The distance below which two images count as near-duplicates, estimated from degraded copies."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from aerun.dataset.decoder import apply_orientation, flatten
from aerun.dataset.picture_files import open_picture, pillow_settings
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.collection.thumbnails import read_rows, sample_inputs
from aerun.use.image_files import to_uint8
from aerun.use.search.vector_index import ExactIndex, Metric, exact_distances

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.use.opened_run import OpenedRun

SAMPLED_IMAGES = 256
JPEG_QUALITY = 75
WANTED_COPIES_SHARE = 0.9
FALSE_MATCH_SHARE = 0.02  # of the sampled images may have a different image within the threshold
SAME_CODE_DISTANCE = 1e-9
NEIGHBORS_FETCHED = 10  # some of them may have the same code
NEIGHBORS_COMPARED = 3  # of those with another code
DIFFERENT_PIXELS_FACTOR = 2.0  # an image is different if its pixels differ by more than this times a copy's
# A warning is due below this share of copies within the threshold, or above this share of others within ``wanted``.
MIN_COPIES_SHARE, MAX_OTHERS_SHARE = 0.75, 0.05


@dataclass(frozen=True)
class ThresholdEstimate:
    """A threshold, and how well it separates copies from different images.

    ``copies``: share of the copies within ``threshold``; ``wanted``: distance that contains 90% of the copies;
    ``others``: share of images with a different image within ``wanted``; ``sampled``: number of images.
    """

    threshold: float
    copies: float
    wanted: float
    others: float
    sampled: int

    @property
    def warning(self) -> str:
        """One line if the codes separate copies and different images poorly; otherwise empty."""
        if self.copies >= MIN_COPIES_SHARE and self.others <= MAX_OTHERS_SHARE:
            return ""
        return (
            "these codes separate copies from different images poorly: 90% of the copies are within "
            f"{self.wanted:.3g}, but so is a different image for {self.others:.0%} of the images; only "
            f"{self.copies:.0%} of the copies are within {self.threshold:.3g}, so some will be missed "
            f"({self.sampled} images sampled)"
        )


def estimate_threshold(run: OpenedRun, fingerprints: Fingerprints, metric: Metric = "cosine") -> ThresholdEstimate:
    """The distance that contains 90% of degraded copies, measured on 256 images of the collection.

    A copy is the image at half its size, compressed as JPEG of quality 75; images of the run's own data are small and
    keep their size. The threshold is smaller if more than 2% of the images have a different image that near: one whose
    pixels differ by more than twice as much as those of its copy, or of a typical copy.
    """
    originals, copies, rows = make_copies(run, fingerprints)
    codes, copy_codes = (run.encode(images).flatten(1).numpy() for images in (originals, copies))
    copy_distances = exact_distances(codes, copy_codes, metric)
    copy_rms = _pixel_rms(originals, copies)
    different = DIFFERENT_PIXELS_FACTOR * np.maximum(copy_rms, np.median(copy_rms))
    nearest = _distance_to_different_image(run, fingerprints, metric, (rows, codes, originals), different)
    wanted = float(np.quantile(copy_distances, WANTED_COPIES_SHARE))
    # "lower" takes an observed distance, so that at most the allowed share lies below; the threshold excludes it.
    limit = float(np.quantile(nearest, FALSE_MATCH_SHARE, method="lower"))
    threshold = wanted if wanted < limit else float(np.nextafter(limit, 0))
    within = float((copy_distances <= threshold).mean())
    return ThresholdEstimate(max(0.0, threshold), within, wanted, float((nearest <= wanted).mean()), len(rows))


def _distance_to_different_image(
    run: OpenedRun,
    fingerprints: Fingerprints,
    metric: Metric,
    sample: tuple[np.ndarray, np.ndarray, Tensor],
    different: np.ndarray,
) -> np.ndarray:
    """Code distance [n] to the nearest image whose pixels differ by an RMS above ``different`` [n]; infinite if none.

    ``sample``: rows [n], their codes and their images.
    """
    rows, codes, images = sample
    index = ExactIndex(fingerprints.whole_codes, metric)
    found = index.query(codes, 1 + NEIGHBORS_FETCHED, [[row] for row in rows.tolist()])
    candidates = [
        near[distances > SAME_CODE_DISTANCE][:NEIGHBORS_COMPARED]
        for near, distances in zip(found.rows, found.distances, strict=True)
    ]
    result = np.full(len(rows), np.inf)
    if not any(map(len, candidates)):
        return result
    readable, others = read_rows(run, fingerprints, np.unique(np.concatenate(candidates)))
    position = {row: number for number, row in enumerate(readable.tolist())}
    for number, near in enumerate(candidates):
        for row in near.tolist():
            other = position.get(row)
            if other is None or _pixel_rms(images[number][None], others[other][None])[0] <= different[number]:
                continue
            result[number] = found.distances[number][found.rows[number] == row][0]
            break
    return result


def _pixel_rms(first: Tensor, second: Tensor) -> np.ndarray:
    """Root mean squared differences [n] of images[n,C,H,W], uint8 or in [0,1]."""
    values = [images.double() / (1 if images.dtype.is_floating_point else 255) for images in (first, second)]
    return np.asarray((values[0] - values[1]).square().flatten(1).mean(1).sqrt().numpy())


def make_copies(run: OpenedRun, fingerprints: Fingerprints) -> tuple[Tensor, Tensor, np.ndarray]:
    """Evenly spaced images of the collection and degraded copies of them, both [n,C,H,W], and their rows [n].

    Missing files are left out.
    """
    import torch

    rows, images = sample_inputs(run, fingerprints, SAMPLED_IMAGES)
    originals = images.numpy() if images.dtype == torch.uint8 else to_uint8(images)
    decoder, copies = run.decoder(), list[np.ndarray]()
    for row, pixels in zip(rows.tolist(), originals, strict=True):
        if fingerprints.split:
            small = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
            copies.append(decoder.fit_picture(recompress_jpeg(small)))
        else:
            with pillow_settings(), open_picture(Path(fingerprints.root) / fingerprints.names[row]) as opened:
                whole = flatten(apply_orientation(opened, decoder.white_value), decoder.background).convert("RGB")
            copies.append(decoder.fit_picture(recompress_jpeg(whole.reduce(2) if min(whole.size) > 1 else whole)))
    return torch.from_numpy(originals), torch.from_numpy(np.stack(copies)), rows


def recompress_jpeg(image: Image.Image) -> Image.Image:
    """The image after compression as JPEG."""
    content = io.BytesIO()
    image.save(content, "jpeg", quality=JPEG_QUALITY)
    return Image.open(content)
