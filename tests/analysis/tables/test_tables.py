"""Tables: ours beside the paper's from result files, intervals, refusals, the way back from a number to its file."""

import csv
import hashlib
import json
import math
import re
import shutil
import subprocess

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from factuality_harness.analysis.collect import collect
from factuality_harness.analysis.intervals import over_seeds, paired_difference
from factuality_harness.analysis.results import load_results
from factuality_harness.analysis.tables.build import build_tables
from factuality_harness.analysis.tables.command import write_tables
from factuality_harness.analysis.tables.differences import differences, half_differences
from factuality_harness.analysis.tables.paper import load_paper
from factuality_harness.analysis.tables.render import latex
from factuality_harness.analysis.tables.text import differences_to_grid, to_grid
from factuality_harness.harness.errors import HarnessError
from tests.helpers.cli import command
from tests.helpers.paths import ROOT
from tests.helpers.stores import BEST, BIO, NEAR, StoreBuilder, full_store, lm_eval_files, questions

main = command("tables")
NUMBERS = st.lists(st.floats(0, 1), min_size=2, max_size=8)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return full_store(tmp_path_factory.mktemp("store")).root


@pytest.fixture(scope="module")
def tables(store):
    return {t.name: t for t in build_tables(load_results(store))}


def text_of(table, row):
    """A row of the readers' table, by heading."""
    shown = to_grid(table)
    place = table.rows.index(table.row(row))
    return dict(zip(shown.flat(), shown.rows[place], strict=True))


def small(root, table, axes=None, scores=None, **options):
    given = scores or (lambda labels, seed: {NEAR: questions(3 + seed)})
    StoreBuilder(root).experiment("e", axes or {"method": ["DPO", "DPOP"]}, given, table=table, **options)
    return build_tables(load_results(root))


@given(NUMBERS)
def test_the_interval_is_students(values):
    found = over_seeds(values)
    if np.std(values) > 1e-9:
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.mean == pytest.approx(np.mean(values))
    assert math.isnan(over_seeds([*values, math.nan]).mean)


@given(NUMBERS, st.floats(-1, 1))
def test_pairing_removes_what_seeds_have_in_common(values, gain):
    one = dict(enumerate(values))
    found = paired_difference({s: v + gain for s, v in one.items()} | {99: 5.0}, one)
    assert (found.mean, found.low, found.high) == tuple(pytest.approx(gain, abs=1e-6) for _ in range(3))
    assert found.n == len(values)


def test_all_twelve_tables_hold_the_papers_numbers(tables):
    for table in load_paper().values():
        shown = to_grid(tables[table.name])
        for row in table.rows:
            printed = [row[name] for name in table.values]
            assert any(
                [
                    t
                    for n, c in zip(shown.flat(), cells, strict=True)
                    for t in c.split(" / ")
                    if n.startswith("paper: ") and "from counts" not in n and n[7:] not in table.keys
                ]
                == printed
                for cells in shown.rows
            )


