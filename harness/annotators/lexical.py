"""`lexical`: a cheap, documented baseline judge. No model, no network, some 10 000 sentences a second.

A sentence is compared with the reference document by its anchors:

- numbers (digits; thousands separators dropped), names (capitalised words that do not open the sentence, in Chinese
  titles in 《》 and quoted terms) and content words (lower-cased, lightly stemmed, stop words dropped; in Chinese
  character bigrams). Words of the question count for nothing: repeating the question is not a fact.
- The weighted share of anchors found anywhere in the document is the coverage (number 3, name 2, content word 1).

Rules, in order:
1. fewer than two content words and no number and no name beyond the question's, or a sentence that speaks about the
   answer itself ("I hope this helps") -> `nofact`;
2. coverage >= 0.6 with all numbers found and no difference in negation from the document sentence most like it -> `ok`;
3. the document sentence most like it covers at least half of the content words, and numbers are missing or negation
   differs -> `contradictory`;
4. otherwise -> `unverifiable`.

It cannot see paraphrase, relations or order ("A beat B"); how often it is wrong is measured in the README.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from spacy.lang.en.stop_words import STOP_WORDS

from factuality_harness.harness.annotation import Judgement, Label
from factuality_harness.harness.annotators.base import Claim, Progress
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.sentences import split

SUPPORT = 0.6
LIKENESS = 0.5
NUMBER, NAME, WORD = 3.0, 2.0, 1.0

_ENGLISH_NEGATION = frozenset(["no", "not", "never", "none", "nor", "neither", "cannot", "without"])
_ENGLISH_META = re.compile(
    r"^(?:i hope|i'm sorry|i am sorry|sorry|sure|certainly|of course|please|let me|feel free|here (?:is|are)|thank|"
    r"as an ai|i (?:do not|don't|cannot|can't))\b",
    re.IGNORECASE,
)
_CHINESE_META = re.compile(r"^(?:希望|抱歉|对不起|很抱歉|当然|请问|请注意|好的|以下是|以上是|如果您|如果你|作为一个)")
_CHINESE_STOP = frozenset("的了是在和与及或也都就而并其之于以为有这那他她它们个中等对从到被把将上下年月日第")
_CHINESE_NEGATION = re.compile(r"不|没|未|无|非")
_TOKEN = re.compile(r"\d[\d,]*(?:\.\d+)?|[^\W\d_]+(?:['’][a-z]+)?")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_HAN = re.compile(r"[一-鿿]+")
_TITLE = re.compile(r"《([^《》]+)》|“([^”]{2,12})”")
_SUFFIX = re.compile(r"(?:ations?|ings?|ers?|ed|es|s|ly|al|ic)$")


@dataclass(frozen=True, slots=True)
class Anchors:
    """What a text can be checked by."""

    numbers: frozenset[str]
    names: frozenset[str]
    words: frozenset[str]
    negated: bool


def _number(token: str) -> str:
    return token.replace(",", "").rstrip(".")


def _stem(word: str) -> str:
    word = word.removesuffix("'s").removesuffix("’s")
    stem = _SUFFIX.sub("", word)
    return stem if len(stem) >= 4 else word


def anchors(text: str, language: str) -> Anchors:
    """Numbers, names, content words and negation of a text."""
    numbers = frozenset(_number(n) for n in _NUMBER.findall(text))
    if language == "zh":
        names = frozenset(a or b for a, b in _TITLE.findall(text))
        words: set[str] = set()
        for run in _HAN.findall(text):
            words.update(pair for pair in map("".join, pairwise(run)) if not set(pair) & _CHINESE_STOP)
        words.update(t.lower() for t in _TOKEN.findall(_HAN.sub(" ", text)) if not t[0].isdigit())
        return Anchors(numbers, names, frozenset(words), bool(_CHINESE_NEGATION.search(text)))
    names_en: set[str] = set()
    words_en: set[str] = set()
    negated = False
    for position, token in enumerate(_TOKEN.findall(text)):
        lower = token.lower()
        if token[0].isdigit():
            continue
        if lower in _ENGLISH_NEGATION or lower.endswith(("n't", "n’t")):
            negated = True
        elif lower not in STOP_WORDS and len(lower) > 1:
            (names_en if token[0].isupper() and position else words_en).add(_stem(lower))
    return Anchors(numbers, frozenset(names_en), frozenset(words_en), negated)


@dataclass(frozen=True, slots=True)
class _Reference:
    """A document, read once: all its anchors, and those of each sentence."""

    numbers: frozenset[str]
    terms: frozenset[str]
    text: str
    sentences: tuple[tuple[str, Anchors], ...]


@lru_cache(maxsize=256)
def _read(document: str, language: str) -> _Reference:
    sentences = tuple((s.text, anchors(s.text, language)) for s in split(document, language))
    return _Reference(
        numbers=frozenset(n for _, a in sentences for n in a.numbers),
        terms=frozenset(t for _, a in sentences for t in a.names | a.words),
        text=document,
        sentences=sentences,
    )


def _found(terms: Iterable[str], reference: _Reference, language: str) -> set[str]:
    """Terms of the sentence that the document holds; Chinese titles are looked up in its text."""
    return {t for t in terms if t in reference.terms or (language == "zh" and len(t) > 2 and t in reference.text)}


def judge_claim(claim: Claim) -> Judgement:
    """Label one claim by the rules of this module; the evidence is the document sentence most like it."""
    said = anchors(claim.sentence, claim.language)
    asked = anchors(claim.question, claim.language)
    asked_terms = asked.names | asked.words
    names = said.names - asked_terms
    words = said.words - asked_terms
    numbers = said.numbers
    meta = (_CHINESE_META if claim.language == "zh" else _ENGLISH_META).match(claim.sentence)
    if meta or (len(words) < 2 and not names and not numbers):
        return Judgement(Label.NOFACT)
    reference = _read(claim.document, claim.language)
    terms = names | words
    found = _found(terms, reference, claim.language)
    right = numbers & reference.numbers
    weight = NUMBER * len(numbers) + NAME * len(names) + WORD * len(words)
    coverage = (NUMBER * len(right) + NAME * len(found & names) + WORD * len(found & words)) / weight
    likeness, best_text, best = 0.0, "", None
    everything = said.names | said.words
    for text, sentence in reference.sentences:
        shared = len(everything & (sentence.names | sentence.words)) / max(1, len(everything))
        if shared > likeness:
            likeness, best_text, best = shared, text, sentence
    negation_differs = best is not None and likeness >= LIKENESS and best.negated != said.negated
    detail = f"coverage {coverage:.2f}, likeness {likeness:.2f}"
    evidence = (best_text,) if best_text else ()
    if coverage >= SUPPORT and right == numbers and not negation_differs:
        return Judgement(Label.OK, evidence, detail)
    if likeness >= LIKENESS and (right != numbers or negation_differs):
        return Judgement(Label.CONTRADICTORY, evidence, detail)
    return Judgement(Label.UNVERIFIABLE, evidence, detail)


class LexicalAnnotator:
    """The baseline as an annotator."""

    spec = "lexical"
    window = 4096

    def check(self) -> None:
        """Nothing can be missing."""

    def judge(self, claims: Sequence[Claim], progress: Progress | None = None) -> list[Judgement]:
        """One judgement a claim. Raises HarnessError for a claim without a document or in another language."""
        judgements = []
        for claim in claims:
            if not claim.document.strip():
                raise HarnessError(f"question {claim.question!r} has no reference document to judge against")
            judgements.append(judge_claim(claim))
            if progress is not None:
                progress(1)
        return judgements
