"""Names of pictures and folders: every byte, the longest ones, and those that other programs read as something else,
through the commands, found again byte for byte in what each wrote."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults.forked import console, import_commands, run_forked

BYTES = [bytes([value]) for value in range(1, 256) if value != ord("/")]
ODD = [
    *(b"a\nb.png", b"\r\n.png", b"-rf.png", b"--help.png", b"'.png", b'".png', b"a,b.png", b"k=v.png", b"${x}.png"),
    *(b"=cmd().png", b"+1.png", b"@x.png", b"a b .png", b" a.png", b"a..png", b"~.png", b"$HOME.png", b"%s%n.png"),
    *(
        b"caf\xc3\xa9.png",
        b"cafe\xcc\x81.png",
        b"CAF\xc3\x89.png",
        b"caf\xe9.png",
        b"Case.png",
        b"case.png",
        b"CASE.PNG",
    ),
    *(b"\xe2\x80\xae.png", b"\xed\xa0\x80.png", b"\xf0\x9f\x96\xbc.png", b"\xff\xfe.png", b"a\\b.png", b"\\udce9.png"),
    *(b"n" * 251 + b".png", b"\xc3\xa9" * 125 + b"x.png", b"\xe9" * 251 + b".png", b"COM1.png", b"nul.png", b"a:b.png"),
]
DEVICE = ("--device", "cpu")
TINY = (
    *(
        "dataset=image_folder",
        'dataset.root="art"',
        "dataset.size=8",
        "model=fc",
        "model.code_size=2",
        "noise=gaussian",
    ),
    *("trainer.epochs=1", "trainer.device=cpu", "trainer.threads=1", "trainer.pictures=0", "hydra.run.dir=run"),
)


def all_names() -> list[bytes]:
    """Names of files, some of them in a folder. Those that begin with a dot are hidden, and left out."""
    names = [byte + b".png" for byte in BYTES] + [b"a" + byte + b"z.png" for byte in BYTES]
    names += [byte + b"/p.png" for byte in BYTES] + [b"a" + byte + b"z/p.png" for byte in BYTES]
    names += ODD + [name.replace(b".png", b".d").replace(b".PNG", b".D") + b"/p.png" for name in ODD]
    return sorted({name for name in names if not name.startswith(b".")})


def make_pictures(folder: Path, names: list[bytes]) -> None:
    """A picture of each name, no two alike."""
    from PIL import Image

    draw = np.random.default_rng(0)
    for name in names:
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        Image.fromarray(draw.integers(0, 256, (8, 8), np.uint8)).save(content, "PNG")
        path.write_bytes(content.getvalue())


def files(folder: Path) -> set[bytes]:
    """The files below a folder, and links to files."""
    root = os.fsencode(folder)
    return {os.path.relpath(place + b"/" + name, root) for place, _, inside in os.walk(root) for name in inside}


def texts(content: Any) -> set[bytes]:
    """All texts of an answer, as names of files."""
    if isinstance(content, dict):
        return texts(list(content)) | texts(list(content.values()))
    if isinstance(content, list):
        return {name for value in content for name in texts(value)}
    return {os.fsencode(content)} if isinstance(content, str) and "\0" not in content else set()


def in_csv(text: str) -> set[bytes]:
    """The first cells of a table. Bytes that are not UTF-8 are ``\\udcXX``; an apostrophe stands before a formula."""
    rows = csv.reader(io.StringIO(text, newline=""))
    cells = (re.sub(r"\\u(dc[89a-f][0-9a-f])", lambda found: chr(int(found[1], 16)), row[0]) for row in rows)
    return {os.fsencode(re.sub(r"^'([=+\-@\t\r])", r"\1", cell)) for cell in cells}


def in_codes(path: Path) -> set[bytes]:
    from aerun.use.collection.fingerprint_files import load_fingerprints

    return {os.fsencode(name) for name in load_fingerprints(path).names}


def linked(folder: Path, art: Path) -> set[bytes]:
    """The pictures to which the links of clusters lead."""
    links = [path for path in (folder / "links").rglob("*") if path.is_symlink() and path.exists()]
    return {os.fsencode(os.path.relpath(path.resolve(), art.resolve())) for path in links}


def campaign(folder: Path, names: list[bytes]) -> dict[str, int]:
    """How many of the names are found again in what each command wrote. AssertionError for a command that fails."""
    make_pictures(folder / "art", names)
    import_commands()

    def call(name: str, *words: str) -> str:
        done = run_forked(console(name, *words), folder, seconds=600, AERUN_DATA=str(folder / "cache"))
        assert done.code == 0 and "Traceback" not in done.err, f"{name}: {done.out[-500:]}{done.err[-2000:]}"
        return done.out

    call("train", *TINY)
    call("embed", "run", "art", "-o", "art.npz", *DEVICE)
    call("embed", "run", "art", "-o", "art.parquet", *DEVICE)
    neighbors = call("search", "run", "art.npz", "art", "-k", "1", "--json", *DEVICE)
    pairs = call("search", "run", "art.npz", "--duplicates", "3", "--json", *DEVICE)
    call("organise", "run", "art.npz", "-o", "clusters", "--clusters", "2", "--links", *DEVICE)
    cleaned = call("denoise", "run", "art", "cleaned", "--json", *DEVICE)
    resumed = call("denoise", "run", "art", "cleaned", "--json", "--resume", *DEVICE)
    found: dict[str, Callable[[], set[bytes]]] = {
        "embed (.npz)": lambda: in_codes(folder / "art.npz"),
        "embed (.parquet)": lambda: in_codes(folder / "art.parquet"),
        "search --json": lambda: texts(json.loads(neighbors)),
        "search --duplicates --json": lambda: texts(json.loads(pairs)),
        "organise (clusters.csv)": lambda: in_csv((folder / "clusters" / "clusters.csv").read_bytes().decode()),
        "organise --links": lambda: linked(folder / "clusters", folder / "art"),
        "denoise": lambda: files(folder / "cleaned"),
        "denoise --json": lambda: texts(json.loads(cleaned)["cleaned"]),
        "denoise --resume": lambda: texts(json.loads(resumed)["there"]),
    }
    return {command: len(set(names) & read()) for command, read in found.items()}
