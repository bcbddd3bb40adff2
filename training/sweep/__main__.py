"""`python -m training.sweep`."""

import sys

from training.sweep.command import main

if __name__ == "__main__":
    sys.exit(main())
