"""How right is a judge? Measured against human labels, and written down as a card.

factuality judge-card --judge SPEC (--anah PATH | --biographies FOLDER | --labels FILE) --out DIR
"""

from __future__ import annotations

import random
import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from factuality_harness.harness.annotation import Judgement
from factuality_harness.harness.annotators.base import Annotator
from factuality_harness.harness.annotators.spec import JudgeSpec, usage_of
from factuality_harness.harness.commands import Judge, JudgeArgs, Out, Seed
from factuality_harness.harness.data.biographies import FACT_LABELS
from factuality_harness.harness.dry_run import ASK, AskingOptions
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.manifest import command_line, manifest, write_manifest
from factuality_harness.harness.io.write import json_safe, write_json, write_text
from factuality_harness.harness.judging import agreement
from factuality_harness.harness.judging.agreement import (
    HUMAN,
    JUDGE,
    SUPPORTED,
    WRONG,
    JudgedUnit,
    Statistic,
    UnitSample,
)
from factuality_harness.harness.judging.card_page import card_markdown
from factuality_harness.harness.judging.labels import (
    FREQUENCIES,
    TYPES,
    HumanLabels,
    load_anah,
    load_biographies,
    load_rows,
)

EXAMPLES = 3


def judge_labels(labels: HumanLabels, annotator: Annotator, *, progress: bool = True) -> list[Judgement]:
    """A judgement for every row, in order; `annotator.window` rows are judged together."""
    judgements: list[Judgement] = []
    claims = [row.claim for row in labels.rows]
    with tqdm(total=len(claims), unit=labels.unit, desc=f"judge {annotator.spec}", disable=not progress) as bar:
        for start in range(0, len(claims), annotator.window):
            judgements += annotator.judge(claims[start : start + annotator.window], bar.update)
    return judgements


def _estimate(sample: UnitSample, statistic: Statistic) -> dict[str, Any]:
    """Value with its 95 % bootstrap interval over topics, and the number of units."""
    low, high = sample.ci95(statistic)
    return {"value": sample.value(statistic), "low": low, "high": high, "n": sample.n}


def _binary(sample: UnitSample) -> dict[str, Any]:
    """Sensitivity, specificity (with Wilson intervals as well), and what had no verdict."""
    rows = agreement.binary(sample.tables.sum(0)).astype(int)
    result: dict[str, Any] = {"positive": "ok / supported"}
    for name, statistic, row, hit in (
        ("sensitivity", agreement.sensitivity, rows[0], 0),
        ("specificity", agreement.specificity, rows[1], 1),
    ):
        n = int(row[:2].sum())
        result[name] = _estimate(sample, statistic) | {"n": n, "wilson": agreement.wilson(int(row[hit]), n)}
    result["balanced_accuracy"] = _estimate(sample, agreement.balanced_accuracy) | {"n": int(rows[:2, :2].sum())}
    result["no_verdict"] = {
        human: {"nofact": int(row[2]), "unparsed": int(row[3]), "of": int(row.sum())}
        for human, row in zip(("positive", "negative"), rows[:2], strict=True)
    }
    return result


def _topics(sample: UnitSample) -> list[list[Any]]:
    """[topic, tp, fn, tn, fp, unparsed_pos, unparsed_neg]; the last two hold every unit without a verdict."""
    rows = agreement.binary(sample.tables).astype(int)
    return [
        [topic, int(pos[0]), int(pos[1]), int(neg[1]), int(neg[0]), int(pos[2:].sum()), int(neg[2:].sum())]
        for topic, (pos, neg, _) in zip(sample.topics, rows, strict=True)
    ]


def _typed(sample: UnitSample) -> dict[str, Any]:
    """Agreement on ANAH's types."""
    statistics = {
        "accuracy": agreement.accuracy,
        "f1_weighted": agreement.f1_weighted,
        "f1_macro": agreement.f1_macro,
        "kappa": agreement.kappa,
    }
    of_all = {name: _estimate(sample, agreement.of_types(statistic)) for name, statistic in statistics.items()}
    return of_all | {f"f1_{name}": _estimate(sample, agreement.class_f1(name)) for name in TYPES}


