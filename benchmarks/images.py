"""Where the images of the benchmarks lie."""

from __future__ import annotations

import os
from pathlib import Path

EMBEDDED = Path(__file__).resolve().parent.parent / "aerun" / "data" / "fashion_mnist_mini"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
TRAIN = "train-images-idx3-ubyte.gz"


def images_folder() -> Path:
    """Where the whole Fashion-MNIST is: $AERUN_FASHION_MNIST or Debian's package; else the embedded 10,000 images."""
    named = os.environ.get("AERUN_FASHION_MNIST")
    places = [Path(named)] if named else [DEBIAN]
    return next((place for place in places if (place / TRAIN).exists()), EMBEDDED)
