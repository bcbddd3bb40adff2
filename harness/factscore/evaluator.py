"""From responses to facts with verdicts, everything in batches over all responses together.

One batch takes all sentences apart, then the facts of all responses are retrieved for and verified, grouped
by topic. Answers are in the engines' cache the moment they arrive, so a run that was stopped goes on where it
was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from tqdm import tqdm

from factuality_harness.harness.annotation import Sentence
from factuality_harness.harness.annotators.spec import JudgeSpec, engines_of, split_options
from factuality_harness.harness.dry_run import DryRun
from factuality_harness.harness.engines import AnswerCache, check_engine, open_engine
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.factscore.abstain import DETECTORS, abstains
from factuality_harness.harness.factscore.annotator import FactVerifier
from factuality_harness.harness.factscore.facts import Extraction, FactExtractor, load_demonstrations
from factuality_harness.harness.factscore.knowledge import (
    Knowledge,
    Passage,
    missing_error,
    missing_titles,
    open_knowledge,
)
from factuality_harness.harness.factscore.retrieval import PASSAGES, BM25Retriever, Retriever, open_retriever, union
from factuality_harness.harness.factscore.scored import Fact, ScoredResponse, SentenceFacts, TopicResponse
from factuality_harness.harness.factscore.verify import AnnotatorVerifier, Query, Verdict, Verifier
from factuality_harness.harness.sentences import STYLES, Style, language_of, says_something, split
from factuality_harness.harness.thinking import set_thinking_aside

STYLE: Style = "spacy"
"""FActScore's own sentences are met more often by this style (98.9 % of 2 364) than by `anah` (95.9 %)."""
WINDOW = 8192
"""Facts verified together: full batches for any engine, and prompts of only that many in memory."""
Missing = Literal["error", "skip"]
MISSING: tuple[str, ...] = get_args(Missing)
Place = tuple[int, int]
"""Response and sentence number."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An item on its way: its sentences, and whether anything is asked about them. language: the response's own."""

    item: TopicResponse
    language: str
    sentences: tuple[Sentence, ...]
    abstained: bool
    skipped: bool


@dataclass(frozen=True, slots=True)
class _Task:
    """A fact to verify and where it belongs: response, sentence and fact number."""

    place: tuple[int, int, int]
    query: Query
    passages: tuple[int, ...]


