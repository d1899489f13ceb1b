"""Say what is wrong with runs, and what to try: ``python scripts/doctor.py RUN...``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aerun.cli.doctor import main

if __name__ == "__main__":
    main()
