"""Whatever library fails at the configuration, the memory or the disk: a line, not a traceback."""

from __future__ import annotations

import errno
import io
import json
import logging
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aerun.base.library_errors import out_of_memory
from aerun.base.progress_bar import bar_stream
from aerun.cli.command import guard
from aerun.config.compose import compose_words
from aerun.config.explain import explain
from aerun.config.parse import parse
from aerun.errors import AerunError, ConfigError, DataError, StorageError
from aerun.runs.run_errors import translate_errors

MODEL = b"_target_: aerun.model.FullyConnected\n"
UNREADABLE = [
    "# größer\ndefaults: [fc, _self_]\n".encode("latin-1"),
    b"\xff\xfe" + "a: 1\n".encode("utf-16-le"),
    b"a: \x00\n",
    b"\x80",
    b"a: [1,\n",
    b"a: b: c\n",
    b"\ta: 1\n",
    b"a: &x [*x]\n",
    b"a: &x {b: *x}\n",
    b"a: *nothing\n",
    b"a: !!python/object:os.system {}\n",
    b"a: 1\na: 2\n",
    b"---\na: 1\n---\nb: 2\n",
    b"[1, 2]\n",
    b"3\n",
    b"text\n",
    b"? [1, 2]\n: 3\n",
    b"1: 2\nnull: 3\n",
    b"2020-01-01: 2020-01-01\n",
    b"a: !!binary aGFsbG8=\n",
    b"a: !!set {x, y}\n",
    b"a: ${\n",
    b"a: ${b}\n",
    b"a: ${a}\n",
    b"a: ${nothing:1}\n",
    b"defaults: 3\n",
    b"defaults: [3]\n",
    b"defaults: [{}]\n",
    b"defaults: [mine]\n",
    b"defaults: [nowhere]\n",
    b"defaults: [{override model: fc}]\n",
    b"# @package\na: 1\n",
    b"# @package a..b\na: 1\n",
    b"a: " + b"[" * 3000 + b"]" * 3000 + b"\n",
    b"a: " + b"9" * 5000 + b"\n",
    MODEL + b"hidden: {a: 1}\n",
    MODEL + b"code_size: !!float .nan\n",
    b"_target_: 5\n",
    b"_target_: [a]\n",
    b"_target_: aerun.model\n",
    b"_target_: aerun.model.\n",
    b"_target_: aerun.model.Nothing\n",
    b"_target_: ..\n",
    b"",
]


