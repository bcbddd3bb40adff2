"""Atomic facts of sentences, by a language model and a few demonstrations.

A sentence is shown after eight demonstrations: the first seven of the list, always the same, and the one of
the others nearest by BM25. They are chat turns (sentence as user, facts as assistant), not one long user
message: an instruct model continues its own turns in their format, where after a single message it tends to
add a preamble and remarks, and the seven fixed turns are a prefix all calls share, which an engine with
prefix caching reads once.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from pydantic import NonNegativeInt, PositiveInt

from factuality_harness.harness.annotators.base import Progress
from factuality_harness.harness.annotators.reading import spoken
from factuality_harness.harness.annotators.watch import FailureWatch, tried
from factuality_harness.harness.engines import CachedEngine, Message, Reply, Sampling, opening
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.factscore.retrieval import BM25Index
from factuality_harness.harness.io.jsonl import open_text, read_jsonl
from factuality_harness.harness.prompts import prompt
from factuality_harness.harness.sentences import LANGUAGES
from factuality_harness.harness.settings import Settings, read_settings

FIXED = 7
_ECHO = 200  # characters of an answer kept in an error
FACTS_PER_SENTENCE = 4.3
"""Human-written facts a sentence in FActScore's labelled answers (10 152 in 2 364 sentences)."""
FACT_CHARACTERS = 36
"""Of a fact there (40, with the number before it)."""
TRIAL = "Paris is the capital of France."  # what an extractor is tried on before a run
_NUMBER = r"(?:\d+|[０-９]+|[a-zA-Z]|[ivxIVX]{1,5}|[一二三四五六七八九十]{1,3})"
_ITEM = re.compile(
    r"^\s*(?:>\s*)?(?:\*\*|__)?\s*(?:"
    r"[-+•‣▪▫◦●○■□◆◇➤►▸·・–—*](?!\*)\s*"
    rf"|[(\[（【［]\s*{_NUMBER}\s*[)\]）】］][.:、]?\s*"
    rf"|{_NUMBER}\s*[.)、．）:：](?!\d)\s*"
    r"|[①-⑳⑴-⒛Ⓐ-ⓩ❶-❿㈠-㈩]\s*"
    rf"|(?:atomic\s+)?fact\s*{_NUMBER}?\s*[:.：)]\s*|事实\s*{_NUMBER}?\s*[:：.、]\s*"
    r")(?:\*\*|__)?\s*(?P<fact>\S.*?)\s*$",
    re.IGNORECASE,
)
_NONE = re.compile(r"^\W*(?:no\s+(?:atomic\s+|checkable\s+)?facts?|无事实|没有事实|无可核查的?事实)\W*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A sentence taken apart; no facts where it states nothing that could be checked."""

    sentence: str
    facts: tuple[str, ...]


class Demonstrations:
    """Demonstrations that give each sentence its own: the first seven, then the nearest of the others."""

    def __init__(self, examples: Sequence[Demonstration], fixed: int = FIXED, *, name: str = "") -> None:
        """name: tells them apart in records."""
        self.name = name
        self.examples = tuple(examples)
        self._fixed = self.examples[:fixed]
        self._others = self.examples[fixed:]
        self._index = BM25Index([d.sentence for d in self._others])
        self.choose = lru_cache(maxsize=4096)(self._choose)

    def _choose(self, sentence: str) -> tuple[Demonstration, ...]:
        """The demonstrations for `sentence`, in the order they are shown."""
        return self._fixed + tuple(self._others[i] for i in self._index.best(sentence, 1))


def load_demonstrations(path: str | Path) -> Demonstrations:
    """Demonstrations from FActScore's format (a JSON object, sentence -> facts) or JSONL `sentence`, `facts`.

    Order is kept: the first seven are the fixed ones. Raises HarnessError for anything else.
    """
    path = Path(path)
    try:
        with open_text(path) as text:
            whole: Any = json.load(text)
    except (json.JSONDecodeError, UnicodeDecodeError):
        whole = None  # more than one JSON value: lines
    if isinstance(whole, dict) and not set(whole) <= {"sentence", "facts"}:
        rows = [(f"{path}, entry {i}", s, facts) for i, (s, facts) in enumerate(whole.items(), 1)]
    else:
        rows = [
            (f"{path}, row {number}", row["sentence"], row["facts"])
            for number, row in read_jsonl(path, ["sentence", "facts"])
        ]
    if not rows:
        raise HarnessError(f"{path}: no demonstrations in it")
    for where, sentence, facts in rows:
        if not isinstance(sentence, str) or not isinstance(facts, list) or not all(isinstance(f, str) for f in facts):
            raise HarnessError(f"{where}: expected a sentence and a list of facts (texts)")
    examples = [Demonstration(sentence, tuple(facts)) for _, sentence, facts in rows]
    return Demonstrations(examples, name=path.name)


@lru_cache
def own_demonstrations(language: str) -> Demonstrations:
    """The demonstrations shipped here, for `en` or `zh`. Raises HarnessError for another language."""
    if language not in LANGUAGES:
        raise HarnessError(f"language {language!r} is not supported; use one of: {', '.join(LANGUAGES)}")
    with as_file(files("factuality_harness.harness.prompts") / f"factscore_demos_{language}.jsonl") as path:
        return load_demonstrations(path)


@dataclass(frozen=True, slots=True)
class Extraction:
    """The facts of one sentence: () when it states none; None when the answer is no use (why: `detail`)."""

    facts: tuple[str, ...] | None
    detail: str = ""


def parse_facts(answer: str) -> tuple[str, ...] | None:
    """The facts an answer lists, each once; () for "No facts"; None: neither.

    Lists are lines that begin with a dash, a bullet, a number, a letter or a circled number, in bold, in brackets or
    full width, with or without "Fact"; or JSON. The first unbroken list counts: remarks before and after it, and a list
    that follows a remark such as "Note:", are passed over.
    """
    listed = _from_json(answer)
    if listed is None:
        listed = _first_list(answer)
    facts = [fact for text in listed if (fact := _unquoted(text)) and re.search(r"\w", fact) and not _NONE.match(fact)]
    if facts:
        return tuple(dict.fromkeys(facts))
    return () if any(_NONE.match(text) for text in (*listed, *answer.splitlines())) else None


def _first_list(answer: str) -> list[str]:
    found: list[str] = []
    for line in answer.splitlines():
        if match := _ITEM.match(line):
            found.append(match["fact"])
        elif found and line.strip() and not line.strip().startswith("```"):
            break
    return found


def _from_json(answer: str) -> list[str] | None:
    """Texts of a JSON list, or of the lists in a JSON object, fenced or bare; None where it is no JSON."""
    fenced = re.search(r"```(?:json)?\s*(.*?)```", answer, re.DOTALL)
    body = (fenced[1] if fenced else answer).strip()
    if not body.startswith(("[", "{")):
        return None
    try:
        data: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    rows = data if isinstance(data, list) else [r for v in data.values() for r in (v if isinstance(v, list) else [v])]
    texts = [
        next((v for v in row.values() if isinstance(v, str)), "") if isinstance(row, dict) else row for row in rows
    ]
    return [text for text in texts if isinstance(text, str)]


def _unquoted(text: str) -> str:
    """Without the bold marks or quotes around all of it."""
    text = text.strip().rstrip("*_").strip() if text.count("**") % 2 else text.strip()
    for start, end in ('""', "“”", "''", "‘’", "「」", "『』", "«»", ("**", "**"), ("__", "__"), "``"):
        if len(text) > len(start) + len(end) and text.startswith(start) and text.endswith(end):
            text = text[len(start) : -len(end)].strip()
    return text


def facts_of(reply: Reply) -> tuple[str, ...] | None:
    """The facts of a reply, its thinking set aside; None for an answer of no use, a list cut at the token limit too."""
    text, _ = spoken(reply)
    return None if text is None or reply.cut else parse_facts(text)


class ExtractorOptions(Settings):
    """max_tokens: limit of a list of facts; a model that thinks needs thousands. system: a system message before all.
    stop_after: see `FailureWatch`."""

    max_tokens: PositiveInt = 512
    system: str = ""
    stop_after: NonNegativeInt = 20


def typical_facts(text: str, number: int) -> str:
    """What a list of facts looks like, for a dry run: as many and as long as in human labels, in the text's own words,
    so that they retrieve the passages that its real facts would. number: of the sentence, since 4.3 is a mean."""
    count = math.floor((number + 1) * FACTS_PER_SENTENCE) - math.floor(number * FACTS_PER_SENTENCE)
    words = text.rpartition("\n")[2][-FACT_CHARACTERS:]
    return "\n".join(f"- {number}.{n} {words}" for n in range(count))


class FactExtractor:
    """Takes sentences apart with a model. All sentences are asked together."""

    OPTIONS = ExtractorOptions

    def __init__(self, engine: CachedEngine, demonstrations: Demonstrations | None = None, **options: Any) -> None:
        """demonstrations: for all languages; by default those shipped here for each sentence's language. options:
        `ExtractorOptions`. Raises HarnessError for one that is wrong."""
        self.options = read_settings(ExtractorOptions, options, "extractor_args")
        self.engine = engine
        self.sampling = Sampling(max_tokens=self.options.max_tokens)
        self._demonstrations = demonstrations
        self.demonstrations = demonstrations.name if demonstrations is not None else "own"

    def check(self) -> None:
        """Raises EngineError when the engine is not there, or its model takes no plain sentence apart."""
        self.engine.engine.check()
        if self.engine.engine.remote:
            trial = FactExtractor(self.engine.uncached(), self._demonstrations, **self.options.model_dump())
            (found,) = trial.extract([(TRIAL, "en")])
            failure = found.detail if found.facts is None else ""
            tried(
                f"fact extractor {self.engine.engine.identity}", "one plain sentence", failure, self.options.stop_after
            )

    def conversation(self, sentence: str, language: str) -> list[Message]:
        """What the model is asked about `sentence`.

        The instruction stands in the first user turn: some chat templates have no system role.
        """
        demonstrations = self._demonstrations or own_demonstrations(language)
        if language not in LANGUAGES:
            raise HarnessError(f"language {language!r} is not supported; use one of: {', '.join(LANGUAGES)}")
        messages = opening(self.options.system)
        before = len(messages)

        def ask(text: str) -> None:
            name = f"factscore_{language}_facts" + ("_next" if len(messages) > before else "")
            messages.append({"role": "user", "content": prompt(name).format(sentence=text)})

        for demonstration in demonstrations.choose(sentence):
            ask(demonstration.sentence)
            lines = [f"- {fact}" for fact in demonstration.facts] or [prompt(f"factscore_{language}_none")]
            messages.append({"role": "assistant", "content": "\n".join(lines)})
        ask(sentence)
        return messages

    def reminder(self, sentence: str, language: str, answer: str) -> list[Message]:
        """The conversation after an answer without facts: the same request would bring the same words."""
        return [
            *self.conversation(sentence, language),
            {"role": "assistant", "content": answer},
            {"role": "user", "content": prompt(f"factscore_{language}_facts_again")},
        ]

    def extract(self, sentences: Sequence[tuple[str, str]], progress: Progress | None = None) -> list[Extraction]:
        """One Extraction for each `(sentence, language)`, in order.

        An answer without a fact line is asked for once more with a reminder; if that has none either, or the
        engine refuses the request, the extraction holds None and the reason. Raises EngineError when the
        engine fails as a whole.
        """
        results: dict[int, Extraction] = {}
        again: dict[int, list[Message]] = {}
        watch = FailureWatch(f"fact extractor {self.engine.engine.identity}", self.options.stop_after)

        def settle(index: int, extraction: Extraction) -> None:
            results[index] = extraction
            watch.note(extraction.detail if extraction.facts is None else "")
            if progress is not None:
                progress(1)

        def take(index: int, reply: Reply, last: bool) -> None:
            text, why = spoken(reply)
            if (facts := facts_of(reply)) is not None:
                settle(index, Extraction(facts))
            elif text is None or last:
                settle(index, Extraction(None, why or f"no list of facts in the answer: {(text or '')[:_ECHO]!r}"))
            else:
                again[index] = self.reminder(*sentences[index], text)

        first = [self.conversation(text, language) for text, language in sentences]
        self._ask(dict(enumerate(first)), lambda i, reply: take(i, reply, False))
        self._ask(dict(sorted(again.items())), lambda i, reply: take(i, reply, True))
        return [results[i] for i in range(len(sentences))]

    def _ask(self, conversations: dict[int, list[Message]], take: Callable[[int, Reply], None]) -> None:
        if conversations:
            order = list(conversations)
            self.engine.complete(
                list(conversations.values()),
                self.sampling,
                lambda i, reply: take(order[i], reply),
                keep=lambda _, reply: facts_of(reply) is not None,
                typical=lambda i: typical_facts(conversations[order[i]][-1]["content"], i),
            )
