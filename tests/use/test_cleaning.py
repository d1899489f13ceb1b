"""What aerun-denoise changes and what it leaves: paper, sure changes, masks, and files that stay equal to the byte."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aerun.errors import ConfigError, DataError
from aerun.use.denoising.changes import Changes, all_changes, as_difference, sure_changes
from aerun.use.denoising.page import find_paper

GRAIN = 0.01
RUNS = Path(__file__).parent.parent / "data" / "runs"


def drawing(height: int = 180, width: int = 240) -> np.ndarray:
    """A red disc and black lines on white, float32 [3,H,W]."""
    y, x = np.mgrid[:height, :width]
    image = np.ones((3, height, width), np.float32)
    image[1:, (y - 90) ** 2 + (x - 120) ** 2 < 50**2] = 0.1
    image[:, 20:24, 30:200] = 0
    return image


def scanned(image: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The image on tinted paper in light that falls off in a corner, with grain; and what the paper alone has."""
    height, width = image.shape[1:]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    light = np.array([0.95, 0.9, 0.8])[:, None, None] * np.exp(-0.3 - 0.12 * x + 0.08 * y - 0.05 * x * y)
    grain = np.random.default_rng(seed).normal(0, GRAIN, (1, height, width))
    return (image * light * (1 + grain)).clip(0, 1).astype(np.float32), light


def test_paper_is_found_with_its_light_and_grain_and_becomes_white() -> None:
    page, light = scanned(drawing())
    paper = find_paper(page)
    assert paper is not None
    np.testing.assert_allclose(paper.light, light, rtol=0.01)
    assert paper.grain == pytest.approx(GRAIN, rel=0.15)
    assert paper.share == pytest.approx(1 - (np.pi * 50**2 + 4 * 170) / (180 * 240), abs=0.05)
    white = paper.whitened(page)
    assert np.abs(white - drawing()).mean() < 0.1 * np.abs(page - drawing()).mean()
    assert np.median(white[:, 150:, :40]) == 1


@pytest.mark.parametrize(
    "image",
    [
        drawing(),
        np.random.default_rng(0).random((3, 90, 90)).astype(np.float32),  # nothing is blank
        np.full((3, 60, 60), 0.1, np.float32),  # too dark for paper
        np.stack([np.full((60, 60), value, np.float32) for value in (1.0, 0.2, 0.2)]),  # red is no paper
        np.ones((1, 2, 2), np.float32),
        np.full((3, 5, 600), 0.9, np.float32),
    ],
    ids=["white already", "noise", "dark", "red", "tiny", "a strip"],
)
def test_where_there_is_no_tinted_paper_nothing_is_found(image: np.ndarray) -> None:
    assert find_paper(image) is None


def test_only_changes_that_are_sure_are_made_and_the_rest_stays_to_the_bit() -> None:
    before = (
        np.full((3, 40, 50), 0.8, np.float32) + np.random.default_rng(1).random((3, 40, 50)).astype(np.float32) / 99
    )
    marks = {"gone": (5, 0.55), "half": (15, 0.3), "nearly": (25, 0.45)}  # all 0.6 darker, with what a run adds
    after = before + np.float32(0.01)  # everywhere, too little
    for top, added in marks.values():
        before[:, top : top + 4, 5:9] -= 0.6
        after[:, top : top + 4, 5:9] = before[:, top : top + 4, 5:9] + np.float32(added)
    after[:, 30:33, 30:33] += 0.05  # nowhere visible
    expected = np.zeros((40, 50), bool)
    expected[[*range(5, 9), *range(25, 29)], 5:9] = True
    found = sure_changes(before, after)
    assert ((found.values != before).any(0) == expected).all()
    np.testing.assert_array_equal(found.values[:, expected], after[:, expected])
    assert found.share == 32 / 2000 and found.is_sure
    weak = sure_changes(before, after, 0.5)
    np.testing.assert_allclose(weak.values[:, expected], (before + after)[:, expected] / 2, rtol=1e-6)
    assert sure_changes(before, after, mask=~expected).share == 0
    assert not sure_changes(before, before - np.float32(0.4)).is_sure  # no pixel is left that stays
    assert (all_changes(before, after).values == after).all()


