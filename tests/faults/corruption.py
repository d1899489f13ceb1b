"""Damaged checkpoints, full disks and vanished folders."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.kills import SMALL, Compose, contents, differences, finish, start, wait_for


def damaged_checkpoints(compose: Compose, folder: Path, count: int, continued: int, seed: int = 0) -> dict[str, Any]:
    """Truncate a checkpoint at ``count`` lengths and flip a bit of ``count`` bytes; is each detected?

    ``continued`` of them are put in the place of a stopped run's last checkpoint, and the run goes on.
    """
    from aerun.errors import DataError
    from aerun.training.checkpoint import read

    draw = random.Random(seed)
    config = compose([*SMALL, "noise=gaussian", "checkpoint.every_minutes=0.00001"])
    assert finish(start(config, folder / "whole")) == 0
    expected = contents(folder / "whole")
    content = (folder / "whole" / "checkpoints" / "last.safetensors").read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    # Half of the places lie in the header, which is small and says where everything is.
    places = [draw.randrange(header if i % 2 else len(content)) for i in range(count)]
    damaged = [content[:place] for place in places]
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << draw.randrange(8)
        damaged.append(bytes(flipped))
    detected, path = 0, folder / "damaged.safetensors"
    for version in damaged:
        path.write_bytes(version)
        try:
            read(path)
        except DataError as error:
            detected += str(path) in str(error)
    identical = 0
    for number, version in enumerate(draw.sample(damaged, continued)):
        run_folder = folder / f"run-{number}"
        stopped = start(config, run_folder)
        wait_for(run_folder / "checkpoints" / "previous.safetensors", stopped)
        os.kill(stopped, 9)
        finish(stopped)
        (run_folder / "checkpoints" / "last.safetensors").write_bytes(version)
        identical += finish(start(config, run_folder)) == 0 and not differences(expected, contents(run_folder))
    return {"damaged": len(damaged), "detected": detected, "continued": continued, "identical": identical}


@contextlib.contextmanager
def small_disk(megabytes: float) -> Iterator[Path]:
    """A file system of its own of that size. OSError where the system allows no mounts."""
    folder = Path(tempfile.mkdtemp())
    command = ["mount", "-t", "tmpfs", "-o", f"size={int(megabytes * 1024)}k", "tmpfs", str(folder)]
    try:
        if subprocess.run(command, capture_output=True).returncode:
            raise OSError("no tmpfs can be mounted here")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def full_disks(compose: Compose, folder: Path, count: int, seed: int = 0) -> dict[str, Any]:
    """Fill the disk under a run at a random moment, then free it and continue."""
    from aerun.training.checkpoint import read

    draw = random.Random(seed)
    config = compose([*SMALL, "noise=gaussian"])
    clock = time.perf_counter()
    assert finish(start(config, folder / "whole")) == 0
    seconds = time.perf_counter() - clock
    expected = contents(folder / "whole")
    failed_clearly, good_kept, identical, filled = 0, 0, 0, 0
    for number in range(count):
        with small_disk(24) as disk:
            run_folder, errors_path = disk / "run", folder / f"{number}.err"
            child = start(config, run_folder, errors_path)
            time.sleep(draw.uniform(0.1, 0.9) * seconds)
            fill(disk / "ballast", leave=draw.randrange(200_000))
            code = finish(child)
            filled += code != 0
            failed_clearly += code != 0 and "aerun.errors.StorageError: " in errors_path.read_text()
            checkpoints = sorted((run_folder / "checkpoints").glob("*.safetensors"))
            for path in checkpoints:
                read(path)  # raises if it is not whole
            good_kept += 1
            (disk / "ballast").unlink(missing_ok=True)
            again = finish(start(config, run_folder, errors_path))
            identical += again == 0 and not differences(expected, contents(run_folder))
    return {"runs": count, "stopped by it": filled, "clear": failed_clearly, "kept": good_kept, "identical": identical}


def fill(path: Path, leave: int) -> None:
    """Write zeros until ``leave`` bytes are free."""
    free = shutil.disk_usage(path.parent).free - leave
    block = bytes(1 << 16)
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while free > 0:
            free -= file.write(block[: min(free, len(block))])
