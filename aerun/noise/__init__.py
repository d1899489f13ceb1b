"""Corruptions of the input. Each one samples for a whole batch on the batch's device; targets never change.

- ``pixels``: corruptions of single pixels or values, whose moments give the best linear denoiser in closed form.
- ``marks``: dust, scratches and smudges, which cover many pixels.
- ``scans``: hairs, stains, graphite, folds and what shows through, of scanned pages.
- ``crop``: a crop in place of the whole image.
- ``views``: other colors, a blur, a photo of a print.
- ``several``: several corruptions in sequence.
"""

from aerun.noise.crop import Crop
from aerun.noise.marks import BlurSpots, Dust, Scratches
from aerun.noise.pixels import Gaussian, Masking, Moments, NoNoise, SaltPepper
from aerun.noise.scans import BleedThrough, Folds, Graphite, Hairs, Stains
from aerun.noise.several import Several
from aerun.noise.views import Blur, Photo, Recolor

__all__ = [
    "BleedThrough",
    "Blur",
    "BlurSpots",
    "Crop",
    "Dust",
    "Folds",
    "Gaussian",
    "Graphite",
    "Hairs",
    "Masking",
    "Moments",
    "NoNoise",
    "Photo",
    "Recolor",
    "SaltPepper",
    "Scratches",
    "Several",
    "Stains",
]
