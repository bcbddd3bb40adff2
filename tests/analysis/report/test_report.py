"""The report's parts that need no browser: what is packed, what the leaderboard says, what is refused."""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.report_page import STAMP, annotated, made_up, write_lm_eval
from factuality_harness.analysis.report.browse import DEFAULT_LIMITS, BrowsedRun, Limits, pack
from factuality_harness.analysis.report.command import runs_below
from factuality_harness.analysis.report.leaderboard import Leaderboard, judge_of, leaderboards
from factuality_harness.analysis.report.page import MOST_RUNS, Chosen, make_page
from factuality_harness.analysis.results import CellResult, ExperimentResult, Results, TaskScore, load_results, load_run
from factuality_harness.harness.annotation import Judgement, Label
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.judging.estimators import JudgeCard, rogan_gladen
from factuality_harness.harness.metrics import Counts, summarise
from tests.helpers.cli import command

main = command("report")
TASK = "world_factuality_near"


def unpacked(data: str) -> dict[str, Any]:
    return json.loads(gzip.decompress(base64.b64decode(data)))


def a_run(folder: Path, name: str = "a") -> BrowsedRun:
    write_lm_eval(folder, {TASK: list(made_up(name, 6, 4, 0.5))}, "lexical")
    return BrowsedRun(name, folder, load_run(folder))


def score(ok: int, judge: str = "world", version: str = "1.0", **metrics: float) -> TaskScore:
    rows = [Counts(f"topic {i}", 1, ok + i % 2, 5, 2) for i in range(8)]
    return TaskScore(TASK, version, judge, {**summarise(rows), **metrics}, tuple(rows), "results.json", "0")


def leaderboard(*cells: tuple[str, int, TaskScore | None]) -> Leaderboard:
    found = tuple(CellResult("e", {"model": m}, seed, {}, {TASK: s} if s else {}) for m, seed, s in cells)
    (table,) = leaderboards(ExperimentResult("e", "E", {}, found), {})
    return table


