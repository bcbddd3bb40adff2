"""Tags of the tasks, as lm_eval expands them."""

from __future__ import annotations

from lm_eval.tasks import TaskManager

from factuality_harness.harness.lm_eval_plugin.discovery import tasks_folder

TAGS = {
    "anah": {"anah_factuality", "anah_factuality_sampled"},
    "factscore": {"factscore_bio", "factscore_bio_unlabeled"},
    "factuality_offline": {"anah_factuality_mini", "anah_factscore_mini"},
    "world": {"world_factuality_near", "world_factuality_far", "world_bio"},
    "world_sampled": {"world_factuality_near_sampled", "world_factuality_far_sampled", "world_bio_sampled"},
}


def test_tags_name_tasks_that_run_together() -> None:
    manager = TaskManager(include_path=tasks_folder(), include_defaults=False)
    assert set(manager.all_tags) == set(TAGS)
    for tag, tasks in TAGS.items():
        assert manager.task_index[tag].tags == tasks
        assert f"`{tag}`" in "".join(readme.read_text() for readme in tasks_folder().glob("*/README.md"))
    assert set(manager.load(["factuality_offline"])["tasks"]) == TAGS["factuality_offline"]
