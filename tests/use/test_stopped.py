"""Ctrl-C: one line, exit code 130, and only whole files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aerun.cli import denoise

ROOT = Path(__file__).resolve().parent.parent.parent


def test_interrupted_denoising_leaves_whole_files_and_resumes(
    trained: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random, (dirty, out) = np.random.default_rng(0), (tmp_path / name for name in ("dirty", "out"))
    dirty.mkdir()
    for number in range(200):
        Image.fromarray(random.integers(0, 256, (150, 150), np.uint8)).save(dirty / f"{number:03}.png")
    words = [sys.executable, "-m", "aerun", "denoise", str(trained("noise=gaussian")), str(dirty), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        words,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore Ctrl-C, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while len(list(out.glob("*.png"))) < 2:
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, error = process.communicate(timeout=300)
    assert (process.returncode, printed, error) == (130, "", "aerun: stopped by SIGINT\n")
    names = sorted(path.name for path in out.iterdir())
    assert 2 <= len(names) < 200 and names == [f"{number:03}.png" for number in range(len(names))]
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    for path in sorted(dirty.iterdir())[len(names) + 1 :]:
        path.unlink()
    denoise.execute(denoise.build_parser().parse_args([*words[4:], "--resume"]))
    assert capsys.readouterr().out == f"1 of {len(names) + 1} images cleaned, {len(names)} existed before: {out}\n"
    assert {path: path.stat().st_mtime_ns for path in times} == times
    for path in out.iterdir():
        with Image.open(path) as picture:
            assert picture.size == (150, 150) and picture.load()