def _evidence(verdicts: Sequence[JudgedUnit]) -> dict[str, Any]:
    """Share of the judge's quoted n-grams that the humans quoted too. n: units in which the judge quoted any."""
    result = {}
    for n in agreement.NGRAMS:
        low, high = agreement.evidence_precision_ci95(verdicts, n)
        count = sum(v.overlap[agreement.NGRAMS.index(n)][1] > 0 for v in verdicts)
        value = agreement.evidence_precision(verdicts, n)
        result[f"precision_{n}gram"] = {"value": value, "low": low, "high": high, "n": count}
    return result


def _groups(verdicts: Sequence[JudgedUnit], typed: bool, quoted: bool) -> dict[str, dict[str, Any]]:
    """Agreement by language, frequency and every other group that the rows name; typed, quoted: whether the humans gave
    types and evidence."""
    parts: dict[str, dict[str, list[JudgedUnit]]] = defaultdict(lambda: defaultdict(list))
    for v in verdicts:
        for name, value in v.groups.items():
            parts[name][value].append(v)

    def order(value: str) -> tuple[int, str]:
        return (FREQUENCIES.index(value) if value in FREQUENCIES else len(FREQUENCIES), value)

    def measured(of_value: Sequence[JudgedUnit]) -> dict[str, Any]:
        sample = UnitSample(of_value)
        return {
            "n": sample.n,
            "topics": len(sample.topics),
            "accuracy": _estimate(sample, agreement.of_binary(agreement.accuracy)),
            "kappa": _estimate(sample, agreement.of_binary(agreement.kappa)),
            **_binary(sample),
            **({"types": _typed(sample)} if typed else {}),
            **({"evidence": _evidence(of_value)} if quoted else {}),
        }

    return {
        name: {value: measured(values[value]) for value in sorted(values, key=order)}
        for name, values in sorted(parts.items())
    }


def _examples(labels: HumanLabels, judgements: Sequence[Judgement], count: int) -> Iterator[dict[str, Any]]:
    """Up to `count` examples of each kind of disagreement, drawn with a fixed seed, the most frequent kind first."""
    kinds: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, (row, judgement) in enumerate(zip(labels.rows, judgements, strict=True)):
        judged = judgement.label.value
        if judged != row.label and not (row.label in SUPPORTED and judged in SUPPORTED):
            if row.label in FACT_LABELS and row.label in WRONG and judged in WRONG:
                continue  # FActScore's labels do not say in which way a fact is wrong
            kinds[row.label, judged].append(i)
    for (human, judge), places in sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0])):
        for i in sorted(random.Random(0).sample(places, min(count, len(places)))):
            row, judgement = labels.rows[i], judgements[i]
            yield {
                "human": human,
                "judge": judge,
                "of": len(places),
                "topic": row.topic,
                "question": row.claim.question,
                "text": row.claim.sentence,
                "human_evidence": list(row.evidence),
                "judge_evidence": list(judgement.evidence),
                "detail": judgement.detail,
                "where": row.where,
            }


def make_card(
    labels: HumanLabels,
    judgements: Sequence[Judgement],
    judge: str,
    *,
    judge_args: dict[str, Any] | None = None,
    examples: int = EXAMPLES,
) -> dict[str, Any]:
    """The judge's card: plain data, with None where a number has no value.

    `kappa` is that of supported / not supported / no fact (and unparsed, which always disagrees). In `topics` and in
    `binary`, a judge's `nofact` on a checkable unit is no verdict, like `unparsed`, as in the factuality score.
    """
    verdicts = [agreement.judged_unit(r, j) for r, j in zip(labels.rows, judgements, strict=True)]
    quoted = any(row.evidence for row in labels.rows)
    sample = UnitSample(verdicts)
    table = sample.tables.sum(0).astype(int)
    names = TYPES if labels.typed else (*FACT_LABELS, "nofact")
    confusion = {h: dict(zip(JUDGE, map(int, table[HUMAN.index(h)]), strict=True)) for h in names}
    result: dict[str, Any] = {
        "judge": judge,
        "judge_args": judge_args or {},
        "dataset": labels.name,
        "unit": labels.unit,
        "languages": sorted({v.language for v in verdicts}),
        "n": sample.n,
        "malformed": len(labels.malformed),
        "malformed_rows": [{"where": m.where, "reason": m.reason} for m in labels.malformed],
        "confusion": {h: row for h, row in confusion.items() if h != "nofact" or labels.typed or any(row.values())},
        "binary": _binary(sample),
        "accuracy": _estimate(sample, agreement.of_binary(agreement.accuracy)),
        "kappa": _estimate(sample, agreement.of_binary(agreement.kappa)),
        "by": _groups(verdicts, labels.typed, quoted),
        "topics": _topics(sample),
        "examples": list(_examples(labels, judgements, examples)),
        "caveats": list(labels.caveats),
    }
    if labels.typed:
        result["types"] = _typed(sample)
    if quoted:
        result["evidence"] = _evidence(verdicts)
    return json_safe(result)


