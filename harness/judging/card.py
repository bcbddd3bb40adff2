"""How right is a judge? Measured against human labels, and written down as a card.

    python -m harness.judge_report --judge SPEC (--anah [PATH] | --biographies FOLDER | --labels FILE) --out DIR

DIR gets `card.json` (for programs), `card.md` (for people) and `manifest.json`. The judge's answers are cached as they
come: the same command after an interruption asks only for the rest. `--limit-topics N --seed S` measures on a sample.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import random
import re
import shlex
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from factuality_harness.harness.annotation import Judgement
from factuality_harness.harness.annotators.base import Annotator
from factuality_harness.harness.annotators.spec import JUDGES, annotator_names, judge_spec, open_annotator
from factuality_harness.harness.data.biographies import FACT_LABELS
from factuality_harness.harness.engines import ENGINES, open_engine
from factuality_harness.harness.errors import HarnessError, command
from factuality_harness.harness.factscore.annotator import FactVerifier
from factuality_harness.harness.factscore.verify import ModelVerifier
from factuality_harness.harness.io.jsonl import json_safe
from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.io.write import write_json, write_text
from factuality_harness.harness.judging import agreement
from factuality_harness.harness.judging.agreement import HUMAN, JUDGE, SUPPORTED, WRONG, Sample, Statistic, Verdict
from factuality_harness.harness.judging.labels import (
    FREQUENCIES,
    TYPES,
    HumanLabels,
    load_anah,
    load_biographies,
    load_rows,
)

EXAMPLES = 3
_MALFORMED_SHOWN = 20
_PATHS = ("--anah", "--biographies", "--labels", "--knowledge")


def open_judge(spec: str, options: Mapping[str, Any] | None = None) -> Annotator:
    """Any judge of `harness.annotators`, and FActScore's verifier `factscore@ENGINE` (own options: strict, max_tokens).

    Raises HarnessError as `harness.annotators.open_annotator` does.
    """
    name, _, engine = spec.partition("@")
    if name != "factscore" or not engine:
        return open_annotator(spec, dict(options or {}))
    options = dict(options or {})
    own = {key: options.pop(key) for key in ("strict", "max_tokens") if key in options}
    return FactVerifier(ModelVerifier(open_engine(engine, **options), **own))


def label_options(spec: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that can change a label: all that are neither the engine's (concurrency, memory, …) nor at their
    default, and `extra_body`, which an engine adds to every request. All options for a judge that is not known."""
    name, _, engine = spec.partition("@")
    if name != "factscore" and name not in annotator_names():
        return dict(options)
    judge = ModelVerifier if name == "factscore" else importlib.import_module(JUDGES[name]).ANNOTATOR
    own = inspect.signature(judge).parameters
    kind = ENGINES.get(re.split("[:#]", engine)[0])
    of_engine = inspect.signature(kind).parameters if kind else {}
    harmless = {"window", *of_engine} - {"extra_body"}
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in of_engine.values()):
        harmless |= options.keys() - own.keys()
    return {k: v for k, v in options.items() if k not in harmless and not (k in own and v == own[k].default)}


def judge_labels(labels: HumanLabels, annotator: Annotator, *, progress: bool = True) -> list[Judgement]:
    """A judgement for every row, in order; `annotator.window` rows are judged together."""
    judgements: list[Judgement] = []
    claims = [row.claim for row in labels.rows]
    with tqdm(total=len(claims), unit=labels.unit, desc=f"judge {annotator.spec}", disable=not progress) as bar:
        for start in range(0, len(claims), annotator.window):
            judgements += annotator.judge(claims[start : start + annotator.window], bar.update)
    return judgements


def _estimate(sample: Sample, statistic: Statistic) -> dict[str, Any]:
    """Value with its 95 % bootstrap interval over topics, and the number of units."""
    low, high = sample.ci95(statistic)
    return {"value": sample.value(statistic), "low": low, "high": high, "n": sample.n}


def _binary(sample: Sample) -> dict[str, Any]:
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


def _topics(sample: Sample) -> list[list[Any]]:
    """[topic, tp, fn, tn, fp, unparsed_pos, unparsed_neg]; the last two hold every unit without a verdict."""
    rows = agreement.binary(sample.tables).astype(int)
    return [
        [topic, int(pos[0]), int(pos[1]), int(neg[1]), int(neg[0]), int(pos[2:].sum()), int(neg[2:].sum())]
        for topic, (pos, neg, _) in zip(sample.topics, rows, strict=True)
    ]


