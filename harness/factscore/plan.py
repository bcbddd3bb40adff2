"""What a FActScore run would ask and cost, without asking anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from factuality_harness.harness.engines import CachedEngine, Conversation, Reply, Sampling
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.factscore.evaluator import FactScorer, Place
from factuality_harness.harness.factscore.facts import Extraction, FactExtractor, facts_of
from factuality_harness.harness.factscore.scored import TopicResponse
from factuality_harness.harness.factscore.sheet import SheetVerifier
from factuality_harness.harness.factscore.verify import AnnotatorVerifier, ModelVerifier, Query

FACTS_PER_SENTENCE = 4.3
"""Facts a sentence, for sentences whose facts are not known yet: human-written facts in FActScore's labelled
answers (10 152 in 2 364 sentences)."""
FACT_TOKENS = 12
"""Tokens of one fact line, by its mean length there (40 characters, and the dash)."""
VERDICT_TOKENS = 2
LINE_TOKENS = 7
"""Tokens of one entry of a sheet, as JSON."""
_CHARACTERS_PER_TOKEN = {"en": 4.0, "zh": 1.0}

Count = Callable[[Conversation, str], float]


@dataclass(frozen=True, slots=True)
class Calls:
    """Requests to one model: all, those the cache answers, and the different prompts left to ask.

    estimated: `total` and `to_ask` are an estimate. input_tokens: of the prompts to ask; None where they are
    not known.
    """

    total: int = 0
    cached: int = 0
    to_ask: int = 0
    estimated: bool = False
    input_tokens: int | None = 0
    output_tokens: int | None = 0


@dataclass(frozen=True, slots=True)
class CallPlan:
    """Numbers of a dry run; `notes` say how each estimate was made.

    extraction: a request is a sentence (second tries after an unusable answer are not foreseen).
    verification: a request is a fact.
    """

    responses: int
    abstained: int
    skipped: int
    sentences: int
    extraction: Calls
    verification: Calls
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def token_counter(tokenizer: str | None) -> tuple[Count, str]:
    """A function (conversation, language) -> input tokens, and a note on how it counts.

    With the name of a Hugging Face tokenizer that one counts, chat template included where it has one.
    Without, four English characters or one Chinese character are a token. Raises HarnessError when the
    tokenizer cannot be loaded.
    """
    if tokenizer is None:

        def estimate(conversation: Conversation, language: str) -> float:
            return sum(len(m["content"]) for m in conversation) / _CHARACTERS_PER_TOKEN[language]

        return estimate, "input tokens are an estimate: characters / 4 (en), characters (zh)"
    from transformers import AutoTokenizer

    try:
        loaded: Any = AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError) as error:
        raise HarnessError(f"tokenizer {tokenizer!r} cannot be loaded: {error}") from error

    def count(conversation: Conversation, language: str) -> float:
        if loaded.chat_template is None:
            text = "\n".join(m["content"] for m in conversation)
        else:
            text = loaded.apply_chat_template(list(conversation), tokenize=False, add_generation_prompt=True)
        return len(loaded(text, add_special_tokens=False, verbose=False)["input_ids"])

    return count, f"input tokens are counted with the tokenizer {tokenizer}"


def plan_calls(scorer: FactScorer, items: Sequence[TopicResponse], *, tokenizer: str | None = None) -> CallPlan:
    """Count what `scorer.score(items)` would ask, asking nothing. Raises what `FactScorer.prepare` raises.

    Extraction is counted exactly. Verification is exact as far as the extractions are in the cache (or none
    is needed); for the other sentences it is estimated by FACTS_PER_SENTENCE.
    """
    count, note = token_counter(tokenizer)
    prepared = scorer.prepare(items)
    sentences = scorer.sentences(prepared)
    known, extraction = _extraction(scorer.extractor, sentences, count)
    # The sentence stands in for its unknown facts: it retrieves much the same passages, most of the prompt.
    guesses = {place: Extraction((text,)) for place, (text, _) in sentences.items() if place not in known}
    verifier = scorer.verifier
    notes = [note]
    if isinstance(verifier, SheetVerifier):
        verification = _sheets(
            verifier, [t.query for t in scorer.tasks(prepared, known | guesses)], len(guesses), count
        )
        notes.append("one request a response; second tries of single facts are not counted")
    exact = (task.query for task in scorer.tasks(prepared, known))
    guessed = (task.query for task in scorer.tasks(prepared, guesses))
    if isinstance(verifier, ModelVerifier):
        verification = _requests(
            verifier.engine, verifier.sampling, ((verifier.conversation(q), q.language) for q in exact), count
        )
        guessed_tokens = sum(count(verifier.conversation(q), q.language) for q in guessed)
        verification = _add_guess(verification, len(guesses), guessed_tokens)
    elif not isinstance(verifier, SheetVerifier):
        facts = sum(len(e.facts or ()) for e in known.values())
        verification = _add_guess(Calls(facts, 0, facts), len(guesses), 0)
        if isinstance(verifier, AnnotatorVerifier) and getattr(verifier.annotator, "engine", None) is not None:
            verification = _without_tokens(verification)
            notes.append(f"tokens and cached answers of {verifier.spec} are not known: its prompts are its own")
        else:
            verification = Calls(verification.total, 0, verification.to_ask, verification.estimated)
            notes.append(f"the judge {verifier.spec} asks no model")
    if verification.estimated:
        notes.append(
            f"verification is an estimate for {len(guesses)} sentences: {FACTS_PER_SENTENCE} facts each "
            "(the mean of FActScore's human labels)"
        )
    if scorer.extractor is not None or isinstance(verifier, ModelVerifier | SheetVerifier):
        notes.append(
            f"output tokens are an estimate: {FACT_TOKENS} a fact, {VERDICT_TOKENS} a verdict; "
            "second tries of extraction are not counted"
        )
    return CallPlan(
        responses=len(items),
        abstained=sum(p.abstained and not p.skipped for p in prepared),
        skipped=sum(p.skipped for p in prepared),
        sentences=len(sentences),
        extraction=extraction,
        verification=verification,
        notes=tuple(notes),
    )


def _requests(
    engine: CachedEngine,
    sampling: Sampling,
    conversations: Iterable[tuple[Conversation, str]],
    count: Count,
    output_tokens: float = VERDICT_TOKENS,
) -> Calls:
    """Counts of the `(conversation, language)` pairs; only their keys are held."""
    total = cached = 0
    tokens = 0.0
    asked: set[bytes] = set()
    for conversation, language in conversations:
        total += 1
        key = engine.key(conversation, sampling)
        if engine.cached([key]):
            cached += 1
        elif key not in asked:
            asked.add(key)
            tokens += count(conversation, language)
    return Calls(total, cached, len(asked), False, round(tokens), round(len(asked) * output_tokens))


def _sheets(verifier: SheetVerifier, queries: Sequence[Query], guesses: int, count: Count) -> Calls:
    """Counts of the requests on whole responses. guesses: sentences that stand in for their unknown facts."""
    asker = verifier.asker()
    sheets = [sheet for sheet, _ in verifier.requests(queries)]
    pairs = [(asker.conversation(sheet), sheet) for sheet in sheets]
    keys = {
        verifier.engine.key(conversation, asker.sampling(sheet)): (conversation, sheet) for conversation, sheet in pairs
    }
    cached = verifier.engine.cached([*keys])
    left = [pair for key, pair in keys.items() if key not in cached]
    extra = guesses * (FACTS_PER_SENTENCE - 1)
    tokens = sum(count(conversation, sheet.language) for conversation, sheet in left) + extra * FACT_TOKENS
    facts = len(queries) + extra
    return Calls(
        total=len(sheets),
        cached=len(sheets) - len(left),
        to_ask=len(left),
        estimated=guesses > 0,
        input_tokens=round(tokens),
        output_tokens=round(facts * LINE_TOKENS) if left else 0,
    )


def _add_guess(calls: Calls, sentences: int, tokens: float) -> Calls:
    """`calls` with the estimate for sentences of unknown facts; tokens: of one prompt for each of them."""
    facts = round(sentences * FACTS_PER_SENTENCE)
    return Calls(
        total=calls.total + facts,
        cached=calls.cached,
        to_ask=calls.to_ask + facts,
        estimated=sentences > 0,
        input_tokens=(calls.input_tokens or 0) + round(tokens * FACTS_PER_SENTENCE),
        output_tokens=(calls.output_tokens or 0) + facts * VERDICT_TOKENS,
    )


def _without_tokens(calls: Calls) -> Calls:
    return Calls(calls.total, calls.cached, calls.to_ask, calls.estimated, None, None)


def _extraction(
    extractor: FactExtractor | None, sentences: dict[Place, tuple[str, str]], count: Count
) -> tuple[dict[Place, Extraction], Calls]:
    """The extractions that are known without asking, by place, and the counts of all."""
    if extractor is None:
        return {place: Extraction((text,)) for place, (text, _) in sentences.items()}, Calls()
    known: dict[Place, Extraction] = {}
    for place, (text, language) in sentences.items():
        extraction = _known(extractor, text, language)
        if extraction is not None:
            known[place] = extraction
    calls = _requests(
        extractor.engine,
        extractor.sampling,
        ((extractor.conversation(*sentence), sentence[1]) for sentence in sentences.values()),
        count,
        FACTS_PER_SENTENCE * FACT_TOKENS,
    )
    return known, calls


def _known(extractor: FactExtractor, text: str, language: str) -> Extraction | None:
    """What extraction gives where the cache holds it; else None."""

    key = extractor.engine.key(extractor.conversation(text, language), extractor.sampling)
    answer = extractor.engine.cached([key]).get(key)
    facts = None if answer is None else facts_of(Reply(answer))
    return None if facts is None else Extraction(facts)
