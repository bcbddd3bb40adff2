"""Human labels of sentences and facts: what a judge is measured against.

Three sources: ANAH's human annotations (tagged strings, one a sentence, English and Chinese), FActScore's labelled
biographies, and JSONL with a row a sentence:

    {"question", "sentence" or "response" with "span": [start, end], "document", "language", "label",
     "topic"?, "frequency"?, "evidence"?: text or list of texts}

Labels are the harness's own (ok, contradictory, unverifiable, nofact) or FActScore's (S, NS, IR), one kind a file.
What cannot be read as a label is kept with its place and its reason, and counted; it is never dropped in silence.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from factuality_harness.harness.annotation import Label
from factuality_harness.harness.annotators.base import Claim
from factuality_harness.harness.data import anah
from factuality_harness.harness.data.biographies import FACT_LABELS, LabelledBiography, LabelledSentence, load_labelled
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.factscore.knowledge import Knowledge, open_knowledge
from factuality_harness.harness.factscore.retrieval import Retriever, open_retriever
from factuality_harness.harness.io.jsonl import read_jsonl
from factuality_harness.harness.markup import plain
from factuality_harness.harness.sentences import LANGUAGES, split

TYPES = tuple(label.value for label in Label if label is not Label.UNPARSED)
"""Labels of ANAH: the harness's own without `unparsed`, which no human gives."""
FREQUENCIES = ("very rare", "rare", "medium", "freq", "very freq")
"""FActScore's classes of how often an entity occurs, rarest first."""
ANSWERS = {
    "GPT3.5": ("GPT3.5_answers_D", "human_GPT3.5_answers_D_ann"),
    "InternLM": ("InternLM_answers", "human_InternLM_answers_ann"),
}
"""ANAH's keys of the answers of each model and of their human annotations."""

_TAG = re.compile(r"<\s*(hallucination|reference|correction|no facts?|幻觉|参考|改正|无事实)\s*>", re.IGNORECASE)
_KIND = {"幻觉": "hallucination", "参考": "reference", "改正": "correction", "无事实": "no fact", "no facts": "no fact"}
_TYPE = {
    "none": Label.OK,
    "无": Label.OK,
    "contradictory": Label.CONTRADICTORY,
    "矛盾": Label.CONTRADICTORY,
    "unverifiable": Label.UNVERIFIABLE,
    "无法验证": Label.UNVERIFIABLE,
}
_NO_EVIDENCE = {"", "none", "无", "<no reference information>", "<无参考信息>"}


@dataclass(frozen=True, slots=True)
class LabelledClaim:
    """A sentence or fact with its human label.

    topic: rows of one topic are drawn together in intervals. evidence: passages the human quoted. groups: what the
    agreement is broken down by, besides the language (frequency, region, answers). where: file and row.
    """

    topic: str
    claim: Claim
    label: str
    where: str
    evidence: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Malformed:
    """A human label that cannot be used: file, row and place in the row; why; and the text itself."""

    where: str
    reason: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class HumanLabels:
    """Labelled claims of one source.

    unit: `sentence` or `fact`. files: what was read, for checksums. caveats: what a reader of the numbers must know.
    """

    name: str
    unit: str
    rows: tuple[LabelledClaim, ...]
    malformed: tuple[Malformed, ...] = ()
    files: tuple[Path, ...] = ()
    caveats: tuple[str, ...] = ()

    @property
    def typed(self) -> bool:
        """Whether the labels are ANAH's types; else they are FActScore's."""
        return any(row.label in TYPES[:3] for row in self.rows)

    def of_topics(self, limit: int | None, seed: int = 0) -> HumanLabels:
        """The rows of `limit` topics drawn with `seed`; all of them for None. Raises HarnessError for limit < 1."""
        if limit is None:
            return self
        if limit < 1:
            raise HarnessError(f"{limit} topics: at least one is needed")
        topics = sorted({row.topic for row in self.rows})
        chosen = set(random.Random(seed).sample(topics, min(limit, len(topics))))
        note = f"A sample: {len(chosen)} of {len(topics)} topics, drawn with seed {seed}."
        return replace(self, rows=tuple(r for r in self.rows if r.topic in chosen), caveats=(*self.caveats, note))

    def in_language(self, language: str | None) -> HumanLabels:
        """The rows in one language; all of them for None. Malformed rows stay: they may have none. Raises HarnessError
        for a language that is not supported, and for one without a row."""
        if language is None:
            return self
        if language not in LANGUAGES:
            raise HarnessError(f"language {language!r} is not supported; use one of: {', '.join(LANGUAGES)}")
        rows = tuple(r for r in self.rows if r.claim.language == language)
        if not rows:
            there = ", ".join(sorted({r.claim.language for r in self.rows}))
            raise HarnessError(f"{self.name}: no human label in language {language!r}; there are labels in: {there}")
        return replace(self, rows=rows)


