"""`python -m training.preferences`."""

import sys

from training.preferences.command import main

if __name__ == "__main__":
    sys.exit(main())
