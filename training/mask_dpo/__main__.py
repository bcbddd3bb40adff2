"""`python -m factuality_harness.training.mask_dpo`, for launchers: `accelerate launch -m …`, `torchrun -m …`."""

from factuality_harness.training.arguments import launched
from factuality_harness.training.mask_dpo.train import main

if __name__ == "__main__":
    launched(main)