def parse_annotation(text: object) -> tuple[Label, tuple[str, ...]]:
    """Label and quoted passages of an ANAH annotation string.

    It holds one `<Hallucination> None|Contradictory|Unverifiable` (`<幻觉>无|矛盾|无法验证`) or one `<No Fact>`
    (`<无事实>`), and may hold `<Reference>` (`<参考>`, passages separated by `<SEP>`) and `<Correction>` (`<改正>`).
    Raises ValueError saying what is wrong with any other text.
    """
    if not isinstance(text, str):
        raise ValueError(f"{type(text).__name__} instead of an annotation string")
    pieces = _TAG.split(text)
    tags = [_KIND.get(t.casefold(), t.casefold()) for t in pieces[1::2]]
    parts = list(zip(tags, (p.strip() for p in pieces[2::2]), strict=True))
    verdicts = [(tag, body) for tag, body in parts if tag in ("hallucination", "no fact")]
    if len(verdicts) != 1:
        raise ValueError("no label in it" if not verdicts else f"{len(verdicts)} labels in it")
    tag, body = verdicts[0]
    if tag == "no fact":
        return Label.NOFACT, ()
    label = _TYPE.get(body.strip(".。 \n").casefold())
    if label is None:
        raise ValueError(f"hallucination type {body[:40]!r} is not known")
    quoted = (q.strip() for tag, body in parts if tag == "reference" for q in re.split("<SEP>", body, flags=re.I))
    return label, tuple(q for q in quoted if q.casefold() not in _NO_EVIDENCE)


def load_anah(source: str | Path | None = None) -> HumanLabels:
    """ANAH's human annotations: a topic file, a folder of them, or None for $HARNESS_ANAH_DATA and then the hub.

    An answer whose sentences and annotations differ in number is malformed as a whole. Raises HarnessError for a row
    that has no document or another language, and when no annotation in the source can be used.
    """
    given = source or os.environ.get("HARNESS_ANAH_DATA")
    path = Path(given) if given else anah.hub_folder()
    files = sorted(p for p in path.rglob("*") if p.name.endswith((".jsonl", ".jsonl.gz"))) if path.is_dir() else [path]
    rows: list[LabelledClaim] = []
    malformed: list[Malformed] = []
    for file in files:
        for number, row in read_jsonl(file, ["name", "documents", "selected_questions", "language"]):
            for item in _anah_row(row, f"{file.name}, row {number}"):
                (rows if isinstance(item, LabelledClaim) else malformed).append(item)  # type: ignore[arg-type]
    labels = HumanLabels("ANAH human annotations", "sentence", tuple(rows), tuple(malformed), tuple(files))
    return _usable(labels, path)


def _anah_row(row: Mapping[str, Any], where: str) -> Iterator[LabelledClaim | Malformed]:
    language, documents = row["language"], row["documents"]
    if language not in LANGUAGES:
        raise HarnessError(f"{where}: language is {language!r}; only {' and '.join(LANGUAGES)} are supported")
    document = documents if isinstance(documents, str) else "\n".join(d for d in documents or () if isinstance(d, str))
    if not document.strip():
        raise HarnessError(f"{where}: no reference document in `documents`; drop the row or add one")
    questions = row["selected_questions"]
    for model, (answers_key, annotations_key) in ANSWERS.items():
        answers, annotations = row.get(answers_key), row.get(annotations_key)
        if annotations is None:
            continue  # answers of this model were not annotated
        lists = (questions, answers, annotations)
        if not all(isinstance(x, list) for x in lists) or len({len(x) for x in lists}) != 1:  # type: ignore[arg-type]
            yield Malformed(f"{where}, {annotations_key}", "not one list of annotations for each question and answer")
            continue
        for i, (question, answer, tagged) in enumerate(zip(questions, answers, annotations, strict=True), 1):  # type: ignore[arg-type]
            place = f"{where}, {annotations_key}, answer {i}"
            if not isinstance(question, str) or not isinstance(answer, str) or not isinstance(tagged, list):
                yield Malformed(place, "question or answer is not text, or its annotations are not a list")
                continue
            # The annotators' sentences are those of the reference's splitter, with or without a cut after a colon.
            sentences = next(
                (s for keep in (False, True) if len(s := split(answer, language, keep_colon=keep)) == len(tagged)), None
            )
            if sentences is None:
                found = len(split(answer, language))
                yield Malformed(place, f"{len(tagged)} annotations for {found} sentences", answer)
                continue
            for j, (sentence, text) in enumerate(zip(sentences, tagged, strict=True), 1):
                try:
                    label, evidence = parse_annotation(text)
                except ValueError as error:
                    yield Malformed(f"{place}, sentence {j}", str(error), str(text))
                    continue
                claim = Claim(question.strip(), sentence.plain, document, language)
                topic = f"{row['name']} ({language})"
                yield LabelledClaim(topic, claim, label.value, f"{place}, sentence {j}", evidence, {"answers": model})


