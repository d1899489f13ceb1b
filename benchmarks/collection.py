"""Collections of pictures whose styles are known: ``python benchmarks/collection.py FOLDER [--of styles]``

``styles`` has 11 that no setting of aerun was chosen on. Settings of aerun-organise were chosen on ``openclipart``, 13
sets of drawings, and ``sprites``, 12 sets from games and desktops.

Each style is a folder, of pictures from one Debian package or npm package (Debian's apt-get, its mirrors and npm are
needed, but not root). Pictures smaller than 32 pixels and repetitions of the same pixels are left out; of a style with
more than ``--most`` pictures, those are taken that are spread over its names.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aerun.base.arguments import Parser, count
from aerun.cli.command import run_command

# Style -> package, and an expression for the names of its pictures within the package.
STYLES = {
    "cartoons": ("tuxpaint-stamps-default", r"stamps/.*/cartoon/.*\.png"),
    "digital_paintings": ("naev-data", r"gfx/(commodity|outfit/store)/.*\.(png|webp)"),
    "flat_emoji": ("npm:emoji-datasource-twitter@16.0.0", r"img/twitter/64/.*\.png"),
    "glossy_icons": ("oxygen-icon-theme", r"oxygen/base/128x128/.*\.png"),
    "landscapes": ("naev-data", r"gfx/(planet/exterior|loading)/.*\.(png|webp)"),
    "painted_portraits": ("wesnoth-1.16-data", r"images/portraits/.*\.(png|webp)"),
    "photographs": (
        "tuxpaint-stamps-default",
        r"stamps/(animals|food|plants|household|clothes|vehicles)/.*\.(png|jpg)",
    ),
    "pixel_figures": ("wesnoth-1.16-data", r"core/images/units/[^/]+/[a-z]+(\+\w+)?\.(png|webp)"),
    "planets": ("naev-data", r"gfx/planet/space/.*\.(png|webp)"),
    "species": ("freeorion-data", r"art/icons/(species|monsters|specials_huge|building)/.*\.png"),
    "terrain": ("wesnoth-1.16-data", r"core/images/terrain/.*\.(png|webp)"),
}
OPENCLIPART = {
    style: ("openclipart-png", rf"openclipart/png/{folder}/.*\.png")
    for style, folder in {
        "arrows": "shapes/arrows",
        "cards": "recreation/games/cards",
        "etiquette_icons": "computer/icons/etiquette-theme",
        "flags": "signs_and_symbols/flags/(africa|america|asia|europe)",
        "flat_icons": "computer/icons/flat-theme",
        "lemon_icons": "computer/icons/lemon-theme",
        "map_symbols": "signs_and_symbols/map_symbols",
        "patterns": "special/patterns",
        "road_signs": "transportation/roadsigns",
        "smilies": "people/smilies",
        "stars": "shapes/stars",
        "stickmen": "people/stickmen",
        "topics": "(animals|food)",
    }.items()
}
SPRITES = {
    "children_sprites": ("tuxmath-data", r"tuxmath/images/.*\.png"),
    "constellations": ("stellarium-data", r"skycultures/.*\.png"),
    "desktop_icons": ("gnome-icon-theme", r"gnome/(48x48|256x256)/.*\.png"),
    "emoji": ("npm:emoji-datasource-google@16.0.0", r"package/img/google/64/.*\.png"),
    "ground_pieces": ("pingus-data", r"data/images/(groundpieces|textures|hotspots)/.*\.(png|jpg)"),
    "hedgehogs": ("hedgewars-data", r"Data/Graphics/(Hats|Graves|Hedgehog)/.*\.png"),
    "landscape_tiles": ("widelands-data", r"data/world/terrains/.*\.png"),
    "nebulae": ("stellarium-data", r"nebulae/default/.*\.png"),
    "platform_sprites": ("supertux-data", r"images/(creatures|objects)/.*\.png"),
    "rendered_buildings": ("lincity-ng-data", r"lincity-ng/images/tiles/.*\.png"),
    "rendered_items": ("freedroidrpg-data", r"data/graphics/items/.*\.png"),
    "settlers": ("widelands-data", r"data/tribes/(buildings|workers)/.*\.png"),
}
COLLECTIONS = {"styles": STYLES, "openclipart": OPENCLIPART, "sprites": SPRITES}
SMALLEST = 32  # pixels of the shorter side


def unpack(package: str, into: Path) -> Path:
    """The folder of an unpacked package, fetched if it is not there yet."""
    folder = into / re.sub(r"\W", "_", package)
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory(dir=into) as place:
        if package.startswith("npm:"):
            subprocess.run(["npm", "pack", "--silent", package[4:]], cwd=place, check=True, stdout=subprocess.DEVNULL)
            [archive] = Path(place).glob("*.tgz")
            with tarfile.open(archive) as opened:
                opened.extractall(Path(place) / "files", filter="data")
        else:
            subprocess.run(["apt-get", "download", "-qq", package], cwd=place, check=True, stderr=subprocess.DEVNULL)
            [archive] = Path(place).glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", str(archive), "files"], cwd=place, check=True)
        shutil.move(Path(place) / "files", folder)
    return folder


def pixels_of(path: Path) -> bytes | None:
    """A digest of the picture's pixels; None if it is too small, or no picture."""
    from PIL import Image

    try:
        with Image.open(path) as opened:
            if min(opened.size) < SMALLEST:
                return None
            picture = opened.convert("RGBA")
    except (OSError, Image.DecompressionBombError):
        return None
    return hashlib.sha256(str(picture.size).encode() + picture.tobytes()).digest()


def pictures_of(style: str, source: tuple[str, str], packages: Path, most: int, known: set[bytes]) -> list[Path]:
    """At most ``most`` pictures of a style, spread over its names. Adds them to ``known``."""
    package, expression = source
    root = unpack(package, packages)
    excluded = re.compile(r"/cartoon/") if style == "photographs" else None
    found = sorted(path for path in root.rglob("*.*") if re.search(expression, path.as_posix()) and path.is_file())
    chosen = []
    for path in found if excluded is None else (path for path in found if not excluded.search(path.as_posix())):
        digest = pixels_of(path)
        if digest is not None and digest not in known:
            known.add(digest)
            chosen.append(path)
    return [chosen[i * len(chosen) // most] for i in range(most)] if len(chosen) > most else chosen


def parser() -> Parser:
    result = Parser("Assemble the pictures.", "  python %(prog)s outputs/styles")
    result.add_argument("folder", type=Path, help="a new folder for them")
    result.add_argument("--of", choices=COLLECTIONS, default="styles", help="the collection (styles)")
    result.add_argument("--packages", type=Path, help="keep the unpacked packages there (1.5 GB)")
    result.add_argument("--most", type=count, default=450, help="pictures of a style (450)")
    return result


def work(asked) -> int:
    asked.folder.mkdir(parents=True)
    known = set[bytes]()
    with tempfile.TemporaryDirectory() as temporary:
        packages = asked.packages or Path(temporary)
        packages.mkdir(parents=True, exist_ok=True)
        for style, source in COLLECTIONS[asked.of].items():
            chosen = pictures_of(style, source, packages, asked.most, known)
            place = asked.folder / style
            place.mkdir()
            for number, path in enumerate(chosen):
                shutil.copyfile(path, place / f"{number:04d}_{path.name}")
            print(f"{style:20} {len(chosen):5}", flush=True)
    print(f"{'all':20} {sum(1 for _ in asked.folder.rglob('*.*')):5}")
    return 0


def main() -> int:
    return run_command(parser, work)


if __name__ == "__main__":
    sys.exit(main())
