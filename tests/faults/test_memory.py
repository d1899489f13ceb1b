"""A short version of the campaign; it runs in a process of its own, so that nothing else's memory counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_a_serial_grid_does_not_grow(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "reliability.py"), "--memory", "24", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["memory growth"] < 0.05
    assert found["open files"][0] == found["open files"][1]
    assert found["threads"][0] == found["threads"][1]
