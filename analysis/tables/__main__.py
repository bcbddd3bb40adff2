"""`python -m factuality_harness.analysis.tables`."""

import sys

from factuality_harness.analysis.tables.command import main

if __name__ == "__main__":
    sys.exit(main())
