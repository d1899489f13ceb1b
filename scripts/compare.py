"""Compare finished and unfinished runs by their folders: ``python scripts/compare.py SWEEP_OR_RUN...``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aerun.cli.compare import compare_main

if __name__ == "__main__":
    compare_main()
