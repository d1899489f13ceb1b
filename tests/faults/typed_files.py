"""Files of a run folder that parse, with a value of another type in the place of every value: every command reads
them, or names the file in a line, and one bad run does not end a comparison."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import logging
import os
import random
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.data.kit import RUNS, copy_kit

MISSING = object()
DEEP = json.loads("[" * 60 + "]" * 60)
VALUES: dict[str, Any] = {
    "null": None,
    "text": "x",
    "huge": 10**400,
    "negative": -7,
    "list": [1],
    "nested": {"a": {"b": [{}]}},
    "deep": DEEP,
    "missing": MISSING,
}
FINISHED, STOPPED, STAGED = "conv_fc_lifetime_plateau_mae", "fc_stopped", "greedy_stopped"
Path_ = tuple[str | int, ...]


def nodes(content: Any, path: Path_ = ()) -> Iterator[Path_]:
    """The paths of all values, mappings and lists among them; of the items of a list the first only."""
    if path:
        yield path
    if isinstance(content, dict):
        for key, value in content.items():
            yield from nodes(value, (*path, key))
    elif isinstance(content, list) and content:
        yield from nodes(content[0], (*path, 0))


def replaced(content: Any, path: Path_, value: Any) -> Any:
    """A copy with another value at the path, or without it."""
    content = copy.deepcopy(content)
    node = content
    for key in path[:-1]:
        node = node[key]
    if value is MISSING:
        del node[path[-1]]
    else:
        node[path[-1]] = copy.deepcopy(value)
    return content


def read_header(content: bytes) -> tuple[dict[str, Any], bytes]:
    """What a checkpoint says of itself, and its tensors."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write_header(header: dict[str, Any], about: Any, body: bytes) -> bytes:
    """A checkpoint with a right checksum."""
    from aerun.training.checkpoint import BLANK

    header = {**header, "__metadata__": {"aerun": json.dumps(about), "sha256": BLANK}}
    head = json.dumps(header, separators=(",", ":")).encode()
    content = len(head).to_bytes(8, "little") + head + body
    return content.replace(BLANK.encode(), hashlib.sha256(content).hexdigest().encode(), 1)


def as_json(content: bytes) -> tuple[Any, Callable[[Any], bytes]]:
    return json.loads(content), lambda value: json.dumps(value).encode()


def as_yaml(content: bytes) -> tuple[Any, Callable[[Any], bytes]]:
    return yaml.safe_load(content), lambda value: yaml.safe_dump(value).encode()


def as_lines(content: bytes) -> tuple[Any, Callable[[Any], bytes]]:
    """All lines become the changed one."""
    lines = content.splitlines()
    return json.loads(lines[-1]), lambda value: b"\n".join([json.dumps(value).encode()] * len(lines)) + b"\n"


def as_checkpoint(content: bytes) -> tuple[Any, Callable[[Any], bytes]]:
    header, body = read_header(content)
    return json.loads(header["__metadata__"]["aerun"]), lambda about: write_header(header, about, body)


def compare(place: Path) -> None:
    from aerun.cli.compare import compare_runs

    _shows_good(lambda: compare_runs([str(place), "--no-group", "--format", "json"]))


def page(place: Path) -> None:
    from aerun.cli.compare import compare_runs

    _shows_good(lambda: compare_runs([str(place), "--no-group", "--format", "csv", "--output", str(place / "out")]))


def doctor(place: Path) -> None:
    from aerun.cli.doctor import build_parser, execute

    _shows_good(lambda: execute(build_parser().parse_args([str(place), "--no-data", "--json"])))


def doctor_with_data(place: Path) -> None:
    from aerun.cli.doctor import build_parser, execute

    _shows_good(lambda: execute(build_parser().parse_args([str(place), "--device", "cpu"])))


