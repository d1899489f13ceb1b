"""Find the pictures of a collection that are like given ones: ``python scripts/search.py RUN FILE IMAGE...``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aerun.cli.search import main

if __name__ == "__main__":
    main()
