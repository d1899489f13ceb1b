"""Clean pictures with a trained run: ``python scripts/denoise.py RUN IN OUT``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aerun.cli.denoise import main

if __name__ == "__main__":
    main()
