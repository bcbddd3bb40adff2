"""How much of a run its judge may leave unjudged before the run counts as failed, its numbers written all the same."""

from __future__ import annotations

import math

from factuality_harness.harness.errors import HarnessError

LIMIT = 0.05


def check_unjudged(share: float, limit: float, what: str) -> None:
    """Raises HarnessError when more than `limit` of what was to be judged has no verdict. NaN: nothing was to be."""
    if not math.isnan(share) and share > limit:
        raise HarnessError(
            f"{100 * share:.1f} % of the {what} have no verdict, more than the limit of {100 * limit:g} % "
            "(max_unparsed): the numbers leave them out, and are no result. The annotations say why"
        )
