"""Keep the codes of a folder of pictures in a file: ``python scripts/embed.py RUN FOLDER -o FILE``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aerun.cli.embed import main

if __name__ == "__main__":
    main()
