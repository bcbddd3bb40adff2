"""What a sweep measured, from lm_eval's own result files: the one place where the rest of `analysis` gets its numbers.

`load_results` reads a sweep's store, or the few small files that `factuality collect` makes of one;
`load_run` reads the output folder of any lm_eval run. Nothing here computes a score: metrics are lm_eval's, counts are
those of the judged sentences in its samples files.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import read_jsonl
from factuality_harness.harness.io.manifest import sha256
from factuality_harness.harness.io.samples import judged_rows
from factuality_harness.harness.metrics import Counts, count

COLLECTED = "results.jsonl.gz"
MARGINS = "margins.csv"
MARGIN_COLUMNS = ("stage", "step", "margin", "accuracy")
"""Reward margins in training: train stage, optimiser step, mean reward margin of chosen over rejected in beta units,
share of pairs with a positive one."""
USUAL = ("none", "annotation")  # filters that need not be recorded
FIELDS = (
    *("topic", "responses", "ok", "contradictory", "unverifiable", "nofact", "unparsed"),
    *("thinking_cut", "each", "other_language"),
)
OLDEST = 7  # of them, as the first collected files have


@dataclass(frozen=True, slots=True)
class TaskScore:
    """One model on one task.

    judge: as annotations and judge cards name it, with those of its `judge_args` that may change a label
    (`dialogue@openai#m {"max_tokens": 8}`); "" where none is used. metrics: lm_eval's by name, without the filter
    (kept, `name,filter`, where several filters report the same metric); standard errors too. questions: counts of one
    question each, in doc order, empty for tasks that are not judged and runs without samples. file: lm_eval's results
    file, relative to the folder loaded. filters: metric to the filter it came through, where that is not the usual one.
    """

    task: str
    version: str
    judge: str
    metrics: dict[str, float]
    questions: tuple[Counts, ...]
    file: str
    sha256: str
    filters: dict[str, str] = field(default_factory=dict)

    def key(self, name: str) -> str | None:
        """The key of `metrics` that `name` or `name,filter`, as lm_eval's file has it, stands for; None without one."""
        if name in self.metrics:
            return name
        base, comma, of = name.partition(",")
        known = (self.filters[base],) if base in self.filters else USUAL
        return base if comma and base in self.metrics and of in known else None

    def metric(self, name: str) -> float:
        """A metric's value. Raises HarnessError listing what there is."""
        if (key := self.key(name)) is None:
            raise HarnessError(f"{self.file}: task {self.task} has no metric {name!r}; it has {self.known()}")
        return self.metrics[key]

    def known(self) -> str:
        """Its metrics, listed."""
        names = (name for name in self.metrics if "_stderr" not in name)
        return ", ".join(f"{name},{self.filters[name]}" if name in self.filters else name for name in names)


@dataclass(frozen=True, slots=True)
class CellResult:
    """One cell of an experiment with one seed. stages: role to stage id. scores: by task, empty when it has not run."""

    experiment: str
    labels: dict[str, str]
    seed: int
    stages: dict[str, str]
    scores: dict[str, TaskScore]


@dataclass(frozen=True, slots=True)
class ExperimentResult:
    """All cells of an experiment. table: what its file says about the table it belongs in (see `analysis.tables`)."""

    name: str
    title: str
    table: dict[str, Any]
    cells: tuple[CellResult, ...]


@dataclass(frozen=True, slots=True)
class Results:
    """Everything loaded. stages: stage id to its record (kind, settings, needs, seconds, commands) for every finished
    stage that an experiment uses. margins: see `MARGIN_COLUMNS`."""

    root: Path
    experiments: dict[str, ExperimentResult]
    stages: dict[str, dict[str, Any]]
    margins: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=[*MARGIN_COLUMNS]), compare=False)


def load_results(root: str | Path) -> Results:
    """A sweep's store, or the files `factuality collect` made of it.

    A cell whose score stage has not finished has no scores. Raises HarnessError when `root` is neither, holds no
    experiment, or holds a damaged file (named).
    """
    root = Path(root)
    if (root / "stages").is_dir():
        return _Store(root).load()
    if (root / COLLECTED).is_file():
        return _load_collected(root)
    raise HarnessError(
        f"{root}: no results: neither a sweep's store (stages/, experiments/) nor collected files ({COLLECTED}); "
        "run `factuality sweep run EXPERIMENT.yaml`"
    )


def load_run(path: str | Path) -> dict[str, TaskScore]:
    """Scores by task of an lm_eval output folder (`--output_path`, or the model's folder in it).

    Of several runs of a task on one model the newest counts. Raises HarnessError for no result file, results of one
    task for several models, and a file that is cut off or malformed.
    """
    path = Path(path)
    return _load_run(path, path)


