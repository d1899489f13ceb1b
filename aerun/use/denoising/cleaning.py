"""Clean the image files of a plan, and score them against their originals."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aerun.base.files import make_folder, write_bytes
from aerun.base.progress_bar import progress_bar
from aerun.config.parse import parse
from aerun.dataset.picture_files import failure_reason
from aerun.errors import DataError
from aerun.use.denoising.changes import Changes, all_changes, as_difference, sure_changes
from aerun.use.denoising.denoise_plan import Plan
from aerun.use.denoising.filter_baselines import Scores, make_filters, match_channels, score_all
from aerun.use.denoising.page import find_paper
from aerun.use.denoising.scan_files import Scan, read_scan, write_scan
from aerun.use.denoising.tiling import as_planes, check_denoiser, denoise
from aerun.use.image_files import write_png
from aerun.use.opened_run import OpenedRun, Run, as_opened
from aerun.use.outputs import and_more

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.core.image_inputs import Images

SHOWN = 5  # pictures named that keep their marks
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Care:
    """``page``: first make the paper white. ``only_sure``: make only changes that are surely marks, and none in a
    picture that would change in too many places. ``strength``: share of each change that is made."""

    page: bool = False
    only_sure: bool = True
    strength: float = 1.0


@dataclass
class Cleaned:
    """By the name of each written image the ``shares`` of its pixels that changed or, for those that were ``left`` with
    their marks, would have changed."""

    shares: dict[str, float] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    only_sure: bool = True

    def report(self) -> str:
        """In words, a line for each fact; empty if every change was made, or no image was cleaned."""
        made = {name: share for name, share in self.shares.items() if name not in self.left}
        if not self.only_sure or not self.shares:
            return ""
        lines = list[str]()
        if made:
            most, middle = max(made, key=lambda name: made[name]), np.median(list(made.values()))
            lines.append(f"changed: {middle:.2%} of the pixels (median), most in {most}: {made[most]:.2%}")
        if self.left:
            first = ", ".join(f"{name} ({self.shares[name]:.0%})" for name in self.left[:SHOWN])
            lines.append(
                f"no mark taken away, since so many pixels would change that these are hardly marks: {first}"
                f"{and_more(self.left[SHOWN - 1 :])}; --all-changes makes them"
            )
        return "\n".join(lines)


def clean_values(run: OpenedRun, values: np.ndarray, care: Care, mask: np.ndarray | None = None) -> Changes:
    """values[C,H,W] in [0,1] without marks. ``mask`` [H,W]: where changes are allowed. Whitened paper is part of what
    was ``before``."""
    paper = find_paper(values) if care.page else None
    flat = values if paper is None else values + np.float32(care.strength) * (paper.whitened(values) - values)
    if mask is not None:
        flat = np.where(mask, flat, values)
    after = denoise(run, flat)
    if not care.only_sure:
        return all_changes(flat, after, care.strength, mask)
    changes = sure_changes(flat, after, care.strength, mask)
    return changes if changes.is_sure else changes._replace(values=flat)


def clean(
    run: Run, images: Images, *, page: bool = False, strength: float = 1.0, all_changes: bool = False
) -> Tensor | np.ndarray:
    """Images of any size, as for ``aerun.denoise`` -> them without the marks of which the run is sure, float32 in
    [0,1], of the same shape and type; all other pixels keep their values.

    ``page``: first make the paper white. ``strength``: share of each change that is made. ``all_changes``: make those,
    too, of which the run is not sure, and on images in which more than a quarter of the pixels would change; a run that
    has learned other noise than marks makes all. DataError as for ``aerun.denoise``.
    """
    import torch

    opened = as_opened(run)
    check_denoiser(opened)
    batch, restore = as_planes(opened, images)
    care = Care(page, removes_marks(opened) and not all_changes, strength)
    return restore(torch.stack([torch.from_numpy(clean_values(opened, each.numpy(), care).values) for each in batch]))


def removes_marks(run: OpenedRun) -> bool:
    """Whether the run has learned to take away marks, which leave most pixels as they are, and nothing else. True for
    a model without a folder, whose noise is not known."""
    return "noise" not in run.config or parse(run.config).noise.is_local


def clean_files(run: OpenedRun, plan: Plan, scores: Scores, care: Care) -> Cleaned:
    """Clean and write each image. A picture of which no pixel changes is copied.

    DataError if no image can be decoded and none was cleaned before.
    """
    result, last_error, is_single = Cleaned(only_sure=care.only_sure), "", len(plan.files) == 1
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
                before = scan.visible_values(run.background)
                changes = clean_values(run, before, care, read_mask(plan.masks[name]) if name in plan.masks else None)
                if name in plan.differences:
                    write_png(plan.differences[name], as_difference(changes))
                if np.array_equal(changes.values, before) and path.suffix == target.suffix:
                    make_folder(target.parent)
                    write_bytes(target, path.read_bytes())
                else:
                    for loss in write_scan(target, scan.with_values(changes.values)):
                        losses.setdefault(loss, []).append(str(path))
                result.shares[name] = changes.share
                if care.only_sure and not changes.is_sure:
                    result.left.append(name)
            if scan is not None and name in plan.originals:  # score what is in the file
                add_scores(scores, name, scan, read_scan(target, white), read_scan(plan.originals[name], white))
            bar.update()
    if not result.shares and not plan.existing:
        raise DataError(last_error)
    return result


def read_mask(path: Path) -> np.ndarray:
    """Where a mask is more white than black, and not transparent: [H,W]. DataError if it cannot be decoded."""
    try:
        mask = read_scan(path)
    except Exception as error:  # for damaged metadata Pillow raises nearly anything
        raise DataError(f"--mask: {path}: cannot be decoded ({failure_reason(error)})") from error
    shown = mask.values.mean(0) if mask.alpha is None else mask.values.mean(0) * mask.alpha
    return np.asarray(shown > 0.5)


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
