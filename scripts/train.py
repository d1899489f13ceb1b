"""Train from a checkout that is not installed: ``python scripts/train.py --help``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aerun.cli.train import main

# Hydra's tab completion looks for the text @hydra.main in this file; the decorated function is in aerun.cli.train.
if __name__ == "__main__":
    sys.exit(main())
