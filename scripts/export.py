"""Write a trained run for other programs: ``python scripts/export.py RUN OUT``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aerun.cli.export import main

if __name__ == "__main__":
    main()
