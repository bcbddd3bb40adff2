"""Factuality corrected for the judge's errors, with an interval that carries them.

    factuality correct RUN --card card.json      sensitivity and specificity measured on other text
    factuality correct RUN --labels FILE.jsonl   human labels of some of the run's own sentences
    factuality correct RUN                       the raw score, and that nothing is known about its judge

RUN is an lm_eval output folder or samples file (`--task` where the folder holds several). A card comes from
`factuality judge-card`. Labels are annotation rows, or {"question", "sentence" or "response" with "span", "label"} with
labels ok, contradictory, unverifiable, nofact (or S, NS, IR), of sentences drawn at random from the run: whole topics,
or single sentences. Labels of sentences picked by what the judge said would bias the result.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from factuality_harness.harness.annotation import Annotation, Label
from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.commands import Flag
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.io.samples import read_annotations, sample_rows, samples_files
from factuality_harness.harness.io.write import json_safe
from factuality_harness.harness.judging.agreement import NOTHING, SUPPORTED, WRONG
from factuality_harness.harness.judging.estimators import JudgeCard, TopicSums, prediction_powered, rogan_gladen
from factuality_harness.harness.metrics import Counts, count, factuality, factuality_ci95

OPEN = (None, "", Label.UNPARSED.value)
"""Labels that say a human did not decide."""
_CARD_ROW = ("topic", "tp", "fn", "tn", "fp", "unparsed_pos", "unparsed_neg")


def read_card(path: str | Path) -> JudgeCard:
    """A card.json. Raises HarnessError for a file that is none, or that holds no unit of one of the two classes."""
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        rows = [[int(n) for n in counts] for _, *counts in data["topics"]]
        confusion = data["confusion"]
        verdicts = [Label.OK.value, Label.CONTRADICTORY.value, Label.UNVERIFIABLE.value]
        card = JudgeCard(
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
            f"{path}: not a judge's card ({type(error).__name__}: {error}); factuality judge-card writes them"
        ) from error
    tp, fn, tn, fp, *_ = card.topics.sum(0)
    if tp + fn == 0 or tn + fp == 0:
        raise HarnessError(
            f"{path}: the judge gave a verdict on {tp + fn} supported and {tn + fp} unsupported units; both are needed"
        )
    return card


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
    for stored in sample_rows(path):
        row, where = stored.data, stored.where
        if stored.is_judged:
            for a in stored.annotations():
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
    card: JudgeCard | None = None,
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
                "with factuality judge-card, or say --other-judge"
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
                    f"judge {judges[0]}: {unlike}; measure the judge as it ran here with "
                    "factuality judge-card --judge-args, or say --other-judge"
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


def misfit(rows: Sequence[Counts], card: JudgeCard) -> str:
    """What to say where the corrected value had to be cut (`ShareEstimate.clipped`)."""
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
    spec = JudgeSpec.from_results(judge)
    there, here = spec.label_options(card), spec.label_options(run)
    if there == here:
        return ""
    return f"the card was measured with options {json.dumps(there)}, the run with {json.dumps(here)}"


def _shown(e: Mapping[str, float] | None) -> str:
    if not e:
        return "not known: no human labels"
    if math.isnan(e["value"]):
        return "no value: nothing checkable"
    return f"{e['value']:.4f} " + ("[n/a: one topic]" if math.isnan(e["low"]) else f"[{e['low']:.4f}, {e['high']:.4f}]")


def correct_run(
    run: str,
    *,
    card: Path | None = None,
    labels: Path | None = None,
    task: str | None = None,
    other_judge: Flag = False,
    out: Path | None = None,
) -> None:
    """Factuality of a run, corrected for its judge's errors.

    Parameters
    ----------
    run
        Output folder of lm_eval, or a samples file.
    card
        card.json of the judge: its errors, measured on other text.
    labels
        JSONL of human labels of some of the run's own sentences, in place of a card.
    task
        Of the run, where it holds several.
    other_judge
        Accept a card of another judge or of other options.
    out
        Write the result as JSON, with its manifest.
    """
    if card and labels:
        raise HarnessError("give --card or --labels, not both")
    if out and out.is_dir():
        raise HarnessError(f"--out {out}: is a folder; name a file")
    file = _run_file(run, task)
    annotations = list(read_annotations(file))
    data = correct(
        annotations,
        card=read_card(card) if card else None,
        labels=read_labels(labels, annotations) if labels else None,
        judge_args=run_judge_args(file),
        other_judge=other_judge,
    )
    given = data["human_labels"]
    print(f"judge         {data['judge']}")
    print(f"raw           {_shown(data['raw'])}  (95 % over {data['topics']} topics, judge taken as right)")
    print(f"corrected     {_shown(data['corrected'])}" + (f"  ({data['method']})" if data["corrected"] else ""))
    print(f"human labels  {given['run']} of this run's {data['sentences']} sentences, {given['card']} on the card")
    for note in data["notes"]:
        print(f"- {note}")
    if out:
        inputs = [p for p in (file, card, labels) if p]
        write_manifest(out, {**json_safe(data), "manifest": manifest(inputs=inputs)})