def test_what_a_run_paints_on_even_ground_and_what_goes_too_far_is_no_mark() -> None:
    for grain, mark, after_mark in ((0.0, 0.95, 0.6), (0.01, 0.95, 0.6), (0.0, 0.1, -0.9)):
        before = 0.95 + grain * np.random.default_rng(0).normal(size=(1, 30, 30)).astype(np.float32)
        before[:, 10:16, 10:16] += np.float32(mark - 0.95)
        after = before.copy()
        after[:, 10:16, 10:16] += np.float32(after_mark - mark)
        assert sure_changes(before, after).share == 0
    before = np.full((1, 30, 30), 0.5, np.float32)
    before[:, 10:16, 10:16] = 0.2
    after = before.copy()
    after[:, 10:16, 10:16] = 0.95  # a mark of 0.3, taken 0.75 away
    assert sure_changes(before, after).share == 0


def test_a_difference_is_white_where_nothing_changes() -> None:
    before = np.full((3, 4, 5), 0.5, np.float32)
    after = before.copy()
    after[0, 1, 2] += 0.4
    shown = as_difference(Changes(before, after, 0.0))
    assert shown.shape == (4, 5, 3) and shown[1, 2].tolist() == [153, 255, 255]
    assert (np.delete(shown.reshape(-1, 3), 7, 0) == 255).all()


def test_clean_keeps_layout_and_type_and_equals_what_it_is_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    import aerun
    from aerun.use.opened_run import open_run

    run = open_run(RUNS / "unet_scratches")
    channels = run.shape[0]
    images = np.random.default_rng(0).integers(0, 256, (2, channels, 40, 30), np.uint8)
    values = images / np.float32(255)
    cleaned = aerun.clean(run, images, all_changes=True)
    np.testing.assert_allclose(cleaned, aerun.denoise(run, images), atol=1e-6)
    assert isinstance(aerun.clean(run, torch.from_numpy(images)), torch.Tensor)
    sure = aerun.clean(run, images)
    for before, after, made in zip(values, aerun.denoise(run, images), sure, strict=True):
        expected = sure_changes(before, after)
        np.testing.assert_array_equal(made, expected.values if expected.is_sure else before)
    last = aerun.clean(run, np.moveaxis(images, 1, -1), strength=0.5, all_changes=True)
    np.testing.assert_allclose(np.moveaxis(last, -1, 1), (values + cleaned) / 2, atol=1e-6)


