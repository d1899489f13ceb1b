"""scripts/house.py: its figures for small packages where each is known."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from scripts import house_counts as counts
from scripts.house import BATCH, GOALS, count_structure, count_style, follow_batch, measure, misses

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, str(ROOT / "scripts" / "house.py")]

# Two rooms that import each other, and inside the lower one two files that do.
PACKAGE = {
    "aerun/__init__.py": "",
    "aerun/high.py": "from aerun.low import VALUE, one\nimport os, aerun.low.two\n",
    "aerun/low/__init__.py": "VALUE = 1\n",
    "aerun/low/one.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .two import f\n",
    "aerun/low/two.py": "from . import one\n"
    "def f():\n    def g():\n        from aerun import high\n    return getattr(one, 'f')\n",
    "scripts/go.py": "from aerun.high import VALUE\n",
}
TWO = 'ROOMS: tuple[str, ...] = ("__init__", "high", "low")\n'

LOOP = """
    import functools
    import torch
    from aerun import loss, report
    from aerun.batches import Batches

    def train(steps):
        weight = torch.nn.Parameter(torch.ones(1))
        optimizer = torch.optim.SGD([weight], lr=0.1)
        function = type(optimizer).step
        while hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        step = functools.partial(torch.no_grad()(function), optimizer)  # passes by hooks on Optimizer.step
        report.begin()
        for batch in Batches(steps):
            optimizer.zero_grad()
            loss.error(weight, batch, 1.0).backward()
            step()
        report.end()
