"""What an attacker may have put into a run folder, a sweep's folder, and a file of codes, that somebody else opens."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.faults.forked import PAYLOAD
from tests.faults.typed_files import (
    alias_bomb,
    as_checkpoint,
    as_fingerprints,
    as_json,
    as_lines,
    as_yaml,
    nodes,
    packed,
    put,
    replaced,
)

MEGABYTE = 10**6
GOOD, BAD = "good", "bad"
FORMATS: dict[str, Callable[[bytes], tuple[Any, Callable[[Any], bytes]]]] = {
    ".yaml": as_yaml,
    ".json": as_json,
    ".jsonl": as_lines,
    ".safetensors": as_checkpoint,
    ".npz": as_fingerprints,
}
TEXTS = ("config.yaml", "overrides.yaml", "environment.json", "status.json", "summary.json", "metrics.jsonl")
WEIGHTS = ("checkpoints/best.safetensors", "checkpoints/last.safetensors")
# Files that a run may also have, or that a command writes.
OTHERS = ("probes.npz", "aerun.log", ".lock", "evaluation.json", "doctor.json", "model.safetensors")
FOLDERS = ("checkpoints", "figures", "00000")


@dataclass(frozen=True)
class Site:
    """A folder with everything that a user has: a sweep of two runs, data, pictures, codes of one of the runs, and
    ``outside``, which no command has to change."""

    folder: Path
    bad_name: str = BAD

    @property
    def sweep(self) -> Path:
        return self.folder / "outputs" / "sweep"

    @property
    def bad(self) -> Path:
        return self.sweep / self.bad_name

    @property
    def outside(self) -> Path:
        return self.folder / "outside"

    @property
    def canaries(self) -> Path:
        """A folder in which an attack that runs code makes a file."""
        return self.folder.parent / "canaries"

    def path(self, name: str) -> Path:
        """A file of the bad run, or the index of the sweep, or the file of codes."""
        return {"sweep.json": self.sweep / name, "codes.npz": self.folder / name}.get(name, self.bad / name)


@dataclass(frozen=True)
class Attack:
    """A change of a site. ``name``: of the bad run, if the attack is its name."""

    label: str
    apply: Callable[[Site], None]
    name: str = BAD


def attacks(site: Site) -> Iterator[Attack]:
    """All attacks on a site like this one."""
    yield from _bombs(site)
    yield from _classes(site)
    yield from _pickles(site)
    yield from _links(site)
    yield from _paths(site)
    yield from _texts(site)
    yield from _names()


def _edit(name: str, change: Callable[[Any], Any]) -> Callable[[Site], None]:
    """Change the parsed content of a file."""

    def apply(site: Site) -> None:
        path = site.path(name)
        content, write = FORMATS[path.suffix](path.read_bytes())
        put(path, write(change(content)))

    return apply


def _content(site: Site, name: str) -> Any:
    path = site.path(name)
    return FORMATS[path.suffix](path.read_bytes())[0]


def _write(name: str, content: bytes) -> Callable[[Site], None]:
    return lambda site: put(site.path(name), content)


def _map_leaves(content: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(content, dict):
        return {key: _map_leaves(value, change) for key, value in content.items()}
    return [_map_leaves(item, change) for item in content] if isinstance(content, list) else change(content)


def _bombs(site: Site) -> Iterator[Attack]:
    for name in (*TEXTS, "sweep.json"):
        yield Attack(f"{name}: aliases", _write(name, alias_bomb()))
        yield Attack(f"{name}: deep", _write(name, b"[" * 100_000))
        yield Attack(f"{name}: numbers of 400 digits", _edit(name, lambda content: _map_leaves(content, _huge)))
        yield Attack(f"{name}: another number of 400 digits", _edit(name, lambda content: {**content, "x": 10**400}))
        yield Attack(f"{name}: a megabyte", _edit(name, lambda content: {**content, "x": "x" * MEGABYTE}))
    for name in ("probes.npz", "codes.npz"):
        yield Attack(f"{name}: petabytes", _write(name, packed(shape=(10**12, 1, 32, 32))))
        yield Attack(f"{name}: unpacks to 256 MiB", _write(name, packed(shape=(1 << 14, 1, 128, 128), blocks=256)))


def _huge(leaf: Any) -> Any:
    return 10**400 if isinstance(leaf, int | float) and not isinstance(leaf, bool) else leaf


def calls(canary: Path) -> dict[str, dict[str, Any]]:
    """Classes and functions that run or write something, with arguments with which they make a file."""
    nodes: dict[str, dict[str, Any]] = {
        "os.system": {"command": f"touch {canary}"},
        "subprocess.Popen": {"args": ["touch", str(canary)]},
        "builtins.eval": {"_args_": [f"open({str(canary)!r}, 'w')"]},
        "logging.FileHandler": {"filename": str(canary)},
        "aerun.base.files.LogFile": {"filename": str(canary)},
        "aerun.runs.tracking.Tracker": {"folder": str(canary), "events": True},
        "torch.nn.modules.module.torch.utils.cpp_extension.subprocess.Popen": {"_args_": [["touch", str(canary)]]},
        "torch.optim.optimizer.torch.serialization.os.system": {"_args_": [f"touch {canary}"]},
    }
    return {target: {"_target_": target, **arguments} for target, arguments in nodes.items()}


# A value of these parts may be an object of a class.
PLACES = {
    "model": ("aerun.model.FromModules", "encoder"),
    "optimizer": ("torch.optim.SGD", "lr"),
    "loss": ("torch.nn.MSELoss", "reduction"),
    "noise": ("aerun.noise.Several", "parts"),
    "dataset": ("aerun.dataset.Array", "input_transform"),
}


def _classes(site: Site) -> Iterator[Attack]:
    """Calls in the place of the parts of a configuration and of their values, with and without trust of its own."""
    config = _content(site, "config.yaml")
    parts = [path[:-1] for path in nodes(config) if path[-1] == "_target_"]
    for target, node in calls(site.canaries / "called").items():
        trust = {"trusted_packages": [target.partition(".")[0], "aerun", "torch"]}
        for extra in ({}, trust):
            label = f"{target}, {'trusted by the file' if extra else 'not trusted'}"
            groups = {str(path[0]): node for path in parts}
            yield Attack(f"every part is {label}", _with_keys({**groups, **extra}))
            for group, (cls, key) in PLACES.items():
                outer = {"_target_": cls, key: node, **({"decoder": node} if group == "model" else {})}
                yield Attack(f"{group}.{key} is {label}", _with_keys({group: outer, **extra}))
            for path in parts if target == "subprocess.Popen" else ():
                for inner in (path, (*path, "extra")):

                    def change(content: Any, path: Any = inner, node: Any = node, extra: Any = extra) -> Any:
                        return {**replaced(content, path, node), **extra}

                    yield Attack(f"{'.'.join(map(str, inner))} is {label}", _edit("config.yaml", change))


def _with_keys(keys: dict[str, Any]) -> Callable[[Site], None]:
    return _edit("config.yaml", lambda content: {**content, **keys})


class _Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.canary}",)


def _pickles(site: Site) -> Iterator[Attack]:
    """Pickles, torch's files and arrays of objects under every name."""
    plain = pickle.dumps(_Malicious(site.canaries / "unpickled"))
    zipped, array = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("archive/data.pkl", plain)
        archive.writestr("archive/version", "3\n")
    np.save(array, np.array([_Malicious(site.canaries / "unpickled")], dtype=object), allow_pickle=True)
    names = ("targets", "reconstructions", "codes", "names", "about", "labels")
    objects = packed(**{name: np.array([_Malicious(site.canaries / "unpickled")], dtype=object) for name in names})
    kinds = {"pickle": plain, "torch": zipped.getvalue(), "npy": array.getvalue(), "npz": objects}
    for name in (*TEXTS, *WEIGHTS, *OTHERS, "sweep.json", "codes.npz"):
        for kind, content in kinds.items():
            yield Attack(f"{name}: {kind}", _write(name, content))


