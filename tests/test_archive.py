"""Run folders in ZIP archives: read as they are, never extracted, and refused where they are not what they seem."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import stat
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aerun.base.archive import FREE_BYTES, is_file, is_folder, names_in
from aerun.base.bounded import read_bytes
from aerun.base.lock import FILES as LOCK_FILES
from aerun.base.lock import FolderLock
from aerun.cli import tidy
from aerun.compare import Question, collect, compare
from aerun.compare.csv_json import as_json
from aerun.errors import BusyError, ConfigError, DataError
from aerun.sweep.archive_folder import archive_folder
from aerun.sweep.tidy import TRASH
from tests.runs import write_run, write_sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two finished runs, a failed one, one that waits; and what a running sweep leaves."""
    folder = tmp_path / "grid"
    for seed in range(2):
        write_run(folder / f"done{seed}", 0.1 + seed, seed=seed, model=("fc", "conv")[seed])
    write_run(folder / "failed", state="failed", error="ConfigError: no")
    write_sweep(folder, {"done0": {"seed": 0}, "done1": {"seed": 1}, "failed": {"seed": 2}, "waiting": {"seed": 3}})
    (folder / "done0" / "figures").mkdir()
    (folder / "done0" / "figures" / "a.png").write_bytes(os.urandom(3000))
    (folder / "done0" / ".lock").write_text("process 1\n")
    (folder / "done0" / ".config.yaml.12.34").write_text("half")
    (folder / ".data").mkdir()
    (folder / ".data" / "copy").write_bytes(b"x" * 10_000)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def kept(folder: Path) -> dict[str, bytes]:
    """Without locks and what serves a running sweep only."""
    skipped = (*LOCK_FILES, ".config.yaml.12.34", "copy")
    return {name: content for name, content in contents(folder).items() if Path(name).name not in skipped}


def as_seen(path: Path) -> dict[str, Any]:
    """A comparison, without the folder's name."""
    return json.loads(as_json(compare(collect([path]), Question())).replace(str(path), "PLACE"))


def test_a_comparison_of_an_archive_is_that_of_its_folder(sweep: Path, tmp_path: Path) -> None:
    before, files = as_seen(sweep), kept(sweep)
    target = tmp_path / "grid.zip"
    assert archive_folder(sweep, target) == target.stat().st_size
    assert not sweep.exists() and {path.name for path in tmp_path.iterdir()} == {"grid.zip"}
    assert as_seen(target) == before
    with zipfile.ZipFile(target) as archive:  # any other program unpacks it
        archive.extractall(tmp_path / "again")
    assert contents(tmp_path / "again") == files


def test_what_is_in_an_archive(sweep: Path, tmp_path: Path) -> None:
    target = tmp_path / "grid.zip"
    archive_folder(sweep, target)
    assert names_in(target) == ["done0", "done1", "failed", "sweep.json"]
    assert names_in(target / "done0" / "figures") == ["a.png"] and names_in(target / "gone") == []
    assert is_folder(target) and is_folder(target / "done0") and not is_folder(target / "sweep.json")
    assert is_file(target / "sweep.json") and not is_file(target / "done0") and not is_file(target / "gone" / "x")
    assert [run.name for run in collect([target / "done1"])] == ["done1"]
    with pytest.raises(FileNotFoundError):
        read_bytes(target / "gone" / "config.yaml", 10)
    with pytest.raises(ConfigError, match=r"grid\.zip/gone: no such folder"):
        collect([target / "gone"])


def test_a_model_is_loaded_from_an_archive(tmp_path: Path, compose: Callable[..., dict[str, Any]]) -> None:
    import numpy as np

    import aerun
    from aerun.cli.doctor import find_runs
    from aerun.config.parse import parse
    from aerun.runs.diagnose import diagnose
    from aerun.runs.folder import read_config
    from aerun.runs.reopen import reevaluate
    from aerun.runs.run import run
    from aerun.use.opened_run import open_run

    words = ["dataset=random", "dataset.images=40", "dataset.shape=[1,8,8]", "model.code_size=3", "trainer.epochs=1"]
    config = compose([*words, "trainer.device=cpu"])
    run(parse(config), config, tmp_path / "sweep" / "run")
    rows = np.random.default_rng(0).integers(0, 256, (4, 1, 8, 8), np.uint8)
    codes = aerun.load(tmp_path / "sweep" / "run").encode(rows)
    archive_folder(tmp_path / "sweep" / "run", tmp_path / "one.zip")
    assert bool((aerun.load(tmp_path / "one.zip").encode(rows) == codes).all())
    with pytest.raises(DataError, match=r"one\.zip: has no weights=ema\..*Available: best, last"):
        aerun.load(tmp_path / "one.zip", weights="ema")
    content = (tmp_path / "one.zip").read_bytes()
    assert reevaluate(tmp_path / "one.zip")["differs_from_summary"] == []
    assert not diagnose(tmp_path / "one.zip").examination.missing
    assert find_runs([str(tmp_path / "one.zip")]) == [tmp_path / "one.zip"]
    assert read_config(open_run(tmp_path / "one.zip").folder) == read_config(tmp_path / "one.zip")
    assert (tmp_path / "one.zip").read_bytes() == content
    reevaluate(tmp_path / "one.zip", output=tmp_path / "out")
    assert (tmp_path / "out" / "figures" / "reconstructions_test.png").exists()


