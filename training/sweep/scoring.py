"""The refusal to train on what is scored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factuality_harness.harness.compared import as_row, read_rows
from factuality_harness.harness.contamination import find_overlap, leaks
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.lm_eval_plugin.lookup import our_tasks
from factuality_harness.training.sweep.store import Store


def refuse_test_topics(pairs: Path, test: Mapping[str, Any], store: Store) -> None:
    """Raise HarnessError when pairs share topics, questions or documents with the test questions.

    test: tasks, metadata, base.

    Looks at the tasks of this project: others have no topics.
    """
    manager = our_tasks(dict(test["metadata"]) | ({"world": store.place(test["base"])} if "base" in test else {}))
    ours = [task for task in test["tasks"] if task in manager.all_subtasks]
    tasks = manager.load(ours)["tasks"].values() if ours else ()
    asked = [as_row(doc, task.config.task or "") for task in tasks for doc in task.test_docs()]
    if not asked:
        return
    if found := leaks(find_overlap(read_rows(str(pairs)), asked)):
        where = f"{pairs}, to be tested on {', '.join(ours)}"
        raise HarnessError(f"{where}: {'; '.join(found)}. Train on others (questions: split or part, select)")
