"""Reading stored responses and annotations: lm_eval's samples files, and plain JSONL.

There is one reader, `sample_rows`. A row knows what was asked (`doc`), what was answered (`responses`) and, where a
judge has been, its `annotations`; topic and question together say which question it is.
"""

from __future__ import annotations

import json
import logging
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from factuality_harness.harness.annotation import Annotation
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import jsonl_files, read_jsonl
from factuality_harness.harness.io.tables import read_rows
from factuality_harness.harness.names import folded, name_of

log = logging.getLogger(__name__)

ANNOTATED = "annotation"
"""The filter of lm_eval whose answers are annotations."""
RUN = re.compile(r"samples_(.+)_(\d{4}-\d\d-\d\dT.+)\.jsonl(?:\.gz)?")
"""Name of a samples file: task and time of the run."""
QuestionKey = tuple[str, str]
"""Topic and question, "" for the one that a row does not name."""


@dataclass(frozen=True)
class SampleRow:
    """A row of a file, its parts read when they are asked for. where: "FILE, row N"; every error begins with it."""

    where: str
    data: dict[str, Any]

    @property
    def doc(self) -> dict[str, Any]:
        """What was asked: question, topic, document, …; a plain row is its own."""
        doc = self.data.get("doc", self.data)
        if not isinstance(doc, dict):
            raise HarnessError(f"{self.where}: neither an lm_eval sample nor a plain row: `doc` is no object")
        return doc

    @property
    def key(self) -> QuestionKey:
        """Raises HarnessError for a row that names neither topic nor question."""
        for what in ("topic", "question"):
            if self.doc.get(what) is not None and not isinstance(self.doc[what], str):
                name_of(self.doc[what], f"`{what}`", self.where)
        key = key_of(self.doc)
        if key == ("", ""):
            raise HarnessError(
                f"{self.where}: neither an lm_eval sample (`doc`, `resps`) nor a row with `question` and `response`"
            )
        return key

    def responses(self) -> list[str]:
        """The responses before any filter. Raises HarnessError where one is not text."""
        found = self.data.get("resps") if "resps" in self.data else [self.data.get("response", self.data.get("output"))]
        if isinstance(found, list) and found and isinstance(found[0], list):
            found = found[0]
        if not isinstance(found, list):
            raise HarnessError(f"{self.where}: neither an lm_eval sample nor a row with a response: `resps` is no list")
        if not all(isinstance(response, str) for response in found):
            odd = next(response for response in found if not isinstance(response, str))
            raise HarnessError(
                f"{self.where}: the response to {self.key[1] or self.key[0]!r} is not text: {str(odd)[:80]}"
            )
        return found

    @property
    def is_judged(self) -> bool:
        """Whether the row holds annotations, or what should be annotations."""
        return "sentences" in self.data or "filtered_resps" in self.data

    @cached_property
    def annotated(self) -> list[Any]:
        """The annotations as plain data, not looked at."""
        texts = self.data.get("filtered_resps")
        if texts is None:
            return [self.data]
        try:
            parsed = [json.loads(text) for text in texts]
        except (TypeError, ValueError) as error:
            raise self._not_judged(f"not annotation JSON: {error}") from error
        return [data for one in parsed for data in (one if isinstance(one, list) else [one])]

    def annotations(self, most: int | None = None) -> list[Annotation]:
        """The annotations, of every response; only the first `most`. Raises HarnessError where there is none."""
        found = islice(self.annotated, most)
        try:
            return [Annotation.from_dict(data) for data in found]
        except HarnessError as error:
            raise self._not_judged(str(error)) from error

    def _not_judged(self, why: str) -> HarnessError:
        hint = " (a --predict_only run is not judged; replay it)" if self.data.get("filter") == "none" else ""
        return HarnessError(f"{self.where}: {why}{hint}")


def key_of(doc: dict[str, Any]) -> QuestionKey:
    """Topic and question of what was asked."""
    topic, question = (doc.get(name) for name in ("topic", "question"))
    if isinstance(topic, int) and not isinstance(topic, bool):
        topic = str(topic)
    return topic.strip() if isinstance(topic, str) else "", question.strip() if isinstance(question, str) else ""