def test_nothing_is_archived_while_a_run_is_in_progress(sweep: Path, tmp_path: Path) -> None:
    before = contents(sweep)
    for folder in (sweep, sweep / "failed"):
        with FolderLock(folder), pytest.raises(BusyError):
            archive_folder(sweep, tmp_path / "grid.zip")
    path = sweep / "failed" / "status.json"
    path.write_text(json.dumps({"state": "running", "host": "elsewhere"}))
    with pytest.raises(BusyError, match="failed: is in progress"):
        archive_folder(sweep, tmp_path / "grid.zip")
    path.write_bytes(before["failed/status.json"])
    assert kept(sweep) == {name: before[name] for name in kept(sweep)} and not (tmp_path / "grid.zip").exists()


@pytest.mark.parametrize("begins", ["a new file", "another status", "a lock"])
def test_a_folder_stays_if_a_run_begins_while_it_is_archived(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begins: str
) -> None:
    from aerun.sweep import archive_folder as module

    before, compare_files = kept(sweep), module._compare
    with contextlib.ExitStack() as stack:

        def begin_run(*arguments: Any) -> None:
            compare_files(*arguments)
            if begins == "a lock":
                stack.enter_context(FolderLock(sweep / "failed"))
            else:
                name = "status.json" if begins == "another status" else "metrics2.jsonl"
                (sweep / "failed" / name).write_text('{"state": "stopped"}')

        monkeypatch.setattr(module, "_compare", begin_run)
        with pytest.raises(BusyError, match="a process has begun to write in it; nothing was removed"):
            archive_folder(sweep, tmp_path / "grid.zip")
    assert before.keys() <= kept(sweep).keys()
    assert {path.name for path in tmp_path.iterdir()} == {"grid", "grid.zip"}
    monkeypatch.undo()
    if begins != "a lock":
        with pytest.raises(DataError, match=r"does not have .*failed/.* as it is on disk; name another file"):
            archive_folder(sweep, tmp_path / "grid.zip")
        archive_folder(sweep, tmp_path / "other.zip")
    else:
        archive_folder(sweep, tmp_path / "grid.zip")
    assert not sweep.exists()


@pytest.mark.parametrize("moment", range(1, 25))
def test_a_kill_at_any_moment_loses_nothing(sweep: Path, tmp_path: Path, moment: int) -> None:
    before, target = kept(sweep), tmp_path / "grid.zip"
    child = os.fork()
    if child == 0:
        count = 0

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            writes = event == "open" and "grid.zip" in str(arguments[0])
            count += writes or event in ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "shutil.rmtree")
            if count == moment:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(watch)
            archive_folder(sweep, target)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    if sweep.exists():
        assert kept(sweep) == before
        archive_folder(sweep, target)
    with zipfile.ZipFile(target) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == before
    assert not sweep.exists()


def test_what_cannot_be_archived_is_named(sweep: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is inside .*grid, which it is to replace"):
        archive_folder(sweep, sweep / "grid.zip")
    with pytest.raises(ConfigError, match="name a file in a folder that exists"):
        archive_folder(sweep, tmp_path / "gone" / "grid.zip")
    (tmp_path / "notes.zip").write_text("mine")
    with pytest.raises(DataError, match=r"notes\.zip: is not a ZIP archive"):
        archive_folder(sweep, tmp_path / "notes.zip")
    (sweep / "done0" / "link").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="link: is not a regular file"):
        archive_folder(sweep, tmp_path / "grid.zip")
    assert {path.name for path in tmp_path.iterdir()} == {"grid", "notes.zip"}