"""
RUN = {
    "aerun/__init__.py": "def offered():\n    from aerun.cli import main\n    main()\n",
    "aerun/cli.py": "def main():\n    from aerun.loop import train\n    train(steps=int(STEPS))\n",
    "aerun/loop.py": LOOP.replace("\n    ", "\n"),
    "aerun/batches.py": "import torch\ndef Batches(steps):\n    for step in range(steps):\n"
    "        if step == 2:\n            import aerun.late\n        yield torch.full((4, 1), float(step))\n",
    "aerun/late.py": "VALUE = 1\n",
    "aerun/loss.py": "from aerun import power\nerror = lambda w, x, scale: power.square((w - x).mean() * scale)\n",
    "aerun/power.py": "def square(x):\n    return sum([(lambda: x * x)() for _ in range(1)])\n",
    "aerun/report.py": "def begin():\n    print('begin')\ndef end():\n    raise SystemExit('no more steps')\n",
    "scripts/train.py": "import aerun; aerun.offered()\n",
}


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_rooms_arrows_and_circles_of_two_rooms_that_import_each_other(tmp_path: Path) -> None:
    house = count_structure(write(tmp_path, {**PACKAGE, "tests/test_layers.py": TWO}))
    assert house.figures == {
        "rooms (aerun/, scripts/, benchmarks/)": 4,
        "rooms of aerun/": 3,
        "arrows between rooms": 3,
        "arrows between rooms of aerun/": 2,
        "arrows between files of different rooms": 5,
        "arrows upwards": 1,
        "arrows upwards inside rooms": 1,
        "names by which ROOMS and the rooms differ": 0,
        "circles of rooms": 1,
        "circles of files": 1,
        "rooms in circles": 2,
        "files in circles": 3,
    }
    assert house.names["arrows upwards"] == ["low -> high, in aerun/low/two.py"]
    assert house.names["circles of rooms"] == ["high, low"]
    assert house.names["circles of files"] == ["aerun/high.py, aerun/low/one.py, aerun/low/two.py"]


def test_a_file_leads_to_the_files_that_it_names_and_no_others(tmp_path: Path) -> None:
    arrows = counts.file_arrows(counts.parse_files(write(tmp_path, PACKAGE), "aerun", "scripts"))
    assert arrows == {
        ("scripts/go.py", "aerun/high.py"),
        ("aerun/high.py", "aerun/low/__init__.py"),
        ("aerun/high.py", "aerun/low/one.py"),
        ("aerun/high.py", "aerun/low/two.py"),
        ("aerun/low/one.py", "aerun/low/two.py"),
        ("aerun/low/two.py", "aerun/low/one.py"),
        ("aerun/low/two.py", "aerun/high.py"),
    }


def test_rooms_that_the_order_lacks_and_names_without_a_room_are_named(tmp_path: Path) -> None:
    layers = 'ROOMS = ("__init__", "high", "gone")\n'
    house = count_structure(write(tmp_path, {**PACKAGE, "tests/test_layers.py": layers}))
    assert house.names["names by which ROOMS and the rooms differ"] == ["gone", "low"]
    assert misses(house.figures)[0] == "names by which ROOMS and the rooms differ: 2, at most 0"


def test_rooms_of_one_floor_may_not_import_each_other(tmp_path: Path) -> None:
    layers = 'ROOMS = ("__init__", ("high", "low"))\n'
    house = count_structure(write(tmp_path, {**PACKAGE, "tests/test_layers.py": layers}))
    assert [line.partition(",")[0] for line in house.names["arrows upwards"]] == ["high -> low", "low -> high"]


def test_without_rooms_in_order_one_is_derived(tmp_path: Path) -> None:
    assert counts.declared_floors(tmp_path) is None
    house = count_structure(write(tmp_path, {**PACKAGE, "tests/test_layers.py": "PARTS = ('high',)\n"}))
    assert (house.figures["arrows upwards"], house.figures["names by which ROOMS and the rooms differ"]) == (1, 0)


@pytest.mark.parametrize("seed", range(24))
def test_circles_and_the_derived_order_agree_with_scipy_and_with_all_orders(seed: int) -> None:
    names, draw = "abcdef", random.Random(seed)
    arrows = {pair for pair in itertools.permutations(names, 2) if draw.random() < (0.25 if seed % 2 else 0.4)}
    matrix = np.zeros((6, 6), int)
    for source, target in arrows:
        matrix[names.index(source), names.index(target)] = 1
    _, labels = connected_components(csr_array(matrix), connection="strong")
    members = [[name for name, label in zip(names, labels, strict=True) if label == one] for one in range(6)]
    assert counts.circles(arrows) == sorted(found for found in members if len(found) > 1)
    floors = counts.derived_floors(arrows, set(names))
    assert sorted(floors) == [(name,) for name in names]
    fewest = min(len(counts.upward_arrows(arrows, every)) for every in itertools.permutations(names))
    assert len(counts.upward_arrows(arrows, floors)) == fewest


def test_spelling_sizes_and_words(tmp_path: Path) -> None:
    extra = {
        "README.md": "Told beside: it GOES\non; untold, besides, goes well on.\n",
        "docs/page.md": "apart\n",
        "docs/page.html": "apart\n",
        "conf/a/b.yaml": "key: 1 # anew\n",
        "tests/test_x.py": "# alike\n",
        "scripts/house_counts.py": "whoever = 'whoever'\n",
        "aerun/long.py": "# no getattr\ndef f():\n"
        + "    x = 1\n" * 60
        + "def g():\n"
        + "    x = 1\n" * 59
        + "#\n" * 130,
    }
    house = count_style(write(tmp_path, {**PACKAGE, **extra}))
    assert house.figures == {
        "getattr and hasattr": 2,
        "getattr and hasattr as calls": 1,
        "imports in functions": 1,
        "TYPE_CHECKING blocks": 1,
        "bytes of README.md": len(extra["README.md"]),
        "frequent offenders, in words": 5,
        "'beside'": 1,
        "'told'": 1,
        "'apart'": 1,
        "'goes on'": 1,
        "'anew'": 1,
        "'alike'": 0,
        "'whoever'": 0,
        "files of aerun/": 6,
        "lines of aerun/": 2 + 1 + 3 + 5 + 252,
        "functions over 60 lines": 1,
        "files over 250 lines": 1,
    }
    assert house.names == {"long functions": ["aerun/long.py:f"], "long files": ["aerun/long.py"]}


def test_a_batch_is_followed_from_the_command_to_the_update(tmp_path: Path) -> None:
    house = follow_batch(write(tmp_path, {**RUN, "aerun/cli.py": RUN["aerun/cli.py"].replace("STEPS", "3")}))
    assert house.names == {
        f"{BATCH}, from the command to the step": ["aerun/cli.py", "aerun/loop.py"],
        f"{BATCH}, that are handed it": ["aerun/batches.py", "aerun/loss.py"],  # power gets a scalar
        BATCH: ["aerun/batches.py", "aerun/cli.py", "aerun/loop.py", "aerun/loss.py"],
        "files called for anything in one step": [
            *("aerun/batches.py", "aerun/cli.py", "aerun/loop.py", "aerun/loss.py", "aerun/power.py")
        ],
    }


def test_a_run_that_ends_before_its_third_step_is_an_error_with_its_last_line(tmp_path: Path) -> None:
    write(tmp_path, {**RUN, "aerun/cli.py": RUN["aerun/cli.py"].replace("STEPS", "2")})
    with pytest.raises(RuntimeError, match=r"train\.py .*: ended before its third step: no more steps"):
        follow_batch(tmp_path)


def test_a_revision_and_the_work_tree_stand_in_columns(tmp_path: Path) -> None:
    git = ["git", "-C", str(write(tmp_path, PACKAGE)), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "Begin"]):
        subprocess.run([*git, *words], check=True)
    (tmp_path / "aerun" / "low" / "two.py").write_text("VALUE = 2\n")
    words = [*COMMAND, str(tmp_path), "--static", "--before", "HEAD"]
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    rows = {
        row[0]: row[1:]
        for row in ([cell.strip() for cell in line.split("|")[1:-1]] for line in printed.split("\n"))
        if row
    }
    assert rows[""] == ["before", "after", "at most"]
    assert rows["arrows upwards"] == ["1", "0", "1"]
    assert rows["circles of files"] == ["1", "0", "0"]
    found = json.loads(subprocess.run([*words, "--json"], capture_output=True, text=True, check=True).stdout)
    assert found["before"]["figures"]["arrows between rooms"] == 3
    assert found["after"]["figures"]["arrows between rooms"] == 2
    assert found["before"]["names"]["circles of rooms"] == ["high, low"]


def test_what_cannot_be_measured_is_one_line(tmp_path: Path) -> None:
    for words, expected in (([str(tmp_path)], "has no folder aerun/"), (["--before", "no-such"], "--before no-such: ")):
        done = subprocess.run([*COMMAND, "--static", *words], capture_output=True, text=True)
        assert done.returncode == 1 and expected in done.stderr and "Traceback" not in done.stderr


def test_every_goal_is_a_figure_of_this_checkout() -> None:
    house = measure(ROOT, batch=False)
    assert set(GOALS) - {BATCH} <= set(house.figures)
    assert misses(dict.fromkeys(GOALS, 0)) == []
    assert misses({"circles of files": 1}) == ["circles of files: 1, at most 0"]