def samples_files(path: str | Path) -> list[Path]:
    """A file, or lm_eval's samples files below a folder; of runs of one task in one folder the newest, with a warning.

    Raises HarnessError when there is none.
    """
    path = Path(path)
    if not path.is_dir():
        return [path]
    newest: dict[tuple[Path, str], Path] = {}
    for file in sorted(
        [*path.rglob("samples_*.jsonl"), *path.rglob("samples_*.jsonl.gz")]
    ):  # a task's in the order of their times
        run = RUN.fullmatch(file.name)
        place = file.parent, run[1] if run else file.name
        if older := newest.pop(place, None):
            log.warning("%s: left out for the newer run %s; name the file if you mean it", older, file.name)
        newest[place] = file
    if not newest:
        raise HarnessError(f"{path}: holds no samples_*.jsonl; run lm_eval with --log_samples --output_path")
    return list(newest.values())


def samples_file(path: str | Path) -> Path:
    """The one samples file at or below `path`. Raises HarnessError when there are several."""
    files = samples_files(path)
    if len(files) > 1:
        raise HarnessError(f"{path} holds {len(files)} samples files; name one: {', '.join(map(str, files))}")
    return files[0]


def sample_rows(path: str | Path) -> Iterator[SampleRow]:
    """Rows of a file; of a folder those of lm_eval's samples files, or of all its JSONL files where it has none.

    Raises HarnessError naming file and row for what is not JSONL.
    """
    path = Path(path)
    from_lm_eval = path.is_dir() and any(path.rglob("samples_*.jsonl*"))
    for file in samples_files(path) if from_lm_eval else jsonl_files(path):
        for number, data in read_rows(file):
            yield SampleRow(f"{file}, row {number}", data)


def judged_rows(file: Path) -> Iterator[tuple[int, SampleRow]]:
    """Document number and row, for the rows of one samples file that a judge has annotated.

    Raises HarnessError naming file and row for a row that lm_eval has not written.
    """
    for number, data in read_jsonl(file, required=("doc_id", "filter", "filtered_resps")):
        if data["filter"] != ANNOTATED:
            continue
        if not isinstance(data["doc_id"], int):
            raise HarnessError(f"{file}, row {number}: doc_id is {data['doc_id']!r}, not the number of a question")
        yield data["doc_id"], SampleRow(f"{file}, row {number}", data)


def read_annotations(path: str | Path) -> Iterator[Annotation]:
    """Annotations of samples files (every response of every question), or of plain annotation JSONL.

    Raises HarnessError naming file and row for a row that holds none, say of a --predict_only run.
    """
    for row in sample_rows(path):
        yield from row.annotations()


def stored_responses(path: str | Path) -> dict[QuestionKey, list[str]]:
    """Responses by topic and question, in file order.

    Raises HarnessError naming file and row for a row that is neither a sample nor a question with its response.
    """
    found: dict[QuestionKey, list[str]] = defaultdict(list)
    for row in sample_rows(path):
        found[row.key].extend(row.responses())
    return dict(found)


def match(asked: Iterable[QuestionKey], stored: Collection[QuestionKey]) -> dict[QuestionKey, QuestionKey]:
    """The stored key that answers each asked key, for those that have one.

    It has the same topic and question; or it names only one of the two; or it has the same question, which either side
    knows on a single topic (each spells it in its own way). Where no key answers as it is written, other spellings are
    looked for (see `harness.names.folded`). Raises HarnessError for one that would answer several.
    """
    asked = list(dict.fromkeys(asked))
    topics: dict[str, list[QuestionKey]] = defaultdict(list)
    for key in stored:
        topics[key[1]].append(key)
    times: dict[str, int] = defaultdict(int)
    for _, question in asked:
        times[question] += 1
    found: dict[QuestionKey, QuestionKey] = {}
    taken: dict[QuestionKey, QuestionKey] = {}
    for key in asked:
        topic, question = key
        options = [key, ("", question), (topic, "")]
        if len(topics[question]) == times[question] == 1:
            options += topics[question]
        answer = next((option for option in options if option in stored), None)
        if answer is None:
            continue
        if answer in taken:
            raise HarnessError(
                f"the answers to {question or topic!r} do not say whether they are about {taken[answer][0]!r} or "
                f"{topic!r}: " + ("add the topic to their rows" if answer[1] else "add the question to their rows")
            )
        taken[answer] = key
        found[key] = answer
    spelt: dict[QuestionKey, list[QuestionKey]] = defaultdict(list)
    for key in stored:
        if key not in taken:
            spelt[folded(key[0]), folded(key[1])].append(key)
    for key in asked if spelt else ():
        if key not in found:
            topic, question = folded(key[0]), folded(key[1])
            alike = next((a for o in ((topic, question), ("", question), (topic, "")) if (a := spelt.get(o))), [])
            if len(alike) == 1 and alike[0] not in taken:
                taken[alike[0]], found[key] = key, alike[0]
    return found