def _links(site: Site) -> Iterator[Attack]:
    """Every file and folder as a link to somewhere else, or as something that is not a file."""
    for name in (*TEXTS, *WEIGHTS, *OTHERS, *FOLDERS, "sweep.json", "codes.npz"):
        for kind, make in _LINKS.items():

            def apply(site: Site, name: str = name, make: Callable[[Site, Path], None] = make) -> None:
                make(site, site.path(name))

            yield Attack(f"{name}: {kind}", apply)

    def all_moved(site: Site) -> None:
        for path in sorted(site.bad.iterdir()):
            _to_moved(site, path)

    yield Attack("everything moved outside and linked", all_moved)


def _to_moved(site: Site, path: Path) -> None:
    target = site.outside / "moved" / path.name
    target.parent.mkdir(exist_ok=True)
    if path.exists():
        path.rename(target)
    path.symlink_to(target)


def _to(target: str) -> Callable[[Site, Path], None]:
    def make(site: Site, path: Path) -> None:
        _remove(path)
        path.symlink_to(site.folder / target)

    return make


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _pipe(site: Site, path: Path) -> None:
    _remove(path)
    os.mkfifo(path)


def _folder(site: Site, path: Path) -> None:
    _remove(path)
    path.mkdir()


_LINKS: dict[str, Callable[[Site, Path], None]] = {
    "moved outside": _to_moved,
    "link to another's file": _to("outside/diary.txt"),
    "link to another's folder": _to("outside/folder"),
    "link to nothing": _to("outside/new"),
    "link to itself's folder": _to("outputs/sweep"),
    "link to /dev/zero": _to("/dev/zero"),
    "link to a pipe": _to("outside/pipe"),
    "pipe": _pipe,
    "folder": _folder,
}


