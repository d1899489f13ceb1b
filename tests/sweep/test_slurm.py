"""What Slurm is told, with stand-ins for its queue."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aerun.config.schema import construct
from aerun.errors import ConfigError
from aerun.sweep.job import Job
from aerun.sweep.launcher import slurm

NONE = ("partition", "account", "qos", "gpus_per_node")
ONE = ("max_num_timeout", "cpus_per_task", "mem_gb")
KEYS: dict[str, Any] = {
    **dict.fromkeys(NONE),
    **dict.fromkeys(ONE, 1),
    **{"timeout_min": 5, "signal_delay_s": 30, "array_parallelism": 2, "poll_s": 0.001},
    **{"setup": [], "additional_parameters": None},
}


class Queue:
    """A cluster that ends one job whenever it is asked what is queued."""

    def __init__(self) -> None:
        self.queued: list[str] = []
        self.arrays: list[int] = []
        self.together: list[int] = []

    def submit(self, launcher: slurm.Slurm, jobs: list[Job], sweep: Path, name: str) -> None:
        self.arrays.append(len(jobs))
        ids = {job.name: f"{len(self.arrays)}_{place}" for place, job in enumerate(jobs)}
        launcher._ids |= ids
        self.queued += ids.values()
        self.together.append(len({number.partition("_")[0] for number in self.queued}))

    def ids(self, name: str) -> set[str]:
        left = set(self.queued)
        self.queued = self.queued[1:]
        return left


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    queue = Queue()
    monkeypatch.setattr(slurm.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setitem(sys.modules, "submitit", ModuleType("submitit"))
    monkeypatch.setattr(slurm, "MAX_ARRAY_SIZE", 4)
    monkeypatch.setattr(slurm, "_queued", queue.ids)
    monkeypatch.setattr(slurm, "state_of", lambda job: "finished")
    monkeypatch.setattr(slurm.Slurm, "_submit", lambda self, *arguments: queue.submit(self, *arguments))
    return queue


def jobs(folder: Path, count: int) -> list[Job]:
    return [Job(f"job{i}", folder / f"job{i}", {}, {}, [], {}, str(i)) for i in range(count)]


@pytest.mark.parametrize("earlier", [0, 3])
def test_the_limit_of_jobs_holds_for_all_arrays_of_a_sweep(queue: Queue, tmp_path: Path, earlier: int) -> None:
    """Each array may run so many jobs at a time, so only one is in the queue. ``earlier``: jobs of another command."""
    queue.queued = [f"77_{place}" for place in range(earlier)]
    given = jobs(tmp_path, 9)
    ended = [job for job, _ in slurm.Slurm(**KEYS).run(iter(given), tmp_path)]
    assert {job.name for job in ended} == {job.name for job in given} and len(ended) == 9
    assert queue.arrays == [4, 4, 1] and set(queue.together) == {1}


def test_a_search_submits_a_job_when_there_is_room(queue: Queue, tmp_path: Path) -> None:
    ended = [job for job, _ in slurm.Slurm(**KEYS).run(iter(jobs(tmp_path, 5)), tmp_path, at_once=2)]
    assert len(ended) == 5 and max(queue.arrays) <= 2


def test_jobs_of_an_earlier_launch_are_watched_and_not_submitted_again(queue: Queue, tmp_path: Path) -> None:
    given = jobs(tmp_path, 4)
    (tmp_path / ".slurm").mkdir()
    (tmp_path / ".slurm" / "jobs.json").write_text('{"job0": "5_0", "job1": "5_1"}')
    queue.queued = ["5_0", "5_1"]
    ended = [job.name for job, _ in slurm.Slurm(**KEYS).run(iter(given), tmp_path)]
    assert sorted(ended) == ["job0", "job1", "job2", "job3"] and queue.arrays == [2]


@pytest.mark.parametrize("name", ["plain", "my dir", "it's", 'a"b', "$HOME", "a;b", "`x`", "ünï"])
def test_jobs_import_the_code_that_launched_them(tmp_path: Path, name: str) -> None:
    (tmp_path / name / "package_of_a_test").mkdir(parents=True)
    (tmp_path / name / "package_of_a_test" / "__init__.py").touch()
    code = "import package_of_a_test as p; print(p.__file__)"
    script = [*slurm._import_from(tmp_path / name), f"exec {shlex.quote(sys.executable)} -c {shlex.quote(code)}"]
    for before in (None, "/elsewhere"):
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= {} if before is None else {"PYTHONPATH": before}
        done = subprocess.run(["bash", "-c", "\n".join(script)], env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == str(tmp_path / name / "package_of_a_test" / "__init__.py"), done.stderr
    assert slurm._import_from(Path("/usr/lib/site-packages")) == []


def test_a_signal_that_comes_before_the_job_is_refused(queue: Queue) -> None:
    with pytest.raises(ConfigError, match=r"^hydra\.launcher\.signal_delay_s=120: must be less than timeout_min=2"):
        construct(slurm.Slurm, {**KEYS, "timeout_min": 2, "signal_delay_s": 120}, "hydra.launcher")
    construct(slurm.Slurm, {**KEYS, "timeout_min": 2, "signal_delay_s": 119}, "hydra.launcher")


def test_another_launcher_is_refused_while_jobs_are_queued(queue: Queue, tmp_path: Path) -> None:
    slurm.check_not_queued(tmp_path)  # never submitted
    (tmp_path / ".slurm").mkdir()
    (tmp_path / ".slurm" / "jobs.json").write_text('{"job0": "5_0"}')
    queue.queued = ["5_0"]
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path}: Slurm still has jobs of this sweep")) as error:
        slurm.check_not_queued(tmp_path)
    assert str(error.value).endswith("scancel 5")
    slurm.check_not_queued(tmp_path)  # they have ended
