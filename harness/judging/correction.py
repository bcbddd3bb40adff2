"""Factuality corrected for the judge's errors, with an interval that carries them.

    python -m harness.correction RUN --card card.json      sensitivity and specificity measured on other text
    python -m harness.correction RUN --labels FILE.jsonl   human labels of some of the run's own sentences
    python -m harness.correction RUN                       the raw score, and that nothing is known about its judge

RUN is an lm_eval output folder or samples file (`--task` where the folder holds several). A card comes from
`harness.judge_report`. Labels are annotation rows, or {"question", "sentence" or "response" with "span", "label"} with
labels ok, contradictory, unverifiable, nofact (or S, NS, IR), of sentences drawn at random from the run: whole topics,
or single sentences. Labels of sentences picked by what the judge said would bias the result.

With a card the estimator is Rogan and Gladen's (1978): the share that would give the judge's share of `ok`. With labels
it is prediction-powered inference (PPI++, arXiv 2311.01453): the judge on all sentences, put right by how it errs on
the labelled ones. It is written out here since the package `ppi-python` knows no clusters, while sentences of one topic
are not independent; where each sentence is a topic of its own the two agree (see the tests).

Sentences without a verdict (`unparsed`, `nofact`) count in neither half of the raw score, as everywhere. With a card
they are taken to hide supported and unsupported sentences as often as the judge failed on each there, so a judge that
falls silent on false sentences gains nothing by it. With labels nothing is assumed: such a sentence tells nothing, and
the labelled ones say what was missed.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t as student

from factuality_harness.harness.annotation import Annotation, Label, load_annotations
from factuality_harness.harness.errors import HarnessError, command
from factuality_harness.harness.io.jsonl import json_safe, read_jsonl
from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.io.samples import read_annotations, samples_files
from factuality_harness.harness.judging.agreement import NOTHING, SUPPORTED, WRONG
from factuality_harness.harness.judging.card import label_options
from factuality_harness.harness.metrics import Counts, cluster_variance, count, factuality, factuality_ci95

LEVEL = 0.95
OPEN = (None, "", Label.UNPARSED.value)
"""Labels that say a human did not decide."""
_CARD_ROW = ("topic", "tp", "fn", "tn", "fp", "unparsed_pos", "unparsed_neg")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share with its interval, all in 0..1. clipped: whether the point had to be pulled back into that range."""

    value: float
    low: float
    high: float
    clipped: bool = False


@dataclass(frozen=True, slots=True)
class Card:
    """What a judge's card says. topics: integer array (topics, 6): true positives, false negatives, true negatives,
    false positives, supported and unsupported units without a verdict. nofact: (units in which humans saw no fact but
    the judge gave a verdict, all units with a verdict). judge_args: the judge's options, None where not known."""

    judge: str
    dataset: str
    unit: str
    topics: np.ndarray
    nofact: tuple[int, int] = (0, 0)
    judge_args: Mapping[str, Any] | None = None

    @property
    def n(self) -> int:
        """Human labels behind sensitivity and specificity."""
        return int(self.topics.sum())


@dataclass(frozen=True, slots=True)
class TopicSums:
    """Sums over the sentences of one topic of the run.

    labelled: those with a human label; of these human_ok, human_checkable (ok or wrong), judge_ok, judge_checkable, and
    disagree: where human and judge differ in ok or wrong or neither. rest: those without a human label.
    """

    topic: str
    labelled: int = 0
    human_ok: int = 0
    human_checkable: int = 0
    judge_ok: int = 0
    judge_checkable: int = 0
    disagree: int = 0
    rest: int = 0
    rest_ok: int = 0
    rest_checkable: int = 0


_SUMS = attrgetter(*(field.name for field in fields(TopicSums)[1:]))


