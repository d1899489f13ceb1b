"""Contact sheets: many pictures on one, each with a caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

GAP_PIXELS, LINE_PIXELS = 8, 13


@dataclass(frozen=True)
class Tile:
    """uint8 ``pixels`` [C,H,W], grey or colour, and the lines below it; ``marked`` ones get a frame that is seen,
    ``blank`` ones none."""

    pixels: np.ndarray
    caption: str = ""
    marked: bool = False
    blank: bool = False


def blank_tile(caption: str = "") -> Tile:
    """A place where no picture is."""
    return Tile(np.full((1, 1, 1), 255, np.uint8), caption, blank=True)


def draw_contact_sheet(tiles: Sequence[Tile], columns: int = 8, side: int = 96, title: str = "") -> np.ndarray:
    """Pixels [H,W,3] uint8: the tiles from left to right and down, none larger than ``side``, small ones enlarged by
    whole factors. Captions are cut to the tile's width."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=10)
    lines = max((len(tile.caption.splitlines()) for tile in tiles), default=0)
    head = LINE_PIXELS + GAP_PIXELS if title else 0
    columns = max(1, min(columns, len(tiles)))
    width, height = side + GAP_PIXELS, side + LINE_PIXELS * lines + GAP_PIXELS
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * width + GAP_PIXELS, head + rows * height + GAP_PIXELS), "white")
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((GAP_PIXELS, GAP_PIXELS // 2), title, "black", font=ImageFont.load_default(size=12))
    for number, tile in enumerate(tiles):
        left, top = GAP_PIXELS + number % columns * width, head + GAP_PIXELS + number // columns * height
        if not tile.blank:
            picture = _scale_to_tile(tile.pixels, side)
            place = left + (side - picture.width) // 2, top + (side - picture.height) // 2
            sheet.paste(picture, place)
            box = (place[0] - 1, place[1] - 1, place[0] + picture.width, place[1] + picture.height)
            draw.rectangle(box, outline="#d02020" if tile.marked else "#c8c8c8", width=2 if tile.marked else 1)
        for line, text in enumerate(tile.caption.splitlines()):
            while text and draw.textlength(text, font=font) > side:
                text = text[:-2] + "…" if len(text) > 2 else ""
            draw.text((left, top + side + 1 + line * LINE_PIXELS), text, "#404040", font=font)
    return np.asarray(sheet)


def _scale_to_tile(pixels: np.ndarray, side: int) -> Image.Image:
    from PIL import Image

    picture = Image.fromarray(pixels[0] if pixels.shape[0] == 1 else pixels.transpose(1, 2, 0)).convert("RGB")
    longest = max(picture.size)
    if longest > side:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    elif longest * 2 <= side:
        factor = side // longest
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    return picture
