"""Plans: stages known by what they depend on, shared between cells, in an order that can be run."""

import csv
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.sweep.experiment import load_experiment
from factuality_harness.training.sweep.plan import make_plan, stages_of
from tests.helpers import experiments
from tests.helpers.paths import ROOT
from tests.helpers.tiny import save_tiny, tiny_model

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
    assert {s.threads for s in other.stages.values()} == {2}
    threads = {s.kind: s.threads for s in plan_of(tmp_path, threads={"base": 1}).stages.values()}
    assert threads == dict.fromkeys(threads, 0) | {"base": 1}


def test_a_recipe_is_part_of_the_training_stage_but_its_places_are_not(tmp_path):
    recipe = tmp_path / "recipe.yaml"

    def ids(text):
        recipe.write_text(text, encoding="utf-8")
        grid = {"setting": {"one": {"train": [{"recipe": str(recipe)}]}}}
        return {stage.id for stage in plan_of(tmp_path, grid=grid).stages.values() if stage.kind == "train"}

    assert ids("beta: 0.1\noutput_dir: a\n") == ids("beta: 0.1\noutput_dir: b\n") != ids("beta: 0.2\noutput_dir: a\n")


def test_arguments_of_every_step_lie_between_the_recipes_and_the_steps_own(tmp_path):
    oracle = {"recipe": "training/recipes/world/dpo.yaml"}
    steps = [
        {"recipe": experiments.RECIPE},
        {"recipe": experiments.RECIPE, "arguments": {"beta": 7.0}, "oracle": oracle},
    ]
    grid = {"setting": {"one": {"train": steps}}}
    plan = plan_of(tmp_path, defaults=defaults(train_arguments={"beta": 5.0, "max_steps": 3}), grid=grid)
    arguments = [s.settings["arguments"] for s in plan.stages.values() if s.kind == "train"]
    assert [(a["beta"], a.get("max_steps")) for a in arguments] == [(5.0, 3), (0.1, None), (7.0, 3)]
    assert len({a["learning_rate"] for a in arguments}) == 2  # as the recipes say


def test_a_cell_depends_on_its_own_chain_only(tmp_path):
    plan = plan_of(tmp_path)
    base, trained = (roles for _, roles in plan.cells)
    assert {plan.stages[s].kind for s in stages_of(plan, base)} == {"base", "score"}
    assert {plan.stages[s].kind for s in stages_of(plan, trained)} == {
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
        ({"defaults": defaults(score={})}, "tiny.yaml.*score names no tasks"),
        ({"defaults": defaults(score={"tasks": []})}, "tiny.yaml.*score, tasks"),
        ({"defaults": defaults(world={"cluster": 3})}, "unknown key 'cluster'"),
        ({"defaults": defaults(base={"stepz": 3})}, "unknown key 'stepz'"),
        (
            {"grid": {"setting": {"a": {"train": [{"recipe": "no/such.yaml"}]}}}},
            "tiny: a .*no/such.yaml: no such recipe file",
        ),
        (
            {"grid": {"setting": {"a": {"train": [{"recipe": "LIST"}]}}}},
            "tiny: a .*list.yaml: the recipe is no mapping",
        ),
    ],
)
def test_settings_that_cannot_work(tmp_path, changes, message):
    (tmp_path / "list.yaml").write_text("- beta\n", encoding="utf-8")
    changes = yaml.safe_load(yaml.safe_dump(changes).replace("LIST", str(tmp_path / "list.yaml")))
    with pytest.raises(HarnessError, match=message):
        plan_of(tmp_path, **changes)


def test_a_path_below_a_folder_is_no_hub_name(tmp_path):
    grid = {"setting": {"a": {"model": "training/nothing", "train": []}, "b": {"model": "hub/name", "train": []}}}
    assert [*plan_of(tmp_path, grid=grid).missing] == [
        "missing checkpoint: training/nothing: no such checkpoint folder"
    ]


def scores(plan):
    return [plan.stages[roles["score"]].settings for _, roles in plan.cells]