def _typed(sample: Sample) -> dict[str, Any]:
    """Agreement on ANAH's types."""
    statistics = {
        "accuracy": agreement.accuracy,
        "f1_weighted": agreement.f1_weighted,
        "f1_macro": agreement.f1_macro,
        "kappa": agreement.kappa,
    }
    of_all = {name: _estimate(sample, agreement.of_types(statistic)) for name, statistic in statistics.items()}
    return of_all | {f"f1_{name}": _estimate(sample, agreement.class_f1(name)) for name in TYPES}


def _evidence(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Share of the judge's quoted n-grams that the humans quoted too. n: units in which the judge quoted any."""
    result = {}
    for n in agreement.NGRAMS:
        low, high = agreement.evidence_precision_ci95(verdicts, n)
        count = sum(v.overlap[agreement.NGRAMS.index(n)][1] > 0 for v in verdicts)
        value = agreement.evidence_precision(verdicts, n)
        result[f"precision_{n}gram"] = {"value": value, "low": low, "high": high, "n": count}
    return result


def _groups(verdicts: Sequence[Verdict], typed: bool, quoted: bool) -> dict[str, dict[str, Any]]:
    """Agreement by language, frequency and every other group that the rows name; typed, quoted: whether the humans gave
    types and evidence."""
    parts: dict[str, dict[str, list[Verdict]]] = defaultdict(lambda: defaultdict(list))
    for v in verdicts:
        for name, value in v.groups.items():
            parts[name][value].append(v)

    def order(value: str) -> tuple[int, str]:
        return (FREQUENCIES.index(value) if value in FREQUENCIES else len(FREQUENCIES), value)

    def measured(of_value: Sequence[Verdict]) -> dict[str, Any]:
        sample = Sample(of_value)
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


def card(
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
    verdicts = [agreement.verdict(r, j) for r, j in zip(labels.rows, judgements, strict=True)]
    quoted = any(row.evidence for row in labels.rows)
    sample = Sample(verdicts)
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


def _shown(e: dict[str, Any]) -> str:
    if e["value"] is None:
        return "no value"
    return f"{e['value']:.3f} " + ("[n/a]" if e["low"] is None else f"[{e['low']:.3f}, {e['high']:.3f}]")


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = [" | ".join(map(str, row)) for row in (head, ["---", *["--:"] * (len(head) - 1)], *rows)]
    return ["", *(f"| {line} |" for line in lines), ""]


def _typed_and_quoted(part: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Estimates on types and evidence of a card or of one of its groups, by what they are called on the page."""
    return {f"{kind}: {k}": e for kind in ("types", "evidence") for k, e in part.get(kind, {}).items()}


def _quoted(text: str, limit: int = 300) -> str:
    text = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def markdown(data: dict[str, Any]) -> str:
    """A card as a page for people."""
    binary = data["binary"]
    lost = binary["no_verdict"]
    lines = [
        f"# Judge `{data['judge']}`" + (f" with {json.dumps(data['judge_args'])}" if data["judge_args"] else ""),
        "",
        f"Measured on {data['dataset']}: {data['n']} {data['unit']}s, {len(data['topics'])} topics, "
        f"{', '.join(data['languages'])}. Malformed human labels, left out: {data['malformed']}. "
        "Intervals: 95 %, bootstrap over topics; n/a where a value rests on a single topic.",
        "",
        *(f"- {caveat}" for caveat in data["caveats"]),
        *_table(
            ["", "value [95 % interval]", "Wilson interval", "units"],
            [
                [
                    name.replace("_", " "),
                    _shown(e),
                    "[{:.3f}, {:.3f}]".format(*e["wilson"]) if e.get("wilson", [None])[0] is not None else "",
                    e["n"],
                ]
                for name, e in (
                    *((k, binary[k]) for k in ("sensitivity", "specificity", "balanced_accuracy")),
                    ("accuracy", data["accuracy"]),
                    ("kappa", data["kappa"]),
                    *_typed_and_quoted(data).items(),
                )
            ],
        ),
        "Sensitivity: of what humans call supported, the share the judge calls `ok`; specificity: of what humans call "
        "not supported, the share it calls wrong; both among the units it gave a verdict on. No verdict (`nofact` or "
        "`unparsed`): "
        + ", ".join(
            f"{part['nofact'] + part['unparsed']} of {part['of']} {'supported' if k == 'positive' else 'unsupported'}"
            for k, part in lost.items()
        )
        + ". Accuracy and kappa count every unit, with no verdict as a disagreement.",
        "",
        "## Confusion",
        *_table(
            ["human \\ judge", *JUDGE],
            [[human, *(row[name] for name in JUDGE)] for human, row in data["confusion"].items()],
        ),
    ]
    for name, parts in data["by"].items():
        if len(parts) > 1:
            head = [name, "units", "topics", "sensitivity", "specificity", "balanced accuracy", "kappa"]
            keys = ("sensitivity", "specificity", "balanced_accuracy", "kappa")
            rows = [[value, p["n"], p["topics"], *(_shown(p[k]) for k in keys)] for value, p in parts.items()]
            lines += [f"## By {name}", *_table(head, rows)]
            more = {value: _typed_and_quoted(p) for value, p in parts.items()}
            columns = next(iter(more.values()))
            if columns:
                rows = [[value, *map(_shown, found.values())] for value, found in more.items()]
                lines += _table([name, *columns], rows)[1:]
    if data["examples"]:
        lines += ["## Examples of each kind of error", ""]
    seen: set[tuple[str, str]] = set()
    for e in data["examples"]:
        if (e["human"], e["judge"]) not in seen:
            seen.add((e["human"], e["judge"]))
            lines += ["", f"Human `{e['human']}`, judge `{e['judge']}` ({e['of']} times):", ""]
        quoted = " / ".join(map(_quoted, e["judge_evidence"]))
        lines.append(
            f"- {_quoted(e['topic'])}: “{_quoted(e['text'])}”"
            + (f" Judge's evidence: “{quoted}”" if quoted else "")
            + (f" ({_quoted(e['detail'])})" if e["detail"] else "")
        )
    if data["malformed"]:
        lines += ["", "## Malformed human labels", ""]
        for reason, n in Counter(m["reason"] for m in data["malformed_rows"]).most_common(_MALFORMED_SHOWN):
            first = next(m["where"] for m in data["malformed_rows"] if m["reason"] == reason)
            lines.append(f"- {n} x {_quoted(reason)}; the first: {first}")
    return "\n".join(lines) + "\n"


def write_card(folder: Path, data: dict[str, Any], notes: dict[str, Any]) -> None:
    """Write card.json, card.md and manifest.json."""
    write_json(folder / "card.json", data, indent=1, allow_nan=False)
    write_text(folder / "card.md", markdown(data))
    write_manifest(folder / "manifest.json", notes)


def _options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        raise HarnessError(f"--judge-args {text!r}: not JSON ({error})") from error
    if not isinstance(options, dict):
        raise HarnessError(f"--judge-args {text!r}: not a JSON object of options")
    return options


def _sources(args: argparse.Namespace) -> Callable[[], HumanLabels]:
    if args.biographies:
        return lambda: load_biographies(args.biographies, args.unit, args.knowledge)
    if args.knowledge:
        raise HarnessError("--knowledge goes with --biographies; other labels come with their documents")
    return (lambda: load_rows(args.labels)) if args.labels else (lambda: load_anah(args.anah or None))


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m harness.judge_report", description=__doc__.split("\n")[0])
    parser.add_argument("--judge", help="judge spec; default $HARNESS_JUDGE")
    parser.add_argument("--judge-args", type=_options, default={}, help="JSON object of judge and engine options")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--anah", nargs="?", const="", help="ANAH topic file or folder; default: the hub")
    source.add_argument("--biographies", type=Path, help="FActScore's folder of labelled answers")
    source.add_argument("--labels", type=Path, help="JSONL of human labels")
    parser.add_argument("--unit", choices=("fact", "sentence"), default="fact", help="of biographies")
    parser.add_argument("--knowledge", help="for biographies: SQLite, JSONL or hf:REPO; default: the other systems")
    parser.add_argument("--language", help="only the rows in this language")
    parser.add_argument("--limit-topics", type=int, help="measure on that many topics")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of topics")
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="examples of each kind of error")
    parser.add_argument("--out", type=Path, required=True, help="folder for card.json, card.md and manifest.json")
    args = parser.parse_args(argv)
    if any(p.exists() and not p.is_dir() for p in (args.out, *args.out.parents)):
        raise HarnessError(f"--out {args.out}: a file is in the way; name a folder")
    if args.examples < 0:
        raise HarnessError(f"--examples {args.examples}: 0 or more")
    annotator = open_judge(judge_spec(args.judge), args.judge_args)
    annotator.check()
    labels = _sources(args)().in_language(args.language).of_topics(args.limit_topics, args.seed)
    judgements = judge_labels(labels, annotator)
    data = card(labels, judgements, annotator.spec, judge_args=args.judge_args, examples=args.examples)
    given = sys.argv[1:] if argv is None else argv
    words = [Path(w).name if before in _PATHS else w for before, w in zip(["", *given], given, strict=False)]
    command_line = shlex.join(["python", "-m", "harness.judge_report", *words])
    write_card(args.out, data, manifest(inputs=labels.files, command=command_line))
    print((args.out / "card.md").read_text(encoding="utf-8").partition("\n## By")[0])
    print(f"card: {args.out / 'card.md'}")


if __name__ == "__main__":
    sys.exit(main())
