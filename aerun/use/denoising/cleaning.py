"""Clean the image files of a plan, and score them against their originals."""

from __future__ import annotations

import logging

from aerun.base.progress_bar import progress_bar
from aerun.dataset.decoder import failure_reason
from aerun.errors import DataError
from aerun.use.denoising.denoise_plan import Plan
from aerun.use.denoising.filter_baselines import Scores, make_filters, match_channels, score_all
from aerun.use.denoising.scan_files import Scan, read_scan, write_scan
from aerun.use.denoising.tiling import denoise
from aerun.use.opened_run import OpenedRun

log = logging.getLogger(__name__)


def clean_files(run: OpenedRun, plan: Plan, scores: Scores) -> list[str]:
    """Clean and write each image. Returns the names of the written ones.

    DataError if no image can be decoded and none was cleaned before.
    """
    cleaned, last_error, is_single = list[str](), "", len(plan.files) == 1
    with progress_bar("images", len(plan.files)) as bar:
        for name, path, target in plan.files:
            scan = None
            if name not in plan.existing or name in plan.originals:
                try:
                    scan = read_scan(path)
                except Exception as error:  # for damaged metadata Pillow raises nearly anything
                    last_error = f"{path}: cannot be decoded ({failure_reason(error)})"
                    if not is_single:  # a single image's error ends the command
                        log.warning("%s; skipped", last_error)
            if scan is not None and name not in plan.existing:
                write_scan(target, scan.with_values(denoise(run, scan.visible_values())))
                cleaned.append(name)
            if scan is not None and name in plan.originals:  # score what is in the file
                add_scores(scores, name, scan, read_scan(target), read_scan(plan.originals[name]))
            bar.update()
    if not cleaned and not plan.existing:
        raise DataError(last_error)
    return cleaned


def add_scores(scores: Scores, name: str, dirty: Scan, cleaned: Scan, clean: Scan) -> None:
    """Score one image, shown over white, against its original. DataError if their sizes differ."""
    images = [scan.over_white() for scan in (dirty, cleaned, clean)]
    if images[0].shape[1:] != images[2].shape[1:]:
        sizes = " and ".join(f"{image.shape[2]}x{image.shape[1]}" for image in (images[0], images[2]))
        raise DataError(f"{name}: the image and its original differ in size: {sizes}")
    before, after, wanted = match_channels(images)
    score_all(scores, name, before, after, wanted, make_filters())