def _shows_good(command: Callable[[], object]) -> None:
    """One bad run does not end the command: the good one is in its output."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
        command()
    assert "good" in output.getvalue(), "the good run is left out"


def use(place: Path) -> None:
    """What embed, search, denoise, generate, map and organise begin with."""
    from aerun.use.opened_run import open_run

    opened = open_run(place / "bad")
    assert opened.choices is not None and opened.fingerprint and opened.fit and len(opened.data.train)
    assert opened.summary is None or opened.summary["test"]


def export(place: Path) -> None:
    from aerun.use.export.export_run import export

    export(place / "bad", place / "exported", ["safetensors"])


def evaluate(place: Path) -> None:
    from aerun.cli.evaluate import print_summary
    from aerun.runs.reopen import reevaluate

    with contextlib.redirect_stdout(io.StringIO()):
        print_summary(reevaluate(place / "bad"), place / "bad")


def python(place: Path) -> None:
    from aerun.python.results import TrainedRun

    run = TrainedRun(place / "bad")
    assert str(run) and run._repr_html_() and run.metrics is not None


def resume(place: Path) -> None:
    """Everything that ``resume=`` reads, and some steps."""
    from aerun.base.signals import StopSignals
    from aerun.cli.train import resume_config
    from aerun.config.parse import parse
    from aerun.runs.run import check_folder_is_ours
    from aerun.runs.tracking import FolderLog, NoLog
    from aerun.training.build import build_parts, prepare
    from aerun.training.checkpoint import Checkpointer, ReadOnlyCheckpoints
    from aerun.training.loop import Session
    from aerun.training.observers import Observers
    from aerun.training.regime import regime_of

    folder = place / "bad"
    longer = {"trainer": {"epochs": 4}, "trusted_packages": []}
    config, choices = resume_config(folder, longer, ["trainer.epochs=4"])
    settings = parse(config, choices)
    check_folder_is_ours(folder, settings, config)
    device = prepare(settings)
    parts = build_parts(settings, settings.dataset.load(device), device)
    regime = regime_of(settings, parts)
    progress = regime.restore(Checkpointer(folder / "checkpoints", parts.autoencoder, parts.optimizer, None))
    assert progress is not None, "there is no checkpoint"
    with FolderLog(folder) as tracker:
        tracker.open(progress)
    checkpoints = ReadOnlyCheckpoints(folder / "checkpoints", parts.autoencoder, parts.optimizer)
    if not progress.stage:
        regime.train(progress, Session(Observers(), NoLog(), checkpoints, StopSignals(), folder))


def init_from(place: Path) -> None:
    from aerun.runs.init_from import copy_matching_layers
    from aerun.runs.reopen import load

    copy_matching_layers(place / "bad", load(place / "good"))


def sweep(place: Path) -> None:
    """What a repeated sweep reads of its folder."""
    from aerun.sweep.job_index import job_state, read_job_index
    from aerun.sweep.sweep_report import failed_protocols, job_duration, job_line

    index = read_job_index(place)
    assert index is not None
    index.find_recorded(place)
    assert index.folder_names() and index.varied_keys() is not None
    for job in index.as_jobs(place):
        assert job_line(job, job_state(job.folder), "1/2") + job_duration(job.folder)
        assert failed_protocols(job.folder) is not None


def as_fingerprints(content: bytes) -> tuple[Any, Callable[[Any], bytes]]:
    """What a file of fingerprints says of itself."""
    with np.load(io.BytesIO(content)) as file:
        arrays = {name: file[name] for name in file.files}
    return json.loads(str(arrays["about"])), lambda about: packed(**{**arrays, "about": np.array(json.dumps(about))})


def fingerprints(place: Path) -> None:
    """What search, organise and map read of a file of codes."""
    from aerun.use.collection.fingerprint_files import load_fingerprints

    found = load_fingerprints(place / "codes.npz")
    assert len(found.whole_codes) == len(found) and found.label(0) is not None


def write_codes(path: Path) -> None:
    """Three images with codes of eight units."""
    from aerun.use.collection.fingerprint_files import save_fingerprints
    from aerun.use.collection.fingerprints import Fingerprints

    codes = np.eye(3, 8, dtype=np.float32)
    labels = np.array([0, 1, -1])
    found = Fingerprints(["a", "b", "c"], codes, "0" * 16, "run", "root", "", labels, ["x", "y"], (8,))
    save_fingerprints(found, path, found.pack("bits"))


def alias_bomb() -> bytes:
    """600 bytes of YAML that stand for 10^10 values."""
    lines = ["l0: &l0 [a, a, a, a, a, a, a, a, a, a]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 10)]
    return "\n".join([*lines, "trainer: {epochs: 1}", "overrides: *l9", "choices: {}"]).encode()


def packed(*, shape: tuple[int, ...] | None = None, blocks: int = 0, **arrays: Any) -> bytes:
    """An .npz file of these arrays; or two of ``blocks`` MiB of zeros each whose headers say ``shape``."""
    stream = io.BytesIO()
    if shape is None:
        np.savez(stream, **arrays)
        return stream.getvalue()
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("targets", "reconstructions"):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as part:
                part.write(head.getvalue())
                for _ in range(blocks):
                    part.write(bytes(1 << 20))
    return stream.getvalue()


def plain_array(array: np.ndarray) -> bytes:
    """An .npy file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


