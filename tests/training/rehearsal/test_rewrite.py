"""What is rehearsed is what the files say, but for what is listed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from factuality_harness.harness.data.anah import split_questions
from factuality_harness.harness.data.biographies import load_entities, load_labelled
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.factscore.knowledge import open_knowledge
from factuality_harness.harness.questions import load_questions
from factuality_harness.training.rehearsal.data import write_data
from factuality_harness.training.rehearsal.judge import ScriptedJudge
from factuality_harness.training.rehearsal.rewrite import Rehearsal
from factuality_harness.training.sweep.experiment import load_experiment
from factuality_harness.training.sweep.plan import make_plan

PAPER_SIZE = ("llama31-8b", "internlm2-7b")
EXPERIMENTS = sorted(
    path
    for room in PAPER_SIZE
    for path in (Path(__file__).parents[3] / "training" / "experiments" / room).glob("table*.yaml")
)


def test_every_paper_size_experiment_keeps_its_plan(tmp_path: Path) -> None:
    """Kinds of stages, cells and their order; nothing large and nothing far away is left."""
    assert len(EXPERIMENTS) == 14
    with ScriptedJudge() as server:
        rehearsal = Rehearsal(tmp_path, write_data(tmp_path / "data"), server)
        for path in EXPERIMENTS:
            before = load_experiment(path, seeds=[0])
            after = load_experiment(rehearsal.experiment(before))
            assert [cell.labels for cell in after.cells] == [cell.labels for cell in before.cells]
            assert (after.title, after.table, after.launch.keys()) == (before.title, before.table, before.launch.keys())
            plan, rehearsed = make_plan([before]), make_plan([after])
            kinds = [stage.kind for stage in plan.stages.values()]
            assert [stage.kind for stage in rehearsed.stages.values()] == kinds, path
            assert not rehearsed.missing
            text = str([(s.settings, s.needs, s.launch) for s in rehearsed.stages.values()])
            for far in (
                "vllm",
                "meta-llama/",
                "google/",
                "01-ai/",
                "Qwen/",
                "api.openai.com",
                "out/",
                "training/recipes",
            ):
                assert far not in text.replace(str(tmp_path), ""), (path, far)
        listed = rehearsal.listed()
    for said in ("Llama-3.1-70B-Instruct", "n 8 -> 4", "all test questions -> 6 a task", "2 processes on the CPU"):
        assert said in listed


def test_the_data_are_what_the_readers_of_the_real_files_read(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    v1, v2 = load_questions(str(data.anah)), load_questions(str(data.anah_v2))
    assert len(v1) == len(v2) and {q.topic[:9] for q in v2} == {"document-"}
    assert len(split_questions(v2, "test")) == 177 and len(split_questions(v2, "train")) == 3 * 5
    entities = load_entities(data.entities / "labeled" / "prompt_entities.txt")
    assert entities and load_labelled(data.entities / "labeled" / "ChatGPT.jsonl").rows[0].facts
    assert open_knowledge(str(data.knowledge)).passages(entities[0].topic)


def test_a_judge_without_a_script_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    settings = {"model": "Yi-1.5-6B-Chat", "score": {"tasks": ["anah_factuality"], "judge": "sheet@vllm:some/model"}}
    path.write_text(yaml.safe_dump({"cells": [{"labels": {"a": "b"}, **settings}]}))
    with ScriptedJudge() as server, pytest.raises(HarnessError, match="sheet@vllm:some/model: has no script"):
        Rehearsal(tmp_path, write_data(tmp_path / "data"), server).experiment(load_experiment(path))
