"""Words for clusters: the color and the folder or file name that set a cluster off from the rest of the collection."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np

from aerun.base.files import printable
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.collection.looks import LEVELS

MIN_SHARE = 0.25  # of a cluster's pictures, for a word that names it
MAX_LETTERS = 24
WORD = re.compile(r"[^\W\d_]{3,}")
DARK, LIGHT, PALE = 0.25, 0.8, 0.25  # brightness of black and of white, and the saturation of grays
HUES = ((20, "red"), (45, "orange"), (70, "yellow"), (160, "green"), (195, "cyan"), (255, "blue"), (290, "purple"))


def name_clusters(prints: Fingerprints, assigned: np.ndarray, rows: np.ndarray) -> tuple[str, ...]:
    """``COLOR-WORD`` for each cluster; assigned[n] are those of rows[n] of the collection, the most typical first.

    Both are the most frequent in the cluster against all the rows: of colors and words with shares p in the cluster
    and q in all, p ln(p / q) is largest. The word is a folder's name, otherwise one of file names, that a quarter of
    the cluster has; otherwise the name of its most typical picture.
    """
    paths = [PurePosixPath(prints.names[row]) for row in rows]
    folders = [set(path.parts[:-1]) for path in paths]
    words = [set(WORD.findall(printable(path.stem).lower())) for path in paths]
    count = int(assigned.max(initial=-1)) + 1
    colors, shares = color_words(), None
    if prints.looks is not None:
        squares = (prints.looks.colors[rows] / 255.0) ** 2
        shares = np.stack([squares[:, [word == color for word in colors]].sum(1) for color in sorted(set(colors))], 1)
    result = list[str]()
    for number in range(count):
        members = np.flatnonzero(assigned == number)
        color = ""
        if shares is not None:
            inside, everywhere = shares[members].mean(0), shares.mean(0)
            color = sorted(set(colors))[int((inside * np.log((inside + 1e-9) / (everywhere + 1e-9))).argmax())]
        found = (
            _distinctive(folders, members) or _distinctive(words, members) or _without_number(paths[members[0]].stem)
        )
        result.append("-".join(filter(None, [color, as_file_name(found)])))
    return tuple(result)


def _distinctive(words: list[set[str]], members: np.ndarray) -> str:
    """The word that sets the members off, if a quarter of them has it and they have it more often than all."""
    inside = Counter(word for member in members for word in words[member])
    if not inside:
        return ""
    everywhere = Counter(word for each in words for word in each if word in inside)
    best, score = "", 0.0
    for word, times in sorted(inside.items()):
        share, total = times / len(members), everywhere[word] / len(words)
        gain = share * np.log(share / total)
        if share >= MIN_SHARE and gain > score:
            best, score = word, gain
    return best


def _without_number(stem: str) -> str:
    """``0365_cabin`` -> ``cabin``; what is a number alone stays."""
    return re.sub(r"^[\d\W_]+", "", stem) or stem


def as_file_name(text: str) -> str:
    """Letters, digits and dashes, at most 24."""
    return re.sub(r"[\W_]+", "-", printable(text)).strip("-")[:MAX_LETTERS].strip("-")


def color_words() -> list[str]:
    """A word for each of the 4 x 4 x 4 colors of a histogram."""
    middles = (np.arange(LEVELS) + 0.5) / LEVELS
    return [_color_word((red, green, blue)) for red in middles for green in middles for blue in middles]


def _color_word(color: Iterable[float]) -> str:
    import colorsys

    hue, saturation, value = colorsys.rgb_to_hsv(*color)
    if value < DARK:
        return "black"
    if saturation < PALE:
        return "white" if value > LIGHT else "gray"
    word = next((word for end, word in HUES if 360 * hue < end), "pink" if 360 * hue < 340 else "red")
    return "brown" if word in ("red", "orange") and value < 0.7 and 360 * hue > 5 else word
