"""The group `general_ability`: what it names is in lm_eval, as often as it must be, and is what table 10 measures."""

from __future__ import annotations

from pathlib import Path

import lm_eval.tasks
import pytest
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import Kind
from lm_eval.tasks._yaml_loader import load_yaml

from factuality_harness.harness.lm_eval_plugin.discovery import tasks_folder

LM_EVAL = Path(lm_eval.tasks.__file__).parent


@pytest.fixture(scope="module")
def manager() -> TaskManager:
    """Our group beside the folders of lm_eval that it draws on (indexing all of lm_eval takes half a minute)."""
    theirs = [LM_EVAL / name for name in ("gsm8k", "minerva_math", "gpqa", "humaneval", "mbpp")]
    return TaskManager(include_path=[*map(str, theirs), str(tasks_folder())], include_defaults=False)


def leaves(manager: TaskManager, name: str) -> list[str]:
    entry = manager.task_index[name]
    if entry.kind is not Kind.GROUP:
        return [name]
    assert entry.cfg is not None
    return [leaf for child in entry.cfg["task"] for leaf in leaves(manager, child)]


def test_the_group_resolves_to_tasks_of_lm_eval(manager: TaskManager) -> None:
    assert {"general_ability", "general_ability_math"} <= set(manager.all_groups)
    tasks = leaves(manager, "general_ability")
    assert len(tasks) == len(set(tasks)) == 4 + 7
    for task in tasks:
        path = manager.task_index[task].yaml_path
        assert path is not None
        assert LM_EVAL in path.parents


def test_they_are_the_benchmarks_of_the_table(manager: TaskManager) -> None:
    configs = {
        task: load_yaml(manager.task_index[task].yaml_path, resolve_func=False)
        for task in leaves(manager, "general_ability")
    }
    assert {config["dataset_path"] for config in configs.values()} == {
        "openai/gsm8k",
        "EleutherAI/hendrycks_math",
        "Idavidrein/gpqa",
        "openai/openai_humaneval",
        "google-research-datasets/mbpp",
    }
    subjects = {config["dataset_name"] for config in configs.values() if "hendrycks" in config["dataset_path"]}
    assert len(subjects) == 7
    assert configs["gpqa_diamond_cot_zeroshot"]["dataset_name"] == "gpqa_diamond"
    assert {task for task, config in configs.items() if config.get("unsafe_code")} == {
        "humaneval_instruct",
        "mbpp_instruct",
    }
    # The group's own mean is over metrics that each of its parts has.
    group = manager.task_index["general_ability_math"].cfg
    assert group is not None
    wanted = {m["metric"] for m in group["aggregate_metric_list"]}
    for task in leaves(manager, "general_ability_math"):
        assert wanted <= {m["metric"] for m in configs[task]["metric_list"]}
