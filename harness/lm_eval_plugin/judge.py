"""lm_eval tasks that judge the judge: human-labelled sentences and facts, and how far a judge agrees with them.

Nothing is generated: the model that lm_eval asks is not looked at (use `--model dummy`). The judge under test comes
from `--metadata`, and is called once, over all units together.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import datasets

from factuality_harness.harness.annotation import (
    Annotation,
    Judgement,
    Label,
    Sentence,
    dump_annotations,
    load_annotations,
)
from factuality_harness.harness.annotators.base import Claim
from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.judging import agreement
from factuality_harness.harness.judging.agreement import HUMAN, NGRAMS, JudgedUnit, Statistic, UnitSample
from factuality_harness.harness.judging.card import judge_labels
from factuality_harness.harness.judging.labels import (
    TYPES,
    HumanLabels,
    LabelledClaim,
    load_anah,
    load_biographies,
    load_rows,
)
from factuality_harness.harness.lm_eval_plugin.task import JudgedTask
from factuality_harness.harness.metrics import Metric, interval_ends
from factuality_harness.harness.sentences import LANGUAGES

log = logging.getLogger(__name__)

_MALFORMED = "malformed"


def _measured(name: str, statistic: Statistic, about: str, language: str | None = None) -> dict[str, Metric]:
    """A statistic, over the units in one language or all, with its interval."""

    def chosen(verdicts: Sequence[JudgedUnit]) -> UnitSample:
        return UnitSample(v for v in verdicts if language in (None, v.language))

    name, about = _in_language(name, about, language)
    value = Metric(lambda verdicts: chosen(verdicts).value(statistic), True, about)
    return {name: value, **interval_ends(name, lambda verdicts: chosen(verdicts).ci95(statistic))}


def _evidence(n: int, language: str | None = None) -> dict[str, Metric]:
    def chosen(verdicts: Sequence[JudgedUnit]) -> list[JudgedUnit]:
        return [v for v in verdicts if language in (None, v.language)]

    about = f"Share of the {n}-grams of the judge's evidence that stand in the human's."
    name, about = _in_language(f"evidence_precision_{n}gram", about, language)
    value = Metric(lambda verdicts: agreement.evidence_precision(chosen(verdicts), n), True, about)
    return {name: value, **interval_ends(name, lambda v: agreement.evidence_precision_ci95(chosen(v), n))}


def _in_language(name: str, about: str, language: str | None) -> tuple[str, str]:
    return (f"{name}_{language}", f"{about.removesuffix('.')}, in language {language}.") if language else (name, about)


def _judged_as(label: str, about: str) -> Metric:
    return Metric(lambda verdicts: UnitSample(verdicts).value(agreement.judged_as(label)), False, about)


_BINARY: dict[str, Metric] = {
    **_measured("sensitivity", agreement.sensitivity, "Share that the judge calls right of what humans call right."),
    **_measured("specificity", agreement.specificity, "Share that the judge calls wrong of what humans call wrong."),
    **_measured("balanced_accuracy", agreement.balanced_accuracy, "Mean of sensitivity and specificity."),
    "nofact_rate": _judged_as("nofact", "Share of the units in which the judge sees no checkable fact."),
    "unparsed_rate": _judged_as("unparsed", "Share of the units to which the judge gave no usable answer."),
    "units": Metric(lambda verdicts: UnitSample(verdicts).n, True, "Number of units judged."),
    _MALFORMED: Metric(
        lambda verdicts: sum(v.human not in HUMAN for v in verdicts), False, "Number of human labels that are unusable."
    ),
}
_TYPES: dict[str, tuple[Statistic, str]] = {
    "accuracy": (agreement.of_types(agreement.accuracy), "Share of the units with the human's type."),
    "f1_weighted": (agreement.of_types(agreement.f1_weighted), "Mean F1 of the types, weighted by their frequency."),
    "f1_macro": (agreement.of_types(agreement.f1_macro), "Plain mean F1 of the types."),
    "kappa": (agreement.of_types(agreement.kappa), "Cohen's kappa over the types."),
    **{f"f1_{name}": (agreement.class_f1(name), f"F1 of the type {name}.") for name in TYPES},
}


class JudgeTask(JudgedTask):
    """Agreement of a judge with human labels, supported against not supported."""

    metrics: dict[str, Metric] = {  # noqa: RUF012  (as in the base class)
        **_measured("accuracy", agreement.of_binary(agreement.accuracy), "Share of the units judged as by humans."),
        **_measured("kappa", agreement.of_binary(agreement.kappa), "Cohen's kappa of the three readings."),
        **_BINARY,
    }

    def open_judge(self) -> str:
        spec = JudgeSpec.configured(self.settings.get("judge"))
        self.annotator = spec.open(self.settings.get("judge_args"), facts=True, dry=self.dry)
        self.annotator.check()
        return str(spec)

    def judge_responses(self, resps: list[list[str]], docs: list[dict[str, Any]]) -> list[str]:
        """Annotation JSON for each unit; what lm_eval's model said counts for nothing."""
        rows = [_row(doc) for doc in docs]
        sound = HumanLabels("", "unit", tuple(row for row in rows if row.label in HUMAN))
        judgements = iter(judge_labels(sound, self.annotator))
        texts = []
        for row in rows:
            claim = row.claim
            judged = row.label in HUMAN
            annotation = Annotation(
                claim.question,
                claim.sentence,
                claim.language,
                self.annotator.spec,
                row.topic,
                (Sentence(claim.sentence, 0, len(claim.sentence)),) if judged else (),
                (next(judgements),) if judged else (),
                {"human": row.label, "where": row.where},
            )
            texts.append(dump_annotations([annotation]))
        return texts

    def count(self, doc: dict[str, Any], annotations: str) -> JudgedUnit:
        (annotation,) = load_annotations(annotations)
        judgement = annotation.judgements[0] if annotation.judgements else Judgement(Label.UNPARSED)
        return agreement.judged_unit(_row(doc), judgement)


