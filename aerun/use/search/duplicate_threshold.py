"""How near is a near-duplicate: as near as a poorer copy of a picture is, and nearer than other pictures are."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from aerun.dataset.decoder import allow_large_images, apply_orientation, flatten_on_white
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.collection.thumbnails import read_rows, sample_inputs
from aerun.use.image_files import to_uint8
from aerun.use.search.vector_index import ExactIndex, Metric, exact_distances

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.use.opened_run import OpenedRun

SAMPLED_PICTURES, WANTED_COPIES_SHARE, JPEG_QUALITY = 256, 0.9, 75
SAME_CODE_DISTANCE, NEIGHBORS_FETCHED = (
    1e-9,
    10,
)  # of a code that is there several times the tenth other may be the first that differs
NEIGHBORS_COMPARED, DIFFERENT_PIXELS_FACTOR = (
    3,
    2.0,
)  # of different codes; a picture is another if its pixels differ by twice as much as a copy's
FALSE_MATCH_SHARE = 0.02  # of the sampled pictures may have another one within the threshold
MIN_COPIES_SHARE, MAX_OTHERS_SHARE = (
    0.75,
    0.05,
)  # fewer copies within the threshold, or others within the wanted one, are worth a warning


@dataclass(frozen=True)
class ThresholdEstimate:
    """What is called near, and how well that tells copies from others: see ``nearness``.

    ``copies``: the share of copies within ``threshold``; ``wanted``: the distance within which nine of ten are, and
    ``others``: the share of pictures that have another one within that; ``sampled``: of how many pictures.
    """

    threshold: float
    copies: float
    wanted: float
    others: float
    sampled: int

    @property
    def warning(self) -> str:
        """A line if the codes tell copies and others poorly apart, else nothing."""
        if self.copies >= MIN_COPIES_SHARE and self.others <= MAX_OTHERS_SHARE:
            return ""
        return (
            "these codes tell copies and other pictures poorly apart: nine of ten copies are within "
            f"{self.wanted:.3g}, where {self.others:.0%} of the pictures have another one, too; within "
            f"{self.threshold:.3g} are only {self.copies:.0%} of the copies, so expect to miss some "
            f"({self.sampled} pictures sampled)"
        )


def estimate_threshold(run: OpenedRun, fingerprints: Fingerprints, metric: Metric = "cosine") -> ThresholdEstimate:
    """The distance within which nine of ten pictures are from their own copy of half the size, kept as JPEG of quality
    75; over 256 of the collection. Of a run's own data, which are small already, the copy is not made smaller.

    It is never more than that within which one of fifty has another picture: one whose pixels differ from its own by
    more than twice as much as its copy's, or a usual copy's, do.
    """
    originals, copies, rows = make_copies(run, fingerprints)
    first, second = (run.encode(images).flatten(1).numpy() for images in (originals, copies))
    apart = exact_distances(first, second, metric)
    own = _pixel_rms(originals, copies)
    near = _distance_to_different_picture(
        run, fingerprints, metric, (rows, first, originals), DIFFERENT_PIXELS_FACTOR * np.maximum(own, np.median(own))
    )
    wanted = float(np.quantile(apart, WANTED_COPIES_SHARE))
    # With "lower" no more than the share is within; the threshold itself is out, by the least that can be.
    limit = float(np.quantile(near, FALSE_MATCH_SHARE, method="lower"))
    threshold = wanted if wanted < limit else float(np.nextafter(limit, 0))
    within = float((apart <= threshold).mean())
    return ThresholdEstimate(max(0.0, threshold), within, wanted, float((near <= wanted).mean()), len(rows))


def _distance_to_different_picture(
    run: OpenedRun,
    fingerprints: Fingerprints,
    metric: Metric,
    sample: tuple[np.ndarray, np.ndarray, Tensor],
    unlike: np.ndarray,
) -> np.ndarray:
    """How far the nearest picture is whose pixels differ by more than ``unlike`` [n]; infinite where none is found.

    ``sample``: rows [n], their codes and their images.
    """
    rows, codes, images = sample
    found = ExactIndex(fingerprints.whole_codes, metric).query(
        codes, 1 + NEIGHBORS_FETCHED, [[row] for row in rows.tolist()]
    )
    looked = [
        near[apart > SAME_CODE_DISTANCE][:NEIGHBORS_COMPARED]
        for near, apart in zip(found.rows, found.distances, strict=True)
    ]
    result = np.full(len(rows), np.inf)
    if not any(map(len, looked)):
        return result
    there, pictures = read_rows(run, fingerprints, np.unique(np.concatenate(looked)))
    place = {row: number for number, row in enumerate(there.tolist())}
    for number, candidates in enumerate(looked):
        for row in candidates.tolist():
            picture = place.get(row)
            if picture is None or _pixel_rms(images[number][None], pictures[picture][None])[0] <= unlike[number]:
                continue
            result[number] = found.distances[number][found.rows[number] == row][0]
            break
    return result


def _pixel_rms(first: Tensor, second: Tensor) -> np.ndarray:
    """Roots of the mean squared differences of images[n,C,H,W], uint8 or in [0,1]."""
    values = [images.double() / (1 if images.dtype.is_floating_point else 255) for images in (first, second)]
    return np.asarray((values[0] - values[1]).square().flatten(1).mean(1).sqrt().numpy())


def make_copies(run: OpenedRun, fingerprints: Fingerprints) -> tuple[Tensor, Tensor, np.ndarray]:
    """Some pictures of the collection and poorer copies of them [n,C,H,W], and their rows; files that are gone are
    left out."""
    import torch

    rows, images = sample_inputs(run, fingerprints, SAMPLED_PICTURES)
    pixels = images.numpy() if images.dtype == torch.uint8 else to_uint8(images)
    decoder, copies = run.decoder(), list[np.ndarray]()
    for row, picture in zip(rows.tolist(), pixels, strict=True):
        if fingerprints.split:
            small = Image.fromarray(picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0))
            copies.append(decoder.fit_picture(recompress_jpeg(small)))
        else:
            with allow_large_images(), Image.open(Path(fingerprints.root) / fingerprints.names[row]) as opened:
                whole = flatten_on_white(apply_orientation(opened)).convert("RGB")
            copies.append(decoder.fit_picture(recompress_jpeg(whole.reduce(2) if min(whole.size) > 1 else whole)))
    return torch.from_numpy(pixels), torch.from_numpy(np.stack(copies)), rows


def recompress_jpeg(picture: Image.Image) -> Image.Image:
    """What is left of a picture that was kept as JPEG."""
    content = io.BytesIO()
    picture.save(content, "jpeg", quality=JPEG_QUALITY)
    return Image.open(content)
