"""What a drawn panel shows."""

from __future__ import annotations

from matplotlib.axes import Axes


def lines(axis: Axes) -> dict[str, list[tuple[float, ...]]]:
    """Label to points of the drawn lines."""
    return {
        line.get_label(): list(zip(*(map(float, v) for v in line.get_data()), strict=True))
        for line in axis.lines
        if not line.get_label().startswith("_")
    }


def words(axis: Axes) -> list[str]:
    return [text.get_text() for text in axis.texts]