def load_rows(path: str | Path) -> HumanLabels:
    """JSONL of human labels (see the module's text). A row whose label is not known is malformed.

    Raises HarnessError naming file and row for a row without question, sentence, document or language, and for a file
    that mixes ANAH's labels with FActScore's.
    """
    path = Path(path)
    rows: list[LabelledClaim] = []
    malformed: list[Malformed] = []
    for number, row in read_jsonl(path, ["question", "document", "language", "label"]):
        where = f"{path.name}, row {number}"
        question, sentence, document = row["question"], _sentence(row, where), row["document"]
        if not all(isinstance(t, str) and t.strip() for t in (question, sentence, document)):
            raise HarnessError(f"{where}: question, sentence and document must be text, and not empty")
        if row["language"] not in LANGUAGES:
            raise HarnessError(f"{where}: language is {row['language']!r}; use one of: {', '.join(LANGUAGES)}")
        label, evidence = row["label"], row.get("evidence") or []
        evidence = [evidence] if isinstance(evidence, str) else evidence
        if not isinstance(evidence, list) or not all(isinstance(e, str) for e in evidence):
            raise HarnessError(f"{where}: evidence must be text or a list of texts, not {str(row['evidence'])[:60]}")
        if label not in (*TYPES, *FACT_LABELS):
            known = ", ".join((*TYPES, *FACT_LABELS))
            malformed.append(Malformed(where, f"label {label!r} is none of: {known}", sentence))
            continue
        groups = {"frequency": row["frequency"]} if isinstance(row.get("frequency"), str) else {}
        rows.append(
            LabelledClaim(
                topic=str(row.get("topic") or question),
                claim=Claim(question, plain(sentence) or sentence, document, row["language"]),
                label=label,
                where=where,
                evidence=tuple(evidence),
                groups=groups,
            )
        )
    if {r.label for r in rows} & set(TYPES[:3]) and {r.label for r in rows} & set(FACT_LABELS):
        raise HarnessError(f"{path}: labels of two kinds; use {', '.join(TYPES)}, or {', '.join(FACT_LABELS)}")
    return _usable(HumanLabels(path.name, "sentence", tuple(rows), tuple(malformed), (path,)), path)


def _sentence(row: Mapping[str, Any], where: str) -> Any:
    if "sentence" in row:
        return row["sentence"]
    response, span = row.get("response"), row.get("span")
    match span:
        case [int(start), int(end)] if isinstance(response, str) and 0 <= start < end <= len(response):
            return response[start:end]
    raise HarnessError(f"{where}: give `sentence`, or `response` with its `span` [start, end] in characters")


