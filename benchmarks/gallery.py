"""What each command makes of a trained run, in words and pictures: docs/gallery.md.

    python benchmarks/gallery.py [--art RUN] [--scans RUN] [--folder /usr/share/openclipart/png] [--only NAME ...]

Trains what is not given (experiment=art_collection and experiment=denoise_scans, a quarter of an hour each; small runs
on the embedded images, a minute each; one that is made sick) into outputs/gallery, where a repeated command finds it;
then types each command as a user would, and keeps what it printed and drew.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.gallery_commands import PARTS, RUNS, Shown  # noqa: E402
from benchmarks.gallery_pictures import queries  # noqa: E402
from benchmarks.machine import processor  # noqa: E402

PAGE, PICTURES = ROOT / "docs" / "gallery.md", ROOT / "docs" / "gallery"
WIDEST, HIGHEST, LINES = 1000, 1200, 40  # pixels of a picture; lines of what was printed


def main() -> None:
    """Train, type, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--art", type=Path, help="a run of experiment=art_collection that is there")
    parser.add_argument("--scans", type=Path, help="and of experiment=denoise_scans")
    parser.add_argument("--folder", type=Path, default=Path("/usr/share/openclipart/png"))
    parser.add_argument("--outputs", type=Path, default=ROOT / "outputs" / "gallery")
    parser.add_argument("--only", nargs="+", choices=[shown.name for part in PARTS.values() for shown in part])
    asked = parser.parse_args()
    if not asked.folder.is_dir():
        parser.error(f"--folder {asked.folder}: is not there; Debian's package openclipart-png has such a folder")
    asked.outputs.mkdir(parents=True, exist_ok=True)
    places = {"folder": str(asked.folder), "out": str(asked.outputs / "made")}
    for name, words in RUNS.items():
        given: Path | None = getattr(asked, name, None)
        place = asked.outputs / name
        if given is not None and not place.exists():
            place.symlink_to(given.resolve())
        places[name] = str(trained(place, [word.format(**places) for word in words]))
    places["queries"] = " ".join(shlex.quote(name) for name in queries(asked.folder))
    PICTURES.mkdir(parents=True, exist_ok=True)
    old = PAGE.read_text() if PAGE.exists() else ""
    sections = [heading()]
    for title, part in PARTS.items():
        sections.append(f"## {title}")
        for shown in part:
            kept = re.search(rf"<!-- {shown.name} -->.*?<!-- /{shown.name} -->", old, re.DOTALL)
            if asked.only and shown.name not in asked.only and kept:
                sections.append(kept[0])
            else:
                text = section(shown, places)
                sections.append(f"<!-- {shown.name} -->\n{text}\n<!-- /{shown.name} -->")
    PAGE.write_text("\n\n".join(sections) + "\n")
    print(PAGE)


def heading() -> str:
    """The page's first lines."""
    return (
        "# Gallery\n\nWhat each command makes of a trained run.\n\n"
        "Written by `python benchmarks/gallery.py`, which trains the runs (`art` and `scans` on Debian's "
        "openclipart-png, the others on the embedded images) and runs the commands below. "
        f"{date.today()}, {processor()}.\n\n"
        + "\n".join(f"- `{name}`: `{' '.join(words)}`" for name, words in RUNS.items())
    ).replace("{folder}", "FOLDER")


def trained(folder: Path, words: Sequence[str]) -> Path:
    """The finished run in ``folder``, trained if it is not there. SystemExit if that fails."""
    if not (folder / "summary.json").exists():
        resume = [f"resume={folder}"] if (folder / "config.yaml").exists() else [*words, f"hydra.run.dir={folder}"]
        command = [sys.executable, str(ROOT / "scripts" / "train.py"), *resume]
        print(" ".join(command), flush=True)
        if subprocess.run(command, cwd=ROOT).returncode:
            raise SystemExit(f"{folder}: did not train")
    return folder


def section(shown: Shown, places: Mapping[str, str]) -> str:
    """Type the command; its text and pictures as Markdown. SystemExit if it fails."""
    name, *words = shlex.split(shown.words.format(**places))
    out = Path(places["out"])
    out.mkdir(parents=True, exist_ok=True)
    if shown.before is not None:
        shown.before(out, places)
    environment = {**os.environ, "COLUMNS": "120"}
    print(f"aerun-{name} {' '.join(words)}", flush=True)
    again = [] if name == "doctor" else ["--overwrite"]  # what an earlier call made
    script = [sys.executable, "-m", "aerun", name]
    done = subprocess.run([*script, *words, *again], cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 2 if name == "doctor" else 0):
        raise SystemExit(f"{shown.name}: {done.stderr.strip()}")
    if shown.after is not None:
        shown.after(out)
    typed = shown.words
    for key in places:
        typed = typed.replace(f"{{{key}}}", {"folder": "FOLDER", "out": "made", "queries": "IMAGE..."}.get(key, key))
    parts = [f"```console\n$ aerun-{typed}"]
    if shown.prints:
        for key in sorted(places, key=lambda key: -len(places[key])):
            done.stdout = done.stdout.replace(places[key], {"folder": "FOLDER", "out": "made"}.get(key, key))
        lines = done.stdout.strip().splitlines()
        parts += lines[:LINES] + ([f"… {len(lines) - LINES} more lines"] if len(lines) > LINES else [])
    text = "\n".join(parts) + "\n```"
    if shown.look:
        text += f"\n\n{shown.look}"
    for picture in shown.pictures:
        kept = PICTURES / f"{shown.name}_{Path(picture).stem}.png"
        keep(out / picture, kept)
        text += f"\n\n![{shown.name}: {Path(picture).stem}](gallery/{kept.name})"
    return text


def keep(source: Path, target: Path) -> None:
    """A copy that is not wider than a page, of what is above HIGHEST, in 256 colours."""
    with Image.open(source) as picture:
        image = picture.convert("RGB")
    if image.width > WIDEST:
        image = image.resize((WIDEST, round(image.height * WIDEST / image.width)), Image.Resampling.LANCZOS)
    image.crop((0, 0, image.width, min(image.height, HIGHEST))).quantize(256).save(target, optimize=True)


if __name__ == "__main__":
    main()
