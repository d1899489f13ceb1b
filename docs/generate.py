"""Writes the pages that repeat something said elsewhere: docs/configure.md from conf/, docs/index.md from README.md.

    python docs/generate.py

``tests/test_pages.py`` fails where a page is out of date.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import types
import typing
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from aerun.config.schema import locate  # noqa: E402
from aerun.config.settings import Checkpointing, Settings  # noqa: E402
from aerun.contracts import Activation, Range  # noqa: E402
from aerun.sweep.sweep_settings import SweepSettings  # noqa: E402

CONF, DOCS = ROOT / "conf", ROOT / "docs"
KEYS = CONF / "hydra" / "keys"
GROUPS = {
    "dataset": "Training, validation and test images, or vectors.",
    "model": "Encoder and decoder.",
    "latent": "What the decoder reads: the code itself, or a sample around it.",
    "sparsity": "The constraint on the code.",
    "regularizer": "Penalties on the whole pass, any number; [Train](train.md#regularizers).",
    "noise": "Corruption of the input. The target stays clean.",
    "loss": "The reconstruction error.",
    "optimizer": "PyTorch's optimizers, with all their keys.",
    "scheduler": "The learning rate over the run; other numbers have the group [`schedule`](#schedule).",
    "schedule": "Other numbers that change during training: `schedule=[linear,steps]`; [Train](train.md#schedules).\n"
    "The learning rate has the group [`scheduler`](#scheduler).",
    "trainer": "How a run trains: length, batches, device, precision, logging.",
    "protocol": "Extra evaluations of the trained model, any number: `protocol=[knn,ssim]`; [Protocols](protocols.md).",
    "callback": "Your own code in the training loop; any number; [Extend](extend.md).",
    "tracker": "Where runs are shown, any number: `tracker=[tensorboard,csv]`; [Trackers](trackers.md).",
}
PLUGINS = {
    "hydra/sweeper": "Which runs a sweep consists of. See [Sweeps](sweep.md).",
    "hydra/launcher": "Where the jobs of a sweep are computed. See [Sweeps](sweep.md).",
}
# Keys with the same meaning in PyTorch's documentation.
FROM_TORCH = "as in `torch.optim`"


class Key(NamedTuple):
    """A line of a YAML file: dotted key, value as written, and its comment."""

    name: str
    value: str
    comment: str


def keys(path: Path) -> list[Key]:
    """The keys of a YAML file, in order; of the defaults list and of ``_target_`` nothing."""
    found, parents = [], [(-1, "")]
    for line in path.read_text().splitlines():
        match = re.fullmatch(r"( *)([\w.]+):(?: +((?:[^#\"']|\"[^\"]*\"|(?<! )#)*?))?(?: +# (.*))?", line)
        if not match:
            continue
        indent = len(match[1])
        while indent <= parents[-1][0]:
            parents.pop()
        name = f"{parents[-1][1]}{match[2]}"
        if match[3]:
            found.append(Key(name, match[3], match[4] or ""))
        else:
            parents.append((indent, f"{name}."))
    return [key for key in found if not key.name.startswith(("defaults", "_target_", "hydra."))]


def about(path: Path) -> str:
    """The comment at the top of a YAML file."""
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line[1:].strip())
    return " ".join(lines)


def bases(path: Path) -> list[Path]:
    """The files of the same group that an option starts from: its shared keys, or another option."""
    node = yaml.safe_load(path.read_text()) or {}
    names = [str(entry).partition("@")[0] for entry in node.get("defaults", []) if isinstance(entry, str)]
    found = [CONF / f"{name[1:]}.yaml" if name.startswith("/") else path.with_name(f"{name}.yaml") for name in names]
    return [base for file in found if file.is_file() for base in (*bases(file), file)]


def target(path: Path) -> type | None:
    """The class of an option; of a sweeper, which exists only while Hydra runs, none."""
    for file in (path, *reversed(bases(path))):
        name = (yaml.safe_load(file.read_text()) or {}).get("_target_", "")
        if name.startswith("aerun."):
            return locate(name)
    return None


def allowed(cls: type | None) -> dict[str, str]:
    """What each key of a class may be."""
    if cls is None or not dataclasses.is_dataclass(cls):
        return {}
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: in_short(hints[field.name]) for field in dataclasses.fields(cls) if field.init}


def in_short(annotation: object) -> str:
    """An annotation of a schema: ``int ≥ 1 or null``; of one that says nothing, nothing."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        limits = [interval(extra) for extra in arguments[1:] if isinstance(extra, Range)]
        return " ".join([in_short(arguments[0]), *limits]).strip()
    if annotation == Activation:
        return "[activation](#activations)"
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(filter(None, map(in_short, arguments)))
    if origin is list:
        return f"list of {in_short(arguments[0])}" if arguments[0] is not typing.Any else "list"
    names = {int: "int", float: "float", bool: "bool", str: "text", dict: "mapping", type(None): "`null`"}
    return "mapping" if origin is dict else names.get(annotation, "")  # type: ignore[call-overload]