@pytest.mark.parametrize("content", UNREADABLE, ids=range(len(UNREADABLE)))
def test_a_file_of_the_configuration(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_bytes(content)
    words = [f"hydra.searchpath=['file://{tmp_path}']", "model=mine"]
    with pytest.raises(Exception) as caught:
        parse(*compose_words(words))
    text = explain(caught.value, words)
    assert text and len(text.splitlines()) <= 2, caught.value


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_bytes(UNREADABLE[0])
    with pytest.raises(ConfigError, match=r"model/mine.yaml: is not in UTF-8 .*save it in UTF-8"):
        compose_words([f"hydra.searchpath=['file://{tmp_path}']", "model=mine"])


def saved(array: Any, **more: Any) -> bytes:
    """A .npy file, or with names a .npz file."""
    content = io.BytesIO()
    if more:
        np.savez(content, **more)
    else:
        np.save(content, array, allow_pickle=True)
    return content.getvalue()


def headed(text: str) -> bytes:
    """A .npy file with that header and no numbers."""
    return b"\x93NUMPY\x01\x00\x76\x00" + text.encode().ljust(117) + b"\n"


def zipped(name: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr(name, b"nonsense")
    return content.getvalue()


ROWS = np.random.default_rng(0).random((40, 6), np.float32)
NPZ = saved(None, images=ROWS)
DAMAGED = {
    "text.npz": b"hello",
    "empty.npy": b"",
    "half.npz": NPZ[: len(NPZ) // 2],
    "flipped.npz": NPZ[:60] + bytes([NPZ[60] ^ 255]) + NPZ[61:],
    "member.npz": zipped("images.npy"),
    "other.npz": zipped("images.txt"),
    "objects.npy": saved(np.array([{1: 2}], object)),
    "number.npy": saved(np.float32(3)),
    "records.npy": saved(np.zeros((40, 6), [("a", "f4")])),
    "texts.npy": saved(np.full((40, 6), "a")),
    "dates.npy": saved(np.zeros((40, 6), "M8[s]")),
    "complex.npy": saved(ROWS.astype(complex)),
    "nan.npy": saved(ROWS * np.nan),
    "none.npy": saved(ROWS[:0]),
    "one.npy": saved(ROWS[:1]),
    "calls.npy": headed("{'descr': __import__('os'), 'fortran_order': False, 'shape': (1,)}"),
    "huge.npy": headed("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 6), }"),
    "negative.npy": headed("{'descr': '<f4', 'fortran_order': False, 'shape': (-4, 6), }"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_of_arrays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(DAMAGED[name])
    settings = parse(*compose_words(["dataset=array", f"dataset.root={tmp_path / name}", "model.code_size=4"]))
    with pytest.raises(AerunError) as caught:
        settings.dataset.load(torch.device("cpu"))
    assert len(str(caught.value).splitlines()) == 1


def memory_errors() -> list[BaseException]:
    """As torch, NumPy and the system raise them; the first two by asking for more than there is."""
    found: list[BaseException] = []
    for ask in (lambda: torch.empty(1 << 56), lambda: np.ones(1 << 56)):
        with pytest.raises(Exception) as caught:
            ask()
        found.append(caught.value)
    texts = [
        "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: out of memory",
        "MPS backend out of memory (MPS allocated: 1 GB)",
        "std::bad_alloc",
    ]
    raised = [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError()]
    return [*found, *map(RuntimeError, texts), *raised, OSError(errno.ENOMEM, "Cannot allocate memory")]


def test_memory_that_runs_out(compose: Any, tmp_path: Path) -> None:
    settings = parse(compose([]))
    for error in memory_errors():
        assert "out of memory" in str(explain(error)), error  # type: ignore[arg-type]
        with (
            pytest.raises(ConfigError, match=r"trainer\.batch_size=.*: out of memory"),
            translate_errors(settings, tmp_path),
        ):
            raise error
    for mistake in (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), TypeError("memory"), ValueError("x")):
        assert out_of_memory(mistake) is None and explain(mistake) is None
        with pytest.raises(type(mistake)) as caught, translate_errors(settings, tmp_path):
            raise mistake
        assert caught.value is mistake


@pytest.mark.parametrize("place", ["x" * 400, "/proc/nowhere", "/dev/null/x"])
def test_files_that_cannot_be_made(compose: Any, tmp_path: Path, place: str) -> None:
    settings, path = parse(compose([])), tmp_path / place
    with pytest.raises(OSError, match=r"Errno") as caught:
        path.mkdir()
    text = explain(caught.value)
    assert text is not None and str(path) in text and "[Errno" not in text
    with pytest.raises(StorageError, match=place), translate_errors(settings, tmp_path):
        raise caught.value


COMMANDS = "x\r\n\x07\x1b]0;title\x07\x1b[2J\x7f\x9b31m\u202e\u2028y \xa0\u00e9"
ESCAPED = r"x\r\n\u0007\u001b]0;title\u0007\u001b[2J\u007f\u009b31m\u202e\u2028y " + "\xa0\u00e9"


def test_the_text_of_an_error_stays_in_its_line() -> None:
    assert str(DataError(COMMANDS)) == str(DataError(str(DataError(COMMANDS)))) == ESCAPED
    assert json.loads(f'"{ESCAPED}"') == COMMANDS


def test_no_text_that_a_command_prints_or_logs_commands_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Line breaks, tabs and colors are as they are; progress bars get the stream itself."""

    def command() -> int:
        logger = logging.getLogger("somebody")
        handler = logging.StreamHandler(sys.stdout)
        logger.addHandler(handler)
        logger.warning("warned of %s", "\x1b[2J")
        logger.removeHandler(handler)
        print("a\tb\n\x1b[31mred\x1b[0m", "\x1b]0;title\x07", json.dumps("\x85", ensure_ascii=False))
        bar_stream().write("\r10%\x1b[A")
        raise DataError(f"{COMMANDS}: is damaged")

    assert guard(lambda: guard(command)) == 1
    out, err = capsys.readouterr()
    assert out == 'warned of \\u001b[2J\na\tb\n\x1b[31mred\x1b[0m \\u001b]0;title\\u0007 "\\u0085"\n'
    assert err == f"\r10%\x1b[Aaerun: {ESCAPED}: is damaged\n"
