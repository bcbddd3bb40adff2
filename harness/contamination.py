"""What a training set gives away of a test set: topics, questions and documents that are in both, near questions.

    factuality contamination --train SOURCE… --test SOURCE… [--ngram 13] [--embedding SPEC] [--out FILE.json]

A SOURCE is one of questions (`harness.questions`), a JSONL file or folder of preference pairs, lm_eval samples,
annotations or questions with responses, or a task of lm_eval; either side takes all of them.

For each test question: the largest share of its n-grams found in one training row (questions, documents and responses
alike, of which the row is named), and with an embedding the highest cosine similarity to a training question. Tokens
are lower-case words, and every Chinese character is one; `--ngram-zh` is the size for questions that are mostly
Chinese. A question shorter than n is looked for as a whole. Where either side names no topic, documents are compared by
their n-grams too: one that is there by half is the same. `leaks` says what must not be shared; the sweep asks it before
it trains. Texts are read once and hashed, so time and memory do not
grow with the product of the two sets. Exit code 1 with `--fail-above SHARE` where a question goes beyond it.
"""

from __future__ import annotations

import hashlib
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tqdm import tqdm

from factuality_harness.harness.commands import Flag, Options, Several
from factuality_harness.harness.compared import ComparedRow, read_rows
from factuality_harness.harness.data.anah import NO_TOPIC
from factuality_harness.harness.embeddings.models import embed_groups, open_embedding
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.manifest import manifest, sha256, write_manifest
from factuality_harness.harness.ngrams import NGRAM, Ngrams
from factuality_harness.harness.words import tokens

SHOWN = 20
SAME_DOCUMENT = 0.5
"""Share of n-grams from which two documents count as one: of the test document's, or of the training row's own."""
ENOUGH = 10
"""N-grams that a training document needs for its own share to say anything."""
ASKED = 5
"""Tokens from which a test question that stands whole in a longer training question counts as asked there."""


@dataclass(slots=True)
class Finding:
    """What the training set holds of one test question.

    overlap: largest share of its n-grams in one training row, found_in: that row. similarity: highest cosine to a
    training question (None without an embedding), near: that question. duplicate: row of a training question that is
    the same but for case, width and punctuation, or holds it whole. document_overlap: largest share of n-grams that its
    document and one training row have in common, of the document's or of the row's own document's, where one of
    them names no topic; document_in: that row.
    """

    question: str
    topic: str
    where: str
    overlap: float = 0.0
    found_in: str = ""
    similarity: float | None = None
    near: str = ""
    duplicate: str = ""
    document_overlap: float = 0.0
    document_in: str = ""


@dataclass(frozen=True, slots=True)
class OverlapReport:
    """Findings in the test set's order; shared_topics as the test set spells them; rows read for training, and how many
    rows of either side name neither topic nor document, so that theirs cannot be compared."""

    findings: tuple[Finding, ...]
    shared_topics: tuple[str, ...]
    train_rows: int
    unnamed_train: int = 0
    unnamed_test: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    def worst(self) -> list[Finding]:
        """Findings, the most suspicious first."""
        return sorted(self.findings, key=_rank)


def _rank(f: Finding) -> tuple[Any, ...]:
    leak = bool(f.duplicate) + (f.document_overlap >= SAME_DOCUMENT)
    return -leak, -f.overlap, -f.document_overlap, -(f.similarity or 0.0), f.question


def _keys(row: ComparedRow) -> list[bytes]:
    """What tells a topic: its name and its document."""
    name = unicodedata.normalize("NFKC", row.topic).casefold().strip()
    texts = [f"topic {name}"] * bool(name) + [f"document {' '.join(row.document.split())}"] * bool(row.document.strip())
    return [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]


def _shared(known: set[bytes], test: Iterable[ComparedRow]) -> list[str]:
    return sorted({row.topic or (*row.questions, "?")[0] for row in test if not known.isdisjoint(_keys(row))})


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
    rows = [row for row in test for _ in row.questions]
    findings = [Finding(q, row.topic, row.where) for row in test for q in row.questions]
    if not findings:
        raise HarnessError("the test set holds no question")
    ngrams = Ngrams([f.question for f in findings], sizes)
    same: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, f in enumerate(findings):
        same[_asked(tokens(f.question))].append(i)
    long = [len(tokens(f.question)) >= ASKED for f in findings]
    documents = {row.document: _named(row) for row in test if row.document.strip()}
    named = [*documents.values()]
    pages = Ngrams([*documents], sizes)
    closest = [(0.0, "")] * len(documents)
    asked: dict[str, str] = {}
    topics: set[bytes] = set()
    count = unnamed = 0
    for row in tqdm(train, unit="row", desc="training rows", disable=not progress):
        count += 1
        questions, texts = [tokens(q) for q in row.questions], [tokens(t) for t in row.texts]
        in_questions, found = ngrams.found(questions), ngrams.found(texts)
        for i, hashes in in_questions.items():
            found[i] |= hashes
        for i, share in ngrams.portions(found).items():
            if share > findings[i].overlap:
                findings[i].overlap, findings[i].found_in = share, row.where
        again = [i for words in questions for i in same.get(_asked(words), ())]
        again += [i for i, share in ngrams.portions(in_questions).items() if share >= 1 and long[i]]
        for i in again:
            findings[i].duplicate = findings[i].duplicate or row.where or "a training row"
        if embedding:
            asked |= {question: row.where for question in row.questions if question not in asked}
        own = len(tokens(row.document)) - max(sizes) + 1
        for page, hashes in pages.found(texts + questions).items():
            if named[page] and _named(row):
                continue  # other topics, said both; what their documents share is their form
            whole = pages.totals[page] if own < ENOUGH else min(pages.totals[page], own)
            closest[page] = max(closest[page], (min(1.0, len(hashes) / whole), row.where), key=lambda at: at[0])
        topics.update(_keys(row))
        unnamed += _nameless(row)
    if embedding and asked:
        _nearest(findings, asked, embedding)
    number = {document: page for page, document in enumerate(documents)}
    for finding, row in zip(findings, rows, strict=True):
        if row.document in number:
            finding.document_overlap, finding.document_in = closest[number[row.document]]
    settings = {"ngram": sizes[0], "ngram_zh": sizes[1], "embedding": embedding}
    return OverlapReport(
        tuple(findings), tuple(_shared(topics, test)), count, unnamed, sum(map(_nameless, test)), settings
    )