def interval(limits: Range) -> str:
    """``≥ 1``, or ``in (0, 1]``."""
    low, high = limits.low, limits.high
    below = "" if high is None or high > 1e9 else f"{'<' if limits.high_open else '≤'} {high:,}"
    above = "" if low is None else f"{'>' if limits.low_open else '≥'} {low:,}"
    return " and ".join(filter(None, (above, below)))


def table(rows: list[Key], words: dict[str, str]) -> list[str]:
    """Markdown, a row for each key."""
    if not rows:
        return ["No keys.", ""]
    lines = ["| key | default | allowed | meaning |", "|---|---|---|---|"]
    for key in rows:
        value = "required" if key.value == "???" else f"`{key.value}`"
        comment = re.sub(r"^\w+( \| \w+)+(: |$)", "", key.comment) if "`" in words.get(key.name, "") else key.comment
        cells = [f"`{key.name}`", value, words.get(key.name, ""), comment]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return [*lines, ""]


def group(name: str, text: str) -> list[str]:
    """A section: the keys that all options of the group share, then each option with its own."""
    paths = sorted((CONF / name).glob("*.yaml"))
    lines = [f"## {name}", "", text, ""]
    shared = KEYS / f"{name}.yaml"
    if shared.exists():
        classes = [cls for path in paths if (cls := target(path))]
        words: dict[str, str] = {}
        for cls in classes:
            words = allowed(cls) | words
        lines += [about(shared), "", *table(keys(shared), words)]
    for path in paths:
        lines += option(name, path)
    return lines


def option(name: str, path: Path) -> list[str]:
    """One option: what it is, the options that it starts from and brings along, and its keys."""
    node = yaml.safe_load(path.read_text()) or {}
    text = [about(path).rstrip(".") + "."]
    for entry in node.get("defaults", []):
        if isinstance(entry, str) and re.fullmatch(r"[a-z]\w*", entry):
            text.append(f"Starts from `{name}={entry}`.")
        elif isinstance(entry, dict):
            override, value = next(iter(entry.items()))
            key = override.removeprefix("override /").partition("@")[0]
            listed = f"[{','.join(value)}]" if isinstance(value, list) else value
            text.append(f"Sets `{key}={listed}`." if "override" in override else f"Default: `{name}/{key}={listed}`.")
    said = {key.name: key.comment for base in bases(path) for key in keys(base) if key.comment}
    default = FROM_TORCH if name == "optimizer" else ""
    rows = [key._replace(comment=key.comment or said.get(key.name, default)) for key in keys(path)]
    return [f"### {name}={path.stem}", "", " ".join(text), "", *table(rows, allowed(target(path)))]