class FactScorer:
    """Scores responses: abstention, sentences, facts, retrieval, verdicts.

    Without an extractor every sentence is one fact, and one that an annotator calls `nofact` is none.
    """

    def __init__(
        self,
        verifier: Verifier,
        knowledge: Knowledge,
        retriever: Retriever | None = None,
        extractor: FactExtractor | None = None,
        *,
        abstain_detector: str = "generic",
        style: Style | str = STYLE,
        missing: str = "error",
        window: int = WINDOW,
        progress: bool = True,
    ) -> None:
        """retriever: BM25 by default. missing: `error` stops for topics without a page, `skip` leaves them
        out and counts them. Raises HarnessError for an unknown detector, style or `missing`.
        """
        for name, value, allowed in (
            ("abstain detector", abstain_detector, DETECTORS),
            ("sentence style", style, STYLES),
            ("missing", missing, MISSING),
        ):
            if value not in allowed:
                raise HarnessError(f"{name} {value!r} is not known; use one of: {', '.join(allowed)}")
        self.verifier = verifier
        self.knowledge = knowledge
        self.retriever = retriever if retriever is not None else BM25Retriever()
        self.extractor = extractor
        self.abstain_detector = abstain_detector
        self.style = style
        self.missing = missing
        self.window = window
        self.progress = progress

    @property
    def spec(self) -> str:
        """The judge, as results name it."""
        return self.verifier.spec

    def settings(self) -> dict[str, Any]:
        """What decides the result besides the responses, for the record."""
        return {
            "judge": self.spec,
            "extractor": self.extractor.engine.engine.identity if self.extractor else "none (a sentence is a fact)",
            "knowledge": self.knowledge.name,
            "extractor_args": _extractor_args(self.extractor),
            "demonstrations": self.extractor.demonstrations if self.extractor else "none",
            "retrieval": self.retriever.spec,
            "passages": self.retriever.k,
            **({"passage_tokens": self.verifier.passage_tokens} if self.verifier.whole_responses else {}),
            "reading": self.verifier.reading,
            "abstain_detector": self.abstain_detector,
            "sentence_style": self.style,
        }

    def check(self) -> None:
        """Raise HarnessError now if a model cannot be used."""
        self.verifier.check()
        if self.extractor is not None:
            self.extractor.check()

    def score(self, items: Sequence[TopicResponse]) -> list[ScoredResponse]:
        """One result an item, in order.

        Raises HarnessError for topics without a page (unless `missing` is `skip`) and for another language
        than en or zh, before anything is asked; EngineError when an engine fails as a whole, with the answers
        so far in the cache.
        """
        prepared = self.prepare(items)
        extractions = self._extract(prepared)
        verdicts: dict[tuple[int, int, int], tuple[Verdict, tuple[int, ...]]] = {}
        tasks = self.tasks(prepared, extractions)
        total = sum(len(e.facts or ()) for e in extractions.values())
        with tqdm(total=total, unit="fact", desc=f"verify {self.spec}", disable=not self.progress) as bar:
            for part in _chunks(tasks, self.window, whole=self.verifier.whole_responses):
                for task, verdict in zip(part, self.verifier.verify([t.query for t in part], bar.update), strict=True):
                    verdicts[task.place] = verdict, task.passages
        return [self._result(i, p, extractions, verdicts) for i, p in enumerate(prepared)]

    def prepare(self, items: Sequence[TopicResponse]) -> list[Prepared]:
        """Find abstentions and missing pages, split the sentences. Asks no model."""
        missing = set(missing_titles(self.knowledge, (item.topic for item in items)))
        if missing and self.missing == "error":
            raise missing_error(self.knowledge, [t for t in dict.fromkeys(i.topic for i in items) if t in missing])
        return [
            Prepared(
                item=item,
                language=(language := language_of(item.response, item.language)),
                sentences=tuple(split(item.response, language, self.style)),
                abstained=abstains(item.response, self.abstain_detector),
                skipped=item.topic in missing,
            )
            for item in (replace(item, response=set_thinking_aside(item.response).text) for item in items)
        ]

    def sentences(self, prepared: Sequence[Prepared]) -> dict[Place, tuple[str, str]]:
        """The sentences to take apart: (response, sentence number) -> (text without layout marks, language)."""
        return {
            (i, j): (sentence.plain, p.language)
            for i, p in enumerate(prepared)
            if not p.abstained and not p.skipped
            for j, sentence in enumerate(p.sentences)
            if says_something(sentence.text)
        }

    def _extract(self, prepared: Sequence[Prepared]) -> dict[Place, Extraction]:
        sentences = self.sentences(prepared)
        if self.extractor is None:
            return {place: Extraction((text,)) for place, (text, _) in sentences.items()}
        name = f"facts {self.extractor.engine.engine.identity}"
        with tqdm(total=len(sentences), unit="sentence", desc=name, disable=not self.progress) as bar:
            results = self.extractor.extract(list(sentences.values()), bar.update)
        return dict(zip(sentences, results, strict=True))

    def tasks(self, prepared: Sequence[Prepared], extractions: dict[Place, Extraction]) -> Iterator[_Task]:
        """The facts with their passages, topic by topic.

        Within a topic those with the same passages follow each other, so that an engine with prefix caching
        reads them once. For a verifier that wants whole responses those of a response do, and share their passages.
        """
        topics: dict[str, list[tuple[tuple[int, int, int], str]]] = defaultdict(list)
        for (i, j), extraction in extractions.items():
            for k, text in enumerate(extraction.facts or ()):
                topics[prepared[i].item.topic].append(((i, j, k), text))
        for topic, facts in topics.items():
            page: Sequence[Passage] = self.knowledge.passages(topic)
            ranks = self.retriever.rank(topic, page, [text for _, text in facts])
            found = list(zip(facts, ranks, strict=True))
            if self.verifier.whole_responses:
                of_response: dict[int, list[tuple[int, ...]]] = defaultdict(list)
                for (place, _), rank in found:
                    of_response[place[0]].append(rank)
                shared = {i: union(of_one, page, self.verifier.passage_tokens) for i, of_one in of_response.items()}
                found = sorted((fact, shared[fact[0][0]]) for fact, _ in found)
            else:
                found.sort(key=lambda pair: pair[1][::-1])
            for (place, text), rank in found:
                item = prepared[place[0]].item
                query = Query(topic, item.question, text, item.language, tuple(page[n] for n in rank), place[0])
                yield _Task(place, query, rank)

    def _result(
        self,
        index: int,
        prepared: Prepared,
        extractions: dict[Place, Extraction],
        verdicts: dict[tuple[int, int, int], tuple[Verdict, tuple[int, ...]]],
    ) -> ScoredResponse:
        sentences = []
        for j, s in enumerate(prepared.sentences):
            if prepared.skipped:
                row = SentenceFacts(s.text, s.start, s.end, (), False, "the topic has no page")
            elif prepared.abstained:
                row = SentenceFacts(s.text, s.start, s.end, detail="the response abstains")
            else:
                extraction = extractions.get((index, j), Extraction(()))
                facts = []
                for k, text in enumerate(extraction.facts or ()):
                    verdict, passages = verdicts[index, j, k]
                    if self.extractor is None and not verdict.checkable:
                        continue
                    facts.append(Fact(text, verdict.supported, verdict.undecided, passages, verdict.detail))
                row = SentenceFacts(
                    s.text, s.start, s.end, tuple(facts), extraction.facts is not None, extraction.detail
                )
            sentences.append(row)
        return ScoredResponse(
            topic=prepared.item.topic,
            question=prepared.item.question,
            response=prepared.item.response,
            language=prepared.item.language,
            judge=self.spec,
            abstained=prepared.abstained,
            skipped=prepared.skipped,
            sentences=tuple(sentences),
            answer_language="" if prepared.language == prepared.item.language else prepared.language,
        )


