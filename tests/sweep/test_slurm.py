"""What Slurm is told, with stand-ins for its queue."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections import Counter
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
        self.throttle: dict[str, int] = {}
        self.raised, self.most, self.refused = 0, 1000, 0

    def submit(self, launcher: slurm.Slurm, jobs: list[Job], sweep: Path, place: Path, name: str, at_once: int) -> None:
        if len(self.queued) + len(jobs) > self.most:
            self.refused += 1
            raise ConfigError("hydra.launcher: Slurm rejected the jobs: sbatch: error: AssocMaxSubmitJobLimit")
        self.arrays.append(len(jobs))
        ids = {job.name: f"{len(self.arrays)}_{place}" for place, job in enumerate(jobs)}
        (sweep / slurm.IDS_FILE).write_text(json.dumps(launcher._ids | ids))
        launcher._ids |= ids
        launcher._throttle[len(self.arrays)] = self.throttle[str(len(self.arrays))] = at_once
        self.queued += ids.values()

    def ask(self, name: str) -> dict[str, str]:
        """Start what may run, and note how many jobs run; then one of them ends."""
        found: dict[str, str] = {}
        running = Counter[str]()
        for number in self.queued:
            array = number.partition("_")[0]
            running[array] += 1
            found[number] = "RUNNING" if running[array] <= self.throttle.get(array, 2) else "PENDING"
        self.together.append(sum(state == "RUNNING" for state in found.values()))
        self.queued = self.queued[1:]
        return found

    def run(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        """scontrol update."""
        if command[:2] == ["scontrol", "update"]:
            array, throttle = (word.partition("=")[2] for word in command[2:])
            self.throttle[array] = int(throttle)
            self.raised += 1
        return subprocess.CompletedProcess(command, 0, "MaxArraySize            = 4\n", "")


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    queue = Queue()
    monkeypatch.setattr(slurm.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setitem(sys.modules, "submitit", ModuleType("submitit"))
    monkeypatch.setattr(slurm.subprocess, "run", queue.run)
    monkeypatch.setattr(slurm, "_queued", queue.ask)
    monkeypatch.setattr(slurm, "state_of", lambda job: "finished")
    monkeypatch.setattr(slurm.Slurm, "_submit", lambda self, *arguments: queue.submit(self, *arguments))
    return queue


def jobs(folder: Path, count: int) -> list[Job]:
    return [Job(f"job{i}", folder / f"job{i}", {}, {}, [], {}, str(i)) for i in range(count)]


@pytest.mark.parametrize("earlier", [0, 3])
def test_the_limit_of_jobs_holds_for_all_arrays_of_a_sweep_and_is_used(
    queue: Queue, tmp_path: Path, earlier: int
) -> None:
    """The cluster allows arrays of 4. ``earlier``: jobs of another command."""
    queue.queued = [f"0_{place}" for place in range(earlier)]
    given = jobs(tmp_path, 17)
    ended = [job for job, _ in slurm.Slurm(**{**KEYS, "array_parallelism": 3}).run(iter(given), tmp_path, tmp_path)]
    assert {job.name for job in ended} == {job.name for job in given} and len(ended) == 17
    assert sum(queue.arrays) == 17 and max(queue.arrays) == 4
    assert max(queue.together) == 3 and queue.raised > 0


def test_a_sweep_larger_than_the_jobs_that_a_user_may_submit_is_submitted_in_portions(
    queue: Queue, tmp_path: Path
) -> None:
    queue.most = 3
    ended = [job for job, _ in slurm.Slurm(**KEYS).run(iter(jobs(tmp_path, 10)), tmp_path, tmp_path)]
    assert len(ended) == len({job.name for job in ended}) == 10
    assert max(queue.arrays) <= 3 and queue.refused > 0


SBATCH = """#!{python}
import re, sys
most = int(re.search(r"--array=0-(\\d+)", open(sys.argv[-1]).read())[1]) + 1
if most > 4:
    sys.exit("sbatch: error: AssocMaxSubmitJobLimit")
print("Submitted batch job 7")
"""


def test_a_refusal_by_sbatch_is_an_error_and_not_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("submitit", reason="needs aerun[slurm]")
    for name in ("sbatch", "srun"):
        (tmp_path / name).write_text(SBATCH.format(python=sys.executable))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    launcher, place = slurm.Slurm(**KEYS), tmp_path / "place"
    (tmp_path / ".slurm").mkdir()
    submitted = launcher._submit_most(jobs(tmp_path, 10), tmp_path, place, "aerun-x", 2)
    assert len(submitted) == 2 and capsys.readouterr().err.count("AssocMaxSubmitJobLimit") == 0
    assert launcher._ids == {"job0": "7_0", "job1": "7_1"}
    with pytest.raises(ConfigError, match="Slurm rejected the jobs: sbatch: error: AssocMaxSubmitJobLimit"):
        launcher._submit(jobs(tmp_path, 5), tmp_path, place, "aerun-x", 2)


def test_a_search_submits_a_job_when_there_is_room(queue: Queue, tmp_path: Path) -> None:
    ended = [job for job, _ in slurm.Slurm(**KEYS).run(iter(jobs(tmp_path, 5)), tmp_path, tmp_path, at_once=2)]
    assert len(ended) == 5 and max(queue.arrays) <= 2


def test_jobs_of_an_earlier_launch_are_watched_and_not_submitted_again(queue: Queue, tmp_path: Path) -> None:
    given = jobs(tmp_path, 4)
    (tmp_path / ".slurm").mkdir()
    (tmp_path / ".slurm" / "jobs.json").write_text('{"job0": "5_0", "job1": "5_1"}')
    queue.queued = ["5_0", "5_1"]
    ended = [job.name for job, _ in slurm.Slurm(**KEYS).run(iter(given), tmp_path, tmp_path)]
    assert sorted(ended) == ["job0", "job1", "job2", "job3"] and queue.arrays == [2]


def test_a_folder_that_slurm_would_name_otherwise_is_refused(queue: Queue, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="50%: Slurm replaces what follows %"):
        list(slurm.Slurm(**KEYS).run(iter(jobs(tmp_path, 1)), tmp_path / "50%", tmp_path))
    assert list(tmp_path.iterdir()) == []


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
    with pytest.raises(
        ConfigError, match=r"^hydra\.launcher\.signal_delay_s=120: must be below 120, 60 s less than timeout_min=3"
    ):
        construct(slurm.Slurm, {**KEYS, "timeout_min": 3, "signal_delay_s": 120}, "hydra.launcher")
    construct(slurm.Slurm, {**KEYS, "timeout_min": 3, "signal_delay_s": 119}, "hydra.launcher")
