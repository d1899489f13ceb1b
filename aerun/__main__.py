"""``python -m aerun COMMAND ...``"""

import sys

from aerun.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