class JudgeTypesTask(JudgeTask):
    """Agreement on ANAH's types, as the ANAH papers report it, and on supported against not supported."""

    metrics: dict[str, Metric] = {  # noqa: RUF012
        **{
            k: v
            for language in (None, *LANGUAGES)
            for name, (statistic, about) in _TYPES.items()
            for k, v in _measured(name, statistic, about, language).items()
        },
        **{k: v for n in NGRAMS for language in (None, *LANGUAGES) for k, v in _evidence(n, language).items()},
        **_BINARY,
    }


def _row(doc: dict[str, Any]) -> LabelledClaim:
    return LabelledClaim(
        topic=doc["topic"],
        claim=Claim(doc["question"], doc["sentence"], doc["document"], doc["language"]),
        label=doc["label"],
        where=doc["where"],
        evidence=tuple(doc["evidence"]),
    )


def _as_dataset(
    labels: HumanLabels, language: str | None, limit_topics: int | None, seed: int
) -> dict[str, datasets.Dataset]:
    """One doc a unit; malformed ones come last, are not judged, and are counted by the metric `malformed`."""
    labels = labels.in_language(language).of_topics(limit_topics, seed)
    for caveat in labels.caveats:
        log.warning("%s", caveat)
    for bad in labels.malformed:
        log.warning("malformed human label: %s: %s", bad.where, bad.reason)
    docs = [
        {
            "topic": row.topic,
            **{name: value for name, value in asdict(row.claim).items() if name != "response"},
            "label": row.label,
            "where": row.where,
            "reason": "",
            "evidence": list(row.evidence),
        }
        for row in labels.rows
    ]
    docs += [
        {
            "topic": "",
            "question": bad.where,
            "sentence": bad.text,
            "document": "",
            "language": "",
            "label": _MALFORMED,
            "where": bad.where,
            "reason": bad.reason,
            "evidence": [],
        }
        for bad in labels.malformed
    ]
    features = datasets.Features(
        {name: datasets.Value("string") for name in docs[0] if name != "evidence"}
        | {"evidence": datasets.List(datasets.Value("string"))}
    )
    return {"test": datasets.Dataset.from_list(docs, features=features)}


def anah_labels(
    data: str | None = None, language: str | None = None, limit_topics: int | None = None, seed: int = 0, **_: Any
) -> dict[str, datasets.Dataset]:
    """lm_eval `custom_dataset`: ANAH's human annotations; data: a path, or None for $HARNESS_ANAH_DATA and the hub."""
    return _as_dataset(load_anah(data), language, limit_topics, seed)


def row_labels(
    data: str | None = None, language: str | None = None, limit_topics: int | None = None, seed: int = 0, **_: Any
) -> dict[str, datasets.Dataset]:
    """lm_eval `custom_dataset`: JSONL of human labels with ANAH's types (see `harness.judging.labels`)."""
    if not data:
        raise HarnessError('which labels? Give --metadata \'{"data": "FILE.jsonl"}\'')
    labels = load_rows(data)
    if not labels.typed:
        raise HarnessError(f"{data}: labels S, NS, IR have no types; use factuality judge-card --labels {data}")
    return _as_dataset(labels, language, limit_topics, seed)


def biography_labels(
    data: str | None = None,
    unit: str = "fact",
    knowledge: str | None = None,
    limit_topics: int | None = None,
    seed: int = 0,
    **_: Any,
) -> dict[str, datasets.Dataset]:
    """lm_eval `custom_dataset`: FActScore's labelled biographies; data: their folder, unit: fact or sentence."""
    if not data:
        raise HarnessError('which biographies? Give --metadata \'{"data": "FOLDER"}\' with one JSONL file a system')
    return _as_dataset(load_biographies(data, unit, knowledge), None, limit_topics, seed)
