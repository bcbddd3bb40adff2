"""A headless Chromium for the tests of the report, and reports to open in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report_page import annotated, chromium, made_up, open_page, write_lm_eval
from factuality_harness.harness.annotation import Judgement, Label
from factuality_harness.harness.errors import HarnessError
from tests.helpers.cli import command
from tests.helpers.reports import HOSTILE, answers

main = command("report")
Open = Callable[..., Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    pytest.importorskip("selenium", reason="needs selenium")
    running = chromium()
    try:
        driver = running.__enter__()
    except HarnessError as error:
        pytest.skip(str(error))
    yield driver
    running.__exit__(None, None, None)


@pytest.fixture
def opened(browser: Any) -> Iterator[Open]:
    """Opens a page and, at the end, asserts that the console holds no error and that nothing was fetched."""

    def go(page: Path, address: str = "") -> Any:
        open_page(browser, page, address)
        return browser

    browser.get_log("browser")
    yield go
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    assert browser.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)") == []
    for name in ("Emulation.clearDeviceMetricsOverride", "Emulation.setEmulatedMedia"):
        browser.execute_cdp_cmd(name, {})
    browser.execute_script("localStorage.clear()")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep's store: an experiment of three models and two tasks, one of them not run yet."""
    root = tmp_path_factory.mktemp("store")
    cells: list[dict[str, Any]] = []
    for name, right in (("base", 0.3), ("w/o mask", 0.5), ("w/ mask", 0.8), ("late", None)):
        stage = f"score-{len(cells)}"
        if right is not None:
            tasks = ("world_factuality_near", "world_factuality_far")
            answered = {task: answers(f"{name} {task}", right) for task in tasks}
            write_lm_eval(root / "stages" / stage / "lm_eval" / "model", answered, "lexical")
            record = {"kind": "score", "settings": {}, "needs": {}, "seconds": 1.0, "commands": []}
            (root / "stages" / stage / "stage.json").write_text(json.dumps(record))
        cells.append({"labels": {"setting": name}, "seed": 0, "stages": {"score": stage}})
    (root / "experiments").mkdir()
    table = {"number": 2, "columns": {"anah_v2_score": "world_factuality_near"}}
    for name, title in (("another", "Another"), ("mask", "The mask")):  # the first by name is not the one to open on
        data = {"name": name, "title": title, "table": table if name == "mask" else {}, "cells": cells}
        (root / "experiments" / f"{name}.json").write_text(json.dumps(data))
    return root


@pytest.fixture(scope="session")
def page(store: Path) -> Path:
    """The report of `store`."""
    out = store.parent / "report.html"
    assert main(["--results", str(store), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def large_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5 000 responses of 8 sentences."""
    root = tmp_path_factory.mktemp("large")
    answered = {"anah_factuality_mini": list(made_up("model", 1000, 8, 0.5))}
    write_lm_eval(root / "run", answered, "lexical")
    runs = [f"--run=model {place}={root / 'run'}" for place in range(5)]
    assert main([*runs, "--per-task", "1000", "--out", str(root / "report.html")]) == 0
    return root / "report.html"


@pytest.fixture(scope="session")
def odd_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs with a sentence that turns the writing direction round, a long detail, and a question asked twice."""
    root = tmp_path_factory.mktemp("odd")
    for run in ("first", "second"):
        turned = annotated(
            "Which way?\u202e",
            [
                ("One \u202e two.", Judgement(Label.OK, ("a \u202e b",))),
                ("Three.", Judgement(Label.CONTRADICTORY, (), "x" * 3000)),
                ("Four.", Judgement(Label.UNVERIFIABLE)),
            ],
            topic="T",
        )
        twice = [
            annotated("Same?", [(f"{run} to {number}.", Judgement(Label.OK))], topic="T") for number in ("one", "two")
        ]
        rows = [("A document.", [a]) for a in (turned, *twice)]
        write_lm_eval(root / run, {"anah_factuality_mini": rows}, "lexical")
    arguments = [f"--run={run}={root / run}" for run in ("first", "second")]
    assert main([*arguments, "--out", str(root / "report.html")]) == 0
    return root / "report.html"


@pytest.fixture(scope="session")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Script tags wherever a model, a data set or a person can put them."""
    root = tmp_path_factory.mktemp("hostile")
    finding = Judgement(Label.CONTRADICTORY, (HOSTILE,), HOSTILE)
    annotation = annotated(HOSTILE, [(HOSTILE, finding), ("<!--<script>", finding)], topic=HOSTILE, judge=HOSTILE)
    write_lm_eval(root / "run", {"anah_factuality_mini": [(HOSTILE, [annotation])]}, HOSTILE)
    arguments = ["--run", f"{HOSTILE.replace('=', ':')}={root / 'run'}", "--run", f"other={root / 'run'}"]
    assert main([*arguments, "--title", HOSTILE, "--out", str(root / "report.html")]) == 0
    return root / "report.html"