def written(path: Path, entries: dict[str, bytes], **changes: Any) -> Path:
    """An archive, whose entries have these attributes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            for key, value in changes.items():
                setattr(entry, key, value)
            archive.writestr(entry, content)
    return path


@pytest.mark.parametrize(
    "name", ["/etc/config.yaml", "../config.yaml", "a/../../config.yaml", "a\\config.yaml", "C:/x", "./x"]
)
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "a.zip", {"config.yaml": b"{}", name: b"x"})
    with pytest.raises(DataError, match=r"a\.zip: contains .* a name that leads out of the archive"):
        read_bytes(path / "config.yaml", 100)


def test_links_doubles_and_unusual_entries_are_refused(tmp_path: Path) -> None:
    link = written(tmp_path / "link.zip", {"config.yaml": b"/etc/passwd"}, external_attr=(stat.S_IFLNK | 0o777) << 16)
    packed = written(tmp_path / "packed.zip", {"config.yaml": b"{}"}, compress_type=zipfile.ZIP_BZIP2)
    locked = tmp_path / "locked.zip"
    content = bytearray(written(locked, {"config.yaml": b"{}"}).read_bytes())
    content[content.rfind(b"PK\x01\x02") + 8] |= 1
    locked.write_bytes(bytes(content))
    for path in (link, packed, locked):
        with pytest.raises(DataError, match="is a link, encrypted or packed in an unusual way"):
            read_bytes(path / "config.yaml", 100)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(tmp_path / "double.zip", "w") as archive:
        archive.writestr("config.yaml", "{}")
        archive.writestr("config.yaml", "{}")
    with pytest.raises(DataError, match=r"contains 'config\.yaml' twice"):
        read_bytes(tmp_path / "double.zip" / "config.yaml", 100)
    both = written(tmp_path / "both.zip", {"a": b"", "a/config.yaml": b""})
    with pytest.raises(DataError, match="contains 'a' as a file and as a folder"):
        read_bytes(both / "a" / "config.yaml", 100)


def test_bombs_are_not_unpacked(tmp_path: Path) -> None:
    size = 50 << 20
    bomb = written(tmp_path / "bomb.zip", {"metrics.jsonl": bytes(size), "small": bytes(FREE_BYTES)})
    assert bomb.stat().st_size < size // 500
    with pytest.raises(DataError, match=rf"metrics\.jsonl: cannot be read \(it would unpack to {size:,} bytes\)"):
        read_bytes(bomb / "metrics.jsonl", 1 << 40)
    assert len(read_bytes(bomb / "small", 1 << 40)) == FREE_BYTES
    with pytest.raises(DataError, match="would unpack to"):
        read_bytes(bomb / "small", 10)


def test_an_archive_that_lies_about_a_size_is_found_out(tmp_path: Path) -> None:
    """The size in the directory of an entry is what is unpacked, and its checksum is compared."""
    path = written(tmp_path / "lie.zip", {"config.yaml": b"x" * 5000})
    content = path.read_bytes()
    start = content.rfind(b"PK\x01\x02") + 24
    path.write_bytes(content[:start] + (100).to_bytes(4, "little") + content[start + 4 :])
    with pytest.raises(DataError, match=r"config\.yaml: cannot be read"):
        read_bytes(path / "config.yaml", 10_000)


def test_damaged_archives_are_one_line(sweep: Path, tmp_path: Path) -> None:
    target = tmp_path / "grid.zip"
    archive_folder(sweep, target)
    whole = target.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"PK" + whole[2:100], io.BytesIO(b"text").read()):
        target.write_bytes(content)
        with pytest.raises((DataError, ConfigError)) as raised:
            collect([target])
        assert "\n" not in str(raised.value) and str(target) in str(raised.value)


def test_text_that_packs_too_well_is_stored(tmp_path: Path) -> None:
    """Otherwise its own archive would be refused as a bomb."""
    folder = write_run(tmp_path / "run", 0.1)
    (folder / "aerun.log").write_text("same line\n" * 500_000)
    archive_folder(folder, tmp_path / "run.zip")
    assert len(read_bytes(tmp_path / "run.zip" / "aerun.log", 1 << 40)) == 5_000_000


def test_the_command(sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(sweep.parent)

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["aerun-tidy", *words])
        code = tidy.main()
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    before = contents(sweep)
    code, out, _ = call("grid", "--archive", "grid.zip")
    assert code == 0 and "into grid.zip, in place of grid\n--apply does it" in out and contents(sweep) == before
    code, out, _ = call("grid", "--archive", "grid.zip", "--delete", "failed", "--apply")
    assert code == 0 and "archived    grid.zip: " in out and not sweep.exists()
    assert {run.name for run in collect([Path("grid.zip")])} == {"done0", "done1", "failed", "waiting"}
    assert names_in(Path("grid.zip/failed")) == ["status.json"]
    code, _, err = call("grid.zip")
    assert code == 1 and err == "aerun: grid.zip: is an archive; aerun-tidy takes folders\n"
    assert call("a", "b", "--archive", "c.zip")[2] == "aerun: --archive c.zip: takes one sweep or run, not 2\n"
    assert not (sweep.parent / TRASH).exists()
