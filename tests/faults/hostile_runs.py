"""Run folders that an attacker made: whatever is in them, every command ends soon, in words, and changes nothing else.

The attacks are those of ``hostile_folders``. Every command runs in a forked child, on a fresh copy of the folders.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.faults.forked import (
    Ended,
    Findings,
    changes,
    console,
    found_canaries,
    import_commands,
    run_forked,
    tree,
    wrong_cells,
    wrong_end,
    wrong_page,
)
from tests.faults.hostile_folders import GOOD, Attack, Site, attacks

SCRIPT = Path(__file__).resolve().parents[2] / "aerun" / "compare" / "page.js"
TINY = (
    *("model=conv", "model.hidden=[3,4]", "model.code_size=5", "noise=gaussian", "trainer.batch_size=16"),
    *("trainer.epochs=1", "trainer.device=cpu", "trainer.threads=1", "trainer.pictures=0", "trainer.tsne=false"),
)


def data(site: Site) -> tuple[str, ...]:
    return "dataset=array", f"dataset.root={site.folder / 'images.npz'}", "dataset.validation=8", *TINY


def sweep_words(site: Site) -> tuple[str, ...]:
    return "-m", *data(site), "seed=0,1", "sweep.name=sweep", "hydra/launcher=basic"


def load(site: Site) -> Callable[[], object]:
    def call() -> None:
        import aerun
        from aerun.errors import AerunError

        try:
            print(aerun.load(str(site.bad)).code_shape)
        except AerunError as error:
            assert "\n" not in str(error), "an error of several lines"

    return call


def _resume(site: Site) -> Callable[[], object]:
    from aerun.config.override_syntax import quoted

    return console("train", f"resume={quoted(str(site.bad))}", "trainer.epochs=2")


def _init_from(site: Site) -> Callable[[], object]:
    from aerun.config.override_syntax import quoted

    run_dir = f"hydra.run.dir={site.folder / 'out' / 'run'}"
    return console("train", *data(site), f"init_from={quoted(str(site.bad))}", run_dir)


def _use(name: str, *words: str) -> Callable[[Site], Callable[[], object]]:
    """A command for the bad run, named from within its sweep's folder as a shell's completion would."""

    def command(site: Site) -> Callable[[], object]:
        places = {"RUN": f"./outputs/sweep/{site.bad_name}", "SWEEP": "outputs/sweep"}
        return console(name, *(places.get(word, word) for word in words))

    return command


DEVICE = ("--device", "cpu")
TABLE, CSV, REPORT, DOCTOR, DOCTOR_DATA = "compare", "compare csv", "compare report", "doctor", "doctor with data"
SHOW_GOOD = (TABLE, CSV, "compare json", REPORT, DOCTOR, DOCTOR_DATA)
COMMANDS: dict[str, Callable[[Site], Callable[[], object]]] = {
    "train resume": _resume,
    "train init_from": _init_from,
    "sweep": lambda site: console("train", *sweep_words(site)),
    "evaluate": lambda site: console("evaluate", f"run=./outputs/sweep/{site.bad_name}"),
    TABLE: _use("compare", "SWEEP", "--no-group"),
    CSV: _use("compare", "SWEEP", "--no-group", "--format", "csv"),
    "compare json": _use("compare", "SWEEP", "--no-group", "--format", "json"),
    REPORT: _use("compare", "SWEEP", "--no-group", "--output", "out/report"),
    DOCTOR: _use("doctor", "SWEEP", "--no-data", "--save", "--overwrite"),
    DOCTOR_DATA: _use("doctor", "SWEEP", *DEVICE),
    "doctor of one": _use("doctor", "RUN", *DEVICE),
    "export": _use("export", "RUN", "out/exported", "--format", "safetensors"),
    "embed": _use("embed", "RUN", "pictures", "-o", "out/codes.npz", *DEVICE),
    "embed split": _use("embed", "RUN", "--split", "test", "-o", "out/codes.npz", *DEVICE),
    "denoise": _use("denoise", "RUN", "pictures", "out/cleaned", *DEVICE),
    "generate": _use("generate", "samples", "RUN", "-n", "4", "-o", "out/made", *DEVICE),
    "map": _use("map", "RUN", "codes.npz", "-o", "out/maps", "--thumbnails", *DEVICE),
    "search": _use("search", "RUN", "codes.npz", "pictures/1.png", "-k", "3", "--sheet", "out/found.png", *DEVICE),
    "duplicates": _use("search", "RUN", "codes.npz", "--duplicates", "auto", "--json", *DEVICE),
    "organise": _use("organise", "RUN", "codes.npz", "-o", "out/clusters", "--clusters", "2", "--links", *DEVICE),
    "load": load,
}
OF_CODES = ("map", "search", "duplicates", "organise")
OF_SWEEPS = ("sweep", *SHOW_GOOD)


def build_site(folder: Path) -> Site:
    """Train the sweep and encode the pictures, by the commands."""
    from PIL import Image

    site, draw = Site(folder / "site"), np.random.default_rng(0)
    for place in (site.folder / "pictures", site.folder / "out", site.outside / "folder", site.canaries):
        place.mkdir(parents=True)
    np.savez(site.folder / "images.npz", images=draw.integers(0, 256, (60, 1, 12, 12), np.uint8))
    for number in range(5):
        Image.fromarray(draw.integers(0, 256, (12, 12), np.uint8)).save(site.folder / "pictures" / f"{number}.png")
    (site.outside / "diary.txt").write_text("precious")
    (site.outside / "folder" / "letter.txt").write_text("precious")
    import_commands()
    patient = {"seconds": 600, "AERUN_DATA": str(folder / "cache")}
    done = run_forked(console("train", *sweep_words(site)), site.folder, **patient)
    assert done.code == 0, done.out + done.err
    first, second = sorted(path.parent for path in site.sweep.glob("*/summary.json"))
    first.rename(site.bad)
    second.rename(site.sweep / GOOD)
    index = site.sweep / "sweep.json"
    index.write_text(index.read_text().replace(f'"{first.name}"', '"bad"').replace(f'"{second.name}"', '"good"'))
    done = run_forked(_use("embed", "RUN", "pictures", "-o", "codes.npz", *DEVICE)(site), site.folder, **patient)
    assert done.code == 0, done.out + done.err
    shutil.copytree(site.folder, folder / "pristine", symlinks=True)
    return site


def restore(site: Site, attack: Attack) -> Site:
    """The site as it was built, and attacked."""
    shutil.rmtree(site.folder)
    shutil.copytree(site.folder.parent / "pristine", site.folder, symlinks=True)
    pipe = site.outside / "pipe"
    os.mkfifo(pipe)
    site = Site(site.folder, attack.name)
    if attack.name != "bad":
        (site.sweep / "bad").rename(site.bad)
        (site.sweep / "sweep.json").unlink()
    attack.apply(site)
    return site


def wrong(site: Site, command: str, ended: Ended) -> Iterator[str]:
    """What is wrong with the end of a command."""
    yield from wrong_end(ended, quoted=command == CSV)
    if command in SHOW_GOOD and GOOD not in ended.out:
        yield "the good run is not shown"
    if command == CSV:
        yield from wrong_cells(ended.out)
    report = site.folder / "out" / "report"
    if (report / "index.html").exists():
        yield from wrong_page(report / "index.html", SCRIPT)
        yield from wrong_cells((report / "compare.csv").read_text())
    clusters = site.folder / "out" / "clusters" / "clusters.csv"
    if clusters.exists():
        yield from wrong_cells(clusters.read_text())


def campaign(folder: Path, commands: int, share: float = 1.0, seed: int = 0, only: str = "") -> Findings:
    """Each attack, or a random share of them, on so many random commands that it concerns. ``only``: in its label."""
    site, draw, found = build_site(folder), random.Random(seed), Findings()
    for attack in attacks(site):
        if only not in attack.label or draw.random() >= share:
            continue
        found.attacks += 1
        concerned = [name for name in COMMANDS if _concerns(attack, name)]
        for name in draw.sample(concerned, min(commands, len(concerned))):
            attacked = restore(site, attack)
            mine = [attacked.bad, attacked.folder / "out"]
            mine += [attacked.sweep] if name == "sweep" else []
            mine += [attacked.sweep / GOOD / file for file in ("doctor.json", ".lock")]
            mine += [folder / "cache", site.canaries]
            before = tree(folder, mine)
            ended = run_forked(COMMANDS[name](attacked), attacked.folder, AERUN_DATA=str(folder / "cache"))
            changed = [f"changed {path.removeprefix(str(folder))}" for path in changes(before, tree(folder, mine))]
            problems = [*changed, *found_canaries(site.canaries), *wrong(attacked, name, ended)]
            found.add(ended, f"{attack.label}, {name}", problems)
    time.sleep(1)  # a process that an attack started may be slow
    found.wrong += found_canaries(site.canaries)
    return found


def _concerns(attack: Attack, command: str) -> bool:
    """Whether a command reads what was attacked."""
    if attack.label.startswith("codes.npz"):
        return command in OF_CODES
    if attack.label.startswith("sweep.json"):
        return command in OF_SWEEPS
    return True
