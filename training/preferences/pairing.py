"""Preference pairs from labelled responses: the best against the worst answer to a question.

A response's share is ok / (ok + contradictory + unverifiable): sentences without a fact or without a verdict count in
neither (Mask-DPO, arXiv 2503.02846, data construction).
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, repeat, zip_longest
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from factuality_harness.harness.annotation import CHECKABLE, COUNTING, WRONG, Annotation, Label
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.factscore.score import counts_of_annotation, penalty, response_score
from factuality_harness.harness.io.samples import read_annotations, samples_files
from factuality_harness.training.mask_dpo.pairs import LabelledResponse, Pair

RANKINGS = ("share", "correct", "factscore", "sentence_factscore")
LABELS = ("sentence", "response", "random")
_Question = tuple[str, str, str]  # language, topic, question
_ROUNDING = 1e-9  # 3/5 - 2/5 is a gap of 0.2, though not in floating point


class NoPair(StrEnum):
    """Why a question gave no pair."""

    NO_SHARE = "no response with a share"
    LENGTH = "length limits"
    SINGLE = "single response"
    GAP = "no difference, or less than min_gap"
    OTHER_SIDE = "nothing to choose from in chosen_from"


class LeftOut(StrEnum):
    """Why a response was not looked at."""

    NO_SHARE = "no checkable sentence"
    NO_SCORE = "no judged fact"
    LENGTH = "length limits"
    TWIN = "same text as another"


@dataclass(frozen=True, slots=True)
class PairRules:
    """How pairs are chosen.

    rank_by: `share`, number of `correct` sentences, or `factscore` (`extra.factscore`, else the atomic facts of an
    annotation by a FActScore judge; length penalty included), or `sentence_factscore`, the same with every checkable
    sentence as one fact, for judges that label sentences. min_gap: least difference of that value; 0 still needs a
    difference. max_chars, min_sentences: limits for either response; max_length_ratio: longer by shorter response, in
    characters.
    labels: `sentence` as judged; `response`: every sentence of chosen right, of rejected wrong; `random`: any two
    responses (min_gap does not apply), their checkable sentences labelled at random at the rate found in the file.
    """

    min_gap: Annotated[float, Parameter(help="Least difference of what --rank-by compares.")] = 0.0
    pairs_per_question: Annotated[int, Parameter(help="Most pairs per question.")] = 1
    max_chars: Annotated[int | None, Parameter(help="Longest response.")] = None
    min_sentences: Annotated[int, Parameter(help="Fewest sentences of a response.")] = 1
    max_length_ratio: Annotated[float | None, Parameter(help="Longer by shorter response, in characters.")] = None
    rank_by: Annotated[str, Parameter(help=f"What makes a response better: {', '.join(RANKINGS)}.")] = "share"
    labels: Annotated[str, Parameter(help=f"Of sentences: {', '.join(LABELS)}; the last two ablate.")] = "sentence"
    seed: Annotated[int, Parameter(help="Of random pairs and labels.")] = 0

    def __post_init__(self) -> None:
        if self.rank_by not in RANKINGS or self.labels not in LABELS:
            raise HarnessError(f"rank_by is one of {', '.join(RANKINGS)}; labels one of {', '.join(LABELS)}")
        if self.pairs_per_question < 1 or not self.min_gap >= 0:
            raise HarnessError("pairs_per_question is at least 1, min_gap at least 0")
        if self.max_length_ratio is not None and not self.max_length_ratio >= 1:
            raise HarnessError("max_length_ratio is longer by shorter: at least 1")


def checkable(annotation: Annotation) -> int:
    """Sentences that were judged right or wrong."""
    return annotation.count(*CHECKABLE)


def share(annotation: Annotation) -> float:
    """Correct among checkable sentences; NaN without any."""
    total = checkable(annotation)
    return annotation.count(Label.OK) / total if total else math.nan


def factscore(annotation: Annotation) -> float:
    """FActScore of the response, NaN where no fact is judged. Raises HarnessError for an annotation without facts."""
    given = annotation.extra.get("factscore")
    if isinstance(given, int | float):
        return float(given)
    return response_score(counts_of_annotation(annotation))


VALUES: dict[str, Callable[[Annotation], float]] = {
    "share": share,
    "correct": lambda annotation: annotation.count(Label.OK),
    "factscore": factscore,
    "sentence_factscore": lambda annotation: share(annotation) * penalty(checkable(annotation)),
}


def usable(
    annotations: Iterable[Annotation], rules: PairRules, left_out: Counter[str] | None = None
) -> list[Annotation]:
    """The responses a pair may hold, every text once (under its lowest sample number), in the order of these numbers.

    left_out: counts the others by `LeftOut`.
    """
    left_out = Counter() if left_out is None else left_out
    kept: dict[str, Annotation] = {}
    for annotation in sorted(annotations, key=_order):
        if not checkable(annotation):
            left_out[LeftOut.NO_SHARE] += 1
        elif math.isnan(VALUES[rules.rank_by](annotation)):
            left_out[LeftOut.NO_SCORE] += 1
        elif len(annotation.sentences) < rules.min_sentences or (
            rules.max_chars is not None and len(annotation.response) > rules.max_chars
        ):
            left_out[LeftOut.LENGTH] += 1
        elif annotation.response in kept:
            left_out[LeftOut.TWIN] += 1
        else:
            kept[annotation.response] = annotation
    return list(kept.values())


def pair_question(
    candidates: Sequence[Annotation],
    rules: PairRules,
    chosen_from: Sequence[Annotation] | None = None,
    left_out: Counter[str] | None = None,
) -> tuple[list[tuple[Annotation, Annotation]], str]:
    """Best against worst, then second best against second worst, …; and why there is none, if there is none.

    Among equals the response with more checkable sentences goes first, then the lower sample number; the order of
    `candidates` decides nothing. Where a length ratio forbids best against worst, the best takes the next worst. No
    response is in two pairs. chosen_from: responses the chosen side comes from, instead of `candidates`.
    """
    left_out = Counter() if left_out is None else left_out
    before = left_out.copy()
    rejected = usable(candidates, rules, left_out)
    chosen = rejected if chosen_from is None else usable(chosen_from, rules, left_out)
    if chosen_from is not None and rejected and not chosen:
        return [], NoPair.OTHER_SIDE
    if not rejected:
        return [], NoPair.LENGTH if left_out[LeftOut.LENGTH] > before[LeftOut.LENGTH] else NoPair.NO_SHARE
    if len({a.response for a in (*chosen, *rejected)}) < 2:
        return [], NoPair.SINGLE
    value = VALUES[rules.rank_by]
    if rules.labels == "random":
        rng = random.Random(f"{rules.seed} {candidates[0].question}")
        if chosen_from is None:
            best = rng.sample(rejected, len(rejected))
            worst = best[1:] + best[:1]
        else:
            best, worst = rng.sample(chosen, len(chosen)), rng.sample(rejected, len(rejected))
    else:
        best = sorted(chosen, key=lambda a: (-value(a), -checkable(a), _order(a)))
        worst = sorted(rejected, key=lambda a: (value(a), -checkable(a), _order(a)))
    found: list[tuple[Annotation, Annotation]] = []
    used: set[str] = set()
    too_uneven = False
    for won in best:
        for lost in worst:
            if won.response == lost.response or not used.isdisjoint((won.response, lost.response)):
                continue
            if rules.labels != "random" and not _apart(value(won) - value(lost), rules.min_gap):
                break
            if not _even(won, lost, rules.max_length_ratio):
                too_uneven = True
                continue
            found.append((won, lost))
            used |= {won.response, lost.response}
            break
        if len(found) == rules.pairs_per_question:
            break
    if found:
        return found, ""
    return [], NoPair.LENGTH if too_uneven else NoPair.GAP


def _apart(gap: float, least: float) -> bool:
    return gap > 0 and gap >= least - _ROUNDING


def _even(one: Annotation, other: Annotation, ratio: float | None) -> bool:
    short, long = sorted((len(one.response), len(other.response)))
    return ratio is None or long <= ratio * short


def _order(annotation: Annotation) -> tuple[int, str, str, list[str]]:
    number = annotation.extra.get("sample", 0)
    if not isinstance(number, int):
        raise HarnessError(f"annotation of {annotation.question!r}: extra.sample is {number!r}, not a number")
    return number, annotation.response, annotation.judge, [j.label.value for j in annotation.judgements]


def to_pair(won: Annotation, lost: Annotation, rules: PairRules, wrong_rate: float) -> Pair:
    """A pair with the labels that the rules ask for. wrong_rate: of checkable sentences, for random labels."""
    rng = random.Random(f"labels {rules.seed} {won.question} {won.response} {lost.response}")

    def side(annotation: Annotation, whole: Label) -> LabelledResponse:
        labels = tuple(j.label for j in annotation.judgements)
        if rules.labels == "response":
            labels = (whole,) * len(labels)
        elif rules.labels == "random":
            labels = tuple(
                (Label.CONTRADICTORY if rng.random() < wrong_rate else Label.OK) if label in CHECKABLE else label
                for label in labels
            )
        return LabelledResponse(annotation.response, annotation.sentences, labels)

    question = {"role": "user", "content": won.question}
    return Pair((question,), side(won, Label.OK), side(lost, Label.CONTRADICTORY), won.topic)


@dataclass(frozen=True, slots=True)
class AnnotationFiles:
    """Annotations of annotation files and lm_eval samples files (or folders of them), read anew at every iteration."""

    paths: tuple[Path, ...]

    def files(self) -> list[Path]:
        """The files themselves. Raises HarnessError for a folder without samples files."""
        return [file for path in self.paths for file in samples_files(path)]

    def __iter__(self) -> Iterator[Annotation]:
        for file in self.files():
            yield from read_annotations(file)


class Pairing:
    """All pairs of a set of annotations, one at a time, and the report on them when they are drawn.

    The annotations are read twice (a one-shot iterator is kept in memory): once to count every question's responses,
    and again to hand each question on when its last response has come. So a file grouped by question, as `sample` and
    `label` write it, costs the memory of one question; any other order gives the same pairs and costs more.
    """

    def __init__(
        self, annotations: Iterable[Annotation], rules: PairRules, chosen_from: Iterable[Annotation] | None = None
    ) -> None:
        """Raises HarnessError when there is no annotation, and what reading them raises."""
        self.rules = rules
        self._sources = [_again(annotations), *([] if chosen_from is None else [_again(chosen_from)])]
        self._expected: Counter[_Question] = Counter()
        self._questions: set[_Question] = set()
        self.responses = [0] * len(self._sources)
        self._judges: set[str] = set()
        labels: Counter[Label] = Counter()
        for place, source in enumerate(self._sources):
            for annotation in source:
                self._expected[_key(annotation)] += 1
                self.responses[place] += 1
                self._judges.add(annotation.judge)
                if place == 0:
                    self._questions.add(_key(annotation))
                    labels.update(j.label for j in annotation.judgements)
            if not self.responses[place]:
                raise HarnessError(f"{_name(source)}: holds no annotation")
        wrong = sum(labels[label] for label in WRONG)
        self.wrong_rate = wrong / max(1, wrong + labels[Label.OK])
        self._start()

    def _start(self) -> None:
        self._pairs = 0
        self._why: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._sums: dict[str, float] = defaultdict(float)

    def __iter__(self) -> Iterator[Pair]:
        """The pairs, a question's together. Raises HarnessError with the counts when there is none at all."""
        self._start()
        for candidates, chosen_from in self._groups():
            found, why = pair_question(candidates, self.rules, chosen_from, self._left_out)
            if why:
                self._why[why] += 1
            for won, lost in found:
                pair = to_pair(won, lost, self.rules, self.wrong_rate)
                self._note(won, lost, pair)
                yield pair
        if not self._pairs:
            raise HarnessError(f"{_name(self._sources[0])}: no pair can be made: {json.dumps(self.report())}")

    def _groups(self) -> Iterator[tuple[list[Annotation], list[Annotation] | None]]:
        waiting: dict[_Question, list[list[Annotation]]] = defaultdict(lambda: [[] for _ in self._sources])
        # Side by side, so that of two files in the same order no more is held than of one.
        numbered = [zip(repeat(place), source) for place, source in enumerate(self._sources)]
        for row in chain.from_iterable(zip_longest(*numbered)):
            if row is None:
                continue
            place, annotation = row
            key = _key(annotation)
            waiting[key][place].append(annotation)
            if sum(map(len, waiting[key])) == self._expected[key]:
                sides = waiting.pop(key)
                if key in self._questions:
                    yield sides[0], sides[1] if len(sides) > 1 else None

    def _note(self, won: Annotation, lost: Annotation, pair: Pair) -> None:
        self._pairs += 1
        for name, annotation, side in (("chosen", won, pair.chosen), ("rejected", lost, pair.rejected)):
            self._sums[f"{name}_share"] += share(annotation)
            self._sums[f"{name}_chars"] += len(side.text)
            self._sums[f"{name}_counting_sentences"] += sum(label in COUNTING[name] for label in side.labels)

    def report(self) -> dict[str, Any]:
        """Questions with and without a pair and why, responses left out and why; means of the pairs drawn so far:
        share and characters per response, and the sentences per side whose tokens will count."""
        found: dict[str, Any] = {
            "questions": len(self._questions),
            "responses": self.responses[0],
            "pairs": self._pairs,
            "judges": sorted(self._judges),
            "questions_without_pair": dict(self._why),
            "responses_left_out": dict(self._left_out),
        }
        if len(self._sources) > 1:
            found["responses_chosen_from"] = self.responses[1]
        for name in ("chosen", "rejected") if self._pairs else ():
            found[f"{name}_share"] = round(self._sums[f"{name}_share"] / self._pairs, 4)
            found[f"{name}_chars"] = round(self._sums[f"{name}_chars"] / self._pairs, 1)
            found[f"{name}_counting_sentences"] = int(self._sums[f"{name}_counting_sentences"])
        return found


def make_pairs(
    annotations: Iterable[Annotation], rules: PairRules, chosen_from: Iterable[Annotation] | None = None
) -> tuple[list[Pair], dict[str, Any]]:
    """All pairs of `Pairing`, and its report. Raises HarnessError when there is none."""
    pairing = Pairing(annotations, rules, chosen_from)
    return list(pairing), pairing.report()


def _again(annotations: Iterable[Annotation]) -> Iterable[Annotation]:
    return list(annotations) if isinstance(annotations, Iterator) else annotations


def _key(annotation: Annotation) -> _Question:
    return annotation.language, annotation.topic, annotation.question


def _name(source: Iterable[Annotation]) -> str:
    return ", ".join(map(str, source.paths)) if isinstance(source, AnnotationFiles) else "the annotations"
