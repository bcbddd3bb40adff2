"""What metrics say of themselves, and the lists in the tasks' READMEs."""

from __future__ import annotations

import re

import pytest

from factuality_harness.harness import best_of, metrics
from factuality_harness.harness.factscore import score
from factuality_harness.harness.judging.labels import TYPES
from factuality_harness.harness.lm_eval_plugin import factscore, judge
from factuality_harness.harness.metrics import Metric
from tests.helpers.paths import ROOT

TABLES = {
    "anah": metrics.METRICS | best_of.metrics([16]),
    "factscore": factscore.metrics(10.0),
    "judge": judge.JudgeTypesTask.metrics | judge.JudgeTask.metrics,
}


def written(name: str) -> str:
    """A metric as a README's list writes it: one entry for all languages, types and interval ends."""
    name = re.sub(r"_ci95_(low|high)$", "", name)
    name = re.sub(r"^best_of_\d+", "best_of_N", re.sub(r"_(en|zh)$", "", name))
    return "f1_LABEL" if name.removeprefix("f1_") in TYPES else name


@pytest.mark.parametrize("task", TABLES)
def test_the_readme_lists_every_metric(task: str) -> None:
    text = (ROOT / "tasks" / task / "README.md").read_text(encoding="utf-8").partition("\n## Metrics\n")[2]
    listed = set(re.findall(r"`([A-Za-z0-9_]+)[^`]*`", text))
    assert {written(name) for name in TABLES[task]} - listed == set()


@pytest.mark.parametrize("task", TABLES)
def test_the_yaml_names_every_metric(task: str) -> None:
    comments = [
        line
        for path in (ROOT / "tasks" / task).glob("*.yaml")
        for line in path.read_text().splitlines()
        if line[:1] == "#"
    ]
    assert {written(name) for name in TABLES[task]} - set(re.findall(r"\w+", " ".join(comments))) == set()


@pytest.mark.parametrize("table", [*TABLES.values(), score.METRICS])
def test_a_metric_says_in_one_sentence_what_it_measures(table: dict[str, Metric]) -> None:
    wrong = [f"{name}: {m.about}" for name, m in table.items() if not re.fullmatch(r"[A-Z][^\n]{10,110}\.", m.about)]
    assert wrong == []
    assert all(". " not in metric.about for metric in table.values())
    of_ends = {metric.about for name, metric in table.items() if "_ci95_" in name}
    assert len(of_ends) == sum("_ci95_" in name for name in table)
