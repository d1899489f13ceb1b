"""Pictures of textures and objects with known defects, drawn here, in the folders of MVTec AD.

    python benchmarks/defects.py FOLDER [--kinds weave,nut] [--seed 0]

``FOLDER/KIND/train/good``, ``test/good``, ``test/DEFECT`` and ``ground_truth/DEFECT/NAME_mask.png``: gray, 64 x 64.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SIDE = 64  # pixels
Y, X = np.mgrid[:SIDE, :SIDE].astype(float)
TRAIN, VALIDATION, TEST, EACH = 200, 100, 40, 12  # good pictures, and pictures of each defect
Random = np.random.Generator


def weave(random: Random) -> np.ndarray:
    """Two crossed threads, of any phase and a little turned."""
    turn, period = random.normal(0, 0.04), random.uniform(7.6, 8.4)
    u, v = X * np.cos(turn) - Y * np.sin(turn), X * np.sin(turn) + Y * np.cos(turn)
    a, b = (np.sin(2 * np.pi * w / period + random.uniform(0, 6.3)) for w in (u, v))
    return 0.5 + 0.2 * np.where(a * b > 0, a, b) + random.normal(0, 0.02, (SIDE, SIDE))


def wood(random: Random) -> np.ndarray:
    """Bent bands of grain."""
    bend = gaussian_filter(random.normal(0, 1, (SIDE, SIDE)), (12, 6)) * 40
    bands = np.sin(2 * np.pi * (X + bend) / random.uniform(9, 12) + random.uniform(0, 6.3))
    return 0.55 + 0.15 * bands + 0.04 * gaussian_filter(random.normal(0, 1, (SIDE, SIDE)), (6, 0.5)) * 3


def stone(random: Random) -> np.ndarray:
    """Speckles of two sizes."""
    fine, coarse = (gaussian_filter(random.normal(0, 1, (SIDE, SIDE)), s) * s * 3 for s in (1.2, 3))
    return 0.5 + 0.08 * fine + 0.05 * coarse


def nut(random: Random) -> np.ndarray:
    """A hexagon with a round hole, turned by a few degrees, on a dark ground."""
    cx, cy, turn = 32 + random.normal(0, 0.7), 32 + random.normal(0, 0.7), random.normal(0, 0.05)
    angle, radius = np.arctan2(Y - cy, X - cx) + turn, np.hypot(X - cx, Y - cy)
    edge = 24 * np.cos(np.pi / 6) / np.cos((angle % (np.pi / 3)) - np.pi / 6)
    shape = soft(edge - radius) * soft(radius - 11)
    light = random.uniform(0.6, 0.75) + 0.08 * np.cos(angle - 1)
    return 0.15 + shape * (light - 0.15) + random.normal(0, 0.02, (SIDE, SIDE))


def ring(random: Random) -> np.ndarray:
    """The mouth of a bottle from above: two bright rings and a gleam."""
    cx, cy = 32 + random.normal(0, 0.7), 32 + random.normal(0, 0.7)
    radius, angle = np.hypot(X - cx, Y - cy), np.arctan2(Y - cy, X - cx)
    rings = 0.5 * np.exp(-(((radius - 24) / 2.5) ** 2)) + 0.35 * np.exp(-(((radius - 16) / 2) ** 2))
    gleam = 0.2 * np.exp(-(((angle - random.normal(0.8, 0.1)) / 0.3) ** 2)) * soft(27 - radius)
    return 0.15 + rings + gleam + random.normal(0, 0.02, (SIDE, SIDE))


def keys(random: Random) -> np.ndarray:
    """Three by three square keys, each with its own brightness."""
    picture = np.full((SIDE, SIDE), 0.2)
    dx, dy = random.normal(0, 0.7, 2)
    for row in range(3):
        for column in range(3):
            x, y = abs(X - 12 - 20 * column - dx), abs(Y - 12 - 20 * row - dy)
            picture += soft(7.5 - np.maximum(x, y)) * (random.normal(0.5, 0.03) - 0.05 * (np.maximum(x, y) > 5))
    return picture + random.normal(0, 0.02, (SIDE, SIDE))


def soft(distance: np.ndarray) -> np.ndarray:
    """1 inside, 0 outside, with an edge of a pixel."""
    return np.clip(distance + 0.5, 0, 1)


def scratch(picture: np.ndarray, random: Random) -> tuple[np.ndarray, np.ndarray]:
    """A thin straight line, brighter or darker."""
    x, y = random.uniform(18, 46, 2)
    turn, length, width = random.uniform(0, np.pi), random.uniform(8, 20), random.uniform(0.7, 1.3)
    along = (X - x) * np.cos(turn) + (Y - y) * np.sin(turn)
    across = (Y - y) * np.cos(turn) - (X - x) * np.sin(turn)
    mask = soft(np.minimum(length / 2 - abs(along), width - abs(across)))
    return picture + mask * random.choice([-0.3, 0.3]), mask > 0.3


def hole(picture: np.ndarray, random: Random) -> tuple[np.ndarray, np.ndarray]:
    """A black disk."""
    x, y, radius = *random.uniform(18, 46, 2), random.uniform(2, 5)
    mask = soft(radius - np.hypot(X - x, Y - y))
    return picture * (1 - mask) + 0.05 * mask, mask > 0.3


def spot(picture: np.ndarray, random: Random) -> tuple[np.ndarray, np.ndarray]:
    """A stain with a soft edge, somewhat brighter or darker."""
    x, y, radius = *random.uniform(18, 46, 2), random.uniform(4, 8)
    mask = np.exp(-(((X - x) ** 2 + (Y - y) ** 2) / radius**2))
    return picture + mask * random.choice([-0.2, 0.2]), mask > 0.3


def smear(picture: np.ndarray, random: Random) -> tuple[np.ndarray, np.ndarray]:
    """A square in which the picture is blurred away: nothing is brighter or darker on average. Without a mask where
    that changes little."""
    x, y, half = *random.uniform(18, 46, 2), random.uniform(4, 8)
    mask = soft(half - np.maximum(abs(X - x), abs(Y - y)))
    blurred = gaussian_filter(picture, 4)
    changed = picture * (1 - mask) + blurred * mask
    shows = abs(changed - picture)[mask > 0.3].mean() > 0.03
    return changed, (mask > 0.3) & shows


Draw = Callable[[Random], np.ndarray]
Damage = Callable[[np.ndarray, Random], tuple[np.ndarray, np.ndarray]]
KINDS: dict[str, Draw] = {each.__name__: each for each in (weave, nut, wood, stone, ring, keys)}
DEFECTS: dict[str, Damage] = {each.__name__: each for each in (scratch, hole, spot, smear)}
CHOSEN_ON, REPORTED_ON = ("weave", "nut"), ("wood", "stone", "ring", "keys")


def write_kind(folder: Path, kind: str, seed: int) -> Path:
    """Write the pictures of one kind below ``folder/KIND``, and return that."""
    random, root = np.random.default_rng((seed, list(KINDS).index(kind))), folder / kind
    draw = KINDS[kind]
    for part, count in {"train": TRAIN + VALIDATION, "test": TEST}.items():
        for number in range(count):
            write(root / part / "good" / f"{number:03}.png", draw(random))
    for name, damage in DEFECTS.items():
        for number in range(EACH):
            mask = np.zeros((SIDE, SIDE), bool)
            while not mask.any():
                picture, mask = damage(draw(random), random)
            write(root / "test" / name / f"{number:03}.png", picture)
            write(root / "ground_truth" / name / f"{number:03}_mask.png", mask.astype(float))
    return root


def write(path: Path, picture: np.ndarray) -> None:
    """Write picture[H,W], in [0,1], as a gray PNG file."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((picture.clip(0, 1) * 255).round().astype(np.uint8)).save(path)


def main() -> None:
    """Write the folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for kind in arguments.kinds.split(","):
        print(write_kind(arguments.folder, kind, arguments.seed))


if __name__ == "__main__":
    main()
