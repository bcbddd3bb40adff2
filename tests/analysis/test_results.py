"""Loading results: a store, its collected files, plain lm_eval folders; damaged input is named."""

import gzip
import json
import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from factuality_harness.analysis.collect import collect, portable
from factuality_harness.analysis.results import load_results, load_run, score_of_row, score_row
from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.data import anah
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.metrics import factuality
from tests.helpers.cli import command
from tests.helpers.stores import BIO, NEAR, StoreBuilder, full_store, lm_eval_files, questions

main = command("collect")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return full_store(tmp_path_factory.mktemp("store")).root


@pytest.mark.slow
def test_files_that_lm_eval_wrote(tmp_path):
    rows = anah.load_mini("test")[:5]
    responses = tmp_path / "responses.jsonl"
    lines = [{"question": q.question, "response": q.document[:300] + " It weighs 1234 tonnes."} for q in rows]
    responses.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = ["lm_eval", "--model", "replay", "--model_args", f"responses={responses}", "--limit", "5"]
    command += ["--tasks", "anah_factuality_mini", "--metadata", '{"judge": "lexical"}', "--log_samples"]
    answer = subprocess.run(
        [sys.executable, "-m", *command, "--output_path", str(tmp_path / "out")], capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    (score,) = load_run(tmp_path / "out").values()
    written = json.loads((tmp_path / "out" / score.file).read_text())["results"]["anah_factuality_mini"]
    assert (score.task, score.judge, score.version) == ("anah_factuality_mini", "lexical", "1.1")
    assert [q.topic for q in score.questions] == [q.topic for q in rows]
    assert factuality(score.questions) == pytest.approx(score.metrics["factuality"])
    assert 0 < score.metrics["factuality"] == written["factuality,annotation"] < 1
    assert score.metrics.keys().isdisjoint({"factuality_stderr", "alias", "sample_len"})


def test_a_run_counts_every_question_in_order(tmp_path):
    given = questions(4, nofact=2, unparsed=1)
    file = lm_eval_files(tmp_path, {NEAR: given})
    score = load_run(tmp_path)[NEAR]
    assert list(score.questions) == given
    assert score.metrics["correct"] == sum(q.ok for q in given)
    assert score.file == file.name


def test_the_newest_of_several_runs_counts(tmp_path):
    lm_eval_files(tmp_path / "m", {NEAR: questions(3), BIO: questions(2)}, stamp="2026-01-01T00-00-00.1")
    lm_eval_files(tmp_path / "m", {NEAR: questions(7)}, stamp="2026-01-02T00-00-00.1")
    run = load_run(tmp_path)
    assert run[NEAR].metrics["factuality"] > 0.6 > run[BIO].metrics["factuality"]


def test_metrics_of_several_filters_keep_them(tmp_path):
    lm_eval_files(
        tmp_path,
        {"gsm8k": {"exact_match,strict-match": 0.5, "exact_match,flexible-extract": 0.6, "exact_match_stderr,x": 0.1}},
    )
    score = load_run(tmp_path)["gsm8k"]
    assert score.metrics == {
        "exact_match,strict-match": 0.5,
        "exact_match,flexible-extract": 0.6,
        "exact_match_stderr": 0.1,
    }
    assert score.judge == ""
    with pytest.raises(
        HarnessError, match=r"no metric 'exact_match'; it has exact_match,strict-match, exact_match,flex"
    ):
        score.metric("exact_match")


def test_a_metric_is_found_with_the_filter_it_came_through_and_no_other(tmp_path):
    lm_eval_files(tmp_path, {"mbpp": {"pass_at_1,extract_code": 0.7, "acc,none": 0.5}, NEAR: questions(4)})
    run = load_run(tmp_path)
    again = {name: score_of_row(json.loads(json.dumps(score_row("s", score)))) for name, score in run.items()}
    assert again == run
    for scores in (run, again):
        score = scores["mbpp"]
        assert [score.metric(n) for n in ("pass_at_1", "pass_at_1,extract_code", "acc,none")] == [0.7, 0.7, 0.5]
        assert scores[NEAR].metric("factuality,annotation") == scores[NEAR].metric("factuality")
        for name in ("pass_at_1,none", "acc,strict-match", "nothing,none"):
            with pytest.raises(HarnessError, match=f"no metric '{name}'; it has .*pass_at_1,extract_code"):
                score.metric(name)
    assert "filters" not in score_row("s", run[NEAR])


@pytest.mark.parametrize(
    "spec",
    ["world", "lexical", "dialogue@openai:http://h1:8000/v1#m", "dialogue@vllm:org/model", "dialogue@hf:org/model"],
)
def test_judges_are_named_as_annotations_name_them(spec):
    name = JudgeSpec.parse(spec).recorded
    assert name == JudgeSpec.from_results(name).recorded == JudgeSpec.parse(spec).open().spec


def test_a_judge_is_the_same_on_another_host_and_another_with_other_arguments(tmp_path):
    def judge(host, arguments=None, spec="dialogue@openai:http://{}:8000/v1#m", **options):
        metadata = {} if arguments is None else {"judge_args": arguments}
        given: Any = {NEAR: questions(4), "world_best": {"best_of_2": 0.5}}
        lm_eval_files(tmp_path, given, judge=spec.format(host), metadata=metadata, **options)
        return {score.judge for score in load_run(tmp_path).values()}

    name = "dialogue@openai#m"
    assert judge("h1", annotated_by=name) == judge("h2", {}, annotated_by=name) == {name}
    assert judge("h1", {"concurrency": 8, "timeout": 5}, annotated_by=name) == {name}  # decide no label
    for arguments in ({"temperature": 1.0}, {"max_tokens": 8}, {"extra_body": {"seed": 1}}):
        found = judge("h1", arguments | {"retries": 1}, annotated_by=name)
        assert found == {f"{name} {json.dumps(arguments)}"}
    trusting = {"trust_remote_code": True, "max_tokens": 8}
    assert judge("", trusting, "anah_v2@vllm:m", annotated_by="anah_v2@vllm#m") == {'anah_v2@vllm#m {"max_tokens": 8}'}
    # A server's only model, and a folder's digest, are known from the annotations.
    lm_eval_files(tmp_path, {NEAR: questions(4)}, judge="dialogue@openai:http://h:1/v1", annotated_by=name)
    assert load_run(tmp_path)[NEAR].judge == name
    row = score_row("s", load_run(tmp_path)[NEAR]) | {"judge": "dialogue@openai:http://h1:8000/v1#m"}
    assert score_of_row(row).judge == name  # a file collected before


def test_cells_that_have_not_run_have_no_scores(store):
    results = load_results(store)
    cells = results.experiments["table04_scaling"].cells
    missing = [cell for cell in cells if not cell.scores]
    assert {(c.labels["scale"], c.seed) for c in missing} == {("2/3", 2)}
    assert missing[0].stages["score"] not in results.stages
    done = next(cell for cell in cells if cell.scores and "train" in cell.stages)
    assert {done.stages["train"], done.stages["base"]} < results.stages.keys()


def test_a_stage_without_its_record_is_unfinished(store, tmp_path):
    builder = full_store(tmp_path)
    (tmp_path / "stages" / "score-table08_methods-DPO-0" / "stage.json").unlink()
    cell = load_results(builder.root).experiments["table08_methods"].cells[0]
    assert (cell.labels, cell.scores) == ({"method": "DPO"}, {})


def test_collected_files_say_the_same_in_the_same_bytes(store, tmp_path, capsys):
    assert main(["--results", str(store), "--out", str(tmp_path / "a")]) == 0
    assert str(tmp_path / "a" / "results.jsonl.gz") in capsys.readouterr().out
    collect(load_results(store), tmp_path / "b")
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert files and all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    one, other = load_results(store), load_results(tmp_path / "a")
    assert one.experiments == other.experiments
    assert one.stages.keys() == other.stages.keys()
    assert one.margins.round(4).equals(other.margins.round(4)) and len(one.margins) > 100
    everything = b"".join((tmp_path / "a" / f).read_bytes() for f in files if f.suffix != ".gz")
    assert str(store).encode() not in everything
    again = collect(other, tmp_path / "c")
    assert (tmp_path / "c" / "results.jsonl.gz").read_bytes() == (tmp_path / "a" / "results.jsonl.gz").read_bytes()
    assert len(again) == len(files)


def test_collect_drops_experiments_that_are_gone(tmp_path):
    (tmp_path / "out" / "experiments").mkdir(parents=True)
    (tmp_path / "out" / "experiments" / "old.json").write_text("{}")
    collect(load_results(full_store(tmp_path / "store").root), tmp_path / "out")
    assert not (tmp_path / "out" / "experiments" / "old.json").exists()
    with pytest.raises(HarnessError, match="--out is the folder that is read"):
        collect(load_results(tmp_path / "store"), tmp_path / "store")


def test_nothing_is_collected_when_something_cannot_be_read(tmp_path, capsys):
    store = full_store(tmp_path / "store").root
    assert main(["--results", str(store), "--out", str(tmp_path / "out")]) == 0
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    results = load_results(store)
    (store / "experiments" / "table08_methods.json").unlink()  # goes while it is being collected
    with pytest.raises(HarnessError, match=r"table08_methods\.json: not readable"):
        collect(replace(results, stages={}), tmp_path / "out")
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == before
    (tmp_path / "file").write_text("")
    capsys.readouterr()
    assert main(["--results", str(store), "--out", str(tmp_path / "file" / "x")]) == 2
    error = capsys.readouterr().err
    assert re.match(r"error: .*file/x/results\.jsonl\.gz: cannot be written \(", error) and error.count("\n") == 1
    (store / "manifest.json").write_text("{")
    assert main(["--results", str(store), "--out", str(tmp_path / "new")]) == 2
    assert "manifest.json: not readable as JSON" in capsys.readouterr().err


def test_paths_of_this_machine_are_made_portable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = tmp_path / "out" / "sweeps"
    data: dict[str, Any] = {
        "commands": [f'python -m x --out {store}/stages/a --metadata \'{{"world": "{tmp_path}/w"}}\''],
        "needs": {"model": "model:/data/models/Llama-3.1-8B", "base": "base-1"},
        "settings": {
            "judge": "dialogue@openai:http://host:8000/v1#m",
            "share": "1/3",
            "rate": 0.1,
            "folder": str(store),
        },
    }
    found = portable(data, store)
    assert found["commands"] == ['python -m x --out out/sweeps/stages/a --metadata \'{"world": "w"}\'']
    assert found["needs"] == {"model": "model:Llama-3.1-8B", "base": "base-1"}
    assert found["settings"] == {**data["settings"], "folder": "out/sweeps"}
    monkeypatch.chdir("/")
    assert portable(f"{store}/stages/a", store) in ("stages/a", f"{store}/stages/a".lstrip("/"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.write_text(f.read_text()[:200]), r"results_.*json: not readable as JSON, cut off or damaged"),
        (lambda f: f.write_text('{"results": []}'), r"results_.*json: not a results file of lm_eval"),
        (lambda f: f.write_text('{"results": {"a": 1}, "versions": {}}'), r"not a results file of lm_eval"),
        (lambda f: f.write_text("[1]"), r"not a results file of lm_eval"),
        (lambda f: f.unlink(), r"no results: lm_eval wrote no results_"),
    ],
)
def test_damaged_result_files_are_named(tmp_path, damage, message):
    damage(lm_eval_files(tmp_path, {NEAR: questions(4)}))
    with pytest.raises(HarnessError, match=message):
        load_run(tmp_path)