def load_biographies(
    folder: str | Path, unit: str = "fact", knowledge: str | Path | None = None, *, k: int = 5
) -> HumanLabels:
    """FActScore's labelled biographies: every JSONL file of `folder` holds the answers of one system.

    unit: `fact`, with its label S, NS or IR; or `sentence`: NS if it holds an NS fact, else S if it holds an S fact,
    else IR, and `nofact` where the labellers called it irrelevant or wrote no fact down.
    knowledge: pages to check against (any source of `harness.factscore.knowledge`), of which the `k` passages that bear
    most on a unit are its document. Without it, the facts about the topic that the humans found supported in the
    OTHER systems' answers. The caveats say how many answers are used, and why the rest is not.
    """
    if unit not in ("fact", "sentence"):
        raise HarnessError(f"unit {unit!r} is not known; use fact or sentence")
    files = sorted(Path(folder).glob("*.jsonl"))
    if not files or (knowledge is None and len(files) < 2):
        raise HarnessError(f"{folder}: holds {len(files)} .jsonl files; give a knowledge source, or two systems' files")
    systems = {file.stem: load_labelled(file) for file in files}
    rows: list[LabelledClaim] = []
    malformed: list[Malformed] = []
    bare = without = 0
    pages, retriever = (None, None) if knowledge is None else (open_knowledge(knowledge), open_retriever("bm25", k))
    for file in files:
        read = systems[file.stem]
        malformed += [Malformed(file.name, "a fact without text or with an unknown label")] * read.bad_facts
        malformed += [Malformed(file.name, "a relevant sentence without human facts")] * read.without_facts
        others = [s.rows for name, s in systems.items() if name != file.stem]
        for number, answer in enumerate(read.rows, 1):
            units = _units(answer, unit)
            if pages is not None and retriever is not None:
                documents = _passages(pages, retriever, answer.topic, [text for text, _ in units])
            else:
                documents = [_supported(others, answer.topic)] * len(units)
            if not units:
                bare += 1
                continue
            if not documents[0]:
                without += 1
                continue
            groups = {"answers": file.stem} | {
                "frequency" if c in FREQUENCIES else "region": c for c in answer.categories
            }
            for j, ((text, label), document) in enumerate(zip(units, documents, strict=True), 1):
                claim = Claim(answer.question, plain(text) or text, document, "en")
                where = f"{file.name}, row {number}, {unit} {j}"
                rows.append(LabelledClaim(answer.topic, claim, label, where, (), groups))
    caveats = []
    if knowledge is None:
        caveats.append(
            "No encyclopedia at hand: each answer was checked against the facts that humans found supported in the "
            "other systems' answers on the same topic. A true fact that the other systems did not mention cannot be "
            "confirmed, so sensitivity is a lower bound of what the judge reaches with a full reference."
        )
    total = sum(len(read.rows) for read in systems.values())
    why = [f"{bare} hold no labelled {unit} (abstentions among them)"] * bool(bare)
    why += [f"{without} have nothing to be checked against"] * bool(without)
    caveats.append(f"{total - bare - without} of {total} answers are used" + ": " * bool(why) + ", ".join(why) + ".")
    caveats.append("The labels, and the texts they are of, are FActScore's (Min et al., EMNLP 2023; MIT licence).")
    name = f"FActScore biographies ({', '.join(systems)})"
    return _usable(HumanLabels(name, unit, tuple(rows), tuple(malformed), tuple(files), tuple(caveats)), folder)


def _units(answer: LabelledBiography, unit: str) -> list[tuple[str, str]]:
    """(text, human label) of an answer's facts or sentences."""
    if unit == "fact":
        return [(fact.text, fact.label) for fact in answer.facts]
    return [(s.text, _sentence_label(s)) for s in answer.sentences or () if not (s.relevant and s.human_facts is None)]


def _sentence_label(sentence: LabelledSentence) -> str:
    labels = {fact.label for fact in sentence.human_facts or ()}
    return next((label for label in ("NS", "S", "IR") if label in labels), Label.NOFACT.value)


def _supported(systems: Iterable[Iterable[LabelledBiography]], topic: str) -> str:
    facts = (f.text for rows in systems for row in rows if row.topic == topic for f in row.facts if f.label == "S")
    return "\n".join(facts)


def _passages(pages: Knowledge, retriever: Retriever, topic: str, texts: Sequence[str]) -> list[str]:
    """The passages that bear most on each text, in the order of the page; "" where the topic has no page."""
    page = pages.passages(topic)
    if not page:
        return [""] * len(texts)
    return ["\n\n".join(page[i].text for i in sorted(best)) for best in retriever.rank(topic, page, texts)]


def _usable(labels: HumanLabels, source: object) -> HumanLabels:
    if labels.rows:
        return labels
    first = f" The first: {labels.malformed[0].where}: {labels.malformed[0].reason}." if labels.malformed else ""
    raise HarnessError(f"{source}: no usable human label in it; {len(labels.malformed)} are malformed.{first}")
