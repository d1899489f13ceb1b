"""Recompute the test metrics and figures of a finished run: ``python scripts/evaluate.py run=FOLDER``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aerun.cli.evaluate import evaluate_main

if __name__ == "__main__":
    evaluate_main()