def write_card(folder: Path, data: dict[str, Any], notes: dict[str, Any]) -> None:
    """Write card.json, card.md and manifest.json."""
    write_json(folder / "card.json", data, indent=1, allow_nan=False)
    write_text(folder / "card.md", card_markdown(data))
    write_manifest(folder / "manifest.json", notes)


def judge_card(
    *,
    judge: Judge = None,
    judge_args: JudgeArgs | None = None,
    anah: str | None = None,
    biographies: Path | None = None,
    labels: Path | None = None,
    unit: Literal["fact", "sentence"] = "fact",
    knowledge: str | None = None,
    language: str | None = None,
    limit_topics: int | None = None,
    seed: Seed = 0,
    examples: int = EXAMPLES,
    asking: AskingOptions = ASK,
    out: Out,
) -> None:
    """Measure a judge against human labels: one of --anah, --biographies, --labels.

    Writes `card.json` (for programs), `card.md` (for people) and `manifest.json`. Answers of the judge are cached as
    they come: the same command after an interruption asks only for the rest.

    Parameters
    ----------
    anah
        ANAH topic file or folder, or `hub`: $HARNESS_ANAH_DATA, else downloaded.
    biographies
        FActScore's folder of labelled answers.
    labels
        JSONL of human labels.
    unit
        Of biographies.
    knowledge
        For biographies: SQLite, JSONL or hf:REPO; default: the other systems' answers.
    language
        Only the rows in this language.
    limit_topics
        Measure on that many topics.
    seed
        Of the choice of topics.
    examples
        Examples of each kind of error.
    out
        Folder to write to.
    """
    if any(p.exists() and not p.is_dir() for p in (out, *out.parents)):
        raise HarnessError(f"--out {out}: a file is in the way; name a folder")
    if examples < 0:
        raise HarnessError(f"--examples {examples}: 0 or more")
    if sum(source is not None for source in (anah, biographies, labels)) != 1:
        raise HarnessError("give the human labels, as one of --anah, --biographies, --labels")
    if knowledge and not biographies:
        raise HarnessError("--knowledge goes with --biographies; other labels come with their documents")
    dry = asking.dry()
    annotator = JudgeSpec.configured(judge).open(asking.options(judge_args), facts=True, dry=dry)
    annotator.check()
    if biographies:
        human = load_biographies(biographies, unit, knowledge)
    else:
        human = load_rows(labels) if labels else load_anah(None if anah == "hub" else anah)
    human = human.in_language(language).of_topics(limit_topics, seed)
    judgements = judge_labels(human, annotator)
    if dry is not None:
        dry.show(annotator.spec, **{f"{human.unit}s": len(judgements)})
        return
    data = make_card(human, judgements, annotator.spec, judge_args=judge_args, examples=examples)
    inputs = {Path(p) for p in (anah, biographies, labels, knowledge) if p}  # named without the folders they lie in
    words = [Path(word).name if Path(word) in inputs else word for word in shlex.split(command_line())]
    write_card(out, data, manifest(inputs=human.files, command=shlex.join(words), judge_usage=usage_of(annotator)))
    print(card_markdown(data).partition("\n## By")[0])
    print(f"card: {out / 'card.md'}")