def _asked(words: Sequence[str]) -> tuple[str, ...]:
    """A question's tokens without the word "question" that some prompts put first."""
    return tuple(words[1:] if words[:1] == ["question"] else words)


def _named(row: ComparedRow) -> bool:
    return bool(row.topic.strip()) and not NO_TOPIC.fullmatch(row.topic)


def _nameless(row: ComparedRow) -> bool:
    return not row.topic.strip() and not row.document.strip()


def leaks(report: OverlapReport) -> list[str]:
    """Why a training set must not be scored on this test set, a line for each kind: shared topics, shared questions
    (word for word), and shared documents, which have one topic whatever it is called. Empty where nothing is shared."""
    reasons = []
    if report.shared_topics:
        reasons.append(
            f"{len(report.shared_topics)} test topics are in the training set ({_some(report.shared_topics)})"
        )
    if again := [f for f in report.findings if f.duplicate]:
        reasons.append(
            f"{len(again)} test questions are in the training set ({_some([f.question for f in again])} in "
            f"{again[0].duplicate})"
        )
    if pages := [f for f in report.findings if f.document_overlap >= SAME_DOCUMENT]:
        reasons.append(
            f"{len(pages)} test questions have a document that is in the training set "
            f"({_some([f.question for f in pages])}: {pages[0].document_overlap:.0%} in {pages[0].document_in})"
        )
    return reasons


def _some(names: Sequence[str]) -> str:
    return "; ".join(name[:80] for name in names[:3]) + (", …" if len(names) > 3 else "")


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
    worst = [f for f in report.worst() if any(where for _, where in _places(f))][:shown]
    lines = [
        f"{len(report.findings)} test questions against {report.train_rows} training rows: "
        f"{sum(bool(f.duplicate) for f in report.findings)} asked again word for word, "
        f"{sum(f.overlap >= 1 for f in report.findings)} with every n-gram in one training row, "
        f"{sum(f.overlap > 0 for f in report.findings)} with any, "
        f"{sum(f.document_overlap >= SAME_DOCUMENT for f in report.findings)} with a shared document; "
        f"{len(report.shared_topics)} shared topics"
        + (": " + "; ".join(report.shared_topics[:shown]) if report.shared_topics else "")
    ]
    lines += [f"warning: {why}" for why in _unnamed(report)]
    for f in worst:
        near = "" if f.similarity is None else f"  cosine {f.similarity:.3f}"
        lines.append(f"{f.overlap:5.2f}{near}  {f.question[:80]}")
        for what, where in _places(f):
            if where and not (what == "n-grams in" and f.duplicate == where):
                lines.append(f"         {what} {where[:140]}")
    return "\n".join(lines)


def _places(f: Finding) -> list[tuple[str, str]]:
    document = f"{f.document_overlap:.0%} of its document in"
    found = [("same as", f.duplicate), ("n-grams in", f.found_in), ("nearest", f.near)]
    return [*found, (document, f.document_in if f.document_overlap >= SAME_DOCUMENT else "")]


def _unnamed(report: OverlapReport) -> list[str]:
    sides = ("training", report.unnamed_train), ("test", report.unnamed_test)
    return [f"{n} {side} rows name no topic or document, so shared topics may be missed" for side, n in sides if n]


def exceeds(report: OverlapReport, overlap: float | None, similarity: float | None, topics: bool) -> list[str]:
    """Why the command fails: one line each for n-grams and duplicates above `overlap` (a duplicate counts as 1),
    cosines above `similarity`; and where shared topics are forbidden, for `leaks` and for rows without topic and
    document."""
    reasons = []
    if overlap is not None and (n := sum(max(f.overlap, bool(f.duplicate)) > overlap for f in report.findings)):
        reasons.append(f"{n} test questions share more than {overlap:g} of their n-grams with a training row")
    if similarity is not None and (n := sum((f.similarity or 0.0) > similarity for f in report.findings)):
        reasons.append(f"{n} test questions are nearer than cosine {similarity:g} to a training question")
    if topics:
        reasons += leaks(report) + _unnamed(report)
    return reasons


def contamination(
    *,
    train: Annotated[list[str], Several],
    test: Annotated[list[str], Several],
    ngram: int = NGRAM,
    ngram_zh: int = NGRAM,
    embedding: str | None = None,
    metadata: Options | None = None,
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
    metadata
        JSON object of settings of a task, as lm_eval's: {"data": "question_document.jsonl"}.
    fail_above
        Exit with 1 for n-gram overlap above this share.
    fail_above_cosine
        Exit with 1 for a similarity above it.
    fail_on_topics
        Exit with 1 where a test topic, question or document is in the training set, or a row names neither.
    show
        Questions in the table.
    out
        Write all findings as JSON, with their manifest.
    """
    if out and out.is_dir():
        raise HarnessError(f"--out {out}: is a folder; name a file")
    if fail_above_cosine is not None and not embedding:
        raise HarnessError("--fail-above-cosine needs an --embedding")
    test_rows = [row for source in test for row in read_rows(source, metadata)]
    train_rows = (row for source in train for row in read_rows(source, metadata))
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
