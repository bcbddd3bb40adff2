"""The interval of a single run: one function, what the table shows is what the leaderboard shows."""

from __future__ import annotations

import json
import math
from dataclasses import astuple
from pathlib import Path

import pytest
from scipy import stats

from factuality_harness.analysis.intervals import Z95, of_one_run
from factuality_harness.analysis.report.leaderboard import leaderboards
from factuality_harness.analysis.results import CellResult, ExperimentResult, load_run
from factuality_harness.analysis.tables.model import Column, Row
from tests.helpers.stores import STAMP


@pytest.mark.parametrize(
    ("metrics", "key", "expected"),
    [
        ({"f": 0.5, "f_ci95_low": 0.4, "f_ci95_high": 0.7, "f_stderr": 0.1}, "f", (0.5, 0.4, 0.7, 1, "topics")),
        ({"f": 0.5, "f_stderr": 0.1}, "f", (0.5, 0.5 - 0.1 * Z95, 0.5 + 0.1 * Z95, 1, "questions")),
        (
            {"m,strict": 0.5, "m_stderr,strict": 0.1, "m,flexible": 0.6, "m_stderr,flexible": 0.2},
            "m,flexible",
            (0.6, 0.6 - 0.2 * Z95, 0.6 + 0.2 * Z95, 1, "questions"),
        ),
        ({"m,strict": 0.5, "m,flexible": 0.6, "m_stderr": 0.1}, "m,strict", (0.5, math.nan, math.nan, 1, "")),
        ({"f": 0.5}, "f", (0.5, math.nan, math.nan, 1, "")),
        ({}, "f", (math.nan, math.nan, math.nan, 1, "")),
    ],
)
def test_the_interval_is_what_the_file_gives(metrics: dict[str, float], key: str, expected: tuple[object, ...]) -> None:
    assert astuple(of_one_run(metrics, key)) == pytest.approx(expected, nan_ok=True)


def test_the_quantile_is_that_of_the_normal() -> None:
    assert pytest.approx(stats.norm.ppf(0.975), abs=1e-6) == Z95


def test_table_and_leaderboard_show_the_same_interval_of_the_same_file(tmp_path: Path) -> None:
    """A task whose metric comes through two filters, as lm_eval's gsm8k."""
    values = {"exact_match,strict-match": 0.5, "exact_match_stderr,strict-match": 0.05}
    values |= {"exact_match,flexible-extract": 0.75, "exact_match_stderr,flexible-extract": 0.04}
    data = {"results": {"gsm8k": values}, "versions": {"gsm8k": 3}, "configs": {"gsm8k": {}}}
    (tmp_path / f"results_{STAMP}.json").write_text(json.dumps(data))
    cell = CellResult("e", {"model": "m"}, 0, {"score": "s"}, load_run(tmp_path))
    experiment = ExperimentResult("e", "E", {}, (cell,))
    (board,) = leaderboards(experiment, {})
    shown = {value.metric: value for value in board.rows[0].values}
    row = Row(cell.labels, experiment, {0: cell})
    for metric, interval in (
        ("exact_match,strict-match", "40.2 to 59.8 %"),
        ("exact_match,flexible-extract", "67.2 to 82.8 %"),
    ):
        found = row.estimate(Column("c", "gsm8k", metric))
        assert found is not None and found.over == "questions"
        assert (shown[metric].low, shown[metric].high) == (found.low, found.high)
        assert shown[metric].interval == interval
    assert board.interval == "95 % interval over questions (lm_eval's standard error)"
