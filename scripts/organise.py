"""Sort a collection of pictures into clusters: ``python scripts/organise.py RUN FILE -o FOLDER``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aerun.cli.organise import main

if __name__ == "__main__":
    main()
