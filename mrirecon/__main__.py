"""The program: `mrirecon`, and `python -m mrirecon` of this very interpreter."""

import gc
import os
import sys
from contextlib import suppress
from typing import NoReturn

from mrirecon import ranks
from mrirecon.cli import main


def run() -> NoReturn:
    """Run the command line and end the process."""
    ranks.is_program = True
    code = main()
    if "LOCAL_RANK" in os.environ:
        # One of several processes, which has said and written all: threads of torch's group that are still there while
        # Python is torn down can abort it, and a finished job would count as failed.
        with suppress(OSError):  # nobody reads any more
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    gc.freeze()  # looking through all of torch for garbage once more takes Python a third of a second at its end
    sys.exit(code)


if __name__ == "__main__":
    run()
