"""The drawn pictures of benchmarks/anomalies.py: defects are where the masks say, and settings are chosen on others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation

from benchmarks import defects
from benchmarks.anomaly_parts import REPORTED_SEED, auroc


@pytest.mark.parametrize("kind", defects.KINDS)
@pytest.mark.parametrize("defect", defects.DEFECTS)
def test_a_defect_changes_what_its_mask_covers_and_hardly_more(kind: str, defect: str) -> None:
    random = np.random.default_rng(0)
    found = 0
    for _ in range(20):
        picture = defects.KINDS[kind](random)
        assert picture.shape == (64, 64) and -0.2 < picture.min() < picture.max() < 1.2
        changed, mask = defects.DEFECTS[defect](picture, random)
        if not mask.any():
            continue
        found += 1
        difference = abs(changed - picture)
        assert difference[mask].mean() > 0.02
        around = difference[~binary_dilation(mask, iterations=3)]
        assert around.max() < difference[mask].max() and around.mean() < 0.01
    assert found > 10 or defect == "smear"


def test_a_folder_has_the_layout_of_mvtec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in {"TRAIN": 3, "VALIDATION": 2, "TEST": 2, "EACH": 1}.items():
        monkeypatch.setattr(defects, name, count)
    root, again = (defects.write_kind(tmp_path / name, "ring", 3) for name in "ab")
    other = defects.write_kind(tmp_path / "c", "ring", 4)
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    assert len(files) == 5 + 2 + 4 + 4 and "ground_truth/hole/000_mask.png" in files
    for name in files:
        assert (root / name).read_bytes() == (again / name).read_bytes()
    assert (root / "train/good/000.png").read_bytes() != (other / "train/good/000.png").read_bytes()
    assert set(np.unique(np.asarray(Image.open(root / "ground_truth/spot/000_mask.png")))) == {0, 255}


def test_models_are_chosen_on_other_pictures_than_are_reported() -> None:
    assert REPORTED_SEED != 0 and not set(defects.CHOSEN_ON) & set(defects.REPORTED_ON)
    assert {*defects.CHOSEN_ON, *defects.REPORTED_ON} == set(defects.KINDS)
    assert auroc(np.array([0.0, 1, 2]), np.array([1.5, 3])) == pytest.approx(5 / 6)
