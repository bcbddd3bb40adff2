"""Models before and after training, task by task: the demo's figure."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

from factuality_harness.harness.io.write import whole_file

COLOURS = ("#999999", "#0072b2", "#d55e00")
MARKS = ("o", "s", "^")


def draw_before_after(scores: pd.DataFrame, out: Path) -> None:
    """Factuality with 95 % intervals over topics as PNG.

    scores: rows of up to three models and any number of tasks; columns topics (the task's name), model, factuality,
    low, high.
    """
    tasks, models = scores["topics"].unique(), scores["model"].unique()
    fig, axis = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    for place, (model, colour, mark) in enumerate(zip(models, COLOURS, MARKS, strict=False)):
        part = scores[scores["model"] == model].set_index("topics").loc[tasks]
        x = [i + 0.2 * (place - 1) for i in range(len(part))]
        errors = [part["factuality"] - part["low"], part["high"] - part["factuality"]]
        axis.errorbar(x, part["factuality"], errors, fmt=mark, color=colour, capsize=3, label=model)
    axis.set_xticks(range(len(tasks)), tasks)
    axis.set_ylabel("factuality (95 % interval over topics)")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    with whole_file(out, "wb") as file:
        fig.savefig(file, dpi=150)
    plt.close(fig)
