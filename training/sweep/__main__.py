"""`python -m training.sweep`."""

import os
import sys

from factuality_harness.training.sweep.command import main

if __name__ == "__main__":
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads on, as with `| head`; what is still to be written has no place to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)
