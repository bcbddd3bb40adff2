"""A table as Markdown and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

NONE = "–"


@dataclass(frozen=True, slots=True)
class Group:
    """Columns under one heading ("" for the columns that name a row)."""

    heading: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """Text in cells. rows have as many cells as the groups have columns."""

    title: str
    groups: tuple[Group, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = field(default=())

    def flat(self) -> list[str]:
        """One heading a column."""
        return [f"{g.heading}: {c}" if g.heading else c for g in self.groups for c in g.columns]

    def aligned(self, left: str, right: str) -> list[str]:
        """`left` for the columns that name a row, `right` for numbers."""
        return [right if g.heading else left for g in self.groups for _ in g.columns]


def markdown(grid: Grid, level: int = 2) -> str:
    """GitHub's tables, the notes as a list below."""
    lines = [f"{'#' * level} {grid.title}", ""]
    for cells in (grid.flat(), grid.aligned("---", "--:"), *grid.rows):
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    if grid.notes:
        lines += ["", *(f"- {note}" for note in grid.notes)]
    return "\n".join(lines) + "\n"


NUMBERED = re.compile(r"^Table \d+: ")
WIDE = 9  # columns of a table that is upright
_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"–": "--", "†": r"\textdagger{}", "±": r"$\pm$", "<": r"\textless{}", ">": r"\textgreater{}", "−": "$-$"}
)


def escape(text: str) -> str:
    """Text with LaTeX's own characters made plain."""
    return text.translate(_LATEX)


def latex(grid: Grid, label: str) -> str:
    """A `table` environment with booktabs rules, on its side when it has many columns, shrunk to the page where it is
    wider; needs \\usepackage{booktabs,graphicx,rotating}. LaTeX numbers it, so the caption does not."""
    top: list[str] = []
    rules: list[str] = []
    place = 1
    for group in grid.groups:
        width = len(group.columns)
        top.append(
            rf"\multicolumn{{{width}}}{{c}}{{{escape(group.heading)}}}" if group.heading else " & " * (width - 1)
        )
        if group.heading:
            rules.append(rf"\cmidrule(lr){{{place}-{place + width - 1}}}")
        place += width
    names = [escape(c) for g in grid.groups for c in g.columns]
    environment = "sidewaystable" if len(names) > WIDE else "table"
    return "\n".join(
        [
            rf"\begin{{{environment}}}",
            r"\centering",
            rf"\caption{{{escape(NUMBERED.sub('', grid.title))}}}",
            rf"\label{{tab:{label}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{''.join(grid.aligned('l', 'r'))}}}",
            r"\toprule",
            " & ".join(top) + r" \\",
            "".join(rules),
            _line(names),
            r"\midrule",
            *(_line([escape(cell) for cell in row]) for row in grid.rows),
            r"\bottomrule",
            r"\end{tabular}}",
            *(rf"\par\footnotesize {escape(note)}" for note in grid.notes),
            rf"\end{{{environment}}}",
            "",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
