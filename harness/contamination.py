"""What a training set gives away of a test set: shared n-grams, near questions, exact duplicates, shared topics.

    factuality contamination --train SOURCE… --test SOURCE… [--ngram 13] [--embedding SPEC] [--out FILE.json]

A SOURCE is one of questions (`harness.questions`), a JSONL file or folder of preference pairs, lm_eval samples,
annotations or questions with responses, or a task of lm_eval; either side takes all of them.

For each test question: the largest share of its n-grams found in one training row (questions, documents and responses
alike, of which the row is named), and with an embedding the highest cosine similarity to a training question. Tokens
are lower-case words, and every Chinese character is one; `--ngram-zh` is the size for questions that are mostly
Chinese. A question shorter than n is looked for as a whole. Texts are read once and hashed, so time and memory do not
grow with the product of the two sets. Exit code 1 with `--fail-above SHARE` where a question goes beyond it.
"""

from __future__ import annotations

import hashlib
import re
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tqdm import tqdm

from factuality_harness.harness.commands import Flag, Several
from factuality_harness.harness.data.anah import Question
from factuality_harness.harness.embeddings.models import embed_groups, open_embedding
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io import tables
from factuality_harness.harness.io.jsonl import jsonl_files
from factuality_harness.harness.io.manifest import manifest, sha256, write_manifest
from factuality_harness.harness.questions import GRAMMAR, is_named_source, load_questions
from factuality_harness.harness.words import EAST_ASIAN, tokens

NGRAM = 13
"""Words in an n-gram, as in the overlap studies of GPT-3 (arXiv 2005.14165, appendix C)."""
SHOWN = 20
_CHINESE = re.compile(rf"[{EAST_ASIAN}]")
_BASE = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """A row of either side. texts: all its other text (documents, responses). where: file and row, for the report."""

    topic: str
    questions: tuple[str, ...]
    texts: tuple[str, ...]
    document: str
    where: str


@dataclass(slots=True)
class Finding:
    """What the training set holds of one test question. overlap: largest share of its n-grams in one training row,
    found_in: that row. similarity: highest cosine to a training question (None without an embedding), near: that
    question. duplicate: row of a training question that is the same but for case, width and punctuation."""

    question: str
    topic: str
    where: str
    overlap: float = 0.0
    found_in: str = ""
    similarity: float | None = None
    near: str = ""
    duplicate: str = ""


@dataclass(frozen=True, slots=True)
class OverlapReport:
    """Findings in the test set's order; shared_topics as the test set spells them; rows read for training, and how many
    rows of either side name no topic, so that theirs cannot be compared."""

    findings: tuple[Finding, ...]
    shared_topics: tuple[str, ...]
    train_rows: int
    unnamed_train: int = 0
    unnamed_test: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    def worst(self) -> list[Finding]:
        """Findings, the most suspicious first."""
        return sorted(self.findings, key=lambda f: (-bool(f.duplicate), -f.overlap, -(f.similarity or 0.0), f.question))


def shared_topics(
    train_rows: Iterable[Mapping[str, Any] | Question], test_questions: Iterable[Mapping[str, Any] | Question]
) -> list[str]:
    """Topics of the test questions that the training rows also have: the same name (but for case, width and white space
    around it), or the same reference document. Sorted, as the test set spells them (its question where it names none).

    Rows are questions, pairs, annotations or samples, as the module's text lists them.
    """
    return _shared({key for row in train_rows for key in _keys(_as_row(row))}, map(_as_row, test_questions))


def _keys(row: ComparedRow) -> list[bytes]:
    """What tells a topic: its name and its document."""
    name = unicodedata.normalize("NFKC", row.topic).casefold().strip()
    texts = [f"topic {name}"] * bool(name) + [f"document {' '.join(row.document.split())}"] * bool(row.document.strip())
    return [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]


def _shared(known: set[bytes], test: Iterable[ComparedRow]) -> list[str]:
    return sorted({row.topic or (*row.questions, "?")[0] for row in test if not known.isdisjoint(_keys(row))})


