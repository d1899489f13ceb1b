"""Anomalies: classes against the rest, defects of pictures, and vectors, written to docs/anomalies.md.

    python benchmarks/anomalies.py classes --data FOLDER [--outputs FOLDER] [--seeds 3] [--write]
    python benchmarks/anomalies.py defects [--outputs FOLDER] [--seeds 2] [--write]
    python benchmarks/anomalies.py pretrained [--outputs FOLDER] [--seeds 2] [--write]     # needs the extra pretrained
    python benchmarks/anomalies.py vectors [--seeds 5] [--write]                     # needs pyod (the extra bench)

``--data``: a folder with ``MNIST/raw`` and ``FashionMNIST/raw``. Settings, scores and the fusion were chosen on digits
0, 2 and 4 (of the training images of MNIST, 50,000 to train on and the last 4,000 as the test set), on pictures of the
kinds ``weave`` and ``nut`` of ``benchmarks/defects.py`` with seed 0, and on the digits 0, 3 and 8 that scikit-learn
ships, all with seed 9. Runs that are there are kept, so that the same command continues.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import circumstances  # noqa: E402
from benchmarks.page import write_section  # noqa: E402

PAGE = ROOT / "docs" / "anomalies.md"


def main() -> None:
    """Measure one part; with --write write its section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("classes", "defects", "pretrained", "vectors"))
    parser.add_argument("--data", type=Path, help="folder with MNIST/raw and FashionMNIST/raw")
    parser.add_argument("--outputs", type=Path, default=ROOT / "outputs", help="where run folders go")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write the section of docs/anomalies.md")
    arguments = parser.parse_args()
    if arguments.data is not None:
        os.environ["AERUN_DATA"] = str(arguments.data)
    from benchmarks import anomaly_parts, anomaly_pretrained, anomaly_vectors

    text = {
        "classes": lambda: anomaly_parts.classes(arguments.outputs, arguments.seeds),
        "defects": lambda: anomaly_parts.defects(arguments.outputs, arguments.seeds),
        "pretrained": lambda: anomaly_pretrained.pretrained(arguments.outputs, arguments.seeds),
        "vectors": lambda: anomaly_vectors.vectors(arguments.seeds),
    }[arguments.part]()
    packages = ["torch", "scikit-learn", *(["pyod"] if arguments.part == "vectors" else [])]
    where = circumstances("anomalies.py", "cpu", "1 thread", packages)
    title, _, rest = text.partition("\n")
    whole = f"{title}\n\n{where}\n{rest}"
    print(whole)
    if arguments.write:
        write_section(arguments.part, whole, PAGE)
        if arguments.part == "defects":
            anomaly_parts.draw_defects(arguments.outputs, PAGE.parent / "images" / "anomalies.png")


if __name__ == "__main__":
    main()