def test_damaged_samples_are_named_with_their_row(tmp_path):
    lm_eval_files(tmp_path, {NEAR: questions(4)})
    (samples,) = tmp_path.glob("samples_*")
    text = samples.read_text()
    samples.write_text(text[:-30])
    with pytest.raises(HarnessError, match=r"samples_.*, row 10: .*truncated"):
        load_run(tmp_path)
    samples.write_text(text.replace('\\"label\\": \\"ok\\"', '\\"label\\": \\"fine\\"'))
    with pytest.raises(HarnessError, match=r"samples_.*, row 1: not an annotation"):
        load_run(tmp_path)
    samples.write_text(text.replace('"doc_id": 9,', '"doc_id": "9",'))
    with pytest.raises(HarnessError, match=r"samples_.*, row 1: doc_id is '9', not the number of a question"):
        load_run(tmp_path)
    samples.write_text("".join(text.splitlines(keepends=True)[:-1]))
    with pytest.raises(HarnessError, match="not the samples of that run"):
        load_run(tmp_path)


def test_two_models_in_one_folder_are_refused(tmp_path):
    for model in ("a", "b"):
        lm_eval_files(tmp_path / model, {NEAR: questions(4)})
    with pytest.raises(HarnessError, match="name the folder of one model"):
        load_run(tmp_path)