def _paths(site: Site) -> Iterator[Attack]:
    places = [
        "/dev/zero",
        "/dev/stdin",
        f"{site.outside / 'pipe'}",
        f"{site.outside}",
        "../../../outside/diary.txt",
        "/etc",
    ]
    places += ["/", "..", "~", "-rf", "http://192.0.2.1/data.npz", "file:///etc/passwd", "s3://x/y", "\\\\host\\share"]
    for place in places:
        for key in (("dataset", "root"), ("init_from",), ("resume",)):
            yield Attack(
                f"config.yaml: {'.'.join(key)}={place}",
                _edit("config.yaml", lambda content, key=key, place=place: replaced(content, key, place)),
            )
        yield Attack(
            f"sweep.json: a job {place}",
            _edit("sweep.json", lambda content, place=place: _with_job(content, place)),
        )
        for change in ("name", "root", "run"):
            yield Attack(f"codes.npz: {change}={place}", _edit_codes(change, place))
    for place in ("../../outside/folder", f"{site.outside / 'folder'}", "", ".", "a/../../../outside/folder"):
        yield Attack(
            f"sweep.json: a job {place!r}", _edit("sweep.json", lambda content, place=place: _with_job(content, place))
        )
        yield Attack(f"codes.npz: name={place!r}", _edit_codes("name", place))


def _with_job(content: Any, name: str) -> Any:
    first = next(iter(content["jobs"].values()))
    return {**content, "jobs": {name: first, **content["jobs"]}, "name": name, "command": [name]}


def _edit_codes(key: str, value: str) -> Callable[[Site], None]:
    """Change the first name, or a text of what a file of codes says of itself."""

    def apply(site: Site) -> None:
        with np.load(site.path("codes.npz")) as file:
            arrays = {name: file[name] for name in file.files}
        if key == "name":
            arrays["names"] = np.array([value, *arrays["names"].tolist()[1:]])
        else:
            arrays["about"] = np.array(json.dumps({**json.loads(str(arrays["about"])), key: value}))
        put(site.path("codes.npz"), packed(**arrays))

    return apply


def _texts(site: Site) -> Iterator[Attack]:
    """A text that a terminal, a page or a spreadsheet could obey, in the place of every text and key."""
    for name in (*TEXTS, *WEIGHTS, "sweep.json", "codes.npz"):
        content = _content(site, name)
        leaves = [path for path in nodes(content) if isinstance(_at(content, path), str | None)]
        for path in leaves:
            yield Attack(
                f"{name}: {'.'.join(map(str, path))}: text",
                _edit(name, lambda content, path=path: replaced(content, path, PAYLOAD)),
            )
        for text, kind in ((PAYLOAD, "text"), ("x" * MEGABYTE, "a megabyte")):
            yield Attack(
                f"{name}: every text: {kind}",
                _edit(
                    name,
                    lambda content, text=text: _map_leaves(
                        content, lambda leaf: text if isinstance(leaf, str) else leaf
                    ),
                ),
            )
            for path in [(), *(path for path in nodes(content) if isinstance(_at(content, path), dict))]:
                yield Attack(
                    f"{name}: {'.'.join(map(str, path))}: key: {kind}",
                    _edit(name, lambda content, path=path, text=text: _with_key(content, path, text)),
                )
    broken = {"state": "failed", "error": PAYLOAD, "traceback": f"Traceback:\n{PAYLOAD}", "host": PAYLOAD}
    yield Attack("status.json: failed with a text", _write("status.json", json.dumps(broken).encode()))
    yield Attack("codes.npz: a name: text", _edit_codes("name", PAYLOAD.replace("/", "|")))
    yield Attack("config.yaml: not YAML", _write("config.yaml", b"a: [\n" + PAYLOAD.encode()))
    yield Attack(
        "config.yaml: a tag",
        _write(
            "config.yaml", yaml.safe_dump({"trainer": 1}).encode() + b"x: !!python/object/apply:os.system [touch x]\n"
        ),
    )
    yield Attack("aerun.log: text", _write("aerun.log", PAYLOAD.encode()))


def _at(content: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        content = content[key]
    return content


def _with_key(content: Any, path: tuple[str | int, ...], key: str) -> Any:
    """With another value of that name: of a value that is there, as far as it goes."""
    node = dict(_at(content, path))
    node[key] = next((value for value in node.values() if value is not None), 1)
    return node if not path else replaced(content, path, node)


def _names() -> Iterator[Attack]:
    """Names of a run folder."""
    texts = [
        PAYLOAD.replace("/", "|")[:200],
        "\x1b]0;owned\x07",
        f"x\n{os.sep and ''}SPOOFED",
        "=cmd()",
        "-rf",
        "--help",
    ]
    texts += [
        "${oc.env:SECRET}",
        "<script>owned()<|script>",
        "n" * 255,
        "a,b",
        "a=b",
        "'",
        '"',
        "\\",
        " ",
        "~",
        "\udcff",
    ]
    for text in texts:
        yield Attack(f"the run's name: {text[:40]!r}", lambda site: None, text)
