"""Damage of scans for tests alone: nothing is trained on it, and no setting of a noise of aerun is read here.

Everything is drawn by Pillow on the whole page, at three times its size where edges must be smooth; lengths are in
pixels, as dust and hairs do not grow with the page.
"""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

FINE = 3  # times the page's size, for drawing
AREA = 256 * 256  # pixels, for which the numbers of marks are
Array = np.ndarray
Random = np.random.Generator


class Damaged(NamedTuple):
    """``page``: uint8 [H,W,3]; ``touched`` [H,W]: where marks are."""

    page: Array
    touched: Array


def marked(page: Array, random: Random, quality: int | None = 92) -> Damaged:
    """page uint8 [H,W,3] with dust, hairs, smudges and stains, as a JPEG of that quality."""
    height, width, _ = page.shape
    values, touched = page.astype(float), np.zeros((height, width), bool)
    for draw, often in ((smudge, 0.7), (stain, 0.4), (speck, 7.0), (hair, 1.0)):
        for _ in range(random.poisson(often * height * width / AREA)):
            cover, light = draw(width, height, random)
            values = values * (1 - cover[..., None]) + values * light * cover[..., None]
            if light.min() > 1:  # white
                values = values * (1 - cover[..., None]) + 255 * cover[..., None]
            touched |= cover > 0.02
    return Damaged(stored(values, quality), touched)


def scanned(page: Array, random: Random, quality: int = 88) -> Damaged:
    """The page on tinted paper of uneven light, with folds and grain, and with marks."""
    values, touched = marked(page, random, None)
    height, width = touched.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    tint = np.array([random.uniform(0.88, 1), random.uniform(0.85, 0.97), random.uniform(0.72, 0.92)])
    angle = random.uniform(0, 2 * np.pi)
    light = 1 - random.uniform(0.05, 0.25) * (1 + x * np.cos(angle) + y * np.sin(angle)) / 2
    light -= random.uniform(0, 0.12) * (x**2 + y**2) / 2
    for _ in range(int(random.integers(0, 3))):
        angle, offset = random.uniform(0, np.pi), random.uniform(-0.6, 0.6)
        distance = ((x - offset) * np.cos(angle) + (y - offset) * np.sin(angle)) * max(height, width) / 2
        light += random.uniform(0.03, 0.12) * np.exp(-((distance / random.uniform(1, 4)) ** 2))
        light -= random.uniform(0.05, 0.2) * np.exp(-(((distance - 3) / random.uniform(1, 4)) ** 2))
    grain = random.normal(0, random.uniform(1, 4), (height, width))
    return Damaged(stored(values * tint * light[..., None] + grain[..., None], quality), touched)


def stored(values: Array, quality: int | None) -> Array:
    picture = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    if quality is None:
        return np.asarray(picture)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=quality, subsampling=0)
    return np.asarray(Image.open(content))


def canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("L", (width * FINE, height * FINE))
    return image, ImageDraw.Draw(image)


def shrunk(image: Image.Image, width: int, height: int) -> Array:
    """In [0,1]."""
    return np.asarray(image.resize((width, height), Image.Resampling.BOX), float) / 255


Mark = tuple[Array, Array]  # cover [H,W] in [0,1], and what light is left of each color; over 1: white


def speck(width: int, height: int, random: Random) -> Mark:
    """A small polygon with uneven corners."""
    image, draw = canvas(width, height)
    middle, size = random.uniform(0, (width, height)), random.uniform(0.6, 2.6)
    angles = np.sort(random.uniform(0, 2 * np.pi, 7))
    reach = size * random.uniform(0.6, 1.3, 7)
    corners = middle + reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    draw.polygon([tuple(point * FINE) for point in corners], 255)
    light = np.full(3, 2.0) if random.random() < 0.2 else random.uniform(0.1, 0.5) * np.ones(3)
    return shrunk(image, width, height) * random.uniform(0.6, 1), light


def hair(width: int, height: int, random: Random) -> Mark:
    """A line whose direction drifts."""
    image, draw = canvas(width, height)
    steps = int(random.integers(25, 160))
    turns = np.cumsum(np.cumsum(random.normal(0, 0.006, steps)) + random.normal(0, 0.04))
    turns += random.uniform(0, 2 * np.pi)
    path = random.uniform(0, (width, height)) + np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1), 0)
    draw.line([tuple(point * FINE) for point in path], 255, round(random.uniform(0.7, 1.6) * FINE), "curve")
    return shrunk(image, width, height) * random.uniform(0.5, 0.95), random.uniform(0.15, 0.5) * np.ones(3)


def smudge(width: int, height: int, random: Random) -> Mark:
    """A finger's track: a broad stroke with soft sides, through which grain shows."""
    image, draw = canvas(width, height)
    turns = np.cumsum(random.normal(0, 0.15, 12)) + random.uniform(0, 2 * np.pi)
    step, broad = random.uniform(1, 6), random.uniform(5, 22)
    path = random.uniform(0, (width, height)) + np.cumsum(step * np.stack([np.cos(turns), np.sin(turns)], 1), 0)
    draw.line([tuple(point * FINE) for point in path], 255, round(broad * FINE), "curve")
    cover = shrunk(image.filter(ImageFilter.GaussianBlur(broad * FINE / 4)), width, height)
    grain = np.clip(1 + 0.3 * random.normal(0, 1, (height, width)), 0, 1.6)
    return (cover * grain).clip(0, 1) * random.uniform(0.3, 0.9), random.uniform(0.6, 0.85) * np.ones(3)


def stain(width: int, height: int, random: Random) -> Mark:
    """The rim of a dried drop of tea or water, and what it has left inside."""
    outer, inner = canvas(width, height), canvas(width, height)
    middle, size = random.uniform(0, (width, height)), random.uniform(8, 45)
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    waves = [random.normal(0, 0.12 / k) * np.sin(k * angles + random.uniform(0, 6)) for k in range(1, 7)]
    wave = np.sum(waves, 0)
    for (_, draw), reach in ((outer, size), (inner, size - random.uniform(1, 3.5))):
        points = middle + (reach * (1 + wave))[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
        draw.polygon([tuple(point * FINE) for point in points], 255)
    whole, inside = (shrunk(image, width, height) for image, _ in (outer, inner))
    cover = (whole - inside).clip(0, 1) * random.uniform(0.4, 1) + inside * random.uniform(0, 0.4)
    return cover, np.array([random.uniform(0.75, 0.95), random.uniform(0.6, 0.8), random.uniform(0.4, 0.7)])
