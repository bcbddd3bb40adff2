"""Plans: stages known by what they depend on, shared between cells, in an order that can be run."""

from copy import deepcopy
from pathlib import Path

import experiments
import pytest

from harness.errors import HarnessError
from training.sweep.experiment import load_experiment
from training.sweep.plan import Plan, ancestors, make_plan

EXPERIMENTS = Path("training/experiments")


def plan_of(folder, name="tiny", **changes):
    return make_plan([load_experiment(experiments.experiment(folder, name, **changes))])


def defaults(**changes):
    return {**deepcopy(experiments.TINY), **changes}


def test_cells_share_what_they_have_in_common(tmp_path):
    plan = plan_of(tmp_path, seeds=[0, 1])
    kinds = [stage.kind for stage in plan.stages.values()]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "base": 2,
        "score": 4,
        "questions": 2,
        "sample": 2,
        "annotate": 2,
        "pair": 2,
        "train": 2,
    }


def test_every_stage_stands_after_what_it_needs(tmp_path):
    plan = plan_of(tmp_path, seeds=[0, 1])
    order = list(plan.stages)
    for name, stage in plan.stages.items():
        assert all(order.index(need) < order.index(name) for need in stage.needs.values() if need in plan.stages)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"sample": {**experiments.TINY["sample"], "n": 5}}, "base questions untrained"),
        ({"pair": {"limit": 3}}, "base questions sample annotate untrained"),
        ({"judge": "lexical"}, "base questions sample"),
        ({"base": {**experiments.TINY["base"], "steps": 151}}, ""),
        ({"score": {**experiments.TINY["score"], "batch_size": 32}}, "base questions sample annotate pair train"),
    ],
)
def test_a_change_gives_new_stages_from_where_it_matters(tmp_path, change, kept):
    before, after = plan_of(tmp_path), plan_of(tmp_path, defaults=defaults(**change))
    untrained = before.cells[0][1]["score"]
    same = {
        "untrained" if s == untrained else before.stages[s].kind for s in before.stages.keys() & after.stages.keys()
    }
    assert same == {*kept.split()}


def test_launcher_and_threads_change_no_id(tmp_path):
    one, other = plan_of(tmp_path), plan_of(tmp_path, launch={"train": "accelerate launch"}, threads=2)
    assert one.stages.keys() == other.stages.keys()
    assert {s.launch for s in other.stages.values() if s.kind == "train"} == {"accelerate launch"}


def test_a_recipe_is_part_of_the_training_stage_but_its_places_are_not(tmp_path):
    recipe = tmp_path / "recipe.yaml"

    def ids(text):
        recipe.write_text(text, encoding="utf-8")
        grid = {"setting": {"one": {"train": [{"recipe": str(recipe)}]}}}
        return {stage.id for stage in plan_of(tmp_path, grid=grid).stages.values() if stage.kind == "train"}

    assert ids("beta: 0.1\noutput_dir: a\n") == ids("beta: 0.1\noutput_dir: b\n") != ids("beta: 0.2\noutput_dir: a\n")


def test_plans_travel_as_json(tmp_path):
    plan = plan_of(tmp_path)
    again = Plan.from_json(plan.to_json())
    assert list(again.stages) == list(plan.stages)
    assert again.stages == plan.stages


def test_a_cell_depends_on_its_own_chain_only(tmp_path):
    plan = plan_of(tmp_path)
    base, trained = (roles["score"] for _, roles in plan.cells)
    assert {plan.stages[s].kind for s in ancestors(plan, base)} == {"base", "score"}
    assert {plan.stages[s].kind for s in ancestors(plan, trained)} == {
        "base", "questions", "sample", "annotate", "pair", "train", "score"
    }  # fmt: skip


def test_what_is_missing_is_listed_once_with_the_first_cell(tmp_path):
    grid = {"setting": {"a": {"model": "./nowhere", "train": []}, "b": {"model": "./nowhere", "train": []}}}
    plan = plan_of(tmp_path, grid=grid)
    (error, where), *more = plan.missing.items()
    assert "missing checkpoint" in error and "./nowhere" in error and "tiny: a" in where and not more


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"defaults": {k: v for k, v in experiments.TINY.items() if k != "judge"}}, "training needs judge"),
        ({"defaults": defaults(score={})}, "score names no tasks"),
        ({"defaults": defaults(world={"cluster": 3})}, "unknown key 'cluster'"),
        ({"defaults": defaults(base={"stepz": 3})}, "unknown key 'stepz'"),
        ({"grid": {"setting": {"a": {"train": [{"recipe": "no/such.yaml"}]}}}}, "recipe no/such.yaml cannot be read"),
    ],
)
def test_settings_that_cannot_work(tmp_path, changes, message):
    with pytest.raises(HarnessError, match=message):
        plan_of(tmp_path, **changes)


@pytest.mark.parametrize("model", ["world", "llama31-8b", "internlm2-7b"])
def test_the_experiments_here_form_plans(model):
    files = sorted((EXPERIMENTS / model).glob("[a-z]*.yaml"))
    plan = make_plan([load_experiment(file) for file in files])
    assert len({cell.experiment for cell, _ in plan.cells}) == len(files)
    assert all("question_document.jsonl" in error for error in plan.missing)
    if model != "internlm2-7b":
        numbers = {load_experiment(file).table.get("number") for file in files}
        assert {*range(1, 13)} <= numbers
