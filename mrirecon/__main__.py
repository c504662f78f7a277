"""`python -m mrirecon` is the command line of this very interpreter."""

import sys

from mrirecon.cli import main

if __name__ == "__main__":
    sys.exit(main())
