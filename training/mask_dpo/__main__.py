"""`python -m factuality_harness.training.mask_dpo`, for launchers: `accelerate launch -m …`."""

import sys

from factuality_harness.training.mask_dpo.train import main

if __name__ == "__main__":
    sys.exit(main())
