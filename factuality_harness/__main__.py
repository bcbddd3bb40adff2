"""`python -m factuality_harness` is `factuality`."""

import sys

from factuality_harness.cli import main

if __name__ == "__main__":
    sys.exit(main())
