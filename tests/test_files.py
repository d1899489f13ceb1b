"""Files are replaced completely or not at all."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aerun.base.files import atomic_write, write_text
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
