"""What a drawn panel shows."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes


def lines(axis: Axes) -> dict[str, list[tuple[float, ...]]]:
    """Label to points of the drawn lines."""
    shown = [line for line in axis.lines if not str(line.get_label()).startswith("_")]
    return {str(line.get_label()): [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())] for line in shown}


def words(axis: Axes) -> list[str]:
    return [text.get_text() for text in axis.texts]