def test_a_row_is_the_mean_over_seeds_beside_the_papers(tables, store):
    table = tables["table02_mask_ablation"]
    scores = [c.scores[NEAR] for c in table.row("w/ mask").cells.values()]
    values = [s.metrics["factuality"] for s in scores]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    row = text_of(table, "w/ mask")
    assert (
        row["this run: fact world: anah_v2_score"] == f"{100 * np.mean(values):.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    )
    correct = np.mean([sum(q.ok for q in s.questions) for s in scores])
    assert row["this run: fact world: anah_v2_correct / incorrect"].split(" / ")[0] == f"{correct:.1f}"
    assert row["paper: anah_v2_correct / incorrect"] == "547.6 / 161.4"
    assert (row["this run: fact world: seeds"], row["paper: anah_v2_score"]) == ("3", "77.53")
    assert row["paper: anah_v2_score from counts"] == "77.24"
    base = text_of(table, "base")
    assert base["paper: anah_v2_score"] == "–" and "[" in base["this run: fact world: anah_v2_score"]
    assert "Judge of factuality: world." in table.notes
    assert any(f"factscore_score: factuality of {BIO}" in note for note in table.notes)


def test_missing_cells_and_rows_of_one_side_only(tables):
    table = tables["table05_near_far"]
    assert text_of(table, "Llama3.1-8B, ngram, far")["this run: fact world: score"] == "missing"
    assert text_of(table, "Llama3.1-8B, OpenAI, far")["this run: fact world: score"] == "–"
    policy = text_of(table, "Llama3.1-8B, policy, near")
    assert policy["embedding"] == "policy (paper: Llama3.1-8B)"
    assert policy["paper: score"] == "73.43"
    assert policy["this run: fact world: diff"] == "+10.0 [+10.0, +10.0]"
    assert "The fact world's policy stands for Llama." in table.notes
    partly = text_of(tables["table04_scaling"], "topic, 2/3")
    assert partly["this run: fact world: seeds"] == "2 of 3"
    assert to_grid(tables["table10_general_benchmarks"]).flat()[1] == "this run: not run"


def test_one_seed_gets_the_interval_over_topics_and_says_so(tables):
    table = tables["table08_preference_optimization"]
    row = table.row("Mask-DPO")
    (score,) = (c.scores[NEAR] for c in row.cells.values())
    low, high = (100 * score.metrics[f"factuality_ci95_{end}"] for end in ("low", "high"))
    assert text_of(table, "Mask-DPO")["this run: fact world: score"].endswith(f"[{low:.1f}, {high:.1f}]†")
    assert any(note.startswith("† one seed: 95 % cluster bootstrap") for note in table.notes)
    assert "SePO" in " ".join(table.notes)


def test_best_of_n_has_a_row_for_every_n_of_a_cell(tables):
    table = tables["table06_best_of_n"]
    row = text_of(table, "Mask-DPO, 16")
    assert (row["this run: fact world: score"][:4], row["paper: score"]) == ("67.0", "89.8")
    assert text_of(table, "Mask-DPO, 256")["this run: fact world: score"] == "–"


def test_best_of_n_before_anything_has_run(tmp_path):
    made = small(tmp_path, {"number": 6, "columns": {"score": BEST}}, {"model": ["Baseline"]}, lambda *_: None)
    table = next(t for t in made if t.number == 6)
    assert text_of(table, "Baseline, 256")["this run: fact world: score"] == "missing"
    assert text_of(table, "Mask-DPO, 256")["this run: fact world: score"] == "–"


def test_general_benchmarks_take_a_metric_each_and_lm_evals_standard_error(tmp_path):
    scores = {
        "gsm8k": {"exact_match,strict-match": 0.8, "exact_match_stderr,strict-match": 0.01, "exact_match,flex": 0.9},
        "mbpp": {"pass_at_1": 0.7},
    }
    columns = {"gsm8k": {"task": "gsm8k", "metric": "exact_match,strict-match"}, "mbpp": "mbpp"}
    made = small(
        tmp_path, {"number": 10, "columns": columns}, {"model": ["Baseline", "Mask-DPO"]}, lambda *_: scores, seeds=[0]
    )
    row = text_of(next(t for t in made if t.number == 10), "Mask-DPO")
    assert row["this run: fact world: mbpp"] == "70.0"
    assert row["this run: fact world: gsm8k"].startswith("80.0")


def test_differences_are_paired_with_the_reference_row(tables):
    found = {(d.row.name, d.column.name): d for d in differences(tables["table02_mask_ablation"])}
    assert {name for name, _ in found} == {"w/o mask", "w/ mask"}
    difference = found["w/ mask", "anah_v2_score"]
    one, other = (r.by_seed(difference.column) for r in (difference.row, difference.reference))
    assert difference.estimate.mean == pytest.approx(np.mean([one[s] - other[s] for s in (0, 1, 2)]))
    coverage = {d.row.name: d for d in differences(tables["coverage"])}
    assert coverage["8, 6"].reference.name == "base, 6"
    assert coverage["16, 12"].estimate.n == 0
    assert half_differences(tables["table02_mask_ablation"]) == {}


def test_an_undefined_score_is_said_to_be_undefined(tmp_path):
    made = small(
        tmp_path,
        {"columns": {"near": NEAR}},
        scores=lambda labels, seed: {NEAR: questions(3 if labels["method"] == "DPO" else 0, facts=0 if seed else 10)},
    )
    assert text_of(made[-1], "DPOP")["this run: fact world: near"] == "undefined"


def test_unparsed_sentences_get_a_note(tmp_path):
    made = small(tmp_path, {"kind": "own"}, scores=lambda *_: {NEAR: questions(4, unparsed=1)})
    assert any(note.startswith(f"DPO ({NEAR}): 8.3% of the sentences could not be judged") for note in made[-1].notes)
    assert made[-1].paper is None and not any("paper" in name for name in to_grid(made[-1]).flat())


def test_experiments_share_a_table_unless_they_fill_the_same_row(tmp_path):
    builder = StoreBuilder(tmp_path)
    for name, methods in (("a", ["DPO"]), ("b", ["TDPO"]), ("c", ["DPO", "SePO"])):
        builder.experiment(
            name,
            {"method": methods},
            lambda *_: {NEAR: questions(4)},
            table={"number": 8, "columns": {"score": NEAR}},
        )
    made = {t.name: t for t in build_tables(load_results(tmp_path)) if t.number == 8}
    assert [e.name for e in made["table08_preference_optimization"].experiments] == ["a", "b"]
    assert [e.name for e in made["table08_preference_optimization-c"].experiments] == ["c"]
    assert len(made["table08_preference_optimization"].rows) == 5


def test_columns_of_our_own_stand_after_the_papers(tmp_path):
    made = small(
        tmp_path,
        {"number": 8, "columns": {"bio": BIO, "score": NEAR}},
        scores=lambda *_: {NEAR: questions(4), BIO: questions(5)},
    )
    table = next(t for t in made if t.number == 8)
    assert [c.name for c in table.columns] == ["correct", "incorrect", "score", "bio", "bio correct", "bio incorrect"]
    assert text_of(table, "DPO")["this run: fact world: bio"].startswith("49.0")


def test_the_reference_may_be_the_row_with_that_label_only(tmp_path):
    builder = StoreBuilder(tmp_path)
    builder.experiment(
        "e",
        {"clusters": ["5", "base"], "pairs": ["3", "base"]},
        lambda labels, seed: {NEAR: questions(4 + seed + ("5" in labels.values()))},
        table={"reference": "base"},
        only=lambda labels: len({v == "base" for v in labels.values()}) == 1,
    )
    (difference,) = differences(build_tables(load_results(tmp_path))[-1])
    assert (difference.row.name, difference.reference.name) == ("5, 3", "base, base")
    assert difference.estimate.mean == pytest.approx(0.1)


def test_another_part_than_the_test_part_gets_a_note(tmp_path):
    small(
        tmp_path,
        {"kind": "own"},
        scores=lambda labels, seed: {NEAR: questions(3)} if labels["method"] == "DPO" else None,
        seeds=[0],
    )
    for file in (tmp_path / "stages").glob("score-*/stage.json"):
        record = json.loads(file.read_text())
        record["settings"]["metadata"] = {"part": "validation"}
        file.write_text(json.dumps(record))
    assert "Scored on the part: validation." in build_tables(load_results(tmp_path))[-1].notes


def test_csv_and_readers_tables_come_the_same_from_store_and_collected_files(store, tmp_path, capsys):
    collect(load_results(store), tmp_path / "collected")
    for place, out in ((store, "a"), (tmp_path / "collected", "b")):
        assert main(["--results", str(place), "--out", str(tmp_path / out)]) == 0
    capsys.readouterr()
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert len([n for n in names if n.endswith(".tex")]) == 13
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with (tmp_path / "a" / "table06_best_of_n.csv").open() as file:
        rows = {(r["model"], r["n"]): r for r in csv.DictReader(file)}
    row = rows["Baseline", "16"]
    assert (row["this run: fact world: score"], row["this run: fact world: score low"]) == ("52.00", "49.52")
    assert (row["this run: fact world: judge"], row["paper: score"]) == ("world", "73.38")
    assert rows["Baseline", "256"]["this run: fact world: score"] == "–"
    text = (tmp_path / "a" / "table02_mask_ablation.tex").read_text()
    assert r"\caption{Mask ablation}" in text and text.startswith("\\begin{sidewaystable}\n")
    assert r"\multicolumn{5}{c}{this run: fact world} & \multicolumn{5}{c}{paper} \\" in text
    assert r"anah\_v2\_score" in text and "&" in text
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert {line.count(" & ") for line in body.strip().splitlines()} == {10}


@pytest.mark.parametrize("collected", [False, True])
def test_a_number_traces_to_its_files_and_stages(store, tmp_path, capsys, collected):
    root = store
    if collected:
        root = tmp_path / "collected"
        collect(load_results(store), root)
    assert main(["--results", str(root), "--trace", "8", "Mask-DPO", "score"]) == 0
    text = capsys.readouterr().out
    file = "stages/score-table08_methods-Mask-DPO-0/lm_eval/model/results_2026-01-02T03-04-05.678901.json"
    assert file in text
    assert hashlib.sha256((store / file).read_bytes()).hexdigest() in text
    value = json.loads((store / file).read_text())["results"][NEAR]["factuality,annotation"]
    assert f"seed 0: {value!r}" in text
    order = [text.index(f"    {kind}-") for kind in ("base", "pair", "train", "score")]
    assert order == sorted(order)
    assert "1.5 s" in text and "$ python -m lm_eval" in text and '{"trainer": "mask_dpo"}' in text
    assert (str(store) in text) is not collected


def test_traces_of_missing_cells_differences_and_the_papers_rows(store, capsys):
    def trace(*words):
        code = main(["--results", str(store), "--trace", *words])
        return code, "".join(capsys.readouterr())

    assert "missing; not finished: " in trace("table04_scaling", "topic, 2/3", "score")[1]
    code, text = trace("5", "Llama3.1-8B, policy, near", "diff")
    assert code == 0 and "policy, near minus Llama3.1-8B, policy, far: 0.1" in text.replace(
        "0.09999999999999998", "0.1"
    )
    assert text.count("  file ") == 6
    assert trace("5", "Llama3.1-8B, Llama3.1-8B, near", "score")[0] == 0  # in the paper's words
    assert trace("5", "Llama3.1-8B, OpenAI, near", "score") == (
        2,
        "error: table05_near_far: Llama3.1-8B, OpenAI, near stands only in the paper "
        "(results/paper/table05_near_far.csv); no cell was run for it\n",
    )
    assert "no row 'nothing'; there are: " in trace("8", "nothing", "score")[1]
    assert "no column 'nothing'; there are correct, incorrect, score" in trace("8", "DPO", "nothing")[1]
    assert "no table 'nothing'; there are 1 to 12 and coverage" in trace("nothing", "DPO", "score")[1]


GENERAL = {  # what lm_eval reports for llama31-8b/table10_general.yaml, shortened to its shape
    "gsm8k": {"exact_match,strict-match": 0.5, "exact_match,flexible-extract": 0.6},
    "general_ability_math": {"exact_match,none": 0.3, "math_verify,none": 0.4, "math_verify_stderr,none": 0.01},
    "gpqa_diamond_cot_zeroshot": {"exact_match,strict-match": 0.1, "exact_match,flexible-extract": 0.2},
    "humaneval_instruct": {"pass@1,create_test": 0.7, "pass@1_stderr,create_test": 0.03},
    "mbpp_instruct": {"pass_at_1,extract_code": 0.8, "pass_at_1_stderr,extract_code": 0.02},
}


def test_the_columns_of_the_papers_general_benchmarks_find_their_metrics(tmp_path, capsys):
    file = ROOT / "training/experiments/llama31-8b/table10_general.yaml"
    asked = yaml.safe_load(file.read_text())["table"]
    StoreBuilder(tmp_path / "s").experiment("e", {"model": ["base", "Mask-DPO"]}, lambda *_: GENERAL, table=asked)
    collect(load_results(tmp_path / "s"), tmp_path / "c")
    for place in ("s", "c"):
        table = next(t for t in build_tables(load_results(tmp_path / place)) if t.number == 10)
        row = text_of(table, "Mask-DPO")
        shown = {c.name: row[f"{table.heading}: {c.name}"].partition(" ")[0] for c in table.columns}
        assert shown == {"gsm8k": "60.0", "math": "40.0", "gpqa": "20.0", "humaneval": "70.0", "mbpp": "80.0"}
        assert main(["--results", str(tmp_path / place), "--trace", "10", "Mask-DPO", "humaneval"]) == 0
        assert "0.7" in capsys.readouterr().out
    assert StoreBuilder(tmp_path / "one").experiment(
        "e", {"model": ["base"]}, lambda *_: GENERAL, table=asked, seeds=[0]
    )
    table = next(t for t in build_tables(load_results(tmp_path / "one")) if t.number == 10)
    assert text_of(table, "base")[f"{table.heading}: math"] == "40.0 [38.0, 42.0]‡"


def test_a_column_that_is_not_there_stops_no_other(tmp_path, capsys):
    columns = {
        "near": NEAR,
        "naer": "world_factuality_naer",
        "x": {"task": NEAR, "metric": "accuracy"},
        "gsm8k": "gsm8k",
        "strict": {"task": "gsm8k", "metric": "exact_match,none"},
    }
    given = {NEAR: questions(4), "gsm8k": {"exact_match,a": 0.5, "exact_match,b": 0.6}}
    builder = StoreBuilder(tmp_path)
    builder.experiment(
        "e", {"method": ["DPO"]}, lambda labels, seed: given if seed else None, table={"columns": columns}
    )
    builder.experiment("f", {"method": ["DPO"]}, lambda *_: given, table={"columns": {"near": NEAR}})
    assert main(["--results", str(tmp_path)]) == 0
    error = capsys.readouterr().err
    held = f"scored, but with no task world_factuality_naer; it has gsm8k, {NEAR} (DPO)."
    assert f"e: naer, naer correct, naer incorrect: {held}\n" in error and error.count("\n") == 4
    assert "x: scored, but with no metric 'accuracy' of" in error and "factuality_macro" in error
    assert "gsm8k: scored, but with several metrics of gsm8k; name one of exact_match,a, exact_match,b" in error
    assert "strict: scored, but with no metric 'exact_match,none' of gsm8k" in error
    table = next(t for t in build_tables(load_results(tmp_path)) if t.name == "e")
    row = text_of(table, "DPO")
    assert row["this run: fact world: naer"] == "not scored" and row["this run: fact world: near"].startswith("39.0")
    assert row["this run: fact world: seeds"] == "2 of 3"
    assert f"e: naer, naer correct, naer incorrect: {held}" in table.notes
    assert main(["--results", str(tmp_path), "--trace", "e", "DPO", "naer"]) == 0
    text = capsys.readouterr().out
    assert (
        f"seed 1: not scored: score-e-DPO-1 has run, with no task world_factuality_naer; it has gsm8k, {NEAR}" in text
    )
    assert "seed 0: missing; not finished: " in text


def share_one_score(root, name, label):
    """Make the cells of a label one measurement under all seeds, as a model of the hub is."""
    file = root / "experiments" / f"{name}.json"
    data = json.loads(file.read_text())
    cells = [cell for cell in data["cells"] if label in cell["labels"].values()]
    for cell in cells:
        cell["stages"]["score"] = cells[0]["stages"]["score"]
    file.write_text(json.dumps(data))


def test_one_measurement_under_all_seeds_counts_once(tmp_path):
    StoreBuilder(tmp_path).experiment(
        "e",
        {"method": ["base", "DPO", "also base"]},
        lambda labels, seed: {NEAR: questions(4 + (labels["method"] == "DPO") * (1 + seed % 2))},
        table={"columns": {"near": NEAR}, "reference": "base"},
    )
    share_one_score(tmp_path, "e", "base")
    share_one_score(tmp_path, "e", "also base")
    (table,) = (t for t in build_tables(load_results(tmp_path)) if t.name == "e")
    base, dpo = table.row("base"), table.row("DPO")
    (column,) = (c for c in table.columns if c.percent)
    found = base.estimate(column)
    score = base.cells[0].scores[NEAR]
    assert (found.n, found.over) == (1, "topics")
    assert (found.low, found.high) == (score.metrics["factuality_ci95_low"], score.metrics["factuality_ci95_high"])
    assert (dpo.estimate(column).n, dpo.estimate(column).over) == (3, "seeds")
    assert [text_of(table, name)["this run: fact world: seeds"] for name in ("base", "DPO")] == ["1", "3"]
    assert any(note.startswith("base; also base: one measurement stands for all seeds") for note in table.notes)
    of = {d.row.name: d.estimate for d in differences(table) if d.column == column}
    assert of["DPO"].n == 3 and of["DPO"].low < of["DPO"].mean < of["DPO"].high
    assert of["also base"].n == 1 and math.isnan(of["also base"].low)
    notes = differences_to_grid(table).notes
    assert "base: one measurement under all seeds; the intervals leave its own error out." in notes


def test_versions_and_judges_are_held_together_over_all_tables(tmp_path, capsys):
    builder = StoreBuilder(tmp_path)
    for name in ("a", "b"):
        builder.experiment(
            name, {"m": ["x"]}, lambda *_: {NEAR: questions(4)}, table={"columns": {"near": NEAR}}, seeds=[0]
        )
    folder = tmp_path / "stages" / "score-b-x-0" / "lm_eval" / "model"
    lm_eval_files(folder, {NEAR: questions(4)}, judge="lexical")
    assert main(["--results", str(tmp_path)]) == 2
    assert re.search(f"two judges of task {NEAR}: world in .*a-x-0.*, lexical in .*b-x-0", capsys.readouterr().err)
    assert main(["--results", str(tmp_path), "--mixed-judges"]) == 0
    lm_eval_files(folder, {NEAR: questions(4)}, version=2.0)
    assert main(["--results", str(tmp_path), "--mixed-judges"]) == 2
    assert re.search(f"task {NEAR} in two versions: 1.0 in .*a-x-0.*, 2.0 in .*b-x-0", capsys.readouterr().err)


def test_other_draws_of_the_same_model_are_said_to_be_that(tmp_path):
    builder = StoreBuilder(tmp_path)
    right = {"a": 4, "b": 5, "c": 5, "d": 6}
    for name in right:
        builder.experiment(
            name,
            {"m": ["x"]},
            lambda *_, name=name: {NEAR: questions(right[name])},
            table={"columns": {"near": NEAR}},
            seeds=[0],
        )
        file = tmp_path / "stages" / f"score-{name}-x-0" / "stage.json"
        record = json.loads(file.read_text()) | {"needs": {"model": "base-0"}}
        record["settings"] |= {
            "tasks": [name],
            **({"gen_kwargs": {"temperature": right[name]}} if name in "cd" else {}),
        }
        file.write_text(json.dumps(record))
    made = {
        t.name: [n for n in t.notes if "other draws" in n] for t in build_tables(load_results(tmp_path)) if not t.paper
    }
    end = "scored beside other tasks: lm_eval seeds a run, not a task."
    assert made == {
        "a": [f"{NEAR} of x: other draws of the same models in b, c, {end}"],
        "b": [f"{NEAR} of x: other draws of the same models in a, {end}"],
        "c": [f"{NEAR} of x: other draws of the same models in a, {end}"],  # the settings say what the task says
        "d": [],
    }


def test_a_number_of_the_paper_may_be_text(tmp_path):
    made = small(tmp_path, {"number": "8", "columns": {"score": NEAR}})
    assert [t.name for t in made if t.experiments] == ["table08_preference_optimization"]


def test_intervals_that_leave_the_scale_get_a_note(tmp_path):
    made = small(tmp_path, {"kind": "own"}, scores=lambda _, seed: {NEAR: questions(8 + seed)})
    assert any(note.startswith("A t interval over few seeds knows no bounds") for note in made[-1].notes)
    made = small(tmp_path / "b", {"kind": "own"}, scores=lambda _, seed: {NEAR: questions(5 + seed % 2, facts=14)})
    assert not any("knows no bounds" in note for note in made[-1].notes)


def test_places_that_cannot_be_written_and_broken_manifests_are_one_line(store, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    for out in (file, file / "x"):
        assert main(["--results", str(store), "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {out}/") and ": cannot be written (" in error and error.count("\n") == 1
    small(tmp_path / "s", {"number": 8, "columns": {"score": NEAR}}, seeds=[0])
    for text, message in (("{", "not readable as JSON"), ("3", "not a manifest")):
        (tmp_path / "s" / "manifest.json").write_text(text)
        assert main(["--results", str(tmp_path / "s"), "--trace", "8", "DPO", "score"]) == 2
        assert f"manifest.json: {message}" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
@pytest.mark.slow
def test_latex_takes_every_table_within_the_page(store, tmp_path):
    write_tables(build_tables(load_results(store)), tmp_path)
    lines = [rf"\input{{{file.name}}}" for file in sorted(tmp_path.glob("*.tex"))]
    head = [r"\documentclass{article}", r"\usepackage{booktabs,graphicx,rotating}", r"\begin{document}"]
    (tmp_path / "all.tex").write_text("\n".join([*head, *lines, r"\end{document}"]))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert answer.returncode == 0, answer.stdout[-2000:]
    assert "Overfull" not in answer.stdout and "Float too large" not in answer.stdout


LATEX = re.compile(r"\\(begin|end)\{(\w+)\}")


def test_latex_is_well_formed(tables):
    for table in tables.values():
        text = latex(to_grid(table), table.name)
        assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
        opened = []
        for kind, name in LATEX.findall(text):
            if kind == "begin":
                opened.append(name)
            else:
                assert opened.pop() == name
        assert not opened
        (caption,) = re.findall(r"\\caption\{(.*)\}", text)
        assert not caption.startswith("Table ") and caption
        assert text.startswith(r"\begin{sidewaystable}") == (len(to_grid(table).flat()) > 9)


def test_mixed_judges_and_versions_are_refused(tmp_path, capsys):
    table = {"number": 8, "columns": {"score": NEAR}}
    small(tmp_path, table, seeds=[0])
    folder = tmp_path / "stages" / "score-e-DPOP-0" / "lm_eval" / "model"
    lm_eval_files(folder, {NEAR: questions(5)}, judge="lexical")
    assert main(["--results", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "two judges in one table: world in" in error and "lexical in" in error
    assert main(["--results", str(tmp_path), "--mixed-judges"]) == 0
    text = (tmp_path / "tables" / "table08_preference_optimization.md").read_text()
    assert "lexical and world (MIXED: not comparable)" in text
    lm_eval_files(folder, {NEAR: questions(5)}, version=2.0)
    assert main(["--results", str(tmp_path), "--mixed-judges"]) == 2
    assert f"task {NEAR} in two versions: 1.0 in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "axes", "message"),
    [
        ({"number": 13, "columns": {"score": NEAR}}, None, "the paper has no table 13"),
        ({"number": 8}, None, "table.columns must say which task fills which column"),
        ({"columns": {"x": 3}}, None, "column x is 3; give a task, or task and metric"),
        ({"number": "13", "columns": {"score": NEAR}}, None, "the paper has no table 13"),
        ({"number": "two", "columns": {"score": NEAR}}, None, "the paper has no table 'two'"),
        ({"columns": [NEAR]}, None, r"experiment e: table.columns is \['world_.*'\], not a mapping"),
        ({"columns": {"x": NEAR}, "rename": ["a"]}, None, "experiment e: table.rename is .* not a mapping"),
        ({"number": 5, "columns": {"score": NEAR}}, {"distance": ["near"]}, r"near fits 6 rows of table 5 .*say which"),
        ({"columns": {"x": NEAR}, "reference": "KTO"}, None, "reference 'KTO' is no label; the rows are DPO; DPOP"),
    ],
)
def test_experiments_that_do_not_fit_their_table(tmp_path, capsys, table, axes, message):
    StoreBuilder(tmp_path).experiment(
        "e", axes or {"method": ["DPO", "DPOP"]}, lambda *_: {NEAR: questions(4)}, table=table, seeds=[0]
    )
    assert main(["--results", str(tmp_path)]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_no_results_is_one_line(tmp_path, capsys):
    assert main(["--results", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: no results")
    with pytest.raises(HarnessError):
        load_results(tmp_path)
