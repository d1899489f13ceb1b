"""Files are replaced completely or not at all."""

from __future__ import annotations

import csv
import io
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aerun.base.files import LogFile, atomic_write, format_csv, leftover_files, temporary_path, write_text
from aerun.errors import StorageError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_content_and_no_temporary_file(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as temporary:
        temporary.write_text("ne")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_an_exception_leaves_no_file_where_none_was(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "file") as temporary:
        temporary.write_text("ne")
        raise RuntimeError
    assert names(tmp_path) == []


def test_until_the_block_ends_the_old_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent and temporary != path
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file"]


def test_write_text_writes_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "größe", "ein\n猫\n")
    assert (tmp_path / "größe").read_bytes() == "ein\n猫\n".encode()
    assert names(tmp_path) == ["größe"]


def test_a_file_may_have_the_longest_name(tmp_path: Path) -> None:
    for name in ("n" * 251 + ".png", os.fsdecode(b"\xc3\xa9" * 125 + b"x.png"), os.fsdecode(b"\xe9" * 251 + b".png")):
        write_text(tmp_path / name, "whole")
        assert (tmp_path / name).read_text() == "whole"
        temporary = temporary_path(tmp_path / name)
        temporary.touch()
        assert leftover_files(tmp_path) == [temporary]
        temporary.unlink()


def test_a_full_disk_is_reported_with_the_file_and_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    write_text(path, "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device") as caught:
        write_text(path, "new")
    assert str(path) in str(caught.value) and "3 bytes" in str(caught.value)
    assert path.read_text() == "old" and names(tmp_path) == ["file"]


def test_a_folder_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        write_text(tmp_path / "nowhere" / "file", "new")


def test_threads_do_not_mix_their_files(tmp_path: Path) -> None:
    texts = [str(number) * 10_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: write_text(tmp_path / "file", text), texts * 5))
    assert (tmp_path / "file").read_text() in texts
    assert names(tmp_path) == ["file"]


# What a spreadsheet takes for a formula: a cell that is no number and begins with one of these.
STARTS = ("=", "+", "-", "@", "\t", "\r")
TEXTS = ["cmd()|x.png", "HYPERLINK(1)", "1+2", "1e5x", "", "\n=1", '"', ",=1"]


@pytest.mark.parametrize("start", STARTS)
def test_no_text_of_a_table_is_a_formula(start: str) -> None:
    rows = [[f"{start}{text}", 1, None] for text in TEXTS]
    found = list(csv.reader(io.StringIO(format_csv(rows), newline="")))
    assert [row[0] for row in found] == [f"'{start}{text}" for text in TEXTS]
    assert not any(cell.startswith(STARTS) for row in found for cell in row)


def test_numbers_and_other_texts_of_a_table_stay() -> None:
    numbers = [-0.5, "-0.5", "+1e5", "-inf", -3, "1"]
    texts = ["a=b", "fc", "'quoted'", "ünï", " =1"]
    [row] = csv.reader(io.StringIO(format_csv([[*numbers, *texts]])))
    assert row == [*map(str, numbers), *texts]


def test_every_table_is_written_by_this_function() -> None:
    package = Path(__file__).resolve().parent.parent / "aerun"
    texts = {path.relative_to(package).as_posix(): path.read_text() for path in package.rglob("*.py")}
    assert [name for name, text in texts.items() if "csv.writer" in text or "DictWriter" in text] == []
    assert {"use/clusters/cluster_table.py", "compare/export.py"} <= {
        name for name, text in texts.items() if "format_csv(" in text
    }


def test_a_log_controls_no_terminal(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "aerun.log")
    message = "a\x1b[2Jb\rc\x9b1m\x7f\ttab\nline\u00e9\u00a0"
    file.emit(logging.LogRecord("aerun", logging.INFO, "", 0, "%s", (message,), None))
    file.close()
    assert (tmp_path / "aerun.log").read_text() == "a\\x1b[2Jb\\x0dc\\x9b1m\\x7f\ttab\nline\u00e9\u00a0\n"
