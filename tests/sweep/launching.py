"""Start, watch, stop and kill sweeps in separate processes."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
PARTS = Path(__file__).resolve().parent / "parts"
SEARCHED = os.pathsep.join(filter(None, [str(PARTS), os.environ.get("PYTHONPATH")]))  # for modules, by the sweeps
TINY = [
    "dataset.train_limit=300",
    "dataset.validation=100",
    "trainer.epochs=2",
    "trainer.pictures=0",
    "trainer.threads=1",
    "trainer.device=cpu",
]
# Without figures, which take most of the time of so small a run.
BARE = [word.replace("trainer.pictures=0", "trainer.figures=none") for word in TINY]
# An option that fails as it runs, in jobs of model=conv and an odd seed.
ODD = ["--config-dir", str(PARTS / "conf"), "trusted_packages=[fragile]"]
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
BASIC = ["hydra/launcher=basic"]
SLURM = ["hydra/launcher=slurm", "hydra.launcher.mem_gb=2", "hydra.launcher.poll_s=1"]
LIMIT_S = 1800  # after which a sweep hangs, on a busy machine too
SHORT_LEASE = {"AERUN_LEASE_S": "6"}
Start = Callable[..., "subprocess.Popen[str]"]


def slurm_is_up() -> bool:
    """Whether a Slurm cluster answers (scripts/slurm_here.sh starts one on Debian), and aerun[slurm] is installed."""
    if shutil.which("sinfo") is None or importlib.util.find_spec("submitit") is None:
        return False
    return subprocess.run(["sinfo"], capture_output=True).returncode == 0


def as_host(host: str) -> list[str]:
    """Words before a command that give it another host name, as on another machine (Linux, as root)."""
    return ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host]


def hosts_can_be_named() -> bool:
    """Whether this user may give processes another host name."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*as_host("a"), "true"], capture_output=True).returncode == 0


def begin(
    folder: Path, *words: str, output: int = subprocess.PIPE, before: Sequence[str] = (), **extra: str
) -> subprocess.Popen[str]:
    """Start a sweep in ``folder``, in a process group of its own, as a terminal would."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": SEARCHED, **extra}
    return subprocess.Popen(
        [*before, sys.executable, str(ROOT / "scripts" / "train.py"), "-m", *words],
        cwd=folder,
        env=environment,
        stdout=output,
        stderr=output,
        text=True,
        start_new_session=True,
    )


@contextlib.contextmanager
def starting(folder: Path) -> Iterator[Start]:
    """A function that starts a sweep in ``folder``, as ``begin`` does, on a named host; at the end all are killed."""
    started: list[subprocess.Popen[str]] = []

    def start(host: str, *words: str, **extra: str) -> subprocess.Popen[str]:
        started.append(begin(folder, *words, before=as_host(host), **extra))
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            kill_group(process)


def launch(folder: Path, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a sweep to its end."""
    process = begin(folder, *words, **extra)
    try:
        out, errors = process.communicate(timeout=LIMIT_S)
    finally:
        kill_group(process)
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def kill_group(process: subprocess.Popen[str]) -> None:
    """Kill whatever is left of a sweep's processes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def continue_sweep(folder: Path, out: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run the command that a stopped sweep printed, in a shell."""
    [line] = [line for line in out.splitlines() if line.startswith("continue ")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": SEARCHED, **extra}
    command = line.removeprefix("continue ").strip()
    return subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S
    )


def await_that(
    condition: Callable[[], Any],
    process: subprocess.Popen[str] | None = None,
    seconds: float = 300,
    every: float = 0.02,
) -> Any:
    """Wait until the condition holds, asked ``every`` so many seconds, and return its value.

    AssertionError if it does not hold in time, or the process has ended.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode}: {process.communicate()}")
        time.sleep(every)
    raise AssertionError("waited in vain")


def workers(launcher: int) -> list[int]:
    """The worker processes of a launcher (Linux)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        if int(fields[1]) == launcher and fields[0] != "Z" and b"popen_loky_posix" in command:
            found.append(int(stat.parent.name))
    return sorted(found)


def descendants(process: int) -> list[int]:
    """The processes that a process has started, and those that these have started (Linux)."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found, new = [], [process]
    while new:
        new = [number for number, parent in parents.items() if parent in new]
        found += new
    return found


def name_of(process: int) -> str:
    """The name of a process's program (Linux); empty where it is gone."""
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return ""


def alive(processes: list[int]) -> list[int]:
    """Those that have not ended."""
    return [number for number in processes if Path(f"/proc/{number}").exists() and state_of(number) != "Z"]


def state_of(number: int) -> str:
    """A process's state as Linux has it; Z where it is gone."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def statuses(sweep: Path) -> dict[str, dict[str, Any]]:
    """status.json of every job that has one."""
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(sweep.glob("*/status.json"))}


def states(sweep: Path) -> dict[str, str]:
    """The state of every job that was started."""
    return {name: status["state"] for name, status in statuses(sweep).items()}


def running(sweep: Path) -> list[int]:
    """The processes that say of themselves that they run a job, once it trains."""
    return [
        status["process"]
        for name, status in statuses(sweep).items()
        if status["state"] == "running" and (sweep / name / "checkpoints" / "last.safetensors").exists()
    ]


def marks(sweep: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of every finished job's results; they change if the job runs again."""
    paths = [*sweep.glob("*/summary.json"), *sweep.glob("*/checkpoints/*")]
    finished = {path.parent for path in sweep.glob("*/summary.json")}
    of_finished = [path for path in paths if finished & set(path.parents)]
    return {str(path.relative_to(sweep)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in of_finished}


def study_trials(sweep: Path) -> list[Any]:
    """The trials of a search, read from the study's file by Optuna itself."""
    import optuna

    backend = optuna.storages.journal.JournalFileBackend(str(sweep / "study.log"))
    storage = optuna.storages.JournalStorage(backend)
    [study] = optuna.get_all_study_summaries(storage)
    return list(optuna.load_study(study_name=study.study_name, storage=storage).trials)