# Packing

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(st.lists(st.tuples(TEXT, st.sampled_from(Label), st.lists(TEXT, max_size=2), st.text(max_size=3)), max_size=5))
def test_sentences_come_back_as_javascript_cuts_them(
    tmp_path_factory: pytest.TempPathFactory, parts: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("run")
    detail = [d.encode("utf-8", "ignore").decode() for *_, d in parts]
    findings = [(t, Judgement(lb, tuple(e), d)) for (t, lb, e, _), d in zip(parts, detail, strict=True)]
    annotation = annotated("Q?", findings, topic="T")
    write_lm_eval(folder, {TASK: [("D", [annotation])]}, "lexical")
    data = unpacked(pack([BrowsedRun("r", folder, load_run(folder))], DEFAULT_LIMITS).data)
    ((*_, text, flat),) = data["responses"]
    units = text.encode("utf-16-le")
    at, found = 0, []
    for gap, length, label, finding in zip(*[iter(flat)] * 4, strict=True):
        at += gap
        quotes, why = data["findings"][finding]
        evidence = tuple(data["quotes"][q] for q in quotes)
        said = units[2 * at : 2 * (at + length)].decode("utf-16-le")
        found.append((said, Judgement(Label(data["labels"][label]), evidence, why)))
        at += length
    assert found == findings


def test_first_responses_are_kept_and_the_rest_is_said(tmp_path: Path) -> None:
    answered = [(d, [a, a, a]) for d, (a,) in made_up("a", 6, 2, 0.5)]
    write_lm_eval(tmp_path, {TASK: answered}, "lexical")
    packed = pack([BrowsedRun("r", tmp_path, load_run(tmp_path))], Limits(per_question=2, per_task=9))
    assert [(r[3], r[4]) for r in unpacked(packed.data)["responses"]] == [(i // 2, i % 2) for i in range(9)]
    assert packed.notes == (f"r: 9 of 18 responses to {TASK}",)


def test_a_task_without_judge_and_one_without_samples_are_named(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    scores = {**run.scores, "gsm8k": TaskScore("gsm8k", "3", "", {"exact_match": 0.5}, (), "results.json", "0")}
    packed = pack([BrowsedRun("a", tmp_path, scores)], DEFAULT_LIMITS)
    assert packed.responses == 6 and packed.notes == (
        "a: gsm8k is not judged sentence by sentence, so it has no responses here",
    )
    next(tmp_path.glob("samples_*")).unlink()
    packed = pack([run], DEFAULT_LIMITS)
    assert packed.responses == 0 and "--log_samples" in packed.notes[0]


# Leaderboard


def test_best_is_best_among_rows_of_one_judge_and_version() -> None:
    rows = [
        ("a", 0, score(3)),
        ("b", 0, score(5)),
        ("c", 0, score(9, judge="lexical")),
        ("d", 0, score(9, version="2")),
    ]
    table = leaderboard(*rows)
    assert [row.values[0].best for row in table.rows] == [False, True, False, False]
    assert table.judges == ["lexical", "world"] and table.versions == ["1.0", "2"]
    counts = [table.headings.index(name) for name in ("correct", "incorrect")]
    assert not any(row.values[i].best for row in table.rows for i in counts)  # they grow with what is asked and said
    assert table.differ == ["judge", "task version"]


def test_best_is_best_among_rows_of_as_many_questions() -> None:
    half = score(6)
    half = replace(half, questions=half.questions[:4])
    table = leaderboard(("a", 0, score(3)), ("b", 0, score(5)), ("half", 0, half))
    assert [row.values[0].best for row in table.rows] == [False, True, False]
    assert table.differ == ["number of questions"]
    assert leaderboard(("a", 0, score(3)), ("half", 0, half)).rows[1].values[0].best is False


# What a score is worth: its judge's errors


def card(
    judge: str = "lexical", rows: Sequence[tuple[int, ...]] = ((40, 10, 45, 5, 0, 0),) * 12, **more: Any
) -> JudgeCard:
    return JudgeCard(judge, "labels.jsonl", more.pop("unit", "sentence"), np.array(rows), **more)


def corrected(cards: list[JudgeCard], *scores: TaskScore) -> Leaderboard:
    cells = tuple(CellResult("e", {"model": f"m{i}"}, 0, {}, {TASK: s}) for i, s in enumerate(scores))
    (table,) = leaderboards(ExperimentResult("e", "E", {}, cells), {}, {judge_of(c): c for c in cards})
    return table


def test_raw_scores_are_called_raw_and_the_worlds_exact() -> None:
    (raw,) = corrected([], score(3, judge="lexical")).notes
    assert raw.startswith("raw scores of judge lexical; no human labels were given, so its error is not corrected")
    (exact,) = corrected([], score(3)).notes
    assert "judge world is exact by construction" in exact
    assert not corrected([], score(3)).corrected


def test_a_card_corrects_the_rows_of_its_judge_alone() -> None:
    found = score(3, judge="lexical")
    table = corrected([card()], found, score(3, judge="other"))
    expected = rogan_gladen(found.questions, card())
    fixed, other = (row.corrected for row in table.rows)
    assert fixed and (fixed.value, fixed.low, fixed.high) == (expected.value, expected.low, expected.high)
    assert other is None and table.corrected
    assert table.notes[0].startswith("corrected for judge lexical by 1200 human labels of labels.jsonl")
    assert table.notes[1].startswith("raw scores of judge other")


def test_a_card_is_of_a_judge_with_its_options() -> None:
    spec = "dialogue@openai#m"
    plain, other = card(spec, judge_args={"concurrency": 8}), card(spec, judge_args={"extra_body": {"top_k": 1}})
    assert judge_of(plain) == judge_of(spec) == judge_of(card(spec)) != judge_of(other)
    assert judge_of(other) == judge_of(spec + ' {"extra_body": {"top_k": 1}}')
    assert judge_of("name {not json") == "name {not json {}"
    table = corrected([plain], score(3, judge=spec), score(3, judge=spec + ' {"extra_body": {"top_k": 1}}'))
    assert [row.corrected is not None for row in table.rows] == [True, False]
    assert "with which options" in corrected([card(spec)], score(3, judge=spec)).notes[0]


def test_seeds_are_pooled_for_the_correction() -> None:
    scores = [score(n, judge="lexical") for n in (3, 4, 5)]
    cells = tuple(CellResult("e", {"model": "m"}, seed, {}, {TASK: s}) for seed, s in enumerate(scores))
    (table,) = leaderboards(ExperimentResult("e", "E", {}, cells), {}, {judge_of(card()): card()})
    fixed = table.rows[0].corrected
    assert fixed and fixed.value == rogan_gladen([q for s in scores for q in s.questions], card()).value


def test_a_card_that_does_not_fit_is_said_to() -> None:
    narrow = card(rows=((30, 20, 30, 20, 0, 0),) * 12, unit="fact")  # allows shares of 0.4 to 0.6 only
    table = corrected([narrow], score(60, judge="lexical"))
    assert "the card was measured on facts" in table.notes[0]
    (misfit,) = table.misfits
    assert misfit.startswith("m0: the judge's share 0.8") and "the card does not fit" in misfit
    assert not corrected([card()], score(3, judge="lexical")).misfits
    silent = replace(score(0, judge="lexical"), questions=(Counts("t", 1, nofact=3),))
    assert corrected([card()], silent).rows[0].corrected.shown == "n/a"
    with pytest.raises(HarnessError, match="no better than a coin"):
        corrected([card(rows=((1, 1, 1, 1, 0, 0),) * 3)], score(3, judge="lexical"))


def test_intervals_over_topics_for_one_seed_and_over_seeds_for_several() -> None:
    one = score(3)
    (row,) = leaderboard(("a", 0, one)).rows
    assert (row.values[0].low, row.values[0].high) == (
        one.metrics["factuality_ci95_low"],
        one.metrics["factuality_ci95_high"],
    )
    table = leaderboard(("a", 0, score(3)), ("a", 1, score(4)), ("a", 2, score(5)), ("b", 0, None))
    (row,) = table.rows
    values = [score(n).metrics["factuality"] for n in (3, 4, 5)]
    mean = sum(values) / 3
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / 2)
    assert row.values[0].value == pytest.approx(mean)
    assert row.values[0].high - mean == pytest.approx(4.302653 * deviation / math.sqrt(3), rel=1e-6)
    assert (row.seeds, table.missing, table.interval) == (3, 1, "95 % interval over 3 seeds (Student's t)")


def test_tasks_with_metrics_of_their_own() -> None:
    plain = TaskScore("gsm8k", "3", "", {"exact_match": 0.5, "exact_match_stderr": 0.1}, (), "results.json", "0")
    cell = CellResult("e", {"model": "m"}, 0, {}, {"gsm8k": plain})
    (table,) = leaderboards(ExperimentResult("e", "E", {}, (cell,)), {})
    (value,) = table.rows[0].values
    assert (table.headings, value.shown, value.interval) == (("exact match",), "50.0 %", "30.4 to 69.6 %")


# The page as a whole


def test_the_same_bytes_from_the_same_results_and_no_address_outside(tmp_path: Path) -> None:
    for name in ("a", "b"):
        a_run(tmp_path / name, name)
    pages = []
    for place in ("1", "2"):
        runs = [f"--run={name}={tmp_path / name}" for name in ("a", "b")]
        assert main([*runs, "--out", str(tmp_path / place / "report.html")]) == 0
        pages.append((tmp_path / place / "report.html").read_text("utf-8"))
    assert pages[0] == pages[1]
    assert not re.search(r"https?://|//cdn|@import|url\(", pages[0])
    assert str(tmp_path) not in pages[0]


def test_any_folder_of_runs_is_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    for name in ("base", "dpo"):
        a_run(tmp_path / "world-0" / "lm_eval" / name / "the__model")
    assert [run.name for run in runs_below(tmp_path)] == ["base", "dpo"]
    a_run(tmp_path / "world-0" / "lm_eval" / "dpo" / "other__model")
    assert [run.name for run in runs_below(tmp_path)] == ["base", "dpo/other__model", "dpo/the__model"]
    assert [run.name for run in runs_below(tmp_path / "world-0" / "lm_eval" / "base")] == ["base"]


def test_what_to_browse() -> None:
    assert Chosen.parse("mask") == Chosen("mask")
    assert Chosen.parse("mask:setting=w/ mask,seed=2") == Chosen("mask", {"setting": "w/ mask"}, 2)


def store(root: Path) -> Path:
    """Two experiments of two models and two seeds; the second has table 2."""
    (root / "experiments").mkdir(parents=True)
    for number, name in ((8, "methods"), (2, "table02")):
        cells = []
        for model in ("base", "tuned"):
            for seed in (0, 1):
                stage = f"score-{name}{model}{seed}"
                answered = list(made_up(stage, 4, 3, 0.5))
                write_lm_eval(root / "stages" / stage / "lm_eval" / "m", {TASK: answered}, "world")
                record = {"kind": "score", "settings": {}, "needs": {}, "seconds": 1.0, "commands": []}
                (root / "stages" / stage / "stage.json").write_text(json.dumps(record))
                cells.append({"labels": {"method": model}, "seed": seed, "stages": {"score": stage}})
        data = {"name": name, "title": name, "table": {"number": number, "columns": {"score": TASK}}, "cells": cells}
        (root / "experiments" / f"{name}.json").write_text(json.dumps(data))
    return root


def browsed(page: Path) -> list[str]:
    return unpacked(page.read_text("utf-8").partition('id="data">')[2].partition("<")[0])["runs"]


@pytest.mark.parametrize(
    ("browse", "runs"),
    [
        ([], ["base", "tuned"]),  # table 2, first seed
        (["methods:method=tuned"], ["tuned"]),
        (
            ["table02:seed=1", "methods:method=base"],
            ["table02: base (seed 1)", "table02: tuned (seed 1)", "methods: base (seed 0)"],
        ),
    ],
)
def test_cells_chosen(tmp_path: Path, browse: list[str], runs: list[str]) -> None:
    root, page = store(tmp_path / "store"), tmp_path / "report.html"
    arguments = [argument for one in browse for argument in ("--browse", one)]
    assert main(["--results", str(root), *arguments, "--out", str(page)]) == 0
    assert browsed(page) == runs


def test_of_many_models_the_first_can_be_read_and_the_rest_is_said(tmp_path: Path) -> None:
    found = {TASK: score(3)}  # without samples files
    cells = tuple(CellResult("e", {"model": f"m{i}"}, 0, {}, found) for i in range(MOST_RUNS + 2))
    (tmp_path / "stages").mkdir()
    results = Results(tmp_path, {"e": ExperimentResult("e", "E", {"number": 2}, cells)}, {})
    report = make_page(results, [], title="T", source="S")
    assert unpacked(report.packed.data)["runs"] == [f"m{i}" for i in range(MOST_RUNS)]
    assert report.packed.notes[0] == f"The first {MOST_RUNS} of {MOST_RUNS + 2} models of e; --browse chooses others"
    ((_, (table,)),) = report.sections
    assert [row.run for row in table.rows][-3:] == [f"m{MOST_RUNS - 1}", "", ""]


def test_collected_results_have_tables_and_no_responses(tmp_path: Path) -> None:
    collect = command("collect")
    root, page = store(tmp_path / "store"), tmp_path / "report.html"
    assert collect(["--results", str(root), "--out", str(tmp_path / "small")]) == 0
    assert main(["--results", str(tmp_path / "small"), "--out", str(page)]) == 0
    assert browsed(page) == [] and "without the responses" in page.read_text("utf-8")


def test_two_judges_are_marked(tmp_path: Path) -> None:
    a_run(tmp_path / "a")
    write_lm_eval(tmp_path / "b", {TASK: list(made_up("b", 6, 4, 0.5))}, "dialogue@hf#m")
    page = tmp_path / "report.html"
    assert main([f"--run=a={tmp_path / 'a'}", f"--run=b={tmp_path / 'b'}", "--out", str(page)]) == 0
    text = page.read_text("utf-8")
    assert "2 judges in this report" in text and "Rows differ in judge: compare only rows that agree." in text
    assert text.count(">dialogue@hf#m</td>") == text.count(">lexical</td>") == 1


def card_file(folder: Path, judge: str) -> Path:
    """The card of a judge, measured by `factuality judge-card` on labelled rows."""
    labels = folder / "labels.jsonl"
    document = "The mill was built in 1507. The bridge is old."
    rows = [
        {"topic": f"t{i}", "question": "q", "sentence": text, "document": document, "language": "en", "label": label}
        for i in range(8)
        for text, label in (("The mill was built in 1507.", "ok"), (f"It sank in {1600 + i}.", "unverifiable"))
    ]
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert command("judge-card")(["--judge", judge, "--labels", str(labels), "--out", str(folder / "card")]) == 0
    return folder / "card" / "card.json"


def test_a_card_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_run(tmp_path / "a")
    given = [f"--run=a={tmp_path / 'a'}", "--card", str(card_file(tmp_path, "lexical"))]
    assert main([*given, "--out", str(tmp_path / "report.html")]) == 0
    text = (tmp_path / "report.html").read_text("utf-8")
    assert ">corrected factuality</button>" in text
    assert "corrected for judge lexical by 16 human labels of labels.jsonl" in text
    assert "no human labels were given" not in text
    (tmp_path / "report.html").unlink()
    assert "a second card of judge lexical" in refused(capsys, tmp_path, *given, *given[1:])
    assert "not a judge's card" in refused(capsys, tmp_path, given[0], "--card", str(tmp_path / "labels.jsonl"))
    write_lm_eval(tmp_path / "b", {TASK: list(made_up("b", 6, 4, 0.5))}, "other")
    error = refused(capsys, tmp_path, f"--run=b={tmp_path / 'b'}", *given[1:])
    assert "it is of judge lexical on labels.jsonl, whose factuality is not in this report (judges: other)" in error
    assert error.count("\n") == 1


def test_the_leaderboard_opens_on_what_can_be_read(tmp_path: Path) -> None:
    root = store(tmp_path / "store")
    assert make_page(load_results(root), [], title="T", source="S").first == "table02"
    chosen = [Chosen.parse("methods")]
    assert make_page(load_results(root), [], title="T", source="S", browse=chosen).first == "methods"
    runs = [a_run(tmp_path / "a")]
    assert make_page(load_results(root), runs, title="T", source="S").first == "runs"


# Refused


def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str) -> str:
    assert main([*arguments, "--out", str(tmp_path / "report.html")]) == 2
    assert not (tmp_path / "report.html").exists()
    return capsys.readouterr().err


def test_nothing_to_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "give --results DIR or --run" in refused(capsys, tmp_path)
    (tmp_path / "empty").mkdir()
    assert "empty: no results" in refused(capsys, tmp_path, "--results", str(tmp_path / "empty"))
    assert "NAME=FOLDER" in refused(capsys, tmp_path, "--run", "folder")
    (tmp_path / "file").touch()
    for out, message in (
        (tmp_path, "a folder is there; name a file"),
        (tmp_path / "file" / "r.html", "is a file, not"),
    ):
        assert main(["--results", str(tmp_path / "not there"), "--out", str(out)]) == 2
        assert message in capsys.readouterr().err
    assert "at least 1" in refused(capsys, tmp_path, "--run", f"a={tmp_path}", "--per-task", "0")


def test_cells_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = str(store(tmp_path / "store"))
    assert "it has methods, table02" in refused(capsys, tmp_path, "--results", root, "--browse", "nope")
    assert "fits no cell of table02; there are method=base; method=tu" in refused(
        capsys, tmp_path, "--results", root, "--browse", "table02:method=x"
    )
    assert "write LABEL=VALUE" in refused(capsys, tmp_path, "--results", root, "--browse", "table02:method")
    assert "write EXPERIMENT" in refused(capsys, tmp_path, "--results", root, "--browse", ":method=base")
    assert "no seed 7; it has 0, 1" in refused(capsys, tmp_path, "--results", root, "--browse", "table02:seed=7")
    assert "whole number" in refused(capsys, tmp_path, "--results", root, "--browse", "table02:seed=x")


def test_a_store_in_which_nothing_has_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = store(tmp_path / "store")
    for file in root.rglob("stage.json"):
        file.unlink()
    assert "no cell has results yet" in refused(capsys, tmp_path, "--results", str(root))
    assert "no scores yet" in refused(capsys, tmp_path, "--results", str(root), "--browse", "methods")


def test_two_runs_of_one_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_run(tmp_path / "a")
    given = f"--run=a={tmp_path / 'a'}"
    assert "two runs are called 'a'" in refused(capsys, tmp_path, given, given)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"doc_id": 6, "doc": {}, "filter": "annotation", "filtered_resps": ["{', "row 7: not valid JSON.*cut off"),
        ('{"doc_id": 6, "doc": {}, "filter": "annotation", "filtered_resps": ["{}"]}\n', "row 7: not an annotation"),
        ('{"doc_id": 6, "doc": {}, "filter": "annotation"}\n', "row 7: missing filtered_resps"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, message: str) -> None:
    a_run(tmp_path / "a")
    samples = tmp_path / "a" / f"samples_{TASK}_{STAMP}.jsonl"
    samples.write_text(samples.read_text("utf-8") + line, encoding="utf-8")
    error = refused(capsys, tmp_path, f"--run=a={tmp_path / 'a'}")
    assert re.search(f"samples_{TASK}.*{message}", error)


def test_a_predict_only_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "a"
    a_run(folder)
    results = next(folder.glob("results_*"))
    data = json.loads(results.read_text("utf-8"))
    data["results"][TASK] = {"alias": TASK, "bypass,none": 999, "bypass_stderr,none": "N/A"}
    results.write_text(json.dumps(data))
    samples = next(folder.glob("samples_*"))
    samples.write_text(json.dumps({"doc_id": 0, "doc": {}, "filter": "none", "filtered_resps": ["An answer."]}) + "\n")
    error = refused(capsys, tmp_path, f"--run=a={folder}")
    assert "--predict_only" in error and "--model replay" in error
