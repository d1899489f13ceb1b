"""A map of pictures as one HTML page that moves and zooms. It loads no other file."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from aerun.errors import ConfigError
from aerun.figures.canvas import class_colors
from aerun.figures.code_plots import MARGIN
from aerun.figures.spacing import spaced

WIDTH, HEIGHT, SIDE = 1200, 800, 44  # of the map and of a picture with its frame, on a screen of that size
TILE_PIXELS = 64  # of a picture's longer side in the page, at most
MAX_PICTURES = 20_000
STEP, DEEPEST = 2**0.5, 28  # of the zoom: after the last one pictures of one place are drawn over each other
JPEG_QUALITY = 88
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>
html, body {{ margin: 0; height: 100%; font: 14px system-ui, sans-serif; }}
body {{ display: flex; flex-direction: column; }}
header {{ padding: 6px 12px; display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: baseline; }}
h1 {{ font-size: 16px; margin: 0; }}
header span {{ color: #555; }}
i {{ display: inline-block; width: 10px; height: 10px; margin-right: 4px; }}
#map {{ flex: 1; width: 100%; min-height: 0; touch-action: none; cursor: grab; }}
#map:active {{ cursor: grabbing; }}
#preview {{ position: fixed; right: 12px; bottom: 12px; margin: 0; padding: 6px;
  background: white; border: 1px solid #999; }}
</style>
</head>
<body>
<header><h1>{title}</h1><span>drag to move, wheel or + and - to zoom, 0 for all</span><span id="count"></span>
{legend}</header>
<canvas id="map"></canvas>
<figure id="preview" hidden><canvas></canvas><figcaption id="caption"></figcaption></figure>
<script type="application/json" id="data">{data}</script>
<script>
{script}</script>
</body>
</html>
"""


def build_zoom_page(
    points: np.ndarray,
    images: np.ndarray,
    title: str,
    labels: np.ndarray | None = None,
    classes: Sequence[str] | None = None,
) -> str:
    """The page of images[N,C,H,W] uint8 at points[N,2], the second coordinate upwards, framed in the colors of their
    classes. ConfigError for more than 20,000 images.

    With each ``STEP`` of the zoom further pictures appear, as many as fit without overlap (``levels``).
    """
    if len(points) > MAX_PICTURES:
        raise ConfigError(f"a page with {len(points):,} pictures: at most {MAX_PICTURES:,} are allowed")
    places = screen_places(points)
    tiles = [_tile(image) for image in images]
    columns = max(1, round(len(tiles) ** 0.5))
    width, height = tiles[0].size
    atlas = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    for number, tile in enumerate(tiles):
        atlas.paste(tile, (number % columns * width, number // columns * height))
    content = io.BytesIO()
    atlas.save(content, "jpeg", quality=JPEG_QUALITY)
    data = {
        **{"width": WIDTH, "height": HEIGHT, "side": SIDE, "step": STEP, "columns": columns},
        **{"tile": max(width, height), "tileWidth": width, "tileHeight": height},
        "x": places[:, 0].round(6).tolist(),
        "y": places[:, 1].round(6).tolist(),
        "levels": levels(places),
        "labels": None,
        "atlas": "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode(),
    }
    legend = ""
    if labels is not None:
        color, count = class_colors(labels, classes), int(labels.max()) + 1
        names = [classes[number] if classes else str(number) for number in range(count)]
        colors = ["#" + "".join(f"{round(255 * value):02x}" for value in color(number)[:3]) for number in range(count)]
        data |= {"labels": labels.tolist(), "classes": names, "colors": colors}
        present = sorted(set(labels.tolist()))
        legend = "".join(
            f'<span><i style="background:{colors[number]}"></i>{escape(names[number])}</span>' for number in present
        )
    script = Path(__file__).with_name("zoom_page.js").read_text(encoding="utf-8")
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return PAGE.format(title=escape(title), legend=legend, data=text, script=script)


def screen_places(points: np.ndarray) -> np.ndarray:
    """points[N,2] -> places [N,2] within WIDTH and HEIGHT, with a margin, downwards."""
    low, high = points.min(0), points.max(0)
    share = (points - low) / np.where(high > low, high - low, 1)
    share[:, 1] = 1 - share[:, 1]
    return np.asarray((MARGIN + (1 - 2 * MARGIN) * share) * [WIDTH, HEIGHT])


def levels(places: np.ndarray) -> list[int]:
    """For each of places[N,2] the steps of the zoom from which on it has room; pictures that never have get one more
    than all."""
    found = np.full(len(places), -1)
    for level in range(DEEPEST + 1):
        left = np.flatnonzero(found < 0)
        if not len(left):
            break
        size = SIDE / STEP**level
        chosen = spaced(places[left], (size, size), places[found >= 0])
        found[left[chosen]] = level
    found[found < 0] = found.max() + 1
    return [int(level) for level in found]


def _tile(image: np.ndarray) -> Image.Image:
    picture = Image.fromarray(image[0] if len(image) == 1 else image[:3].transpose(1, 2, 0)).convert("RGB")
    factor = TILE_PIXELS / max(picture.size)
    if factor < 1:
        size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
        return picture.resize(size, Image.Resampling.LANCZOS)
    return picture
