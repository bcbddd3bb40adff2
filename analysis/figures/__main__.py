"""`python -m factuality_harness.analysis.figures`."""

import sys

from factuality_harness.analysis.figures.command import main

if __name__ == "__main__":
    sys.exit(main())