class TestFiles:
    """The command, on a run that paints white over each pixel that is nearly black and alone."""

    @pytest.fixture(autouse=True)
    def _run(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        from scipy import ndimage

        def denoise(run: object, values: np.ndarray) -> np.ndarray:
            dark = (values < 0.3).all(0)
            numbers, _ = ndimage.label(dark)
            small = np.isin(numbers, np.flatnonzero(np.bincount(numbers.ravel()) < 20))
            return np.where(small & dark, 1, values).astype(np.float32)

        monkeypatch.setattr("aerun.use.denoising.cleaning.denoise", denoise)
        self.scans = tmp_path / "scans"
        self.scans.mkdir()
        clean = (drawing() * 255).round().astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(clean).save(self.scans / "clean.jpg", quality=60)
        dusty = clean.copy()
        dusty[150:153, 20:23] = 0
        dusty[160:163, 200:203] = 0
        Image.fromarray(dusty).save(self.scans / "dusty.png")
        dots = np.full((60, 60, 3), 255, np.uint8)
        dots[np.ix_(np.arange(60) % 3 > 0, np.arange(60) % 3 > 0)] = 0
        Image.fromarray(dots).save(self.scans / "dots.png")
        self.clean, self.dusty = clean, dusty

    def clean_with(self, run: Path, tmp_path: Path, *words: str) -> dict[str, object]:
        from aerun.cli.denoise import build_parser, execute

        arguments = [str(run), str(self.scans), str(tmp_path / "out"), "--json", *words]
        execute(build_parser().parse_args(arguments))
        return {path.name: np.asarray(Image.open(path)) for path in (tmp_path / "out").iterdir()}

    @pytest.fixture
    def run(self) -> Path:
        return RUNS / "unet_scratches"

    def test_untouched_files_are_copied_and_doubtful_ones_left(
        self, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        removed = tmp_path / "removed"
        found = self.clean_with(run, tmp_path, "--difference", str(removed))
        printed = json.loads(capsys.readouterr().out)
        assert (tmp_path / "out" / "clean.jpg").read_bytes() == (self.scans / "clean.jpg").read_bytes()
        assert (tmp_path / "out" / "dots.png").read_bytes() == (self.scans / "dots.png").read_bytes()
        assert (found["dusty.png"] == self.clean).all()
        assert printed["left"] == ["dots.png"] and printed["changed"]["dusty.png"] == 18 / (180 * 240)
        gone = np.asarray(Image.open(removed / "dusty.png"))
        assert (gone == 255 - np.abs(self.dusty.astype(int) - self.clean)).all()
        assert sorted(path.name for path in removed.iterdir()) == ["clean.jpg.png", "dots.png", "dusty.png"]

    def test_all_changes_a_mask_and_half_the_strength(self, run: Path, tmp_path: Path) -> None:
        masks = tmp_path / "masks"
        masks.mkdir()
        mask = np.zeros((180, 240), np.uint8)
        mask[:, :100] = 255
        # White, and transparent where the mark is to stay.
        Image.fromarray(np.stack([np.full_like(mask, 255), mask], 2)).save(masks / "dusty.png")
        with pytest.raises(DataError, match=r"has no mask of clean\.jpg and 1 more"):
            self.clean_with(run, tmp_path, "--mask", str(masks))
        Image.fromarray(np.full((180, 240), 255, np.uint8)).save(masks / "clean.png")
        (masks / "dots.png").write_bytes((self.scans / "dots.png").read_bytes()[:-40])
        with pytest.raises(DataError, match=r"--mask: .*dots\.png: cannot be decoded"):
            self.clean_with(run, tmp_path, "--mask", str(masks), "--all-changes")
        shutil.rmtree(tmp_path / "out")
        Image.fromarray(np.full((60, 60), 255, np.uint8)).save(masks / "dots.png")
        found = self.clean_with(run, tmp_path, "--all-changes", "--mask", str(masks), "--strength", "0.5")
        assert (found["dots.png"][1::3, 1::3] == 128).all()
        assert (found["dusty.png"][150:153, 20:23] == 128).all() and (found["dusty.png"][160:163, 200:203] == 0).all()

    def test_differences_go_elsewhere_and_are_made_before_the_cleaned_image(self, run: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="is where the cleaned images go"):
            self.clean_with(run, tmp_path, "--difference", str(tmp_path / "out"))
        assert not (tmp_path / "out").exists()
        removed = self.scans / "removed"
        self.clean_with(run, tmp_path, "--difference", str(removed))
        (tmp_path / "out" / "dusty.png").unlink()  # as if stopped between the two
        found = self.clean_with(run, tmp_path, "--difference", str(removed), "--resume")
        assert (found["dusty.png"] == self.clean).all() and sorted(found) == ["clean.jpg", "dots.png", "dusty.png"]

    def test_a_weaker_page_step_is_between(self, run: Path, tmp_path: Path) -> None:
        page, _ = scanned(drawing())
        Image.fromarray((page * 255).round().astype(np.uint8).transpose(1, 2, 0)).save(self.scans / "page.png")
        stored = np.asarray(Image.open(self.scans / "page.png")).astype(float)
        half = self.clean_with(run, tmp_path, "--page", "--strength", "0.5")["page.png"]
        assert np.median(half[150:, :40]) == pytest.approx((np.median(stored[150:, :40]) + 255) / 2, abs=2)

    def test_a_page_becomes_white_before(self, run: Path, tmp_path: Path) -> None:
        page, _ = scanned(drawing())
        Image.fromarray((page * 255).round().astype(np.uint8).transpose(1, 2, 0)).save(self.scans / "page.png")
        found = self.clean_with(run, tmp_path, "--page")
        assert np.median(found["page.png"][150:, :40]) == 255 and (found["dusty.png"] == self.clean).all()
