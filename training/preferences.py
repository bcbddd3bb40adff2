"""From questions to preference pairs: sample, annotate, pair.

    python -m training.preferences sample --questions SRC --engine hf:MODEL --n 4 --out samples.jsonl
    python -m training.preferences annotate --samples samples.jsonl --judge SPEC --out annotations.jsonl
    python -m training.preferences pair --annotations annotations.jsonl --out pairs.jsonl

SRC: `mini:train`, `mini:test`, `mini:all`, or ANAH-format rows (a file or folder). Each step writes as it goes, and run
again with the same settings it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from harness.annotate import Item, annotate
from harness.annotation import Annotation, Label
from harness.annotators import judge_spec, open_annotator
from harness.data import anah
from harness.engines import Sampling, open_engine
from harness.errors import HarnessError, command
from harness.factscore.score import counts_of_annotation, response_score
from harness.jsonl import read_jsonl
from harness.manifest import manifest, write_manifest
from harness.prompts import prompt
from harness.samples import read_annotations, samples_files
from harness.sentences import STYLES
from training.pairs import LabelledResponse, Pair, write_pairs

WINDOW = 256  # questions sampled before their rows are written
WRONG = (Label.CONTRADICTORY, Label.UNVERIFIABLE)
RANKINGS = ("share", "correct", "factscore")
LABELS = ("sentence", "response", "random")


# Files that grow


def _unfinished(out: Path, settings: dict[str, Any]) -> int:
    """Ready `out` to be continued: check that it was begun with the same settings, drop a last line that a kill cut
    off, and return the number of rows it holds."""
    record = out.with_name(f"{out.name}.settings.json")
    settings = json.loads(json.dumps(settings))
    out.parent.mkdir(parents=True, exist_ok=True)
    if not out.exists():
        record.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return 0
    begun = json.loads(record.read_text(encoding="utf-8")) if record.exists() else None
    if begun != settings:
        changed = [k for k in settings if not begun or begun.get(k) != settings[k]]
        raise HarnessError(
            f"{out} was made with other settings ({', '.join(changed)}); remove it or name another --out"
        )
    with out.open("rb+") as file:
        data = file.read()
        whole = data.rfind(b"\n") + 1
        file.truncate(whole)
    return data[:whole].count(b"\n")


def _append(file: IO[str], row: dict[str, Any]) -> None:
    file.write(json.dumps(row, ensure_ascii=False) + "\n")


# sample


def load_questions(source: str) -> list[anah.Question]:
    """Questions of `mini:PART` or of an ANAH-format path, each once. Raises HarnessError for another part."""
    name, _, part = source.partition(":")
    found = anah.load_mini(part or "train") if name == "mini" else anah.load(source)
    return list({(q.language, q.question): q for q in found}.values())


def sample(
    questions: Sequence[anah.Question],
    engine_spec: str,
    out: Path,
    *,
    n: int,
    sampling: Sampling,
    with_document: bool = False,
    engine_args: dict[str, Any] | None = None,
    progress: bool = True,
) -> Counter[str]:
    """Write `n` samples a question to `out`: rows question, topic, language, document, response, sample (0 … n-1).

    Sample k is drawn with seed `sampling.seed + k`. with_document: the prompt holds the reference document (the row's
    question stays the plain one). Returns counts: asked, failed (the engine could not answer), empty. Failed ones have
    no row. Raises HarnessError for settings other than the file's own, EngineError when the engine fails.
    """
    if n < 1 or not questions:
        raise HarnessError(f"nothing to sample: {len(questions)} questions, {n} samples each")
    engine = open_engine(engine_spec, **(engine_args or {}))
    engine.engine.check()
    settings = {"engine": engine.engine.identity, "n": n, "sampling": asdict(sampling), "with_document": with_document}
    done = _unfinished(out, settings)
    seen = {(row["question"], row["sample"]) for _, row in read_jsonl(out)} if done else set()
    counts: Counter[str] = Counter(asked=0, failed=0, empty=0)
    with (
        tqdm(total=n * len(questions), initial=done, desc="sample", unit="response", disable=not progress) as bar,
        out.open("a", encoding="utf-8") as file,
    ):
        for start in range(0, len(questions), WINDOW):
            window = questions[start : start + WINDOW]
            rows: dict[tuple[int, int], dict[str, Any]] = {}
            for k in range(n):
                left = [(i, q) for i, q in enumerate(window) if (q.question, k) not in seen]
                if not left:
                    continue
                conversations = [[{"role": "user", "content": _ask(q, with_document)}] for _, q in left]
                draw = replace(sampling, seed=sampling.seed + k)
                replies = engine.complete(conversations, draw, on_reply=lambda *_: bar.update())
                for (i, q), reply in zip(left, replies, strict=True):
                    counts["asked"] += 1
                    if reply.text is None:
                        counts["failed"] += 1
                        continue
                    counts["empty"] += not reply.text.strip()
                    rows[i, k] = {**q.to_dict(), "response": reply.text, "sample": k}
            for place in sorted(rows):
                _append(file, rows[place])
            file.flush()
    if not seen and counts["failed"] == counts["asked"]:
        raise HarnessError(f"{engine_spec} answered none of {counts['asked']} requests")
    return counts


def _ask(question: anah.Question, with_document: bool) -> str:
    if not with_document:
        return question.question
    template = prompt(f"answer_with_document_{question.language}")
    return template.replace("{document}", question.document).replace("{question}", question.question).strip()


# annotate


def annotate_samples(
    samples: Path,
    spec: str,
    out: Path,
    *,
    judge_args: dict[str, Any] | None = None,
    style: str = "anah",
    progress: bool = True,
) -> int:
    """Write an annotation a sample to `out` (`Annotation.to_dict`, the sample's number in `extra`), in their order.

    Returns how many were new. Raises HarnessError naming file and row for a row that is no sample or lacks its
    document, and for settings other than the file's own.
    """
    annotator = open_annotator(spec, judge_args)
    annotator.check()
    rows = [_sample_row(row, f"{samples}, row {number}") for number, row in read_jsonl(samples)]
    if not rows:
        raise HarnessError(f"{samples}: holds no sample")
    settings = {"judge": annotator.spec, "judge_args": judge_args or {}, "style": style}
    done = _unfinished(out, settings)
    for (number, old), (_, k) in zip(read_jsonl(out) if done else (), rows, strict=False):
        if old.get("extra", {}).get("sample") != k:
            raise HarnessError(f"{out}, row {number}: does not belong to {samples}; remove it or name another --out")
    left = rows[done:]
    with out.open("a", encoding="utf-8") as file:
        annotations = annotate((i for i, _ in left), annotator, style=style, progress=progress, total=len(left))
        for annotation, (_, k) in zip(annotations, left, strict=True):
            _append(file, replace(annotation, extra={**annotation.extra, "sample": k}).to_dict())
            file.flush()
    return len(left)


def _sample_row(row: dict[str, Any], where: str) -> tuple[Item, int]:
    missing = [k for k in ("question", "response", "document", "language") if not isinstance(row.get(k), str)]
    if missing or (not row["document"].strip()):
        raise HarnessError(
            f"{where}: {', '.join(missing) or 'document'} missing; samples come from "
            "`python -m training.preferences sample`"
        )
    item = Item(row["question"], row["response"], row["document"], row["language"], row.get("topic", ""))
    return item, int(row.get("sample", 0))


# pair


@dataclass(frozen=True, slots=True)
class PairRules:
    """How pairs are chosen. min_gap: least difference of the ranking value; 0 still needs a difference.

    rank_by: `share` of correct among checkable sentences, number of `correct` ones, or `factscore` (annotations of the
    FActScore tasks). labels: `sentence` as judged; `response`: every sentence of chosen right, of rejected wrong;
    `random`: any two responses, random labels at the judged rate. max_length_ratio: longer by shorter, in characters.
    """

    min_gap: float = 0.0
    pairs_per_question: int = 1
    max_chars: int | None = None
    min_sentences: int = 1
    max_length_ratio: float | None = None
    rank_by: str = "share"
    labels: str = "sentence"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank_by not in RANKINGS or self.labels not in LABELS:
            raise HarnessError(f"rank_by is one of {', '.join(RANKINGS)}; labels one of {', '.join(LABELS)}")
        if self.pairs_per_question < 1 or self.min_gap < 0:
            raise HarnessError("pairs_per_question is at least 1, min_gap at least 0")


def checkable(annotation: Annotation) -> int:
    """Sentences that were judged right or wrong."""
    return annotation.count(Label.OK, *WRONG)


def share(annotation: Annotation) -> float:
    """Correct among checkable sentences; there must be one."""
    return annotation.count(Label.OK) / checkable(annotation)


VALUES: dict[str, Callable[[Annotation], float]] = {
    "share": share,
    "correct": lambda annotation: annotation.count(Label.OK),
    "factscore": lambda annotation: response_score(counts_of_annotation(annotation)),
}


def pair_question(
    candidates: Sequence[Annotation], rules: PairRules, chosen_from: Sequence[Annotation] | None = None
) -> tuple[list[tuple[Annotation, Annotation]], str]:
    """Best against worst, then second best against second worst, …; and why there is none, if there is none.

    Ties go to the response with more checkable sentences, then to the lower sample number. chosen_from: responses the
    chosen side comes from, instead of `candidates`.
    """
    value = VALUES[rules.rank_by]

    def usable(annotations: Sequence[Annotation]) -> list[Annotation]:
        fit = [a for a in annotations if checkable(a) and len(a.sentences) >= rules.min_sentences]
        fit = [a for a in fit if rules.max_chars is None or len(a.response) <= rules.max_chars]
        return list({a.response: a for a in sorted(fit, key=_sample_number, reverse=True)}.values())

    rejected = usable(candidates)
    chosen = rejected if chosen_from is None else usable(chosen_from)
    if not rejected or not chosen:
        return [], "no usable response (checkable sentences, length)"
    if chosen_from is None and len(rejected) < 2:
        return [], "fewer than two different usable responses"
    if rules.labels == "random":
        rng = random.Random(f"{rules.seed} {candidates[0].question}")
        two = rng.sample(rejected, 2) if chosen_from is None else [rng.choice(chosen), rng.choice(rejected)]
        return [(two[0], two[1])], ""
    best = sorted(chosen, key=lambda a: (-value(a), -checkable(a), _sample_number(a)))
    worst = sorted(rejected, key=lambda a: (value(a), -checkable(a), _sample_number(a)))
    found = []
    reason = "no difference (or less than min_gap)"
    for won, lost in zip(best, worst, strict=False):
        gap = value(won) - value(lost)
        if gap <= 0 or gap < rules.min_gap:
            break
        lengths = sorted((len(won.response), len(lost.response)))
        if rules.max_length_ratio is not None and lengths[1] > rules.max_length_ratio * lengths[0]:
            reason = "lengths differ too much"
            continue
        found.append((won, lost))
        if len(found) == rules.pairs_per_question:
            break
    return found, "" if found else reason


def _sample_number(annotation: Annotation) -> tuple[int, str]:
    return int(annotation.extra.get("sample", 0)), annotation.response


def to_pair(won: Annotation, lost: Annotation, rules: PairRules, wrong_rate: float) -> Pair:
    """A pair with the labels that the rules ask for. wrong_rate: for random labels."""
    rng = random.Random(f"labels {rules.seed} {won.question}")

    def side(annotation: Annotation, whole: Label) -> LabelledResponse:
        labels = tuple(j.label for j in annotation.judgements)
        if rules.labels == "response":
            labels = (whole,) * len(labels)
        elif rules.labels == "random":
            labels = tuple(Label.CONTRADICTORY if rng.random() < wrong_rate else Label.OK for _ in labels)
        return LabelledResponse(annotation.response, annotation.sentences, labels)

    question = {"role": "user", "content": won.question}
    return Pair((question,), side(won, Label.OK), side(lost, Label.CONTRADICTORY), won.topic)


def make_pairs(
    annotations: Iterable[Annotation], rules: PairRules, chosen_from: Iterable[Annotation] | None = None
) -> tuple[list[Pair], dict[str, Any]]:
    """All pairs, in the order of the questions, and a report: questions with and without a pair, and why.

    Raises HarnessError when there is none.
    """
    groups = _by_question(annotations)
    others = None if chosen_from is None else _by_question(chosen_from)
    judged = [a for group in groups.values() for a in group]
    wrong = sum(a.count(*WRONG) for a in judged) / max(1, sum(map(checkable, judged)))
    chosen: list[tuple[Annotation, Annotation]] = []
    reasons: Counter[str] = Counter()
    for question, group in groups.items():
        found, why = pair_question(group, rules, None if others is None else others.get(question, []))
        chosen += found
        if why:
            reasons[why] += 1
    report: dict[str, Any] = {
        "questions": len(groups),
        "responses": len(judged),
        "pairs": len(chosen),
        "questions_without_pair": dict(reasons),
    }
    if not chosen:
        raise HarnessError(f"no pair can be made: {json.dumps(report)}")
    pairs = [to_pair(won, lost, rules, wrong) for won, lost in chosen]
    for name, place in (("chosen", 0), ("rejected", 1)):
        side = [pair[place] for pair in chosen]
        report[f"{name}_share"] = round(sum(map(share, side)) / len(side), 4)
        counting = (Label.OK, Label.NOFACT) if name == "chosen" else WRONG
        labels = [getattr(p, name).labels for p in pairs]
        report[f"{name}_counting_sentences"] = sum(label in counting for row in labels for label in row)
    return pairs, report


def _by_question(annotations: Iterable[Annotation]) -> dict[str, list[Annotation]]:
    groups: dict[str, list[Annotation]] = defaultdict(list)
    for annotation in annotations:
        groups[annotation.question].append(annotation)
    return dict(groups)


def read_all(paths: Iterable[Path]) -> Iterator[Annotation]:
    """Annotations of annotation files and lm_eval samples files (or folders of them)."""
    for path in paths:
        for file in samples_files(path):
            yield from read_annotations(file)


# Command line


def _run_sample(args: argparse.Namespace) -> None:
    sampling = Sampling(
        max_tokens=args.max_tokens, temperature=args.temperature, top_p=args.top_p, top_k=args.top_k, seed=args.seed
    )
    questions = load_questions(args.questions)
    counts = sample(
        questions,
        args.engine,
        args.out,
        n=args.n,
        sampling=sampling,
        with_document=args.with_document,
        engine_args=args.engine_args,
    )
    print(json.dumps({"questions": len(questions), "samples": args.n, **counts}))


def _run_annotate(args: argparse.Namespace) -> None:
    new = annotate_samples(args.samples, judge_spec(args.judge), args.out, judge_args=args.judge_args, style=args.style)
    print(json.dumps({"annotated": new, "out": str(args.out)}))


def _run_pair(args: argparse.Namespace) -> None:
    rules = PairRules(**{name: getattr(args, name) for name in PairRules.__dataclass_fields__})
    chosen_from = None if args.chosen_from is None else read_all([args.chosen_from])
    pairs, report = make_pairs(read_all(args.annotations), rules, chosen_from)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_pairs(args.out, pairs)
    inputs = [p for p in (*args.annotations, args.chosen_from) if p is not None and p.is_file()]
    write_manifest(f"{args.out}.manifest.json", manifest(inputs=inputs, rules=asdict(rules)))
    Path(f"{args.out}.report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training.preferences", description=str(__doc__).split("\n")[0])
    steps = parser.add_subparsers(required=True)

    step = steps.add_parser("sample", help="several answers to every question")
    step.set_defaults(run=_run_sample)
    step.add_argument("--questions", required=True, help="mini:train, mini:test, mini:all, or ANAH-format rows")
    step.add_argument("--engine", required=True, help="openai:URL#MODEL, vllm:MODEL or hf:MODEL")
    step.add_argument("--engine-args", type=json.loads, default={}, help="JSON object of engine options")
    step.add_argument("--n", type=int, default=8)
    step.add_argument("--temperature", type=float, default=0.8)
    step.add_argument("--top-k", type=int, default=40)
    step.add_argument("--top-p", type=float, default=1.0)
    step.add_argument("--max-tokens", type=int, default=512)
    step.add_argument("--seed", type=int, default=0)
    step.add_argument("--with-document", action="store_true", help="put the reference document into the prompt")
    step.add_argument("--out", type=Path, required=True)

    step = steps.add_parser("annotate", help="label every sentence of the samples")
    step.set_defaults(run=_run_annotate)
    step.add_argument("--samples", type=Path, required=True)
    step.add_argument("--judge", help="judge spec; default $HARNESS_JUDGE")
    step.add_argument("--judge-args", type=json.loads, default={}, help="JSON object of judge and engine options")
    step.add_argument("--style", choices=STYLES, default="anah")
    step.add_argument("--out", type=Path, required=True)

    step = steps.add_parser("pair", help="best against worst response of every question")
    step.set_defaults(run=_run_pair)
    step.add_argument("--annotations", type=Path, nargs="+", required=True, help="annotation or lm_eval samples files")
    step.add_argument("--chosen-from", type=Path, help="take the chosen side from these annotations")
    step.add_argument("--min-gap", type=float, default=0.0)
    step.add_argument("--pairs-per-question", type=int, default=1)
    step.add_argument("--max-chars", type=int)
    step.add_argument("--min-sentences", type=int, default=1)
    step.add_argument("--max-length-ratio", type=float)
    step.add_argument("--rank-by", choices=RANKINGS, default="share")
    step.add_argument("--labels", choices=LABELS, default="sentence")
    step.add_argument("--seed", type=int, default=0)
    step.add_argument("--out", type=Path, required=True)

    args = parser.parse_args(argv)
    args.run(args)


if __name__ == "__main__":
    sys.exit(main())
