"""A table as Markdown and LaTeX."""

from __future__ import annotations

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


_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"–": "--", "†": r"\textdagger{}", "±": r"$\pm$", "<": r"\textless{}", ">": r"\textgreater{}", "−": "$-$"}
)


def escape(text: str) -> str:
    """Text with LaTeX's own characters made plain."""
    return text.translate(_LATEX)


def latex(grid: Grid, label: str) -> str:
    """A `table` environment with booktabs rules; needs \\usepackage{booktabs}."""
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
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(grid.title)}}}",
            rf"\label{{tab:{label}}}",
            rf"\begin{{tabular}}{{{''.join(grid.aligned('l', 'r'))}}}",
            r"\toprule",
            " & ".join(top) + r" \\",
            "".join(rules),
            _line(names),
            r"\midrule",
            *(_line([escape(cell) for cell in row]) for row in grid.rows),
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par\footnotesize {escape(note)}" for note in grid.notes),
            r"\end{table}",
            "",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