def test_folders_without_results_are_refused(tmp_path):
    with pytest.raises(HarnessError, match="no results: neither a sweep's store"):
        load_results(tmp_path)
    (tmp_path / "stages").mkdir()
    with pytest.raises(HarnessError, match="no results: experiments/ holds no experiment"):
        load_results(tmp_path)


def test_damaged_experiments_stages_and_collected_files_are_named(tmp_path):
    StoreBuilder(tmp_path / "s").experiment("e", {"a": ["x"]}, lambda *_: {NEAR: questions(3)}, table={}, seeds=[0])
    collect(load_results(tmp_path / "s"), tmp_path / "c")
    file = tmp_path / "c" / "results.jsonl.gz"
    good = file.read_bytes()
    row = json.loads(gzip.decompress(good))
    file.write_bytes(good[:-20])
    with pytest.raises(HarnessError, match=r"results\.jsonl\.gz, after row"):
        load_results(tmp_path / "c")
    row["questions"][0] = ["topic", 1]
    file.write_bytes(gzip.compress(json.dumps(row).encode() + b"\n"))
    with pytest.raises(HarnessError, match=r"results\.jsonl\.gz, row 1: not a score"):
        load_results(tmp_path / "c")
    file.write_bytes(good)
    (tmp_path / "c" / "margins.csv").write_text("a,b\n1,2\n")
    with pytest.raises(HarnessError, match=r"margins\.csv: no table of stage, step, margin"):
        load_results(tmp_path / "c")
    (tmp_path / "c" / "margins.csv").write_text("stage,step,margin,accuracy\n")
    stages = tmp_path / "c" / "stages.json"
    for text, message in (
        ("{}", r"no record of the stage score-e-x-0, which has scores"),
        ("[]", r"not the records of stages by id"),
        ('{"score-e-x-0": {}}', r"stages\.json, score-e-x-0: not a stage's record"),
    ):
        stages.write_text(text)
        with pytest.raises(HarnessError, match=message):
            load_results(tmp_path / "c")
    (tmp_path / "s" / "stages" / "base-0" / "stage.json").write_text("{}")
    with pytest.raises(HarnessError, match=r"stage\.json: not a stage's record"):
        load_results(tmp_path / "s")
    (tmp_path / "s" / "experiments" / "e.json").write_text('{"name": "e", "title": "e", "cells": [{}]}')
    with pytest.raises(HarnessError, match=r"e\.json: not a sweep's list of cells"):
        load_results(tmp_path / "s")
