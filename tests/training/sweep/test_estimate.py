"""What a plan will take, before anything exists: calls, tokens, GPU hours, disk."""

from __future__ import annotations

import pytest

from factuality_harness.training.sweep.estimate import estimate, gpus, loads, processes, total
from factuality_harness.training.sweep.experiment import load_experiment
from factuality_harness.training.sweep.plan import Stage, make_plan
from factuality_harness.training.sweep.store import Store
from tests.helpers import experiments
from tests.helpers.tiny import save_tiny, tiny_model
from tests.training.sweep.test_plan import EXPERIMENTS


def plan_of(tmp_path, judge="dialogue@hf:x", **given):
    defaults = {
        **experiments.TINY,
        "model": str(save_tiny(tmp_path / "tiny")),
        "questions": {"file": str(tmp_path / "not-there-yet.jsonl")},
        "judge": judge,
    }
    path = experiments.experiment(tmp_path, defaults=defaults, estimate=given)
    found = [load_experiment(path)]
    return found, make_plan(found), Store(tmp_path / "store")


@pytest.mark.parametrize(
    ("judge", "calls", "read"),
    [
        ("dialogue@hf:x", 10 * 4 * 5 * 3, 200 * (3 * 300 + 2 * 1000)),
        ("anah_v2@vllm:x", 10 * 4 * 5 * 3, 200 * (3 * 300 + 2 * 1000)),
        ("sheet@hf:x", 40, 40 * (300 + 1000 + 100)),
        ("factscore@hf:x", 200 + 200 * 4, 1000 * 300 + 800 * 1000 + 200 * 300),
        ("factscore_sheet@hf:x", 200 + 40, 240 * 300 + 40 * 1000 + 200 * 300),
        ("lexical", 0, 0),
    ],
)
def test_annotation_is_counted_before_samples_and_questions_exist(tmp_path, judge, calls, read):
    given = {"train_questions": 10, "sentences": 5, "facts": 4, "document_tokens": 1000, "answer_tokens": 100}
    found, plan, store = plan_of(tmp_path, judge, **given)
    assert plan.missing  # the questions
    of_kind = {plan.stages[name].kind: load for name, load in loads(found, plan, store).items()}
    assert (of_kind["annotate"].calls, of_kind["annotate"].read) == (calls, read)
    assert of_kind["sample"].generated == 10 * 4 * 100


def test_the_estimate_of_a_file_is_for_its_own_stages(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, plan, store = plan_of(tmp_path / "a", train_questions=10, sentences=5)
    path = experiments.experiment(tmp_path / "b", "other", estimate={"sentences": 50}, defaults=experiments.TINY)
    both = [*one, load_experiment(path)]
    assert total(loads(one, plan, store).values()).calls == total(loads(both, make_plan(both), store).values()).calls


def test_disk_is_the_checkpoints_that_training_leaves(tmp_path):
    found, plan, store = plan_of(tmp_path)
    (train,) = (load for name, load in loads(found, plan, store).items() if plan.stages[name].kind == "train")
    parameters = sum(p.numel() for p in tiny_model().parameters())
    assert train.disk == 2 * parameters  # the world's recipes keep nothing to resume from
    plan.stages[next(n for n in plan.stages if n.startswith("train"))].settings["arguments"] |= {
        "save_strategy": "epoch", "save_total_limit": 1
    }  # fmt: skip
    (train,) = (load for name, load in loads(found, plan, store).items() if plan.stages[name].kind == "train")
    assert train.disk == (2 + 14) * parameters


def test_gpus_are_those_that_a_stage_holds():
    launch = "accelerate launch --config_file training/recipes/accelerate/zero3.yaml"
    assert processes(launch) == 4 and processes("accelerate launch --num_processes 2") == 2 and processes("python") == 0
    score = {"engine": "vllm", "model_args": {"tensor_parallel_size": 2}}
    assert gpus(Stage("score", "s", score, {})) == 2
    assert gpus(Stage("annotate", "a", {"judge": "anah_v2@vllm:x"}, {})) == 1
    assert gpus(Stage("annotate", "a", {"judge": "dialogue@openai:http://h/v1#m"}, {})) == 0
    assert gpus(Stage("train", "t", {"arguments": {}}, {}, launch)) == 4


def test_the_paper_sizes_add_up(tmp_path):
    found = [load_experiment(EXPERIMENTS / "llama31-8b" / "table02_mask.yaml", seeds=[0])]
    text = estimate(found, make_plan(found), Store(tmp_path / "store"), workers=1)
    assert f"up to {8046 * 8 * 6 * 3} judge calls" in text and f"up to {2 * 177 * 6 * 3} judge calls" in text
    assert "2 train     (5400 s each, given), 12 GPU hours" in text
    assert "; about 23 GPU hours; about " in text and text.endswith("GiB of disk")
