"""Collections of images: their codes in a file, smaller formats of codes, crops and thumbnails."""