def _load_run(folder: Path, root: Path) -> dict[str, TaskScore]:
    files = sorted(folder.rglob("results_*.json"), key=lambda f: (f.name, str(f)))
    if not files:
        raise HarnessError(f"{folder}: no results: lm_eval wrote no results_*.json here (was --output_path given?)")
    latest: dict[str, tuple[Path, dict[str, Any]]] = {}
    for file in files:
        data = read_json(file)
        _check_results(data, file)
        for task in data["results"]:
            if task in latest and latest[task][0].parent != file.parent:
                where = f"{latest[task][0].parent} and {file.parent}"
                raise HarnessError(f"{folder}: task {task} stands in {where}; name the folder of one model")
            latest[task] = (file, data)
    sums = {file: sha256(file) for file in {file for file, _ in latest.values()}}
    return {
        task: _task_score(task, data, file, str(file.relative_to(root)), sums[file])
        for task, (file, data) in sorted(latest.items())
    }


def read_json(file: Path) -> Any:
    """A JSON file. Raises HarnessError naming it."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HarnessError(
            f"{file}: not readable as JSON, cut off or damaged ({error}); remove it and run again"
        ) from error


def _check_results(data: Any, file: Path) -> None:
    parts: list[Any] = [data.get(key) for key in ("results", "versions")] if isinstance(data, dict) else [None]
    if not all(isinstance(part, dict) for part in parts) or not all(isinstance(r, dict) for r in parts[0].values()):
        raise HarnessError(f"{file}: not a results file of lm_eval: it needs the objects `results` and `versions`")


def samples_of(results: Path, task: str) -> Path:
    """Where lm_eval puts the samples of `task`: beside its results file."""
    stamp = results.name.removeprefix("results_").removesuffix(".json")
    return results.with_name(f"samples_{task}_{stamp}.jsonl")


def _task_score(task: str, data: dict[str, Any], file: Path, name: str, checksum: str) -> TaskScore:
    config = data.get("configs", {}).get(task, {})
    metadata = config.get("metadata") or {}
    samples = samples_of(file, task)
    questions, judges = _questions(samples) if samples.is_file() else ((), set())
    metrics, filters = _metrics(data["results"][task])
    score = TaskScore(
        task=task,
        version=str(data["versions"].get(task, "")),
        judge=_judge(metadata, judges),
        metrics=metrics,
        questions=questions,
        file=name,
        sha256=checksum,
        filters=filters,
    )
    correct = score.metrics.get("correct")
    if score.questions and correct is not None and correct != sum(q.ok for q in score.questions):
        found = sum(q.ok for q in score.questions)
        raise HarnessError(
            f"{samples}: {found} correct sentences, but {correct:g} in {file.name}: not the samples of that run"
        )
    return score


def _judge(metadata: dict[str, Any], judges: set[str]) -> str:
    """judges: those that annotations name, which know what the spec leaves open."""
    spec = JudgeSpec.from_results(str(metadata.get("judge") or ""))
    name = spec.recorded
    named = [JudgeSpec.from_results(judge) for judge in judges]
    if {(judge.name, judge.engine) for judge in named} == {(spec.name, spec.engine)}:
        name = " and ".join(sorted(judges))
    options = metadata.get("judge_args")
    options = spec.label_options(options) if isinstance(options, dict) else {}
    return f"{name} {json.dumps(options, sort_keys=True, ensure_ascii=False)}" if name and options else name


def _metrics(values: dict[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    by_name: dict[str, dict[str, float]] = defaultdict(dict)
    for key, value in values.items():
        name, comma, of = key.partition(",")
        if comma and isinstance(value, int | float):
            by_name[name][of] = float(value)
    metrics: dict[str, float] = {}
    filters: dict[str, str] = {}
    for name, found in by_name.items():
        if len(found) == 1:
            ((of, metrics[name]),) = found.items()
            filters |= {} if of in USUAL or "_stderr" in name else {name: of}
        else:
            metrics |= {f"{name},{of}": value for of, value in found.items()}
    return metrics, filters


def _questions(samples: Path) -> tuple[tuple[Counts, ...], set[str]]:
    """Counts of each question, and the judges that its annotations name."""
    rows, judges = [], set()
    for doc_id, row in judged_rows(samples):
        annotations = row.annotations()
        rows.append((doc_id, count(annotations)))
        judges |= {annotation.judge for annotation in annotations if annotation.judge}
    return tuple(counts for _, counts in sorted(rows, key=lambda r: r[0])), judges


class _Store:
    """A store as it lies there; every stage is read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scores: dict[str, dict[str, TaskScore]] = {}
        self.stages: dict[str, dict[str, Any]] = {}

    def load(self) -> Results:
        experiments = _load_experiments(self.root, self.stage_scores)
        for experiment in experiments.values():
            self.note(stage for cell in experiment.cells for stage in cell.stages.values())
        return Results(self.root, experiments, dict(sorted(self.stages.items())), self.margins())

    def stage_scores(self, stage: str) -> dict[str, TaskScore]:
        folder = self.root / "stages" / stage
        if stage not in self.scores:
            done = (folder / "stage.json").is_file()
            self.scores[stage] = _load_run(folder / "lm_eval", self.root) if done else {}
        return self.scores[stage]

    def note(self, names: Iterable[str]) -> None:
        """Records of finished stages and of all they need."""
        left = list(names)
        while left:
            name = left.pop()
            file = self.root / "stages" / name / "stage.json"
            if name in self.stages or name.startswith("model:") or not file.is_file():
                continue
            self.stages[name] = record = _record(read_json(file), str(file))
            left += record["needs"].values()

    def margins(self) -> pd.DataFrame:
        rows: list[tuple[Any, ...]] = []
        for stage, record in sorted(self.stages.items()):
            curve = self.root / "stages" / stage / "loss_curve.jsonl"
            if record.get("kind") == "train" and curve.is_file():
                entries = {row["step"]: row for _, row in read_jsonl(curve) if "rewards/margins" in row}
                rows += [
                    (stage, s, e["rewards/margins"], e.get("rewards/accuracies")) for s, e in sorted(entries.items())
                ]
        return pd.DataFrame(rows, columns=list(MARGIN_COLUMNS)).astype({"margin": float, "accuracy": float})


