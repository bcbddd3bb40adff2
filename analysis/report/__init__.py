"""One self-contained page of a sweep's results: leaderboard with intervals, figures, and a browser of responses.

    python -m analysis.report --results out/sweeps/world --out report.html
    python -m analysis.report --run base=out/base --run mask-dpo=out/mask [--card card.json] --out report.html

The page asks the network nothing and works from the file system. Every response is model output and is only ever shown
as text; a content security policy allows no script but the page's own.
"""

from factuality_harness.analysis.report.browse import Limits, Run
from factuality_harness.analysis.report.page import Report, write_report

__all__ = ["Limits", "Report", "Run", "write_report"]