def test_arguments_of_the_judge_reach_annotation_and_score(tmp_path):
    plan = plan_of(tmp_path, defaults=defaults(judge="dialogue@hf:x", judge_args={"max_tokens": 64}))
    assert all(score["judge_args"] == {"max_tokens": 64} for score in scores(plan))
    (annotate,) = (s.settings for s in plan.stages.values() if s.kind == "annotate")
    assert annotate == {"judge": "dialogue@hf:x", "judge_args": {"max_tokens": 64}}
    assert not any("judge_args" in score for score in scores(plan_of(tmp_path)))


def test_a_score_can_have_a_judge_of_its_own(tmp_path):
    own = {**experiments.TINY["score"], "judge": "lexical"}
    before = plan_of(tmp_path)
    plan = plan_of(tmp_path, defaults=defaults(score=own, judge_args={}))
    assert [score["judge"] for score in scores(plan)] == ["lexical"] * 2
    assert {s.kind for name, s in plan.stages.items() if name not in before.stages} == {"score"}


@pytest.mark.parametrize(
    ("change", "different"),
    [
        ({"tasks": ["anah_factuality"]}, 1),
        ({"tasks": ["gsm8k"]}, 1),
        ({"tasks": ["anah_factuality", "anah_factuality_sampled"]}, 3),
        ({"tasks": ["anah_factuality_best_of_n"]}, 3),
        ({"tasks": ["gsm8k"], "gen_kwargs": {"do_sample": True}}, 3),
    ],
)
def test_a_hub_model_is_scored_under_every_seed_where_scoring_samples(tmp_path, change, different):
    grid: Any = {"model": {"base": {"train": []}}}
    plan = plan_of(tmp_path, defaults=defaults(model="hub/name", score=change), grid=grid, seeds=[0, 1, 2])
    assert len({roles["score"] for _, roles in plan.cells}) == different
    assert [score.get("seed") for score in scores(plan)] == ([0, 1, 2] if different > 1 else [None] * 3)


def test_the_worlds_bases_are_different_anyway_and_keep_their_ids(tmp_path):
    plan = plan_of(tmp_path, defaults=defaults(score={"tasks": ["world_factuality_sampled"]}), seeds=[0, 1])
    assert len({roles["score"] for _, roles in plan.cells}) == 4 and not any("seed" in score for score in scores(plan))


def test_factscore_is_added_as_the_guide_says(tmp_path):
    guide = (ROOT / "docs" / "guides" / "sweep.md").read_text(encoding="utf-8")
    text = guide.split("```yaml\n")[1].split("```")[0]
    main = load_experiment(EXPERIMENTS / "llama31-8b" / "table01_main.yaml")
    (tmp_path / "table01_main_factscore.yaml").write_text(
        text.replace("extends: ", f"extends: {main.path.parent.resolve()}/"), encoding="utf-8"
    )
    more = load_experiment(tmp_path / "table01_main_factscore.yaml")
    assert more.table["columns"] == {"bio_factscore_score": "factscore_bio", "anah_factscore_score": "anah_factscore"}
    before, both = make_plan([main]), make_plan([main, more])
    new = [stage for name, stage in both.stages.items() if name not in before.stages]
    assert len(new) == 15 and {stage.kind for stage in new} == {"score"}  # two trained by three seeds, nine as they are
    assert {stage.settings["judge"].split("@")[0] for stage in new} == {"factscore"}
    assert all("judge_args" not in stage.settings for stage in new)


@pytest.mark.parametrize("model", ["llama31-8b", "internlm2-7b"])
def test_no_code_from_the_hub_is_run(model):
    plan = make_plan([load_experiment(file) for file in sorted((EXPERIMENTS / model).glob("[a-z]*.yaml"))])
    for stage in plan.stages.values():
        told = json.dumps(stage.settings)
        assert "trust_remote_code" not in told and "opencompass/anah-v2" not in told and '"internlm/' not in told


def test_experiments_still_mean_what_was_measured():
    """Ids are hashes of all settings: those of the committed results, stage by stage, seed by seed."""
    for file in sorted((ROOT / "results" / "world" / "experiments").glob("*.json")):
        plan = make_plan([load_experiment(EXPERIMENTS / "world" / f"{file.stem}.yaml")])
        found = [
            {"labels": cell.labels, "seed": cell.seed, "stages": {k: v for k, v in roles.items() if k != "distances"}}
            for cell, roles in plan.cells
        ]
        assert found == json.loads(file.read_text(encoding="utf-8"))["cells"], file.stem


