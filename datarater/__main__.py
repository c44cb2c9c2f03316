"""`python -m datarater` is the command `datarater`."""
import sys

from datarater.cli import main

if __name__ == "__main__":
    sys.exit(main())