def experiments() -> list[str]:
    """The recipes by name, with the line of their file that says what they are."""
    lines = [
        *("## experiment", "", "Recipes: each sets options and keys of all groups; keys typed after it override it."),
        "The file says what it reproduces, how its settings were chosen, and how long it takes.",
        *("", "| recipe | what it is |", "|---|---|"),
    ]
    folder = CONF / "experiment"
    for path in sorted(folder.rglob("*.yaml")):
        comments = [line[2:] for line in path.read_text().splitlines() if line.startswith("# ")]
        comments = [line for line in comments if not re.match(r"@package|python scripts|aerun-", line)]
        text = " ".join(line.strip() for line in comments)
        text = re.split(r" (?=(?:what|protocol|ours|published|paper|As there)\b)", text, maxsplit=1)[0]
        text = re.sub(r"^(paper|what): ", "", text)
        lines.append(f"| `{path.relative_to(folder).with_suffix('')}` | {text} |")
    return [*lines, ""]


HEAD = """<!-- Written by `python docs/generate.py` from conf/ and the classes that it names. -->
# Configure

A run is one option from each *group* and a value for each of their *keys*:

```bash
aerun-train model=conv sparsity=topk sparsity.k=8 optimizer.lr=3e-3 trainer.epochs=60
```

`group=option` picks a file, `conf/GROUP/OPTION.yaml`; `group.key=value` sets one of its keys. Lists stand in brackets
(`model.hidden=[256,64]`), `null` means "not set", and quotes keep brackets and spaces from the shell. `aerun-train
--help model=vae noise=masking` prints the keys of these options, `--cfg job` the composed configuration. Bash completes
groups, options and keys after `eval "$(aerun-train -sc install=bash)"`.

Every key and value is checked before PyTorch is imported. An error names the key, the value and what is allowed.

A YAML file names its class, in the module of its group: `conf/sparsity/topk.yaml` names `aerun.sparsity.TopK`, a
dataclass. Its annotations are the column *allowed* below. Options and classes of your own: [Extend](extend.md).
"""


def configure() -> str:
    """docs/configure.md."""
    defaults = yaml.safe_load((CONF / "train.yaml").read_text())["defaults"]
    chosen = {key: value for entry in defaults if isinstance(entry, dict) for key, value in entry.items()}
    lines = [HEAD, "## Groups", "", "| group | default | options |", "|---|---|---|"]
    present = {name: text for name, text in GROUPS.items() if (CONF / name).is_dir()}
    for name in present:
        options = ", ".join(f"[`{path.stem}`](#{name}{path.stem})" for path in sorted((CONF / name).glob("*.yaml")))
        lines.append(f"| [`{name}`](#{name}) | `{chosen.get(name)}` | {options} |")
    lines.append("| [`experiment`](#experiment) | none | recipes over all groups |")
    run = allowed(Settings) | {f"checkpoint.{key}": words for key, words in allowed(Checkpointing).items()}
    run |= {f"sweep.{key}": words for key, words in allowed(SweepSettings).items()}
    lines += ["", "## Keys of the run", "", *table(keys(CONF / "train.yaml"), run)]
    for name, text in {**present, **PLUGINS}.items():
        lines += group(name, text)
    names = ", ".join(f"`{name}`" for name in typing.get_args(Activation))
    lines += ["## Activations", "", f"{names}: the functions of `torch.nn` of these names.", ""]
    return "\n".join([*lines, *experiments()]).rstrip() + "\n"


def index() -> str:
    """docs/index.md: the front page, its links as seen from docs/."""
    text = (ROOT / "README.md").read_text()
    text = re.sub(r"(\]\(|src=\")docs/", r"\1", text)
    return f"<!-- Written by `python docs/generate.py` from README.md. -->\n{text}"


def main() -> None:
    """Write the pages."""
    (DOCS / "configure.md").write_text(configure())
    (DOCS / "index.md").write_text(index())


if __name__ == "__main__":
    main()