def test_distances_are_a_stage_of_trained_cells_and_change_no_other(tmp_path):
    wanted = {"embedding": "hidden:policy@1", "text": "Entry: {topic}", "relative_to": {"part": "test"}}
    before, plan = plan_of(tmp_path), plan_of(tmp_path, defaults=defaults(distances=wanted))
    (_, base), (_, trained) = plan.cells
    assert "distances" not in base and base | trained == before.cells[0][1] | before.cells[1][1] | trained
    stage = plan.stages[trained["distances"]]
    assert stage.settings == {"embedding": "hidden:policy@1", "text": "Entry: {topic}", "k": 1, "centre": True}
    targets = plan.stages[stage.needs["targets"]]
    assert targets.settings == {"part": "test", "side": "all"}
    assert stage.needs == {
        "pair": trained["pair"], "targets": targets.id, "base": trained["base"], "model": trained["base"]
    }  # fmt: skip
    wanted["embedding"] = "tfidf"
    stage = next(
        s for s in plan_of(tmp_path, defaults=defaults(distances=wanted)).stages.values() if s.kind == "distances"
    )
    assert {*stage.needs} == {"pair", "targets", "base"}


@pytest.mark.parametrize("model", ["demo", "studies", "world", "llama31-8b", "internlm2-7b"])
def test_the_experiments_here_form_plans(model):
    files = sorted((EXPERIMENTS / model).glob("[a-z]*.yaml"))
    plan = make_plan([load_experiment(file) for file in files])
    assert len({cell.experiment for cell, _ in plan.cells}) == len(files)
    made_first = ("question_document.jsonl", "smollm2-135m", "out/models/anah-v2", "out/models/internlm2-chat-7b")
    assert all(any(name in error for name in made_first) for error in plan.missing)
    if model in ("world", "llama31-8b"):
        numbers = {load_experiment(file).table.get("number") for file in files}
        assert {*range(1, 13)} <= numbers


def test_a_retrained_checkpoint_in_the_same_place_is_another_model(tmp_path):
    folder = save_tiny(tmp_path / "m")
    settings = {**experiments.TINY, "model": str(folder), "questions": {"file": "mini:train"}, "judge": "lexical"}
    settings = {key: value for key, value in settings.items() if key not in ("world", "base")}
    settings["score"] = {"tasks": ["anah_factuality_mini"]}

    def ids():
        return {stage.kind: stage.id for stage in plan_of(tmp_path, defaults=settings).stages.values()}

    before = ids()
    assert ids() == before
    tiny_model(seed=1).save_pretrained(folder)
    changed = {kind for kind, name in ids().items() if before[kind] != name}
    assert changed == before.keys() - {"questions"}


def test_table_1_has_a_cell_for_every_row_of_the_paper():
    experiment = load_experiment(EXPERIMENTS / "llama31-8b" / "table01_main.yaml")
    rows = {experiment.table["rename"].get(name, name) for cell in experiment.cells for name in cell.labels.values()}
    with (ROOT / "results" / "paper" / "table01_main.csv").open(encoding="utf-8") as file:
        assert {row["model"] for row in csv.DictReader(file)} == rows
    as_they_are = {cell.settings["model"] for cell in experiment.cells if not cell.settings["train"]}
    assert len(as_they_are) == 9


@pytest.mark.parametrize(
    "name", ["llama31-8b/table01_main", "llama31-8b/table09_factuality", "internlm2-7b/table01_main"]
)
def test_facttune_is_ranked_by_factscore_and_scored_as_the_others(name):
    plan = make_plan([load_experiment(EXPERIMENTS / f"{name}.yaml", seeds=[0])])
    cells = {cell.labels.popitem()[1]: roles for cell, roles in plan.cells}
    fact, ours = cells["FactTune"], cells["Mask-DPO"]
    judges = {
        who: plan.stages[roles["annotate"]].settings["judge"].split("@")[0]
        for who, roles in cells.items()
        if "annotate" in roles
    }
    assert (judges["FactTune"], judges["Mask-DPO"]) == ("factscore", "anah_v2")
    assert plan.stages[fact["pair"]].settings["rank_by"] == "factscore"
    assert plan.stages[fact["sample"]] == plan.stages[ours["sample"]]
    assert plan.stages[fact["score"]].settings == plan.stages[ours["score"]].settings
