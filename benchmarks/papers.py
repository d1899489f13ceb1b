"""The presets of conf/experiment over seeds, and the numbers of their papers, written to docs/papers.md.

    python benchmarks/papers.py [names] [--seeds 3] [--jobs 2]
    python benchmarks/papers.py tutorial [names]         # the pictures of docs/tutorial

Every preset is an ordinary sweep, outputs/papers_NAME: the same command continues where it was stopped, and repeats
nothing that has finished. Rows of other names stay as they were.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.finished import composed, finished  # noqa: E402
from benchmarks.machine import processor  # noqa: E402
from benchmarks.paper_rows import HOW_TO_GET, ROWS, TRIED, Row  # noqa: E402

PAGE, EXPERIMENTS = ROOT / "docs" / "papers.md", ROOT / "conf" / "experiment"
PICTURES = "papers"  # the folder of the page's pictures
HEAD = """# Papers by name

```bash
aerun-train experiment=hinton2006                     # 784-1000-500-250-30 on MNIST, Science 2006
aerun-train experiment=dae_gaussian trainer.epochs=60 # a recipe is a starting point: keys after it override it
python benchmarks/papers.py hinton2006 --seeds 3 --jobs 2         # several seeds, written to this page
```

A recipe is one file of `conf/experiment/`: the paper, its protocol and number, ours, how long it takes, and the
settings. If another option replaces one of the recipe's, an error names the keys that only the recipe's option had,
and how to drop them: `experiment=greedy_2d trainer=joint '~trainer.stage_epochs' …`. Where the data come from:
[Data](data.md).

Every row is a recipe run over seeds, written by `python benchmarks/papers.py NAME`; without a name it makes all rows
but `conv_wta`, which needs a GPU, as sweeps in `outputs/papers_NAME` that continue where they were stopped. The test
results are mean ± sample standard deviation over seeds (n), with the settings of the recipe's file, which says how
they were chosen. A published number was found in a copy of the paper's text (text), in the documentation of a program
that repeats it (code), or is quoted from memory (memory). "Falls short" marks a mean that does not reach the line.
Minutes are those of a whole run, evaluation and probes included, for the fastest of the seeds, since the machine was
shared. Linear filters and PCA are exact; errors from pixels were measured separately.

| preset | paper | protocol | published | to read it against | ours | minutes a run | epochs | verdict | measured |
|---|---|---|---|---|---|---|---|---|---|"""
SHORT, UNMEASURED = "**falls short**", "| not measured |"


@dataclass(frozen=True)
class Measured:
    """What finished runs of one preset have found: the summaries of as many seeds, where and when they were made.

    ``folder`` is that of the first."""

    summaries: list[dict[str, Any]]
    place: str = ""
    day: str = ""
    folder: Path | None = None

    def values(self, name: str) -> list[float]:
        """A number of the summaries, by its path: ``test/sse``."""
        part, _, key = name.partition("/")
        return [summary[part][key] for summary in self.summaries if key in summary[part]]

    @property
    def minutes(self) -> float:
        """Wall time of the run that was disturbed least, evaluation and probes included."""
        return min(summary["wall_seconds"] for summary in self.summaries) / 60

    @property
    def epochs(self) -> str:
        """Of each run, where they differ."""
        return ", ".join(map(str, sorted({summary["epochs"] for summary in self.summaries})))


def words(row: Row, seeds: int) -> list[str]:
    """The sweep of a row."""
    numbers = ",".join(map(str, range(seeds)))
    return [f"experiment={row.experiment}", *row.overrides, f"seed={numbers}", "trainer.threads=1"]


def run(row: Row, seeds: int, jobs: int) -> bool:
    """Run what is left of the row's sweep; whether all of it went well."""
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "-m", *words(row, seeds)]
    command += [f"sweep.name=papers_{row.name}", "hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}"]
    print(f"\n{row.name}: {' '.join(command[1:])}", flush=True)
    return subprocess.run(command, cwd=ROOT).returncode == 0


def configurations(row: Row, seeds: int) -> list[dict[str, Any]]:
    """The configurations that the preset's file stands for now, one a seed."""
    given = [word for word in words(row, 1) if not word.startswith("seed=")]
    return composed([*given, f"seed={seed}"] for seed in range(seeds))


def absent(config: dict[str, Any]) -> str | None:
    """How to get the data set, where its files are not here."""
    from aerun.config.parse import parse
    from aerun.dataset.idx import _Downloaded

    dataset = parse(config).dataset
    return HOW_TO_GET.get(dataset.folder) if isinstance(dataset, _Downloaded) and not dataset.sources() else None


def measured(row: Row, configs: Sequence[dict[str, Any]], outputs: Path) -> Measured | None:
    """The finished runs of just these configurations; None where there is none."""
    from aerun.runs.folder import SUMMARY

    found = dict(pair for pair in finished(outputs / f"papers_{row.name}", configs) if pair is not None)
    if not found:
        return None
    last = max(found, key=lambda place: (place / SUMMARY).stat().st_mtime)
    day = date.fromtimestamp((last / SUMMARY).stat().st_mtime)
    return Measured(list(found.values()), device(last), str(day), next(iter(found)))


def device(folder: Path) -> str:
    """What a run was computed on, and how much of it it had."""
    from aerun.runs.folder import ENVIRONMENT

    try:
        about = json.loads((folder / ENVIRONMENT).read_text())
        name, threads = str(about["device_name"]), int(about["threads"])
        if about["device"] != "cpu":
            return name
        name = processor() if about["host"] == platform.node() else name
    except (OSError, ValueError, KeyError):
        return "not known"
    return f"{name}, {threads} thread{'s' * (threads > 1)}"


