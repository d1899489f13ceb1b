"""Picture files: which ones are read, and the one function that opens them."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import re
import struct
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aerun.base.files import require_regular
from aerun.errors import ConfigError

if TYPE_CHECKING:
    from PIL import Image

# The formats that are read, by Pillow's names, and their usual suffixes. The content decides, not the suffix; no other
# format is tried, because Pillow has readers that are rarely tested, and one that starts Ghostscript.
FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".jpf", ".jpx"),
    "HEIF": (".heic", ".heif"),
}
# Pictures that Pillow does not know, for the message about files that are left out.
OTHER_PICTURES = {".heic", ".heif", ".svg", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".jxl"}
SYSTEM_FOLDERS = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
MAX_MEGAPIXELS = "AERUN_MAX_MEGAPIXELS"  # environment variable
WITHOUT_SUFFIX, HIDDEN = "without a suffix", "hidden"  # kinds of files that are left out
MAX_KINDS = 8  # of files left out, in a message
MEGA = 1e6
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_CHUNKS_OF_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundPictures:
    """The picture files of a folder, sorted, and how many others there are, by suffix or kind."""

    paths: list[Path]
    left_out: Counter[str]

    @property
    def others(self) -> str:
        """What is left out, as in ``6 .heic, 1 without a suffix``; empty if there is nothing."""
        kinds = sorted(self.left_out.items(), key=lambda item: (-item[1], item[0]))
        found = ", ".join(f"{count} {kind}" for kind, count in kinds[:MAX_KINDS])
        found += f" and {len(kinds) - MAX_KINDS} more kinds" if len(kinds) > MAX_KINDS else ""
        missing = any(suffix in self.left_out for suffix in FORMATS["HEIF"])
        return f"{found} (.heic needs pip install 'aerun[heif]')" if missing else found

    def log_left_out(self, root: Path) -> None:
        """Log in one line what is left out: a warning if any of it may be a picture, by its suffix or without one."""
        from PIL import Image

        if self.left_out:
            known = {*Image.registered_extensions(), *OTHER_PICTURES, WITHOUT_SUFFIX, HIDDEN}
            level = logging.WARNING if any(kind in known for kind in self.left_out) else logging.INFO
            log.log(level, "%s: files left out: %s", root, self.others)


@functools.cache
def formats() -> tuple[str, ...]:
    """Return the names of ``FORMATS`` that the installed Pillow reads; HEIF needs the package pillow_heif."""
    from PIL import Image

    with contextlib.suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@functools.cache
def suffixes() -> frozenset[str]:
    """Return the suffixes of the formats that are read, in lower case."""
    return frozenset(suffix for name in formats() for suffix in FORMATS[name])


def find_pictures(root: Path) -> FoundPictures:
    """Find the files below ``root`` with a picture's suffix; links to folders are not followed.

    Hidden files and folders, and folders of operating systems, are passed over: programs keep copies and previews
    there. Hidden pictures are counted.
    """
    allowed, paths, others = suffixes(), list[Path](), Counter[str]()
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if not _is_hidden(name) or _count_hidden(Path(folder, name), others)]
        for name in names:
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a hundred thousand Paths take seconds
            if name.startswith("."):
                others[HIDDEN] += suffix in allowed
            elif suffix in allowed:
                paths.append(Path(folder, name))
            else:
                others[suffix or WITHOUT_SUFFIX] += 1
    return FoundPictures(sorted(paths, key=lambda path: path.parts), +others)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def _count_hidden(folder: Path, others: Counter[str]) -> bool:
    """Count the pictures in a hidden folder. Returns False."""
    for _, _, names in os.walk(folder):
        others[HIDDEN] += sum(os.path.splitext(name)[1].lower() in suffixes() for name in names)  # noqa: PTH122
    return False


def open_picture(path: Path, *, load: bool = True, draft: int | None = None) -> Image.Image:
    """Open a picture in one of ``FORMATS``, whatever its suffix, and decode it unless ``load`` is false.

    ``draft``: a JPEG may be decoded at a reduced size of at least that many pixels. OSError for anything but a regular
    file. Raises Pillow's errors, of any class, for damaged files; damaged metadata of a PNG do not count as damage.
    """
    require_regular(path)
    try:
        return _opened(path, load, draft)
    except Exception as error:  # Pillow raises nearly anything
        content = None if "DecompressionBomb" in type(error).__name__ else _png_without_metadata(path)
        if content is None:
            raise
        try:
            return _opened(io.BytesIO(content), load, draft)
        except Exception:
            raise error from None


def _opened(file: Path | io.BytesIO, load: bool, draft: int | None) -> Image.Image:
    from PIL import Image

    picture = Image.open(file, formats=formats())
    try:
        if draft is not None:
            picture.draft("RGB", (draft, draft))
        if load:
            picture.load()
    except BaseException:
        picture.close()
        raise
    return picture


def _png_without_metadata(path: Path) -> bytes | None:
    """Return a PNG without the chunks that its pixels do not need; None for other files, and if there are none."""
    with path.open("rb") as file:
        if file.read(len(PNG_SIGNATURE)) != PNG_SIGNATURE:
            return None
        content, kept, position = file.read(), [PNG_SIGNATURE], 0
    while position + 8 <= len(content):
        size = int(struct.unpack_from(">I", content, position)[0]) + 12
        if content[position + 4 : position + 8] in PNG_CHUNKS_OF_PIXELS:
            kept.append(content[position : position + size])
        position += size
    stripped = b"".join(kept)
    return stripped if len(stripped) < len(content) + len(PNG_SIGNATURE) else None


@contextlib.contextmanager
def pillow_settings() -> Iterator[None]:
    """A block that opens pictures: silences Pillow's warnings, and applies $AERUN_MAX_MEGAPIXELS.

    A collection of large scans, or of damaged metadata, would fill the screen with warnings.
    """
    from PIL import Image

    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b")
        if (limit := max_megapixels()) is not None:
            Image.MAX_IMAGE_PIXELS = max(1, int(limit * MEGA / 2))  # Pillow refuses pictures of twice as many
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def max_megapixels() -> float | None:
    """Return $AERUN_MAX_MEGAPIXELS, the size of the largest picture that is opened; None for Pillow's own limit.

    ConfigError if it is not a positive number.
    """
    text = os.environ.get(MAX_MEGAPIXELS)
    if not text:
        return None
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not 0 < limit <= 1e9:
        raise ConfigError(f"{MAX_MEGAPIXELS}={text}: must be a number of megapixels greater than 0, for example 400")
    return limit


def failure_reason(error: BaseException) -> str:
    """Return in one line why a picture could not be decoded."""
    from PIL import Image, UnidentifiedImageError

    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, UnidentifiedImageError):
        return f"damaged at its beginning, or not in one of the formats {', '.join(formats())}"
    if isinstance(error, Image.DecompressionBombError):
        pixels, limit = re.search(r"\d+", text), re.search(r"limit of (\d+)", text)  # only in Pillow's message
        size = f"{int(pixels[0]) / MEGA:.0f} megapixels" if pixels else "too large"
        most = f" ({int(limit[1]) / MEGA:.0f})" if limit else ""
        return f"{size}, more than Pillow opens{most}; the environment variable {MAX_MEGAPIXELS} sets the limit"
    return error.strerror if isinstance(error, OSError) and error.strerror else text
