"""Clean the image files of a plan, and score them against their originals."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from aerun.base.progress_bar import progress_bar
from aerun.dataset.picture_files import failure_reason
from aerun.errors import DataError
from aerun.use.denoising.denoise_plan import Plan
from aerun.use.denoising.filter_baselines import Scores, make_filters, match_channels, score_all
from aerun.use.denoising.scan_files import Scan, read_scan, write_scan
from aerun.use.denoising.tiling import denoise
from aerun.use.opened_run import OpenedRun
from aerun.use.outputs import and_more

log = logging.getLogger(__name__)


def clean_files(run: OpenedRun, plan: Plan, scores: Scores) -> list[str]:
    """Clean and write each image. Returns the names of the written ones.

    DataError if no image can be decoded and none was cleaned before.
    """
    cleaned, last_error, is_single = list[str](), "", len(plan.files) == 1
    losses, white = dict[str, list[str]](), run.decoder().white_value
    with _logged_at_the_end(losses), progress_bar("images", len(plan.files)) as bar:
        for name, path, target in plan.files:
            scan = None
            if name not in plan.existing or name in plan.originals:
                try:
                    scan = read_scan(path, white)
                except Exception as error:  # for damaged metadata Pillow raises nearly anything
                    last_error = f"{path}: cannot be decoded ({failure_reason(error)})"
                    if not is_single:  # a single image's error ends the command
                        log.warning("%s; skipped", last_error)
            if scan is not None and name not in plan.existing:
                values = denoise(run, scan.visible_values(run.background))
                for loss in write_scan(target, scan.with_values(values)):
                    losses.setdefault(loss, []).append(str(path))
                cleaned.append(name)
            if scan is not None and name in plan.originals:  # score what is in the file
                add_scores(scores, name, scan, read_scan(target, white), read_scan(plan.originals[name], white))
            bar.update()
    if not cleaned and not plan.existing:
        raise DataError(last_error)
    return cleaned


@contextlib.contextmanager
def _logged_at_the_end(losses: dict[str, list[str]]) -> Iterator[None]:
    """A block that collects files by what they have lost; one line for each kind of loss follows, whatever happens."""
    try:
        yield
    finally:
        for loss, files in losses.items():
            log.warning("%s%s: %s", files[0], and_more(files), loss)


def add_scores(scores: Scores, name: str, dirty: Scan, cleaned: Scan, clean: Scan) -> None:
    """Score one image, shown over white, against its original. DataError if their sizes differ."""
    images = [scan.over_white() for scan in (dirty, cleaned, clean)]
    if images[0].shape[1:] != images[2].shape[1:]:
        sizes = " and ".join(f"{image.shape[2]}x{image.shape[1]}" for image in (images[0], images[2]))
        raise DataError(f"{name}: the image and its original differ in size: {sizes}")
    before, after, wanted = match_channels(images)
    score_all(scores, name, before, after, wanted, make_filters())