def _as_row(row: Mapping[str, Any] | Question, where: str = "") -> ComparedRow:
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


def read_rows(source: str) -> Iterator[ComparedRow]:
    """Rows of a source of questions, of any file or folder that `_as_row` reads, or of an lm_eval task (its test docs).

    Raises HarnessError for a source that is none of these, and naming file and row for a bad row.
    """
    if is_named_source(source):
        for number, question in enumerate(load_questions(source), 1):
            yield _as_row(question, f"{source}, question {number}")
    elif Path(source).exists():
        for file in jsonl_files(source):
            for number, data in tables.read_rows(file):
                try:
                    yield _as_row(data, f"{file}, row {number}")
                except (AttributeError, TypeError) as error:
                    why = f"not a row of questions, pairs or samples ({error})"
                    raise HarnessError(f"{file}, row {number}: {why}") from error
    elif Path(source).name != source or Path(source).suffix:
        raise HarnessError(f"{source}: no such file or folder")
    else:
        yield from _task_rows(source)


def _task_rows(name: str) -> Iterator[ComparedRow]:
    from factuality_harness.harness.lm_eval_plugin.lookup import find_tasks

    try:
        tasks = find_tasks([name], {}).load([name])["tasks"]
    except HarnessError as error:
        raise HarnessError(f"{name}: neither {GRAMMAR}, nor a task of lm_eval ({error})") from error
    for of, task in tasks.items():
        for number, doc in enumerate(task.test_docs() if task.has_test_docs() else task.validation_docs(), 1):
            asked = task.doc_to_text(doc)
            yield _as_row(({"question": asked} if isinstance(asked, str) else {}) | doc, f"{of}, question {number}")


class Ngrams:
    """N-grams of the test questions, looked up in training texts.

    A text becomes the numbers of its words in the questions' vocabulary (0 for any other word); a window's hash is a
    polynomial of them modulo 2**64, computed for all windows of a text at once, size by size. Only windows of known
    words are looked up, so most of a text is never hashed to the end.
    """

    def __init__(self, questions: Sequence[str], sizes: tuple[int, int] = (NGRAM, NGRAM)) -> None:
        """sizes: of n-grams in words, and in characters for questions that are mostly Chinese."""
        self._numbers: dict[str, int] = {}
        rng = np.random.default_rng(0)
        grams: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        self.totals = np.ones(len(questions))
        rows = [tokens(q) for q in questions]
        for words in rows:
            for word in words:
                self._numbers.setdefault(word, len(self._numbers) + 1)
        values = rng.integers(1, 2**64, size=len(self._numbers) + 1, dtype=np.uint64)
        values[0] = 0
        self._values = values
        for i, words in enumerate(rows):
            if not words:
                continue
            chinese = sum(map(bool, map(_CHINESE.match, words))) * 2 > len(words)
            size = min(sizes[chinese], len(words))
            numbers = np.array([self._numbers[w] for w in words])
            hashes = np.unique(_windows(self._values[numbers], size))
            self.totals[i] = len(hashes)
            for h in hashes.tolist():
                grams[size][h].append(i)
        self._grams = {size: dict(of_size) for size, of_size in sorted(grams.items())}
        self._sorted = {size: np.array(sorted(of_size), dtype=np.uint64) for size, of_size in self._grams.items()}

    def shares(self, texts: Iterable[str]) -> dict[int, float]:
        """Share of each question's n-grams in `texts` together, for the questions that have any; by their number."""
        found: dict[int, set[int]] = defaultdict(set)
        for text in texts:
            words = tokens(text)
            numbers = np.fromiter(map(self._numbers.get, words, repeat(0)), np.int64, len(words))
            # Positions from which `size` known words follow, and the hash of that window, grown word by word.
            starts = np.flatnonzero(numbers)
            hashes = self._values[numbers[starts]]
            grown = 1
            for size, known in self._sorted.items():
                while grown < size and len(starts):
                    inside = starts + grown < len(numbers)
                    starts, hashes = starts[inside], hashes[inside]
                    following = numbers[starts + grown]
                    kept = following > 0
                    starts = starts[kept]
                    hashes = hashes[kept] * _BASE + self._values[following[kept]]
                    grown += 1
                if not len(starts):
                    break
                places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
                for h in set(hashes[known[places] == hashes].tolist()):
                    for question in self._grams[size][h]:
                        found[question].add(h)
        return {question: len(hashes) / self.totals[question] for question, hashes in found.items()}