def spread(values: Sequence[float], digits: int) -> str:
    """``2.83 ± 0.01 (3)``; a single value has no deviation."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{deviation} ({len(values)})"


def verdict(row: Row, value: float) -> str:
    """Against the line, the aim and the paper, whichever there are."""
    sign = "at least" if row.higher else "at most"
    parts = []
    if row.line is not None:
        parts.append("reaches" if row.reaches(value, row.line) else SHORT)
        parts[0] += f" {sign} {row.line:g}"
    if row.aim is not None:
        parts.append(f"aim {row.aim:g} {'reached' if row.reaches(value, row.aim) else 'not reached'}")
    if row.published is not None and row.published != row.aim:
        parts.append(f"{'as good as' if row.reaches(value, row.published) else 'behind'} the paper")
    return "; ".join(parts) or "no line to reach"


def line(row: Row, found: Measured | None, why: str = "") -> str:
    """The row of the table; ``why`` there is nothing measured."""
    published = "none" if row.published is None else f"{row.published:.{row.digits}f}{row.unit} ({row.sure})"
    cells = [f"`{row.name}`", row.paper, row.protocol, published]
    values = found.values(f"test/{row.metric}") if found else []
    if found is None or not values:
        return _cells([*cells, _against(row, found), why or f"no {row.metric}", "", "", "not measured", ""])
    ours = spread(values, row.digits).replace(" (", f"{row.unit} (")
    when = ", ".join(text for text in (found.day, found.place) if text)
    judged = verdict(row, statistics.fmean(values))
    return _cells([*cells, _against(row, found), ours, f"{found.minutes:.1f}", found.epochs, judged, when])


def _against(row: Row, found: Measured | None) -> str:
    texts = []
    for label, source in row.baselines:
        values = [source] if isinstance(source, float) else found.values(source) if found else []
        texts += [f"{label} {statistics.fmean(values):.{row.digits}f}{row.unit}"] if values else []
    return ", ".join(texts)


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write_page(lines: dict[str, str], page: Path = PAGE) -> str:
    """The page with these rows, by name, and those that it had of other names, or of what is not measured now."""
    old = page.read_text().splitlines() if page.exists() else []
    kept = {match[1]: text for text in old if (match := re.match(r"\| `([\w/]+)` \|", text))}
    rows = kept | {name: new for name, new in lines.items() if UNMEASURED not in new or name not in kept}
    order = [row.name for row in ROWS if row.name in rows]
    notes = [
        f"- `{name}`: {TRIED.get(name, 'no other settings were tried yet.')}" for name in order if SHORT in rows[name]
    ]
    tried = ["", "What was tried where a row falls short:", "", *notes] if notes else []
    text = "\n".join([HEAD, *(rows[name] for name in order), *tried, *_shown(page.parent)]) + "\n"
    page.write_text(text)
    return text


def _shown(docs: Path) -> list[str]:
    """The pictures that there are."""
    lines: list[str] = []
    for row in ROWS:
        for figure, caption in row.pictures:
            place = f"{PICTURES}/{row.name}_{figure}.png"
            if (docs / place).exists():
                lines += ["", f"`{row.name}`: {caption}", "", f"![{row.name}: {caption}]({place})"]
    return lines


def keep_pictures(row: Row, found: Measured, docs: Path = PAGE.parent) -> None:
    """Copy the figures that the page shows from the first run's folder."""
    from aerun.runs.folder import FIGURES

    for figure, _ in row.pictures:
        source = (found.folder or Path()) / FIGURES / f"{figure}.png"
        if found.folder is not None and source.exists():
            (docs / PICTURES).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, docs / PICTURES / f"{row.name}_{figure}.png")


def write_ours(row: Row, found: Measured, folder: Path = EXPERIMENTS) -> None:
    """Put what was measured into the preset's own file, in place of what stood there, continued lines included."""
    path, values = folder / f"{row.experiment}.yaml", found.values(f"test/{row.metric}")
    if row.overrides or not values:
        return
    seeds = f"{len(values)} seed{'s' * (len(values) > 1)}"
    ours = f"test/{row.metric} {spread(values, row.digits).rpartition(' (')[0]}{row.unit}, {seeds}"
    ours += f" ({found.day}, {found.epochs} epochs, {found.minutes:.1f} minutes a run, {found.place})"
    new = re.sub(r"(?m)^# ours: .*$(\n#   .*$)*", lambda _: f"# ours: {ours}", path.read_text(), count=1)
    path.write_text(new)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", help=f"of {', '.join(row.name for row in ROWS)}; or tutorial; default: all rows"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each on one thread")
    arguments = parser.parse_args()
    if arguments.names[:1] == ["tutorial"]:
        from benchmarks import tutorial

        tutorial.main(arguments.names[1:])
        return 0
    there = {row.name: row for row in ROWS if (EXPERIMENTS / f"{row.experiment}.yaml").exists()}
    unknown = [name for name in arguments.names if name not in there]
    if unknown:
        parser.error(f"{unknown[0]}: is no preset of this table; there are {', '.join(there)}")
    well = True
    for name in arguments.names or [name for name, row in there.items() if not row.by_name]:
        row = there[name]
        configs = configurations(row, arguments.seeds)
        missing = absent(configs[0])
        well = (missing is None and run(row, arguments.seeds, arguments.jobs)) and well
        found = measured(row, configs, ROOT / "outputs")
        if found is not None:
            keep_pictures(row, found)
        text = write_page({name: line(row, found, missing or "no run has finished")})  # at once: the next may take long
        if found is not None:
            write_ours(row, found)
    print(f"\n{text}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
