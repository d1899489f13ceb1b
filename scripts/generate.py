"""New images from a trained run: ``python scripts/generate.py --help``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aerun.cli.generate import main

if __name__ == "__main__":
    main()
