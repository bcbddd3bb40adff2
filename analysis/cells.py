"""Cells of an experiment, named on a command line by their labels: `LABEL=VALUE,LABEL=VALUE`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from factuality_harness.analysis.results import CellResult, Results
from factuality_harness.harness.errors import HarnessError

_NEXT_LABEL = re.compile(r",(?=[^,=]+=)")  # a comma within a value stays


def parse_labels(texts: str | Sequence[str], option: str) -> dict[str, str]:
    """Labels of one or several `LABEL=VALUE[,LABEL=VALUE]`. Raises HarnessError naming `option` for anything else."""
    labels: dict[str, str] = {}
    for text in [texts] if isinstance(texts, str) else texts:
        for part in _NEXT_LABEL.split(text):
            label, equals, value = (piece.strip() for piece in part.partition("="))
            if not label or not equals:
                raise HarnessError(f"{option} {text!r}: write LABEL=VALUE, several of them with commas between")
            if labels.setdefault(label, value) != value:
                raise HarnessError(f"{option}: label {label} is given twice, {labels[label]!r} and {value!r}")
    return labels


def shown(labels: Mapping[str, str]) -> str:
    """Labels as `parse_labels` reads them."""
    return ",".join(f"{label}={value}" for label, value in labels.items())


def find_cells(
    results: Results, experiment: str, labels: Mapping[str, str], option: str, *, single: bool = False
) -> list[CellResult]:
    """The cells, of all seeds, that carry these labels (all cells for none). single: they may differ in the seed only.

    Raises HarnessError naming `option` and what there is: no such experiment, no such cell, several with `single`.
    """
    if experiment not in results.experiments:
        known = ", ".join(results.experiments)
        raise HarnessError(f"{option}: no experiment {experiment!r} in {results.root}; it has {known}")
    cells = results.experiments[experiment].cells
    found = [cell for cell in cells if labels.items() <= cell.labels.items()]
    kinds = {shown(cell.labels): None for cell in found}
    if not found or (single and len(kinds) > 1):
        choice = "; ".join(kinds or {shown(cell.labels): None for cell in cells})
        fits = f"fits {len(kinds)} cells" if kinds else "fits no cell"
        raise HarnessError(f"{option} {shown(labels)} {fits} of {experiment}; there are {choice}")
    return found
