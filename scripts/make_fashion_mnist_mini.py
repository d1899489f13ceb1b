"""Make the embedded data set: the first 10,000 training and 2,000 test images of Fashion-MNIST, with labels.

    python scripts/make_fashion_mnist_mini.py FOLDER_WITH_THE_FOUR_FULL_IDX_FILES

The full files (gzipped or not) come from https://github.com/zalandoresearch/fashion-mnist or from Debian's package
dataset-fashion-mnist. The output is byte for byte reproducible; its SHA-256 sums are printed and stand in
aerun/dataset/idx.py.
"""

import gzip
import hashlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from aerun.dataset.idx import find_idx, read_idx_bytes, write_idx  # noqa: E402

COUNTS = {"train": 10_000, "t10k": 2_000}


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    target = ROOT / "aerun" / "data" / "fashion_mnist_mini"
    target.mkdir(parents=True, exist_ok=True)
    for part, count in COUNTS.items():
        for kind in ("images-idx3", "labels-idx1"):
            name = f"{part}-{kind}-ubyte"
            source = find_idx(Path(sys.argv[1]), name)
            if source is None:
                sys.exit(f"{sys.argv[1]} has no {name} and no {name}.gz")
            content = write_idx(read_idx_bytes(source)[0][:count])
            (target / f"{name}.gz").write_bytes(gzip.compress(content, compresslevel=9, mtime=0))
            print(f'    "{name}": "{hashlib.sha256(content).hexdigest()}",')


if __name__ == "__main__":
    main()
