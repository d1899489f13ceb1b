"""Corruptions of the input. Each draws for a whole batch on the batch's device; targets are never touched.

``pixels``: of one position or value at a time, with the moments from which the best linear denoiser follows in closed
form. ``marks``: dust, scratches and smudges, which cover many positions. ``crop``: a part in place of
the whole. ``several``: one after another.
"""

from aerun.noise.crop import Crop
from aerun.noise.marks import BlurSpots, Dust, Scratches
from aerun.noise.pixels import Gaussian, Masking, Moments, NoNoise, SaltPepper, for_evaluation
from aerun.noise.several import Several

__all__ = [
    "BlurSpots",
    "Crop",
    "Dust",
    "Gaussian",
    "Masking",
    "Moments",
    "NoNoise",
    "SaltPepper",
    "Scratches",
    "Several",
    "for_evaluation",
]
