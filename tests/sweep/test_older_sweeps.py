"""Sweeps that older code wrote are continued by the present code, which finds their runs again and trains nothing."""

from __future__ import annotations

import functools
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import aerun
from aerun.config.compose import compose_words
from aerun.config.identity import differing_keys, identity
from tests.sweep.launching import BASIC, ROOT, TINY, launch, marks

sys.path.insert(0, str(ROOT / "tests" / "data"))

from kit import KIT, OWN, PLACE, RUNS, copy_kit

# Commits about a hundred apart, the last of them before sweeps had protocols and graphs.
OLDER = ("81e54c1", "717731f", "0e6dbf1", "ddb614a", "4dedf3a")
GROUPS = (
    *("dataset", "noise", "latent", "sparsity", "model", "loss", "optimizer", "scheduler", "trainer"),
    *("protocol", "callback"),
)


def archived(commit: str, folder: Path, *paths: str) -> Path:
    """The files of a commit. Skips the test where the repository or its history is missing."""
    words = ["git", "-C", str(ROOT), "archive", commit, *paths]
    done = subprocess.run(words, capture_output=True) if shutil.which("git") else None
    if done is None or done.returncode != 0:
        pytest.skip(f"needs the history of the repository back to {commit}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as file:
        file.extractall(folder, filter="data")
    return folder


def composed(conf: Path, words: list[str]) -> dict[str, Any]:
    """What Hydra alone composes from these files."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf), version_base="1.3"):
        found = OmegaConf.to_container(compose("train", overrides=words), resolve=True)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def combinations(conf: Path) -> Iterator[list[str]]:
    """Few lists of words that choose every option of every group; a model is always chosen, because its default has
    changed."""
    options = {group: sorted(path.stem for path in (conf / group).glob("*.yaml")) for group in GROUPS}
    for place in range(max(map(len, options.values()))):
        chosen = {group: names[place] for group, names in options.items() if place < len(names)}
        yield [f"{group}={name}" for group, name in ({"model": "fc"} | chosen).items()]


@pytest.mark.parametrize(
    "commit", [pytest.param(name, marks=[pytest.mark.slow] * (name != "0e6dbf1")) for name in OLDER]
)
def test_every_option_of_an_older_version_is_the_same_run_today(commit: str, tmp_path: Path) -> None:
    """Keys that have come since change nothing at their defaults."""
    older = archived(commit, tmp_path, "conf") / "conf"
    count = 0
    for words in combinations(older):
        before, now = composed(older, words), composed(ROOT / "conf", words)
        assert identity(before) == identity(now), (words, differing_keys(before, now))
        count += len(words)
    assert count > 20


@functools.cache
def kit_words(name: str) -> list[str]:
    """What was typed for a run of the kit, with the kit's own place."""
    typed = yaml.safe_load((RUNS / name / "overrides.yaml").read_text())["overrides"]
    own = [f"hydra.searchpath=[file://{OWN / 'conf'}]"]
    return [word.replace(PLACE, str(RUNS)) for word in typed if not word.startswith("--")] + own


@pytest.mark.parametrize("name", list(KIT))
def test_a_run_folder_of_older_code_is_found_by_its_command(name: str) -> None:
    stored = yaml.safe_load((RUNS / name / "config.yaml").read_text().replace(PLACE, str(RUNS)))
    now, _ = compose_words(kit_words(name))
    assert identity(stored) == identity(now), differing_keys(stored, now)


def test_a_sweep_of_older_run_folders_trains_nothing_and_takes_added_protocols(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two run folders that were written by older code, without a sweep.json."""
    names = ("fc", "fc_crop")
    copy_kit(RUNS, tmp_path / "kit")
    for name in names:
        shutil.move(tmp_path / "kit" / name, tmp_path / "x" / name)
    before = marks(tmp_path / "x")
    lines = (" ".join(KIT[name].overrides()).replace(PLACE, str(tmp_path / "kit")) for name in names)
    (tmp_path / "runs").write_text("\n".join(lines))
    words = ["hydra/sweeper=file", f"hydra.sweeper.file={tmp_path / 'runs'}"]
    aerun.run_sweep(*words, out=tmp_path / "x")
    assert "2 jobs; 2 done before, 0 to run" in capsys.readouterr().out
    assert marks(tmp_path / "x") == before
    text = (tmp_path / "runs").read_text().replace("protocol=none", "protocol=[knn]")
    (tmp_path / "runs").write_text(text)
    aerun.run_sweep(*words, out=tmp_path / "x")
    assert "2 jobs; 2 to evaluate by protocols, 0 to run" in capsys.readouterr().out
    after = marks(tmp_path / "x")
    assert all(after[name] == mark for name, mark in before.items() if "checkpoints" in name)


@pytest.mark.slow
@pytest.mark.parametrize("commit", OLDER)
def test_a_sweep_of_an_older_version_is_continued_without_running_anything(commit: str, tmp_path: Path) -> None:
    older = archived(commit, tmp_path / "older")
    words = [*TINY, "model=fc", "sparsity=none,topk", "seed=0,1", "sweep.name=x", *BASIC]
    environment = {**os.environ, "PYTHONPATH": str(older), "OMP_NUM_THREADS": "1"}
    typed = [sys.executable, str(older / "scripts" / "train.py"), "-m", *words]
    done = subprocess.run(typed, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    before = marks(tmp_path / "outputs" / "x")
    again = launch(tmp_path, *words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "4 jobs; 4 done before, 0 to run" in again.stdout
    assert marks(tmp_path / "outputs" / "x") == before
