"""Commands in forked children with a limit of time and memory, and what an attacker must not reach with them."""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import logging
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NoReturn

SECONDS, MEBIBYTES = 300.0, 6 << 10  # of one command: what takes longer on a busy machine hangs
CONTROLS = re.compile(r"[^\n\t -~\u00a0-\U0010ffff]")
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
# In nearly every text of an attack: a formula, a terminal's title and clearing, a line of its own, and HTML.
SPOOF = "SPOOFED"
PAYLOAD = (
    f"=cmd()\x1b]0;owned\x07\x1b[2J\r\n{SPOOF} <script>owned()</script><img src=https://evil.example/x "
    "onerror=owned()>\"' onload=owned() x=\x9b31m\x7f\u2028${oc.env:SECRET}"
)


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, negative for a signal, None at the limit of time; and what it printed."""

    code: int | None
    out: str
    err: str
    seconds: float


def run_forked(command: Callable[[], object], folder: Path, seconds: float = SECONDS, **environment: str) -> Ended:
    """Run a command in a forked child in ``folder``. What it returns is its exit code."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        sys.stderr.flush()
        clock = time.perf_counter()
        child = os.fork()
        if not child:
            _become(command, folder, (out.fileno(), err.fileno()), environment)
        code = _wait(child, clock + seconds)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="backslashreplace"))
    return Ended(code, *texts, time.perf_counter() - clock)


def _wait(child: int, end: float) -> int | None:
    while (found := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.perf_counter() > end:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(found[1])


def _become(command: Callable[[], object], folder: Path, outputs: tuple[int, int], extra: dict[str, str]) -> NoReturn:
    """Run the command in this process as a shell would start it, and end."""
    code: object = 1
    try:
        os.setsid()
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * os.sysconf("SC_PAGE_SIZE") + (MEBIBYTES << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, place in enumerate(outputs, 1):
            os.dup2(place, number)
        sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb"), encoding="utf-8")
        sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb"), encoding="utf-8", errors="backslashreplace")
        logging.getLogger().handlers.clear()
        logging.disable(logging.NOTSET)
        os.environ.update(extra)
        os.chdir(folder)
        code = command()
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code & 255 if isinstance(code, int) else 0 if code is None else 1)


def console(name: str, *words: object) -> Callable[[], object]:
    """A console command of aerun, as typed."""

    def typed() -> object:
        sys.argv = [f"aerun-{name}", *map(str, words)]
        sys.orig_argv = [sys.executable, *sys.argv]
        return importlib.import_module(f"aerun.cli.{name}").main()

    return typed


def import_commands() -> None:
    """Import what children would import one by one."""
    for name in ("train", "compare", "doctor", "evaluate", "export", "embed", "denoise", "generate", "map", "search"):
        importlib.import_module(f"aerun.cli.{name}")
    for name in ("runs.run", "runs.diagnose", "runs.reopen", "sweep.plugin", "compare.report_pictures"):
        importlib.import_module(f"aerun.{name}")
    for name in ("torch.utils.tensorboard", "matplotlib.figure", "sklearn.decomposition"):
        importlib.import_module(name)


def tree(folder: Path, without: Iterable[Path] = ()) -> dict[str, tuple[Any, ...]]:
    """What is below a folder: links with their targets, files with size and time of writing, and other entries."""
    left_out, found, folders = {str(path) for path in without}, dict[str, tuple[Any, ...]](), [str(folder)]
    while folders:
        for entry in os.scandir(folders.pop()):
            if entry.path in left_out:
                continue
            status = entry.stat(follow_symlinks=False)
            if entry.is_symlink():
                found[entry.path] = ("link", str(Path(entry.path).readlink()))
            elif entry.is_dir(follow_symlinks=False):
                found[entry.path] = ("folder",)
                folders.append(entry.path)
            else:
                found[entry.path] = (status.st_mode, status.st_size, status.st_mtime_ns)
    return found


def changes(before: dict[str, tuple[Any, ...]], after: dict[str, tuple[Any, ...]]) -> list[str]:
    """The names of what is not the same."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def found_canaries(folder: Path) -> list[str]:
    """The files that code of an attack has made; they are removed."""
    found = sorted(folder.iterdir())
    for path in found:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return [f"code of the attack has run: {path.name}" for path in found]


def wrong_end(ended: Ended, quoted: bool = False) -> Iterator[str]:
    """What is wrong with how a command ended, or with what it printed. ``quoted``: the lines of a cell are its own."""
    if ended.code is None:
        yield f"did not end within {ended.seconds:.0f} s"
    elif ended.code < 0:
        yield f"ended by signal {-ended.code}"
    for name, text in (("stdout", ended.out), ("stderr", ended.err)):
        if "Traceback (most recent" in text:
            yield f"a traceback: {text.strip().splitlines()[-1][:200]!r}"
        if found := CONTROLS.search(text):
            place = found.start()
            yield f"{name} has a control character: {text[max(0, place - 60) : place + 10]!r}"
        if not quoted and re.search(rf"^{SPOOF}", text, re.MULTILINE):
            yield f"a text begins a line of {name}"


class Page(HTMLParser):
    """Collects what a page could run or load."""

    def __init__(self, script: str) -> None:
        super().__init__()
        self.script, self.wrong, self.scripts, self._inside = script.strip(), list[str](), 0, False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "script"
        self.scripts += tag == "script"
        if tag in ("iframe", "object", "embed", "base", "form", "svg", "link"):
            self.wrong.append(f"the page has <{tag}>")
        for name, value in attributes:
            if name.startswith("on") or name == "style":
                self.wrong.append(f"the page has {name}={value!r:.80}")
            elif name in ("src", "href", "action", "srcset") and (
                re.match(r"\s*(?!data:image/png;base64,)[\w+.-]+:", value or "") or (value or "").startswith("//")
            ):
                self.wrong.append(f"the page leads to {value!r:.80}")

    def handle_data(self, data: str) -> None:
        if self._inside and data.strip() not in ("", self.script):
            self.wrong.append(f"the page has a script: {data!r:.80}")

    def handle_endtag(self, tag: str) -> None:
        self._inside = False


def wrong_page(path: Path, script: Path) -> list[str]:
    """What a page of a comparison would run or load besides its own script."""
    page = Page(script.read_text())
    page.feed(path.read_text())
    page.close()
    return page.wrong + ([f"the page has {page.scripts} scripts"] if page.scripts != 1 else [])


def wrong_cells(text: str) -> list[str]:
    """The cells of a CSV text that a spreadsheet would compute."""

    def is_number(cell: str) -> bool:
        with contextlib.suppress(ValueError):
            return float(cell) is not None
        return False

    csv.field_size_limit(1 << 30)
    cells = (cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row)
    return [
        f"a formula in a cell: {cell[:80]!r}" for cell in cells if cell.startswith(FORMULAS) and not is_number(cell)
    ]


@dataclass
class Findings:
    """How many attacks and commands there were, what went wrong, and how long the slowest took."""

    attacks: int = 0
    commands: int = 0
    refused: int = 0
    slowest: float = 0.0
    slowest_case: str = ""
    wrong: list[str] = field(default_factory=list)

    def add(self, ended: Ended, case: str, problems: Iterable[str]) -> None:
        self.commands += 1
        self.refused += ended.code not in (0, None)
        if ended.seconds > self.slowest:
            self.slowest, self.slowest_case = ended.seconds, case
        self.wrong += [f"{case}: {problem}" for problem in problems]
