"""Run folders that older code wrote: the present code opens, evaluates, diagnoses and resumes them as that code did.

``tests/data/make_runs.py`` wrote the folders of ``tests/data/runs`` once, and their numbers in ``expected.json``.
"""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent / "data"))

from kit import EXPECTED, EXPORTED, GROUPS, KIT, RUNS, copy_kit
from measure_runs import HERE, environment, machine, state
from public_keys import LISTED, public

CONTENT = json.loads(EXPECTED.read_text())
# Several processes share the runs out.
SHARES = [[*KIT, *EXPORTED][first::4] for first in range(4)]
# Relative, on other processors and with other libraries, which sum in another order. Without AVX, AVX-512 and MKL's
# own kernels the numbers changed by up to 3e-6 (and by less than 1e-7 absolute where they are about zero).
ELSEWHERE, ABOUT_ZERO = 1e-4, 1e-7
ONLY_HERE = ("sha256", "weights", "agrees")


@pytest.fixture(scope="module")
def here() -> bool:
    """Whether this is the processor, and these the libraries, that the last digits depend on."""
    return bool(machine() == CONTENT["machine"])


def differences(wanted: Any, found: Any, exact: bool, path: str = "") -> Iterator[str]:
    """Where numbers, texts or keys differ: ``exact``ly, or else by more than ELSEWHERE."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in wanted:
            if exact or key not in ONLY_HERE:
                yield from differences(wanted[key], found.get(key), exact, f"{path}/{key}")
    elif "/protocols/" in path and isinstance(wanted, list):  # a protocol may report further numbers
        if missing := [name for name in wanted if name not in found]:
            yield f"{path}: without {missing}"
    elif isinstance(wanted, float) and isinstance(found, float):
        close = wanted == found or (not exact and math.isclose(wanted, found, rel_tol=ELSEWHERE, abs_tol=ABOUT_ZERO))
        if not close and not (math.isnan(wanted) and math.isnan(found)):
            yield f"{path}: {wanted} then, {found} now"
    elif wanted != found:
        yield f"{path}: {wanted} then, {found} now"


@pytest.mark.parametrize("names", SHARES, ids=lambda names: f"{names[0]}...")
def test_numbers_stay(tmp_path: Path, here: bool, names: list[str]) -> None:
    """Opened, evaluated, diagnosed, resumed, made longer, and trained from the beginning."""
    copy_kit(RUNS, tmp_path / "kit")
    out = tmp_path / "measured.json"
    words = [sys.executable, str(HERE / "measure_runs.py"), str(tmp_path / "kit"), str(out), *names]
    done = subprocess.run(words, env=environment(tmp_path), cwd=tmp_path / "kit", capture_output=True, text=True)
    assert out.exists(), done.stderr
    measured = json.loads(out.read_text())
    errors = [f"{name}: {found['error']}" for name, found in measured.items() if "error" in found]
    assert not errors, "\n".join(errors)
    found = list(differences({name: CONTENT["runs"][name] for name in names}, measured, here))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", ["fc_stopped", "greedy_stopped"])
def test_the_script_resumes(
    tmp_path: Path, here: bool, name: str, train: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """As a user would, by scripts/train.py in a process of its own."""
    copy_kit(RUNS, tmp_path / "kit")
    folder = tmp_path / "kit" / name
    done = train(f"resume={folder}")
    assert done.returncode == 0, done.stderr
    wanted = CONTENT["runs"][name]["resumed"]
    assert not list(differences(wanted, {"exit code": 0, **state(folder)}, here))


def test_a_damaged_kit_is_noticed(tmp_path: Path) -> None:
    """The comparison itself: a loss that is off by a millionth is found where digits count, and not elsewhere."""
    wanted = {"test": {"mse": 0.25, "psnr": math.nan}, "sha256": "a", "verdicts": [["dead units", "weak"]]}
    found = {"test": {"mse": 0.25 * (1 + 1e-6), "psnr": math.nan}, "sha256": "b", "verdicts": [["dead units", "weak"]]}
    assert [line.partition(":")[0] for line in differences(wanted, found, True)] == ["/test/mse", "/sha256"]
    assert not list(differences(wanted, found, False))
    assert list(differences(wanted, {**found, "verdicts": []}, False))
    assert list(differences(wanted, {key: found[key] for key in ("test", "sha256")}, False))


def test_every_option_is_in_the_kit() -> None:
    """Of the groups that a run folder names, but data sets that are downloaded, as they were at that time."""
    asked = [yaml.safe_load(path.read_text()) for path in RUNS.glob("*/overrides.yaml")]
    written = {f"{group}={option}" for one in asked for group, option in one["choices"].items()}
    for word in (word for one in asked for word in one["overrides"] if word.startswith("protocol=[")):
        written |= {f"protocol={name}" for name in word.partition("=")[2].strip("[]").split(",")}
    downloaded = {f"dataset={name}" for name in ("fashion_mnist", "mnist", "kmnist", "cifar10", "svhn")}
    groups = {option.partition("=")[0] for option in written}
    assert groups == set(GROUPS)
    options = {option for option in json.loads(LISTED.read_text())["options"] if option.partition("=")[0] in groups}
    assert options - downloaded - written == set()


def test_nothing_public_is_lost() -> None:
    """Options, keys, classes and console commands of the time when the kit was written are still there."""
    before, now = json.loads(LISTED.read_text()), public()
    lost = {kind: sorted(set(names) - set(now[kind])) for kind, names in before.items() if kind != "targets"}
    assert not any(lost.values()), lost
    for target in before["targets"]:
        module, _, name = target.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), name), type), target