IMAGES = np.zeros((4, 1, 12, 12), np.uint8)
FOLDER, PIPE = object(), object()
CHANGED = "its data have changed"  # is what a value may mean that says which data they are
# In the place of any file: what is no file, and content that no reader expects.
WHOLE: dict[str, Any] = {
    "folder": FOLDER,
    "pipe": PIPE,
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "text": b"x",
    "bytes": b"\xff\0x",
    "number": b"9" * 5000,
    "deep": b"[" * 100_000,
    "aliases": alias_bomb(),
}
PROBES: dict[str, bytes] = {
    "one array": plain_array(IMAGES),
    "one missing": packed(targets=IMAGES),
    "floats": packed(targets=IMAGES, reconstructions=IMAGES / 1.0),
    "texts": packed(targets=np.array(["a"]), reconstructions=np.array(["a"])),
    "objects": packed(targets=np.array([None]), reconstructions=IMAGES),
    "of no size": packed(targets=IMAGES[:, :, :0], reconstructions=IMAGES[:, :, :0]),
    "no images": packed(targets=IMAGES[:0], reconstructions=IMAGES[:0]),
    "other shapes": packed(targets=IMAGES, reconstructions=IMAGES[:, :, 1:]),
    "five channels": packed(targets=np.zeros((2, 5, 3, 3), np.uint8), reconstructions=np.zeros((2, 5, 3, 3), np.uint8)),
    "petabytes in words": packed(shape=(10**12, 1, 32, 32)),
    "256 MiB in 256 KiB": packed(shape=(1 << 14, 1, 128, 128), blocks=256),
}


Reader = Callable[[bytes], tuple[Any, Callable[[Any], bytes]]]
READ = (compare, doctor)
# Each file and the run that has it: how it is parsed, and the commands that read it.
PROBES_FILE = "bad/probes.npz"
FILES: dict[tuple[str, str], tuple[Reader, tuple[Callable[[Path], None], ...]]] = {
    ("bad/config.yaml", FINISHED): (as_yaml, (*READ, use, sweep)),
    ("bad/overrides.yaml", FINISHED): (as_yaml, (*READ, use, export)),
    ("bad/environment.json", FINISHED): (as_json, (*READ, use, export, evaluate, sweep)),
    ("bad/status.json", FINISHED): (as_json, (*READ, doctor_with_data, python, sweep)),
    ("bad/summary.json", FINISHED): (
        as_json,
        (*READ, python, export, doctor_with_data, evaluate, init_from, sweep),
    ),
    ("bad/metrics.jsonl", FINISHED): (as_lines, (*READ, page, python, doctor_with_data)),
    (PROBES_FILE, FINISHED): (lambda content: ({}, lambda _: content), (page,)),
    ("bad/checkpoints/best.safetensors", FINISHED): (as_checkpoint, (use, export, init_from, doctor_with_data)),
    ("bad/config.yaml", STOPPED): (as_yaml, (resume,)),
    ("bad/metrics.jsonl", STOPPED): (as_lines, (resume,)),
    ("bad/checkpoints/last.safetensors", STOPPED): (as_checkpoint, (resume,)),
    ("bad/checkpoints/last.safetensors", STAGED): (as_checkpoint, (resume,)),
    ("sweep.json", FINISHED): (as_json, (*READ, sweep)),
    ("codes.npz", FINISHED): (as_fingerprints, (fingerprints,)),
}


