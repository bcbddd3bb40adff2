"""The refusal to train on the topics that are scored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factuality_harness.harness.contamination import shared_topics
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import read_jsonl
from factuality_harness.harness.lm_eval_plugin.lookup import our_tasks
from factuality_harness.training.sweep.store import Store


def refuse_test_topics(pairs: Path, test: Mapping[str, Any], store: Store) -> None:
    """Raise HarnessError when pairs are about topics of the test questions. test: tasks, metadata, base.

    Looks at the tasks of this project: others have no topics.
    """
    manager = our_tasks(dict(test["metadata"]) | ({"world": store.place(test["base"])} if "base" in test else {}))
    ours = [task for task in test["tasks"] if task in manager.all_subtasks]
    tasks = manager.load(ours)["tasks"].values() if ours else ()
    questions = [doc for task in tasks for doc in task.test_docs() if doc.get("topic")]
    if shared := shared_topics((row for _, row in read_jsonl(pairs)), questions):
        raise HarnessError(
            f"{pairs}: {len(shared)} topics of the test questions of {', '.join(ours)} are in the training pairs "
            f"({', '.join(shared[:3])}, …); train on others (questions: split or part, select)"
        )
