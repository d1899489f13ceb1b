"""The long fault campaigns, written to their section of docs/reliability.md.

    python benchmarks/reliability.py            # about half an hour on one core
    python benchmarks/reliability.py --only pictures --suites FOLDER...    # folders of real pictures

tests/faults runs short versions of the same.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import processor  # noqa: E402
from benchmarks.page import write_section  # noqa: E402
from tests.faults import (  # noqa: E402
    corruption,
    forked,
    hostile_configs,
    hostile_runs,
    kills,
    leaves,
    memory,
    names,
    readers,
    sockets,
    suites,
    threads,
    typed_files,
)
from tests.sweep import campaign as sweeps  # noqa: E402
from tests.sweep import moving  # noqa: E402


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """Overrides -> the resolved configuration."""
    import hydra
    from hydra import initialize_config_dir

    from aerun.base.conf import conf_dir
    from aerun.config.compose import run_config

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return run_config(hydra.compose("train", overrides=list(overrides)), overrides)


def kill_rows(folder: Path, count: int) -> list[tuple[str, str]]:
    found = kills.campaign(compose, folder, count)
    for problem in found["failed"]:
        print(problem, file=sys.stderr)
    text = f"{found['kills']} kills; {found['identical']} of {count} runs ended bit-identical to the undisturbed one"
    return [("SIGKILL at random times, half of the runs twice, then continued", text)]


def checkpoint_rows(folder: Path, count: int) -> list[tuple[str, str]]:
    found = corruption.damaged_checkpoints(compose, folder, count, continued=10)
    text = (
        f"{found['detected']} of {found['damaged']} detected; {found['identical']} of 10 runs went on to the same end"
    )
    return [(f"a checkpoint truncated at {count} lengths, and with one bit flipped in {count} places", text)]


def disk_rows(folder: Path, count: int) -> list[tuple[str, str]]:
    try:
        found = corruption.full_disks(compose, folder, count)
    except OSError as error:
        return [("a full disk", f"not run: {error}")]
    text = (
        f"{found['stopped by it']} of {count} runs were stopped by it, {found['clear']} of them with an error that "
        f"says so; {found['kept']} kept only whole checkpoints; {found['identical']} ended bit-identical after space "
        "was freed"
    )
    return [("a small tmpfs filled at a random moment", text)]


def leaf_rows(folder: Path) -> list[tuple[str, str]]:
    found = leaves.campaign(compose, folder)
    for problem in found["wrong"]:
        print(problem, file=sys.stderr)
    text = (
        f"{found['cases']} cases: {found['trained']} trained a step, {found['refused']} were refused by name in a "
        f"line, {len(found['wrong'])} did anything else; the slowest took {found['slowest']:.1f} s"
    )
    return [(f"every leaf of the configuration given {len(leaves.BAD)} bad values", text)]


def reader_rows(folder: Path, count: int) -> list[tuple[str, str]]:
    rows = []
    for name, found in readers.campaign(folder, readers.shares(count)).items():
        counts = f"{found['read']:,} read, {found['refused']:,} refused, {len(found['crashes'])} crashes"
        rows.append((f"{found['inputs']:,} damaged and made-up files for the reader of: {name}", counts))
        for problem in found["crashes"][:5]:
            print(name, problem, file=sys.stderr)
    return rows


def typed_rows(folder: Path) -> list[tuple[str, str]]:
    found = typed_files.campaign(folder)
    for problem in found.wrong:
        print(problem, file=sys.stderr)
    text = (
        f"{sum(found.cases.values()):,} cases: each was read, or refused with the file or the key in a line, and no "
        f"bad run ended a comparison, but for {len(found.wrong)}; the slowest took {found.slowest:.1f} s"
    )
    kinds = f"{len(typed_files.VALUES)} values of other types"
    return [(f"every value of every file of a run folder replaced by {kinds}, and every file by no file", text)]


def hostile_text(found: forked.Findings, more: str = "") -> str:
    for problem in found.wrong:
        print(problem, file=sys.stderr)
    return (
        f"{found.attacks:,} attacks, drawn at random, on a command each: all ended without a traceback, ran nothing, "
        f"changed nothing outside, controlled no terminal{more}, but for {len(found.wrong)}; the slowest "
        f"took {found.slowest:.1f} s"
    )


def hostile_run_rows(folder: Path, share: float) -> list[tuple[str, str]]:
    text = hostile_text(hostile_runs.campaign(folder, commands=1, share=share))
    what = "run folders made by an attacker, read by all commands: bombs, classes that run code, pickles, links, paths"
    return [(f"{what}, texts that control a terminal, a page or a spreadsheet", text)]


def hostile_config_rows(folder: Path, share: float) -> list[tuple[str, str]]:
    text = hostile_text(hostile_configs.campaign(folder, share), ", wrote the secret to no file")
    what = "a folder of configurations made by an attacker: options of every group that run code or read a secret"
    return [(f"{what}, chosen singly, by an experiment and in a sweep", text)]


def socket_rows(folder: Path) -> list[tuple[str, str]]:
    found = sockets.campaign(folder)
    every = [(kind, socket) for kind, of_kind in found.items() for socket in of_kind]
    text = (
        f"{len(every)} sockets, in {len({kind for kind, _ in every})} kinds; "
        f"{len(sockets.reachable(socket for _, socket in every))} can be reached from another machine"
    )
    return [(f"listening sockets of all processes of {len(found)} kinds of runs and commands", text)]


def name_rows(folder: Path) -> list[tuple[str, str]]:
    given = names.all_names()
    found = names.campaign(folder, given)
    text = ", ".join(f"{command} {count:,}" for command, count in found.items())
    return [(f"{len(given):,} names of pictures and folders, found again byte for byte", text)]


def thread_rows(folder: Path, seeds: int) -> list[tuple[str, str]]:
    found = threads.campaign(folder, seeds)
    text = "bit-identical to alone: " + ", ".join(f"{kind} {same} of {of}" for kind, (same, of) in found.items())
    return [(f"work in {', '.join(map(str, threads.THREADS))} threads that switch every 10 µs, {seeds} seeds", text)]


def memory_rows(folder: Path, count: int) -> list[tuple[str, str]]:
    found = memory.campaign(compose, folder, count)
    text = (
        f"resident memory {found['memory growth']:+.1%} after the tenth; open files {found['open files'][0]} -> "
        f"{found['open files'][1]}; threads {found['threads'][0]} -> {found['threads'][1]}"
    )
    return [(f"{count} short runs in one process", text)]


def jobs_text(found: dict[str, Any]) -> str:
    for problem in found["failed"].items():
        print(problem, file=sys.stderr)
    return (
        f"{found['identical']} of {found['jobs']} jobs ended bit-identical to undisturbed ones; "
        f"{len(found['run again'])} ran again after they had finished"
    )


def counted(numbers: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


def sweep_rows(folder: Path, count: int) -> list[tuple[str, str]]:
    found = sweeps.campaign(folder, count)
    what = f"a sweep of {found['jobs']} jobs on two processes, SIGKILL at {count} random moments, repeated"
    return [(what, f"{counted(found['kills'])}; {jobs_text(found)}; {found['stayed behind']} workers stayed behind")]


def moved_row(what: str, found: dict[str, Any], more: str = "") -> list[tuple[str, str]]:
    route = " -> ".join(leg.name for leg in moving.legs())
    text = f"{counted(found['kills'])}; {jobs_text(found)}; by host: {counted(found['ended on'])}{more}"
    return [(f"{what} moved {route}, SIGKILL at {sum(found['kills'].values())} random moments", text)]


def moving_rows(folder: Path, count: int) -> list[tuple[str, str]]:
    return moved_row("a sweep", moving.grid_campaign(folder, count))


def moving_search_rows(folder: Path, count: int) -> list[tuple[str, str]]:
    found = moving.search_campaign(folder, count)
    more = (
        f"; {found['complete']} of {moving.TRIALS} trials complete, with {found['points']} points in "
        f"{found['folders']} folders; {len(found['open'])} open"
    )
    return moved_row("a search", found, more)


def picture_rows(place: Path, folders: list[Path]) -> list[tuple[str, str]]:
    rows = []
    for folder in folders:
        found = suites.campaign(folder, place / folder.name)
        rows.append(
            (
                f"{found['pictures']:,} pictures of {folder.name}, read, and written again without cleaning",
                f"{found['read']:,} read, {found['refused']:,} refused by name, 0 crashes; {found['changed']:,} of "
                f"the written ones damaged, refused or seen as another; {found['left out']:,} other files counted",
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", type=int, help="only so many runs in one process, printed as JSON")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these again, and keep the other rows")
    parser.add_argument("--folder", type=Path, help="where runs go; a temporary folder by default")
    parser.add_argument("--suites", nargs="+", type=Path, default=[], help="folders of real pictures, for pictures")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.disable()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        os.environ["AERUN_DATA"] = str(folder / "cache")
        if arguments.memory:
            print(json.dumps(memory.campaign(compose, folder, arguments.memory)))
            return
        campaigns = [
            ("kills", lambda place: kill_rows(place, 50)),
            ("checkpoints", lambda place: checkpoint_rows(place, 64)),
            ("disks", lambda place: disk_rows(place, 20)),
            ("leaves", leaf_rows),
            ("readers", lambda place: reader_rows(place, 200_000)),
            ("typed", typed_rows),
            ("memory", lambda place: memory_rows(place, 200)),
            ("sweeps", lambda place: sweep_rows(place, 10)),
            ("moving", lambda place: moving_rows(place, 10)),
            ("moving-search", lambda place: moving_search_rows(place, 10)),
            ("hostile-runs", lambda place: hostile_run_rows(place, 0.5)),
            ("hostile-configs", lambda place: hostile_config_rows(place, 0.15)),
            ("sockets", socket_rows),
            ("names", name_rows),
            ("threads", lambda place: thread_rows(place, 6)),
            ("pictures", lambda place: picture_rows(place, arguments.suites)),
        ]
        known = [name for name, _ in campaigns]
        if unknown := set(arguments.only or ()) - set(known):
            parser.error(f"--only {' '.join(sorted(unknown))}: must be of {', '.join(known)}")
        page = ROOT / "docs" / "reliability.md"
        rows: dict[str, str] = {}
        for name, campaign in campaigns:
            if arguments.only and name not in arguments.only:
                continue
            (folder / name).mkdir()
            clock = time.perf_counter()
            found = campaign(folder / name)
            minutes = f"{(time.perf_counter() - clock) / 60:.1f}"
            for fault, text in found:
                rows[fault] = f"| {fault} | {text} | {minutes} | {date.today()} |"
                minutes = ""
                print(rows[fault], flush=True)
    head = (
        f"Made by `python benchmarks/reliability.py`, {processor()}; each row on its day. "
        "Bit-identical means: weights, optimizer state, metrics.jsonl, summary, figures and TensorBoard's scalars and "
        "images, with no step missing or doubled; only times and speeds may differ.\n"
    )
    rows = {**(read_rows(page) if arguments.only else {}), **rows}  # read now: another campaign may have written some
    text = "\n".join([head, "| fault | outcome | minutes | day |", "|---|---|---|---|", *rows.values()])
    write_section("faults", text, page)


def read_rows(page: Path) -> dict[str, str]:
    """The rows of an earlier report, by their fault."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("| ")][1:]
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines}


if __name__ == "__main__":
    main()