def make_place(folder: Path, name: str) -> Path:
    """A sweep of two copies of a run of the kit, ``good`` and ``bad``."""
    if not (folder / "kit").exists():
        copy_kit(RUNS, folder / "kit")
    place = folder / "place"
    for run in ("good", "bad"):
        shutil.copytree(folder / "kit" / name, place / run)
        (place / run / "probes.npz").write_bytes(packed(targets=IMAGES, reconstructions=IMAGES))
    jobs = {run: {"overrides": ["model=fc"], "values": {"seed": 3}, "hash": run} for run in ("good", "bad")}
    content = {"name": "place", "command": ["aerun-train", "-m"], "jobs": jobs, "defaults": {"model": "fc"}}
    (place / "sweep.json").write_text(json.dumps(content))
    write_codes(place / "codes.npz")
    return place


def attempt(command: Callable[[Path], None], place: Path, names: tuple[str, ...]) -> str | None:
    """What went wrong: any error but one of aerun's that names the file or the key in a line or two."""
    from aerun.errors import AerunError

    try:
        command(place)
    except AerunError as error:
        text = str(error)
        if text.count("\n") > 1:
            return f"{text.count(chr(10)) + 1} lines: {text[:200]}"
        return None if any(name in text for name in names) else f"names neither of {names}: {text[:200]}"
    except AssertionError as error:
        return str(error)
    except Exception as error:
        line = error.__traceback__
        while line is not None and line.tb_next is not None:
            line = line.tb_next
        where = "" if line is None else f" [{line.tb_frame.f_code.co_filename.rpartition('/')[2]}:{line.tb_lineno}]"
        return f"{type(error).__name__}: {str(error)[:150]}{where}"
    return None


@dataclass
class Findings:
    """How many cases each command has had, what went wrong, and how long the slowest took."""

    cases: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def try_command(self, command: Callable[[Path], None], place: Path, names: tuple[str, ...], case: str) -> None:
        clock = time.perf_counter()
        problem = attempt(command, place, names)
        self.slowest = max(self.slowest, time.perf_counter() - clock)
        self.cases[command.__name__] = self.cases.get(command.__name__, 0) + 1
        if problem is not None:
            self.wrong.append(f"{case}, {command.__name__}: {problem}")


def campaign(folder: Path, share: float = 1.0, seed: int = 0) -> Findings:
    """Every value of every file replaced by every bad value, read by every command; or a random share of these."""
    import torch

    draw, found = random.Random(seed), Findings()
    logging.getLogger("aerun").setLevel(logging.CRITICAL)
    for (file, run), (parse, commands) in FILES.items():
        place = make_place(folder, run)
        path = place / file
        original = path.read_bytes()
        content, write = parse(original)
        damaged: list[tuple[str, tuple[str, ...], Any]] = [
            (f"{'.'.join(map(str, leaf))}={kind}", tuple(str(key) for key in leaf), (leaf, value))
            for leaf in nodes(content)
            for kind, value in VALUES.items()
        ]
        damaged += [(kind, (), value) for kind, value in {**WHOLE, **(PROBES if file == PROBES_FILE else {})}.items()]
        for case, keys, change in damaged:
            for command in commands:
                if draw.random() < share:
                    put(path, write(replaced(content, *change)) if isinstance(change, tuple) else change)
                    found.try_command(command, place, (path.name, *keys, CHANGED), f"{file} {case}")
                    put(path, original)
                    undo(place, folder / "kit" / run)
        shutil.rmtree(place)
    torch.use_deterministic_algorithms(False)
    logging.getLogger("aerun").setLevel(logging.NOTSET)
    return found


def put(path: Path, content: Any) -> None:
    """Replace a file by one of that content, by a folder or by a pipe."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if content is FOLDER:
        path.mkdir()
    elif content is PIPE:
        os.mkfifo(path)
    else:
        path.write_bytes(content)


def undo(place: Path, original: Path) -> None:
    """Undo what a command wrote."""
    for name in ("out", "exported"):
        shutil.rmtree(place / name, ignore_errors=True)
    for path in ("evaluation.json", "figures"):
        with contextlib.suppress(FileNotFoundError):
            (place / "bad" / path).unlink() if path.endswith("json") else shutil.rmtree(place / "bad" / path)
    for name in ("metrics.jsonl", "summary.json"):
        if (original / name).exists():
            shutil.copyfile(original / name, place / "bad" / name)
