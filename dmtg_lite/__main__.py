"""``python -m dmtg_lite``."""

import sys

from dmtg_lite.cli import main

if __name__ == "__main__":
    sys.exit(main())