def _windows(values: np.ndarray, size: int) -> np.ndarray:
    hashes = values[: len(values) - size + 1].copy()
    for i in range(1, size):
        hashes = hashes * _BASE + values[i : len(values) - size + 1 + i]
    return hashes


def find_overlap(
    train: Iterable[ComparedRow],
    test: Sequence[ComparedRow],
    *,
    sizes: tuple[int, int] = (NGRAM, NGRAM),
    embedding: str | None = None,
    progress: bool = False,
) -> OverlapReport:
    """Everything the module's text says, over rows. train is read once and not kept, but for its questions with an
    embedding. Raises HarnessError for a test set without questions, for sizes below 1, and as the embedding does."""
    if min(sizes) < 1:
        raise HarnessError(f"n-grams of {min(sizes)} tokens: at least one is needed")
    findings = [Finding(q, row.topic, row.where) for row in test for q in row.questions]
    if not findings:
        raise HarnessError("the test set holds no question")
    ngrams = Ngrams([f.question for f in findings], sizes)
    same: dict[tuple[str, ...] | None, list[int]] = defaultdict(list)  # None: never
    for i, f in enumerate(findings):
        same[tuple(tokens(f.question))].append(i)
    asked: dict[str, str] = {}
    topics: set[bytes] = set()
    count = unnamed = 0
    for row in tqdm(train, unit="row", desc="training rows", disable=not progress):
        count += 1
        for i, share in ngrams.shares((*row.questions, *row.texts)).items():
            if share > findings[i].overlap:
                findings[i].overlap, findings[i].found_in = share, row.where
        for question in row.questions:
            for i in same.get(tuple(tokens(question)), ()):
                findings[i].duplicate = findings[i].duplicate or row.where
            if embedding:
                asked.setdefault(question, row.where)
        topics.update(_keys(row))
        unnamed += not row.topic.strip()
    if embedding and asked:
        _nearest(findings, asked, embedding)
    settings = {"ngram": sizes[0], "ngram_zh": sizes[1], "embedding": embedding}
    no_topic = sum(not row.topic.strip() for row in test)
    return OverlapReport(tuple(findings), tuple(_shared(topics, test)), count, unnamed, no_topic, settings)


def _nearest(findings: Sequence[Finding], asked: Mapping[str, str], spec: str) -> None:
    questions = list(asked)
    ours, theirs = embed_groups(open_embedding(spec), [f.question for f in findings], questions)
    ours, theirs = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12) for v in (ours, theirs))
    for start in range(0, len(findings), 256):
        cosines = ours[start : start + 256] @ theirs.T
        for f, place, cosine in zip(findings[start:], cosines.argmax(1), cosines.max(1), strict=False):
            f.similarity, f.near = round(float(cosine), 6), f"{asked[questions[place]]}: {questions[place]}"


def overlap_table(report: OverlapReport, shown: int = SHOWN) -> str:
    """The most suspicious questions, for a terminal."""
    worst = [f for f in report.worst() if f.duplicate or f.overlap > 0 or f.similarity is not None][:shown]
    lines = [
        f"{len(report.findings)} test questions against {report.train_rows} training rows: "
        f"{sum(bool(f.duplicate) for f in report.findings)} exact duplicates, "
        f"{sum(f.overlap >= 1 for f in report.findings)} with every n-gram in one training row, "
        f"{sum(f.overlap > 0 for f in report.findings)} with any; {len(report.shared_topics)} shared topics"
        + (": " + "; ".join(report.shared_topics[:shown]) if report.shared_topics else "")
    ]
    lines += [f"warning: {why}" for why in _unnamed(report)]
    for f in worst:
        near = "" if f.similarity is None else f"  cosine {f.similarity:.3f}"
        lines.append(f"{f.overlap:5.2f}{near}  {f.question[:80]}")
        for what, where in (("same as", f.duplicate), ("n-grams in", f.found_in), ("nearest", f.near)):
            if where and not (what == "n-grams in" and f.duplicate == where):
                lines.append(f"         {what} {where[:140]}")
    return "\n".join(lines)


