"""Trackers on a server that is down, slow, or gone: nothing waits for it, and it has each number once in the end."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from aerun.base.lock import FolderLock
from aerun.config.parse import parse
from aerun.contracts import TrackedRun
from aerun.errors import ConfigError
from aerun.runs.send import send_run
from aerun.tracker.remote import Remote
from aerun.tracker.rows import Row, RowReader
from aerun.tracker.servers import MLflow
from tests.test_trackers import SMALL, Compose, go, stop, table, weights


@dataclass
class Server:
    """What a server has, and how it behaves."""

    numbers: list[tuple[str, int, str, float]] = field(default_factory=list)
    runs: dict[str, TrackedRun] = field(default_factory=dict)
    figures: list[str] = field(default_factory=list)
    ended: list[bool] = field(default_factory=list)
    down: bool = False
    refuse_after: int | None = None  # numbers
    hangs: threading.Event | None = None

    def answer(self) -> None:
        if self.hangs is not None:
            self.hangs.wait()
        if self.down:
            raise ConnectionError("nobody listens")

    def rows(self) -> list[tuple[int, str, float]]:
        return [(step, name, value) for _, step, name, value in self.numbers if name != "train/images_per_second"]


SERVER = Server()


@pytest.fixture(autouse=True)
def server() -> Iterator[Server]:
    """A new server for each test."""
    global SERVER
    SERVER = Server()
    yield SERVER
    if SERVER.hangs is not None:
        SERVER.hangs.set()


class Fake(Remote):
    """Sends to SERVER."""

    service = "json"  # a package that there is

    def __init__(self, wait_seconds: float = 30) -> None:
        self.wait_seconds = wait_seconds

    def connect(self, run: TrackedRun, key: str) -> None:
        SERVER.answer()
        self.key = key
        SERVER.runs[key] = run

    def send(self, rows: Sequence[Row]) -> None:
        assert len({row.step for row in rows}) == 1
        SERVER.answer()
        if SERVER.refuse_after is not None and len(SERVER.numbers) >= SERVER.refuse_after:
            raise ConnectionError("full")
        SERVER.numbers += [(self.key, row.step, row.name, row.value) for row in rows]

    def send_figure(self, path: Path, step: int) -> None:
        SERVER.answer()
        SERVER.figures.append(path.name)

    def disconnect(self, finished: bool) -> None:
        SERVER.answer()
        SERVER.ended.append(finished)


def fake(wait_seconds: float = 30) -> list[str]:
    node = f"{{_target_: tests.test_remote.Fake,wait_seconds: {wait_seconds}}}"
    return ["tracker=csv", f"+tracker.json={node}", "trusted_packages=[tests]"]


def test_a_run_is_on_the_server_with_all_its_numbers(compose: Compose, tmp_path: Path) -> None:
    folder = go(compose, tmp_path / "run", *fake(), "seed=2")
    assert SERVER.rows() == table(folder)
    [described] = SERVER.runs.values()
    assert described.name == "run" and described.settings["seed"] == 2
    assert sorted(SERVER.figures) == sorted(path.name for path in (folder / "figures").glob("*.png"))
    assert SERVER.ended == [True]


def test_a_server_that_is_down_changes_nothing_and_gets_everything_later(
    compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = go(compose, tmp_path / "plain", "tracker=csv")
    SERVER.down = True
    folder = go(compose, tmp_path / "run", *fake())
    assert weights(plain) == weights(folder) and table(plain) == table(folder)
    assert not SERVER.numbers
    assert caplog.text.count("ConnectionError: nobody listens; the run continues") == 1
    count = len(RowReader(folder).read())
    assert f"tracker=json: {count} rows of scalars.csv are not sent yet; aerun-track {folder} sends them" in caplog.text
    SERVER.down = False
    assert send_run(folder, {"json": Fake()}) == {"json": count}
    assert SERVER.rows() == table(folder) and SERVER.ended == [True] and SERVER.figures
    assert send_run(folder, {"json": Fake()}) == {"json": 0}
    assert SERVER.rows() == table(folder) and SERVER.ended == [True] and len(set(SERVER.figures)) == len(SERVER.figures)


@pytest.mark.parametrize("after", [1, 5, 20])
def test_what_was_sent_before_an_error_is_not_sent_again(compose: Compose, tmp_path: Path, after: int) -> None:
    SERVER.refuse_after = after
    folder = go(compose, tmp_path / "run", *fake())
    SERVER.refuse_after = None
    send_run(folder, {"json": Fake()})
    assert len(SERVER.runs) == 1
    assert sorted(SERVER.rows()) == sorted(set(table(folder)))


@pytest.mark.parametrize("at", [2, 7, 11])
@pytest.mark.parametrize("down_before", [True, False])
def test_a_resumed_run_is_continued_there_without_doubled_points(
    compose: Compose, tmp_path: Path, at: int, down_before: bool
) -> None:
    whole = go(compose, tmp_path / "whole", "tracker=csv")
    SERVER.down = down_before
    stop(compose, tmp_path / "cut", at, *fake())
    SERVER.down = False
    folder = go(compose, tmp_path / "cut", *fake())
    assert len(SERVER.runs) == 1
    assert SERVER.rows() == table(folder) == table(whole)
    assert SERVER.ended == ([True] if down_before else [False, True])


def test_what_was_sent_after_the_checkpoint_is_not_sent_again(compose: Compose, tmp_path: Path) -> None:
    """As after a kill: the server has more than the checkpoint, and scalars.csv is cut back."""
    whole = go(compose, tmp_path / "whole", "tracker=csv")
    folder = tmp_path / "cut"
    stop(compose, folder, 9, *fake())
    rows = [row for row in RowReader(whole).read() if row.step > 9 and row.step <= 12]
    key = next(iter(SERVER.runs))
    SERVER.numbers += [(key, row.step, row.name, row.value) for row in rows]
    sent = json.loads((folder / "sent_json.json").read_text())
    sent |= {"rows": sent["rows"] + len(rows), "step": rows[-1].step, "name": rows[-1].name}
    (folder / "sent_json.json").write_text(json.dumps(sent))
    go(compose, folder, *fake())
    assert SERVER.rows() == table(whole)


def test_a_slow_server_is_waited_for_no_longer_than_asked(
    compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    SERVER.hangs = threading.Event()
    folder = go(compose, tmp_path / "run", *fake(wait_seconds=0.2))
    assert not SERVER.runs  # the run has ended before the server answers
    assert "are not sent yet" in caplog.text and (folder / "summary.json").exists()
    SERVER.hangs.set()
    for thread in threading.enumerate():
        if thread.name == "tracker.json":
            thread.join(30)
    SERVER.hangs = None
    send_run(folder, {"json": Fake()})
    assert sorted(SERVER.rows()) == sorted(table(folder))


def test_an_older_run_is_sent_from_its_metrics(compose: Compose, tmp_path: Path) -> None:
    folder = go(compose, tmp_path / "run", "tracker=none")
    send_run(folder, {"json": Fake()})
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((folder / "summary.json").read_text())
    found = {(step, name): value for step, name, value in SERVER.rows()}
    assert len(found) == len(SERVER.rows())
    assert found[lines[1]["step"], "validation/loss"] == lines[1]["validation/loss"]
    assert found[summary["steps"] + 1, "test/mse"] == summary["test"]["mse"]
    assert not {"epoch", "step", "stage"} & {name for _, name in found}


def test_a_damaged_record_of_what_was_sent_is_said(
    compose: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stop(compose, tmp_path / "run", 7, *fake())
    (tmp_path / "run" / "sent_json.json").write_text('{"key": 3}')
    go(compose, tmp_path / "run", *fake())
    assert "sent_json.json: does not say what was sent (rows: is missing); delete it" in caplog.text


def test_a_missing_package_is_said_before_work_begins_but_a_folder_is_read_without_it(compose: Compose) -> None:
    class Missing(MLflow):
        service = "no_such_package"

    config = compose([*SMALL, "tracker=mlflow"])
    parse(config)
    settings = parse(config, overrides=["seed=1"]) if _has("mlflow") else None
    assert settings is None or settings.tracker
    with pytest.raises(ConfigError, match=r"tracker=no_such_package: needs no_such_package; pip install 'aerun\["):
        Missing(None, None, 1.0).check_package()
    if not _has("mlflow"):
        with pytest.raises(ConfigError, match=r"tracker=mlflow: needs mlflow; pip install 'aerun\[mlflow\]'"):
            parse(config, overrides=["tracker=mlflow"])


def _has(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def test_the_command_sends_all_runs_and_says_which_cannot_be_sent(
    compose: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from aerun.cli import track
    from aerun.tracker import servers

    @dataclass
    class Here(Fake):
        uri: str | None
        experiment: str | None
        wait_seconds: float

    Here.__module__ = servers.__name__  # files name only classes that are defined in aerun
    monkeypatch.setattr(servers, "MLflow", Here)
    monkeypatch.setattr("aerun.tracker.MLflow", Here)
    first = go(compose, tmp_path / "first", "tracker=csv")
    go(compose, tmp_path / "second", "tracker=none")
    (tmp_path / "second" / "metrics.jsonl").unlink()
    (tmp_path / "second" / "metrics.jsonl").mkdir()

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["aerun-track", *words])
        code = track.main()
        return code, *capsys.readouterr()

    assert call(str(tmp_path)) == (
        0,
        "".join(
            f"{tmp_path / name}: has no tracker on a server; name one, tracker=NAME\n" for name in ("first", "second")
        ),
        "",
    )
    code, out, error = call(str(tmp_path), "tracker=mlflow")
    count = len(RowReader(first).read())
    assert code == 1 and out == f"{first}: {count} numbers to mlflow\n", error
    assert error.startswith(
        f"{tmp_path / 'second'}: is not sent ({tmp_path / 'second' / 'metrics.jsonl'}: cannot be read"
    )
    assert call(str(first), "tracker=mlflow")[:2] == (0, f"{first}: 0 numbers to mlflow\n")
    assert call(str(first), "tracker=csv")[2] == "aerun: tracker=csv: names no tracker on a server\n"
    assert "only tracker=NAME and its keys" in call(str(first), "seed=1")[2]
    with FolderLock(first):
        assert call(str(first), "tracker=mlflow")[1].endswith("is running, and sends by itself\n")