def read_card(path: str | Path) -> Card:
    """A card.json. Raises HarnessError for a file that is none, or that holds no unit of one of the two classes."""
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        rows = [[int(n) for n in counts] for _, *counts in data["topics"]]
        confusion = data["confusion"]
        verdicts = [Label.OK.value, Label.CONTRADICTORY.value, Label.UNVERIFIABLE.value]
        card = Card(
            judge=data["judge"],
            dataset=data["dataset"],
            unit=data["unit"],
            topics=np.array(rows, dtype=int).reshape(-1, len(_CARD_ROW) - 1),
            nofact=(
                sum(confusion.get(NOTHING[0], {}).get(v, 0) for v in verdicts),
                sum(row.get(v, 0) for row in confusion.values() for v in verdicts),
            ),
            judge_args=None if data.get("judge_args") is None else dict(data["judge_args"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HarnessError(
            f"{path}: not a judge's card ({type(error).__name__}: {error}); python -m harness.judge_report writes them"
        ) from error
    tp, fn, tn, fp, *_ = card.topics.sum(0)
    if tp + fn == 0 or tn + fp == 0:
        raise HarnessError(
            f"{path}: the judge gave a verdict on {tp + fn} supported and {tn + fp} unsupported units; both are needed"
        )
    return card


def _smoothed(hits: float, total: float) -> float:
    """Binomial variance of a share with one success and one failure added: what stays uncertain after no error."""
    share = (hits + 1) / (total + 2)
    return share * (1 - share) / (total + 2)


def _clip(value: float, variance: float, degrees: float, level: float) -> Estimate:
    half = float(student.ppf((1 + level) / 2, degrees)) * math.sqrt(variance) if math.isfinite(variance) else math.inf
    inside = min(max(float(value), 0.0), 1.0)
    return Estimate(inside, max(inside - half, 0.0), min(inside + half, 1.0), clipped=inside != value)


def _on_log_odds(value: float, variance: float, degrees: float, n: float, level: float) -> Estimate:
    """Like `_clip`, with the interval built on the scale of log odds, where the spread of a share found by labels does
    not shrink with the share itself; cut at 1 on the plain scale, it misses too often. The odds are taken no further
    out than 1 to n + 1, and an interval around an end of the range reaches that end."""
    inside = min(max(float(value), 0.0), 1.0)
    point = min(max(inside, 1 / (n + 2)), (n + 1) / (n + 2))
    half = float(student.ppf((1 + level) / 2, degrees)) * math.sqrt(variance) / (point * (1 - point))
    low, high = (float(expit(logit(point) + d)) for d in (-half, half))
    low, high = (0.0 if inside == 0 else low), (1.0 if inside == 1 else high)
    return Estimate(inside, min(low, inside), max(high, inside), clipped=inside != value)


def rogan_gladen(rows: Sequence[Counts], card: Card, *, level: float = LEVEL) -> Estimate:
    """Share of supported sentences among the checkable ones, from the judge's counts and its card.

    Among sentences with a verdict (p + specificity - 1) / (sensitivity + specificity - 1) for the judge's share p
    (Rogan and Gladen, Am. J. Epidemiol. 107, 1978); then each class is divided by the share of it that got a verdict on
    the card. Interval: delta method with variances over topics of the run and of the card, each at least the binomial
    one with a success and a failure added (after Lang and Reiczigel, Prev. Vet. Med. 113, 2014), Student's t with
    Satterthwaite's degrees of freedom. It assumes that the judge errs here as it did on the card.
    Raises HarnessError when nothing is checkable, and when sensitivity + specificity is not above 1.
    """
    by_topic: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(2))
    for row in rows:
        by_topic[row.topic] += row.ok, row.checkable
    ok, checkable = np.array(list(by_topic.values())).reshape(-1, 2).T
    if not checkable.sum():
        raise HarnessError("the judge called no sentence supported or unsupported; there is nothing to correct")
    tp, fn, tn, fp, lost_pos, lost_neg = card.topics.T
    pos, neg = tp + fn, tn + fp
    p, se, sp = ok.sum() / checkable.sum(), tp.sum() / pos.sum(), tn.sum() / neg.sum()
    youden = se + sp - 1
    if youden <= 0:
        raise HarnessError(
            f"judge {card.judge} on {card.dataset}: sensitivity {se:.3f} + specificity {sp:.3f} <= 1, no better than a "
            "coin, so its scores hold nothing to correct; use another judge, or --labels"
        )
    judged = (p + sp - 1) / youden
    v = min(max(judged, 0.0), 1.0)
    given_pos, given_neg = pos.sum() / (pos + lost_pos).sum(), neg.sum() / (neg + lost_neg).sum()
    ratio = given_pos / given_neg
    scale = v + (1 - v) * ratio
    value, slope = v / scale, ratio / scale**2  # slope: d value / d v
    of_run = slope / youden * (ok - p * checkable) / checkable.sum()
    of_card = slope / youden * ((1 - v) * (tn - sp * neg) / neg.sum() - v * (tp - se * pos) / pos.sum())
    of_card = of_card - value * (1 - value) * (
        (pos - given_pos * (pos + lost_pos)) / pos.sum() - (neg - given_neg * (neg + lost_neg)) / neg.sum()
    )
    least_run = (slope / youden) ** 2 * _smoothed(ok.sum(), checkable.sum())
    least_card = (slope / youden) ** 2 * (
        v**2 * _smoothed(tp.sum(), pos.sum()) + (1 - v) ** 2 * _smoothed(tn.sum(), neg.sum())
    )
    parts = max(cluster_variance(of_run), least_run), max(cluster_variance(of_card), least_card)
    total = sum(parts)
    topics = len(of_run), len(of_card)
    degrees = total**2 / sum(x**2 / (n - 1) for x, n in zip(parts, topics, strict=True)) if math.isfinite(total) else 1
    return replace(_clip(value, total, degrees, level), clipped=bool(judged != v))


def prediction_powered(topics: Sequence[TopicSums], *, power: float | None = None, level: float = LEVEL) -> Estimate:
    """Share of supported sentences among those humans find checkable, from labels of some and the judge on all.

    With h = ok - theta * checkable by humans and f the same by the judge, theta solves
    power * mean_rest(f) + mean_labelled(h - power * f) = 0 (PPI++, arXiv 2311.01453, for a ratio). power: trust in the
    judge, 0 (labels alone) to 1; None takes the value of least variance, or 0 for two labelled topics. Interval, on the
    scale of log odds: variance over topics (sentences of a topic may be in both parts), Student's t with as many
    degrees of freedom as there are labelled topics, less one for the mean and one for a power taken from the same
    labels; a judge that never erred on the labelled sentences is not taken for perfect (binomial variance of its errors
    with one right and one wrong added). Raises HarnessError for fewer than two labelled topics and for labels without a
    checkable sentence.
    """
    table = np.array([_SUMS(t) for t in topics], dtype=float).reshape(len(topics), 9)
    labelled, human_ok, human_all, judge_ok, judge_all, disagree, rest, rest_ok, rest_all = table.T
    n, m = labelled.sum(), rest.sum()
    clusters = int((labelled > 0).sum())
    if clusters < 2:
        raise HarnessError(f"human labels for {clusters} topics; an interval needs labels of at least two")
    if not human_all.sum():
        raise HarnessError("humans found nothing to check in the labelled sentences; label more of them")

    def solve(power: float) -> tuple[float, float]:
        """(theta, mean checkable)"""
        ok, checkable = human_ok.sum() / n, human_all.sum() / n
        if m:
            ok += power * (rest_ok.sum() / m - judge_ok.sum() / n)
            checkable += power * (rest_all.sum() / m - judge_all.sum() / n)
        return ok / checkable, checkable

    def influences(theta: float) -> tuple[np.ndarray, np.ndarray]:
        """Of each topic, through the labels and, to be multiplied by the power, through the judge."""
        h, f, g = human_ok - theta * human_all, judge_ok - theta * judge_all, rest_ok - theta * rest_all
        by_humans = (h - labelled * h.sum() / n) / n
        of_labelled = (f - labelled * f.sum() / n) / n
        return by_humans, (g - rest * g.sum() / m) / m - of_labelled if m else np.zeros(len(topics))

    degrees = clusters - 1
    if power is None:
        a, b = influences(solve(0.0)[0])
        power = 0.0
        if clusters > 2 and (b**2).sum() > 0:
            power = float(np.clip(-(a * b).sum() / (b**2).sum(), 0.0, 1.0))
            degrees -= 1
    theta, checkable = solve(power)
    a, b = influences(theta)
    pull = a + power * b
    variance = (pull**2).sum() * clusters / degrees
    errors = _smoothed(disagree.sum(), n) * power**2 + _smoothed(human_ok.sum(), human_all.sum()) * (1 - power) ** 2
    return _on_log_odds(theta, float(max(variance / checkable**2, errors)), degrees, human_all.sum(), level)


def _verdict(label: str) -> tuple[int, int]:
    """(ok, checkable) of a label, the human's or the judge's."""
    return int(label in SUPPORTED), int(label in SUPPORTED or label in WRONG)


def topic_sums(annotations: Sequence[Annotation], labels: Mapping[tuple[int, int], str]) -> list[TopicSums]:
    """Sums by topic; labels: (number of the annotation, number of its sentence) to the human's label."""
    sums: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for i, annotation in enumerate(annotations):
        of_topic = sums[annotation.topic or annotation.question]
        for j, judgement in enumerate(annotation.judgements):
            ok, checkable = _verdict(judgement.label.value)
            if (i, j) in labels:
                human = _verdict(labels[i, j])
                values = {"labelled": 1, "human_ok": human[0], "human_checkable": human[1], "judge_ok": ok}
                values |= {"judge_checkable": checkable, "disagree": int(human != (ok, checkable))}
            else:
                values = {"rest": 1, "rest_ok": ok, "rest_checkable": checkable}
            for name, value in values.items():
                of_topic[name] += value
    return [TopicSums(topic, **values) for topic, values in sorted(sums.items())]


def read_labels(path: str | Path, annotations: Sequence[Annotation]) -> tuple[dict[tuple[int, int], str], int]:
    """Human labels of the run's sentences, by (annotation, sentence), and how many rows were left undecided.

    A sentence given by its text alone stands for its first place under that question that has no label yet. Raises
    HarnessError naming file and row for a sentence the run does not hold (or that has its label already), a label that
    is not known, and annotation rows that carry the labels of the run's own judge.
    """
    judges = {a.judge for a in annotations}
    by_question: dict[str, list[int]] = defaultdict(list)
    for i, annotation in enumerate(annotations):
        by_question[annotation.question.strip()].append(i)
    labels: dict[tuple[int, int], str] = {}
    undecided = 0
    for where, row in _label_rows(path):
        if row.get("judge") in judges:
            raise HarnessError(f"{where}: labels of {row['judge']}, the run's own judge, not of a human")
        if row["label"] in OPEN:
            undecided += 1
            continue
        if row["label"] not in (*SUPPORTED, *WRONG, *NOTHING):
            known = ", ".join((*SUPPORTED, *WRONG, *NOTHING))
            raise HarnessError(f"{where}: label {row['label']!r} is none of: {known}")
        places = [
            (i, j)
            for i in by_question.get(str(row["question"]).strip(), ())
            if row.get("response") in (None, annotations[i].response)
            for j, s in enumerate(annotations[i].sentences)
            if ([s.start, s.end] == row["span"] if row.get("span") else s.text == row["sentence"].strip())
        ]
        place = next((p for p in places if p not in labels), None)
        if place is None:
            why = "has its label already" if places else "is not among the run's sentences (another run or splitting?)"
            what = str(row.get("sentence") or row.get("span"))
            raise HarnessError(f"{where}: {what[:80]!r} under question {str(row['question'])[:60]!r} {why}")
        labels[place] = row["label"]
    return labels, undecided


def _label_rows(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, {question, response?, sentence, span?, label, judge?}) for each labelled sentence."""
    for number, row in read_jsonl(path):
        where = f"{path}, row {number}"
        if "sentences" in row or "filtered_resps" in row:
            try:
                texts = row.get("filtered_resps")
                found = (
                    [Annotation.from_dict(row)] if texts is None else [a for x in texts for a in load_annotations(x)]
                )
            except (HarnessError, TypeError) as error:
                raise HarnessError(f"{where}: {error}") from error
            for a in found:
                for s, j in zip(a.sentences, a.judgements, strict=True):
                    yield (
                        where,
                        {
                            **{"question": a.question, "response": a.response, "judge": a.judge},
                            **{"sentence": s.text, "span": [s.start, s.end], "label": j.label.value},
                        },
                    )
            continue
        given, span, judge = row.get("sentence"), row.get("span"), row.get("judge")
        spanned = isinstance(row.get("response"), str) and isinstance(span, list) and len(span) == 2
        found_by = spanned if span else isinstance(given, str) and given.strip()
        if not isinstance(row.get("question"), str) or "label" not in row or not found_by:
            raise HarnessError(f"{where}: needs question, label, and sentence or response with span [start, end]")
        if not isinstance(judge, str | None):
            raise HarnessError(f"{where}: judge must be text, not {str(judge)[:60]}")
        yield where, row


def run_judge_args(file: Path) -> dict[str, Any] | None:
    """Options of the judge of a run, from lm_eval's results beside a samples file, or from the settings beside
    annotations; None where neither says."""
    lm_eval = re.fullmatch(r"samples_(.+)_(\d{4}-\d\d-\d\dT.+)\.jsonl", file.name)
    beside = file.with_name(f"results_{lm_eval[2]}.json" if lm_eval else f"{file.name}.settings.json")
    try:
        data = json.loads(beside.read_text(encoding="utf-8"))
        settings = data["configs"][lm_eval[1]]["metadata"] if lm_eval else data
        return dict(settings.get("judge_args") or {}) if "judge" in settings else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def hidden_range(rows: Sequence[Counts]) -> tuple[float, float]:
    """The raw score if every unparsed sentence were wrong, and if every one were right."""
    ok, checkable, unparsed = (sum(getattr(r, f) for r in rows) for f in ("ok", "checkable", "unparsed"))
    total = checkable + unparsed
    return (ok / total, (ok + unparsed) / total) if total else (math.nan, math.nan)


def _run_file(run: str, task: str | None) -> Path:
    files = [f for f in samples_files(run) if task is None or f.name.startswith(f"samples_{task}_2")]
    if len(files) != 1:
        found = ", ".join(map(str, files)) or "none"
        raise HarnessError(f"{run}: one samples file is wanted, name it or its --task; found: {found}")
    return files[0]


def _by_question(annotations: Sequence[Annotation]) -> list[Counts]:
    groups: dict[tuple[str, str], list[Annotation]] = defaultdict(list)
    for a in annotations:
        groups[a.topic, a.question].append(a)
    return [count(group) for group in groups.values()]


def correct(
    annotations: Sequence[Annotation],
    *,
    card: Card | None = None,
    labels: tuple[Mapping[tuple[int, int], str], int] | None = None,
    judge_args: Mapping[str, Any] | None = None,
    other_judge: bool = False,
) -> dict[str, Any]:
    """Raw and corrected factuality of a run as plain data: `raw`, `corrected` (None without card and labels), `method`,
    `human_labels` (of this run's sentences, and on the card), `notes` (what a reader must know). judge_args: options
    of the run's judge, None where not known.

    Raises HarnessError for a run without sentences or judged by several judges, and for a card of another judge, or of
    this one with other options, unless `other_judge`.
    """
    rows = _by_question(annotations)
    judges = sorted({a.judge for a in annotations})
    if len(judges) != 1:
        raise HarnessError(f"the run's answers were judged by {', '.join(judges) or 'nobody'}; one judge is needed")
    if not any(r.total for r in rows):
        raise HarnessError("the run's answers hold no sentence")
    notes: list[str] = []
    unparsed = sum(r.unparsed for r in rows)
    if unparsed:
        low, high = hidden_range(rows)
        notes.append(
            f"{unparsed} sentences unparsed: the raw score would be {low:.4f} if all were wrong, {high:.4f} if right"
        )
    interval = factuality_ci95(rows)
    data: dict[str, Any] = {
        "judge": judges[0],
        "topics": len({r.topic for r in rows}),
        "sentences": sum(r.total for r in rows),
        "checkable": sum(r.checkable for r in rows),
        "unparsed": unparsed,
        "nofact": sum(r.nofact for r in rows),
        "raw": {"value": factuality(rows), "low": interval[0], "high": interval[1]},
        "corrected": None,
        "method": "none",
        "human_labels": {"run": len(labels[0]) if labels else 0, "card": card.n if card else 0},
        "notes": notes,
    }
    estimate = None
    if card is not None:
        if card.judge != judges[0] and not other_judge:
            raise HarnessError(
                f"the card is of judge {card.judge}, the run's is {judges[0]}: its errors are not known; measure it "
                "with python -m harness.judge_report, or say --other-judge"
            )
        estimate = rogan_gladen(rows, card)
        data["method"] = "Rogan-Gladen"
        notes.append(
            f"assumes that the judge errs on this run as on {card.dataset}; no sentence of the run has a human label"
        )
        if card.judge != judges[0]:
            notes.append(f"the card is of another judge, {card.judge}")
        elif unlike := _unlike(judges[0], card.judge_args, judge_args):
            if not other_judge and None not in (card.judge_args, judge_args):
                raise HarnessError(
                    f"judge {judges[0]}: {unlike}; measure the judge as it ran here with python -m "
                    "harness.judge_report --judge-args, or say --other-judge"
                )
            notes.append(unlike)
        if card.unit != "sentence":
            notes.append(f"the card was measured on {card.unit}s, the run is judged by sentences")
        if card.nofact[0]:
            notes.append(
                f"on the card {card.nofact[0]} of {card.nofact[1]} verdicts fell on units in which humans see no fact"
            )
    elif labels is not None:
        estimate = prediction_powered(topic_sums(annotations, labels[0]))
        data["method"] = "prediction-powered"
        notes.append("assumes that the labelled sentences were drawn at random, not by what the judge said")
        if labels[1]:
            notes.append(f"{labels[1]} rows of the labels are undecided and left out")
    else:
        notes.append("NO HUMAN LABELS: the error of the judge is unknown, and the interval does not carry it")
    if estimate is not None:
        data["corrected"] = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
        if estimate.clipped and card is not None:
            notes.append(misfit(rows, card))
    return data


def misfit(rows: Sequence[Counts], card: Card) -> str:
    """What to say where the corrected value had to be cut (`Estimate.clipped`)."""
    tp, fn, tn, fp, *_ = card.topics.sum(0)
    return (
        f"the judge's share {factuality(rows):.4f} is outside {fp / (tn + fp):.4f} to {tp / (tp + fn):.4f}, all that "
        "its errors on the card allow; the value was cut, and unless noise explains it the card does not fit this run: "
        "label some of its sentences"
    )


def _unlike(judge: str, card: Mapping[str, Any] | None, run: Mapping[str, Any] | None) -> str:
    """What tells the judge of the card from the run's: options that can change a label; "" for none."""
    if card is None or run is None:
        which = "card" if card is None else "run"
        return f"the {which} does not say with which options its judge ran, so they may differ between card and run"
    there, here = label_options(judge, card), label_options(judge, run)
    if there == here:
        return ""
    return f"the card was measured with options {json.dumps(there)}, the run with {json.dumps(here)}"


def _shown(e: Mapping[str, float] | None) -> str:
    if not e:
        return "not known: no human labels"
    if math.isnan(e["value"]):
        return "no value: nothing checkable"
    return f"{e['value']:.4f} " + ("[n/a: one topic]" if math.isnan(e["low"]) else f"[{e['low']:.4f}, {e['high']:.4f}]")


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m harness.correction", description=__doc__.split("\n")[0])
    parser.add_argument("run", help="lm_eval output folder, or a samples file")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--card", type=Path, help="card.json of the judge")
    source.add_argument("--labels", type=Path, help="JSONL of human labels of some of the run's sentences")
    parser.add_argument("--task", help="of the run, where it holds several")
    parser.add_argument("--other-judge", action="store_true", help="accept a card of another judge or options")
    parser.add_argument("--out", type=Path, help="write the result as JSON, with its manifest")
    args = parser.parse_args(argv)
    if args.out and args.out.is_dir():
        raise HarnessError(f"--out {args.out}: is a folder; name a file")
    file = _run_file(args.run, args.task)
    annotations = list(read_annotations(file))
    data = correct(
        annotations,
        card=read_card(args.card) if args.card else None,
        labels=read_labels(args.labels, annotations) if args.labels else None,
        judge_args=run_judge_args(file),
        other_judge=args.other_judge,
    )
    given = data["human_labels"]
    print(f"judge         {data['judge']}")
    print(f"raw           {_shown(data['raw'])}  (95 % over {data['topics']} topics, judge taken as right)")
    print(f"corrected     {_shown(data['corrected'])}" + (f"  ({data['method']})" if data["corrected"] else ""))
    print(f"human labels  {given['run']} of this run's {data['sentences']} sentences, {given['card']} on the card")
    for note in data["notes"]:
        print(f"- {note}")
    if args.out:
        inputs = [p for p in (file, args.card, args.labels) if p]
        write_manifest(args.out, {**json_safe(data), "manifest": manifest(inputs=inputs)})


if __name__ == "__main__":
    sys.exit(main())