def _unnamed(report: OverlapReport) -> list[str]:
    sides = ("training", report.unnamed_train), ("test", report.unnamed_test)
    return [f"{n} {side} rows name no topic, so shared topics may be missed" for side, n in sides if n]


def exceeds(report: OverlapReport, overlap: float | None, similarity: float | None, topics: bool) -> list[str]:
    """Why the command fails: one line each for n-grams and duplicates above `overlap` (a duplicate counts as 1),
    cosines above `similarity`; and where shared topics are forbidden, for those, for exact duplicates (their topic is
    the same, whatever it is called), and for rows that name no topic."""
    reasons = []
    if overlap is not None and (n := sum(max(f.overlap, bool(f.duplicate)) > overlap for f in report.findings)):
        reasons.append(f"{n} test questions share more than {overlap:g} of their n-grams with a training row")
    if similarity is not None and (n := sum((f.similarity or 0.0) > similarity for f in report.findings)):
        reasons.append(f"{n} test questions are nearer than cosine {similarity:g} to a training question")
    if topics and report.shared_topics:
        reasons.append(f"{len(report.shared_topics)} test topics are in the training set")
    if topics and (n := sum(bool(f.duplicate) for f in report.findings)):
        reasons.append(f"{n} test questions are in the training set")
    if topics:
        reasons += _unnamed(report)
    return reasons


def contamination(
    *,
    train: Annotated[list[str], Several],
    test: Annotated[list[str], Several],
    ngram: int = NGRAM,
    ngram_zh: int = NGRAM,
    embedding: str | None = None,
    fail_above: float | None = None,
    fail_above_cosine: float | None = None,
    fail_on_topics: Flag = False,
    show: int = SHOWN,
    out: Path | None = None,
) -> None:
    """Overlap between training and test data: shared n-grams, near questions, exact duplicates, shared topics.

    Parameters
    ----------
    train
        Sources of questions, files or folders of pairs, samples or annotations, or lm_eval tasks.
    test
        The same, for the test side.
    ngram
        Words in an n-gram.
    ngram_zh
        The same in characters, for Chinese questions.
    embedding
        Embedding spec, to compare questions by meaning too.
    fail_above
        Exit with 1 for n-gram overlap above this share.
    fail_above_cosine
        Exit with 1 for a similarity above it.
    fail_on_topics
        Exit with 1 where a test topic or question is in the training set, or a row names no topic.
    show
        Questions in the table.
    out
        Write all findings as JSON, with their manifest.
    """
    if out and out.is_dir():
        raise HarnessError(f"--out {out}: is a folder; name a file")
    if fail_above_cosine is not None and not embedding:
        raise HarnessError("--fail-above-cosine needs an --embedding")
    test_rows = [row for source in test for row in read_rows(source)]
    train_rows = (row for source in train for row in read_rows(source))
    report = find_overlap(train_rows, test_rows, sizes=(ngram, ngram_zh), embedding=embedding, progress=True)
    if not report.train_rows:
        raise HarnessError(f"{' '.join(train)}: holds no row, so there is nothing to compare with")
    reasons = exceeds(report, fail_above, fail_above_cosine, fail_on_topics)
    print(overlap_table(report, show))
    if out:
        files = {source: sha256(source) for source in (*train, *test) if Path(source).is_file()}
        data = {**asdict(report), "findings": [asdict(f) for f in report.worst()], "failed": reasons}
        write_manifest(out, data | {"manifest": manifest(files=files)})
    if reasons:
        print("\n".join(f"failed: {reason}" for reason in reasons), file=sys.stderr)
        sys.exit(1)