def _extractor_args(extractor: FactExtractor | None) -> dict[str, Any]:
    """The extractor's options that are not at their default, and what decides its engine's answers."""
    if extractor is None:
        return {}
    return extractor.options.model_dump(exclude_defaults=True) | extractor.engine.engine.settings


def _chunks(tasks: Iterator[_Task], size: int, *, whole: bool) -> Iterator[list[_Task]]:
    """Parts of about `size` tasks; whole: none of them ends inside a response."""
    part: list[_Task] = []
    for task in tasks:
        if len(part) >= size and not (whole and task.place[0] == part[-1].place[0]):
            yield part
            part = []
        part.append(task)
    if part:
        yield part


def open_scorer(
    judge: str,
    knowledge: Knowledge | str | Path,
    *,
    retrieval: str = "bm25",
    k: int = PASSAGES,
    demos: str | Path | None = None,
    extractor: str | None = None,
    extractor_args: dict[str, Any] | None = None,
    store: AnswerCache | None = None,
    options: dict[str, Any] | None = None,
    dry: DryRun | None = None,
    **settings: Any,
) -> FactScorer:
    """FactScorer from strings.

    judge: `factscore@ENGINE:TARGET` (the model takes sentences apart and verifies; `factscore_sheet@…` verifies all
    facts of a response in one request), or any judge of
    `harness.annotators`, such as `lexical`, which then verifies whole sentences. extractor: an engine
    `ENGINE:TARGET` that takes sentences apart in its place. extractor_args: `ExtractorOptions` and options of its
    engine; where `extractor` names none, they change the judge's. knowledge: see `open_knowledge`. demos: see
    `load_demonstrations`. store: the answer cache, by default the common one. options: the judge's and its engine's
    (concurrency, batch_size, …). dry: count what would be asked, there, and ask nothing. settings: those of FactScorer.
    Raises HarnessError for whatever is misspelt or missing.
    """
    spec = JudgeSpec.parse(judge)
    annotator = spec.open(options, store, facts=True, dry=dry)
    verifier: Verifier
    engine = None
    if isinstance(annotator, FactVerifier):
        verifier, engine = annotator.verifier, annotator.verifier.engine
    else:
        verifier = AnnotatorVerifier(annotator)
    kind = (extractor or (spec.engine if engine else "")).partition(":")[0]
    if kind:
        check_engine(extractor or f"{spec.engine}:{spec.target}")
    own, of_engine = split_options(FactExtractor, kind, extractor_args, "extractor_args")
    if extractor is not None:
        engine = open_engine(
            extractor, store, judge=spec.name, **{"cache": (options or {}).get("cache", True), **of_engine}
        )
    elif extractor_args and engine is None:
        raise HarnessError(
            f"extractor_args need a model that extracts facts; judge {judge!r} has none: name an extractor"
        )
    elif of_engine:
        _, of_judge = split_options(type(annotator), spec.engine, options, "judge_args")
        engine = open_engine(f"{spec.engine}:{spec.target}", store, judge=spec.name, **{**of_judge, **of_engine})
    if engine is not None and dry is not None:
        engine = dry.engine(engine, "extraction")
    # An engine that makes a run wait gets the whole run at once.
    settings = {"window": max([WINDOW, *(e.wave(WINDOW) for e in engines_of(verifier))]), **settings}
    demonstrations = load_demonstrations(demos) if demos is not None else None
    if demonstrations is not None and engine is None:
        raise HarnessError(f"demonstrations need a model that extracts facts; judge {judge!r} has none")
    return FactScorer(
        verifier,
        open_knowledge(knowledge) if isinstance(knowledge, str | Path) else knowledge,
        open_retriever(retrieval, k),
        FactExtractor(engine, demonstrations, **own) if engine is not None else None,
        **settings,
    )
