"""Maps of a trained run's codes: ``python scripts/map.py --help``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aerun.cli.map import main

if __name__ == "__main__":
    main()
