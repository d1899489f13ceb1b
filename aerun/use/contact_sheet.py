"""Contact sheets: many images on one, each with a caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aerun.base.files import printable

if TYPE_CHECKING:
    from PIL import Image

GAP_PIXELS, LINE_PIXELS = 8, 13  # between tiles, and the height of a line of text
CAPTION_SIZE, TITLE_SIZE = 10, 12
RED, LIGHT_GRAY, DARK_GRAY = "#d02020", "#c8c8c8", "#404040"


@dataclass(frozen=True)
class Tile:
    """One image of a sheet: uint8 ``pixels`` [C,H,W], gray or color, and the lines below it.

    ``marked`` tiles have a red frame; ``blank`` tiles show only their caption.
    """

    pixels: np.ndarray
    caption: str = ""
    marked: bool = False
    blank: bool = False


def blank_tile(caption: str = "") -> Tile:
    """A tile without an image."""
    return Tile(np.full((1, 1, 1), 255, np.uint8), caption, blank=True)


def draw_contact_sheet(tiles: Sequence[Tile], columns: int = 8, side: int = 96, title: str = "") -> np.ndarray:
    """Tiles in rows, from left to right -> pixels [H,W,3], uint8.

    Images larger than ``side`` pixels are reduced, small ones are enlarged by whole factors. Captions are cut to
    the width of a tile.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=CAPTION_SIZE)
    lines = max((len(tile.caption.splitlines()) for tile in tiles), default=0)
    head = LINE_PIXELS + GAP_PIXELS if title else 0
    columns = max(1, min(columns, len(tiles)))
    width, height = side + GAP_PIXELS, side + LINE_PIXELS * lines + GAP_PIXELS
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * width + GAP_PIXELS, head + rows * height + GAP_PIXELS), "white")
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text(
            (GAP_PIXELS, GAP_PIXELS // 2), printable(title), "black", font=ImageFont.load_default(size=TITLE_SIZE)
        )
    for number, tile in enumerate(tiles):
        left, top = GAP_PIXELS + number % columns * width, head + GAP_PIXELS + number // columns * height
        if not tile.blank:
            image = _scale_to_tile(tile.pixels, side)
            corner = left + (side - image.width) // 2, top + (side - image.height) // 2
            sheet.paste(image, corner)
            frame = (corner[0] - 1, corner[1] - 1, corner[0] + image.width, corner[1] + image.height)
            draw.rectangle(frame, outline=RED if tile.marked else LIGHT_GRAY, width=2 if tile.marked else 1)
        for line, text in enumerate(printable(tile.caption).splitlines()):
            while text and draw.textlength(text, font=font) > side:
                text = text[:-2] + "…" if len(text) > 2 else ""
            draw.text((left, top + side + 1 + line * LINE_PIXELS), text, DARK_GRAY, font=font)
    return np.asarray(sheet)


def _scale_to_tile(pixels: np.ndarray, side: int) -> Image.Image:
    from PIL import Image

    image = Image.fromarray(pixels[0] if pixels.shape[0] == 1 else pixels.transpose(1, 2, 0)).convert("RGB")
    longest = max(image.size)
    if longest > side:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    elif longest * 2 <= side:
        factor = side // longest
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    return image