def _record(data: Any, where: str) -> dict[str, Any]:
    if not isinstance(data, dict) or not isinstance(data.get("needs"), dict) or "kind" not in data:
        raise HarnessError(f"{where}: not a stage's record: it needs kind, settings, needs, seconds, commands")
    return data


def _load_experiments(root: Path, scores_of: Callable[[str], dict[str, TaskScore]]) -> dict[str, ExperimentResult]:
    files = sorted((root / "experiments").glob("*.json"))
    if not files:
        raise HarnessError(f"{root}: no results: experiments/ holds no experiment")
    return {file.stem: _experiment(file, scores_of) for file in files}


def _experiment(file: Path, scores_of: Callable[[str], dict[str, TaskScore]]) -> ExperimentResult:
    data = read_json(file)
    try:
        cells = tuple(
            CellResult(
                experiment=data["name"],
                labels={str(k): str(v) for k, v in cell["labels"].items()},
                seed=int(cell["seed"]),
                stages=dict(cell["stages"]),
                scores=scores_of(cell["stages"]["score"]),
            )
            for cell in data["cells"]
        )
        return ExperimentResult(data["name"], data["title"], dict(data.get("table") or {}), cells)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HarnessError(
            f"{file}: not a sweep's list of cells ({type(error).__name__}: {error}); run the sweep again"
        ) from error


def score_row(stage: str, score: TaskScore) -> dict[str, Any]:
    """A row of the collected file: see `score_of_row`. NaN becomes null."""
    return {
        "stage": stage,
        "task": score.task,
        "version": score.version,
        "judge": score.judge,
        "metrics": {name: None if math.isnan(v) else v for name, v in sorted(score.metrics.items())},
        "questions": [[getattr(q, name) for name in FIELDS] for q in score.questions],
        "file": score.file,
        "sha256": score.sha256,
        **({"filters": score.filters} if score.filters else {}),
    }


def _counts(values: list[Any]) -> Counts:
    """Counts of one question; rows collected before version 0.2 end with `unparsed`."""
    found = dict(zip(FIELDS[: max(len(values), OLDEST)], values, strict=True))
    return Counts(**found | {"each": tuple(tuple(response) for response in found.get("each", ()))})


def score_of_row(row: dict[str, Any]) -> TaskScore:
    """Inverse of `score_row`, without the stage."""
    return TaskScore(
        task=row["task"],
        version=row["version"],
        judge=JudgeSpec.from_results(row["judge"]).recorded,
        metrics={name: math.nan if v is None else float(v) for name, v in row["metrics"].items()},
        questions=tuple(_counts(q) for q in row["questions"]),
        file=row["file"],
        sha256=row["sha256"],
        filters=dict(row.get("filters") or {}),
    )


def _load_collected(root: Path) -> Results:
    file = root / COLLECTED
    scores: dict[str, dict[str, TaskScore]] = defaultdict(dict)
    for number, row in read_jsonl(file, required=("stage", "task", "metrics", "questions", "file", "sha256")):
        try:
            scores[row["stage"]][row["task"]] = score_of_row(row)
        except (KeyError, TypeError, ValueError) as error:
            raise HarnessError(f"{file}, row {number}: not a score ({type(error).__name__}: {error})") from error
    experiments = _load_experiments(root, lambda stage: scores.get(stage, {}))
    return Results(root, experiments, _read_stages(root / "stages.json", scores), _read_margins(root / MARGINS))


def _read_stages(file: Path, scored: Iterable[str]) -> dict[str, dict[str, Any]]:
    data = read_json(file)
    if not isinstance(data, dict):
        raise HarnessError(f"{file}: not the records of stages by id; collect again")
    if missing := next((stage for stage in scored if stage not in data), None):
        raise HarnessError(f"{file}: no record of the stage {missing}, which has scores in {COLLECTED}; collect again")
    return {stage: _record(record, f"{file}, {stage}") for stage, record in data.items()}


def _read_margins(file: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(file)[list(MARGIN_COLUMNS)].astype({"margin": float, "accuracy": float})
    except (OSError, KeyError, ValueError) as error:
        raise HarnessError(f"{file}: no table of {', '.join(MARGIN_COLUMNS)} ({error}); collect again") from error
