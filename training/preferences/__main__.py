"""`python -m training.preferences`."""

import sys

from factuality_harness.training.preferences.command import main

if __name__ == "__main__":
    sys.exit(main())
