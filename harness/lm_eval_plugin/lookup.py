"""Tasks by name, through lm_eval's own TaskManager."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.lm_eval_plugin.discovery import tasks_folder


def our_tasks(metadata: dict[str, Any]) -> Any:
    """A TaskManager for this project's tasks alone: indexing the other 12 000 takes its time."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=str(tasks_folder()), include_defaults=False, metadata=metadata)


def find_tasks(tasks: Sequence[str], metadata: dict[str, Any]) -> Any:
    """A TaskManager that knows the tasks. Raises HarnessError naming those that lm_eval does not know."""
    from lm_eval.tasks import TaskManager

    manager = our_tasks(metadata)
    if not {*tasks} <= {*manager.all_subtasks}:
        manager = TaskManager(metadata=metadata)
    if unknown := [task for task in tasks if not manager.match_tasks([task])]:
        raise HarnessError(f"lm_eval knows no task {', '.join(unknown)}")
    return manager
