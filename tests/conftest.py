"""What several test files share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

# One thread a test: other processes may be busy on the same cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the tests' baselines and downloads out of the user's cache."""
    os.environ["AERUN_DATA"] = str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def compose() -> Callable[[Sequence[str]], dict[str, Any]]:
    """Overrides -> the resolved configuration as plain values, as the command line would have it."""
    import hydra
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from aerun.base.conf import conf_dir
    from aerun.config.compose import run_config

    def composed(overrides: Sequence[str]) -> dict[str, Any]:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return run_config(hydra.compose("train", overrides=list(overrides)), overrides)

    return composed


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run scripts/train.py, or another command of ``python -m aerun``, in a process and a temporary folder."""

    def run(*words: str, command: str = "train", **extra: str) -> subprocess.CompletedProcess[str]:
        script = [str(ROOT / "scripts" / "train.py")] if command == "train" else ["-m", "aerun", command]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **extra}
        typed = [sys.executable, *script, *words]
        return subprocess.run(typed, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    return run
