"""Rows that leak checks compare: questions, pairs, samples, annotations and tasks, all read to one shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factuality_harness.harness.data.anah import Question
from factuality_harness.harness.data.biographies import hub_rows
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io import tables
from factuality_harness.harness.io.jsonl import jsonl_files
from factuality_harness.harness.questions import GRAMMAR, is_named_source, load_questions


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """A row of either side. texts: all its other text (documents, responses). where: file and row, for the report."""

    topic: str
    questions: tuple[str, ...]
    texts: tuple[str, ...]
    document: str
    where: str


def as_row(row: Mapping[str, Any] | Question, where: str = "") -> ComparedRow:
    if isinstance(row, Question):
        row = row.to_dict()
    doc = row.get("doc")
    data: Mapping[str, Any] = {**row, **doc} if isinstance(doc, Mapping) else row
    asked = data.get("selected_questions") or data.get("questions") or data.get("question") or ()
    for name, value in (("question", asked), ("document", data.get("documents") or data.get("document") or "")):
        if not isinstance(value, str) and not (
            isinstance(value, list | tuple) and all(isinstance(v, str | None) for v in value)
        ):
            raise HarnessError(f"{where or 'a row'}: {name} must be text or a list of texts, not {str(value)[:60]}")
    questions = [asked] if isinstance(asked, str) else list(asked)
    texts: list[Any] = []
    documents = data.get("documents") or data.get("document") or ""
    document = documents if isinstance(documents, str) else "\n".join(d for d in documents if isinstance(d, str))
    for key in ("prompt", "chosen", "rejected"):
        messages = data.get(key) or ()
        for message in [{"content": messages}] if isinstance(messages, str) else messages:
            user = key == "prompt" and message.get("role", "user") == "user"
            (questions if user else texts).append(message.get("content"))
    texts += [data.get(key) for key in ("response", "output", "text")]
    texts += [t for group in row.get("resps") or () for t in (group if isinstance(group, list) else [group])]
    kept = tuple(t for t in (document, *texts) if isinstance(t, str) and t.strip())
    asked_texts = tuple(q.strip() for q in questions if isinstance(q, str) and q.strip())
    if not kept and not asked_texts:
        raise HarnessError(
            f"{where or 'a row'}: no question, document, pair or response in it; it has {', '.join(row)}"
        )
    topic = data.get("topic") or data.get("name") or data.get("title") or ""
    return ComparedRow(str(topic), asked_texts, kept, document, where)


def read_rows(source: str, metadata: Mapping[str, Any] | None = None) -> Iterator[ComparedRow]:
    """Rows of a source of questions, of any file or folder that `as_row` reads, or of an lm_eval task (its test docs,
    under `metadata`).

    Raises HarnessError for a source that is none of these, and naming file and row for a bad row.
    """
    if source.startswith("hf:") and {"chosen", "rejected"} <= {*(hub := hub_rows(source))[1]}:
        for number, row in enumerate(hub[0], 1):
            yield as_row(row, f"{source}, row {number}")
    elif is_named_source(source):
        for number, question in enumerate(load_questions(source), 1):
            yield as_row(question, f"{source}, question {number}")
    elif Path(source).exists():
        for file in jsonl_files(source):
            for number, data in tables.read_rows(file):
                try:
                    yield as_row(data, f"{file}, row {number}")
                except (AttributeError, TypeError) as error:
                    why = f"not a row of questions, pairs or samples ({error})"
                    raise HarnessError(f"{file}, row {number}: {why}") from error
    elif Path(source).name != source or Path(source).suffix:
        raise HarnessError(f"{source}: no such file or folder")
    else:
        yield from _task_rows(source, metadata or {})


def _task_rows(name: str, metadata: Mapping[str, Any]) -> Iterator[ComparedRow]:
    from factuality_harness.harness.lm_eval_plugin.lookup import find_tasks

    try:
        tasks = find_tasks([name], dict(metadata)).load([name])["tasks"]
    except HarnessError as error:
        raise HarnessError(f"{name}: neither {GRAMMAR}, nor a task of lm_eval ({error})") from error
    for of, task in tasks.items():
        for number, doc in enumerate(task.test_docs() if task.has_test_docs() else task.validation_docs(), 1):
            asked = task.doc_to_text(doc)
            yield as_row(({"question": asked} if isinstance(asked, str) else {}) | doc, f"{of}, question {number}")
