"""What each kind of stage does: from its settings and the folders of what it needs to files in its own folder.

Sampling, annotating, training and scoring are the commands a user would type; they run inside the worker, or in a
process of their own where the experiment names a launcher for them.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from harness.annotation import Annotation
from harness.contamination import shared_topics
from harness.data import anah
from harness.data.anah import Question
from harness.data.world.base import build_base, world_of
from harness.data.world.generate import BaseConfig, World, WorldConfig, with_article
from harness.errors import HarnessError
from harness.jsonl import read_jsonl, write_jsonl
from harness.lm_eval_plugin.discovery import tasks_folder
from harness.samples import read_annotations
from training import mask_dpo, preferences, sft
from training.pairs import write_pairs
from training.preferences import Pairing, PairRules, load_questions
from training.sweep.executor import tie_to_parent
from training.sweep.plan import Plan, Stage, ancestors, relative, task_files
from training.sweep.store import Store

NO_TOPIC = re.compile(r"document-[0-9a-f]{12}")  # what `harness.data.anah` calls a topic without a name
TRAINERS = {"mask_dpo": mask_dpo, "sft": sft}
QUESTIONS, SAMPLES, ANNOTATIONS, PAIRS = "questions.jsonl", "samples.jsonl", "annotations.jsonl", "pairs.jsonl"


def resumes(stage: Stage) -> bool:
    """Whether what a killed run of the stage left is gone on with, and not thrown away.

    transformers draws a batch at a time, so its samples are only those of an unbroken run when they begin anew.
    """
    if stage.kind == "sample":
        return stage.settings["engine"] != "hf"
    if stage.kind == "train":
        return stage.settings["arguments"].get("save_strategy", "no") != "no"
    return stage.kind == "annotate"


def run_stage(stage: Stage, store: Store, folder: Path) -> list[str]:
    """Do the stage's work in `folder`; returns the command lines it is made of. Raises HarnessError."""
    inputs = {role: store.place(name) for role, name in stage.needs.items()}
    # Answers of another store would change which prompts share a batch, and so what transformers draws.
    cache = folder / "cache" if stage.kind == "sample" and not resumes(stage) else store.root / "cache"
    with _environment(HARNESS_CACHE=str(cache)):
        for test in stage.tests:
            refuse_test_topics(Path(inputs["pair"]) / PAIRS, test, store)
        if stage.kind in COMMANDS:
            module, argv, inside = COMMANDS[stage.kind](stage, inputs, folder)
            line = ["-m", module, *argv]
            if stage.launch:
                _launch(shlex.split(stage.launch), line)
                return [shlex.join([*shlex.split(stage.launch), *line])]
            inside()
            return [shlex.join(["python", *line])]
        STEPS[stage.kind](stage.settings, inputs, folder)
    return []


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _launch(launcher: list[str], line: list[str]) -> None:
    launcher = [sys.executable, *launcher[1:]] if launcher[0] == "python" else launcher
    try:
        code = subprocess.run([*launcher, *line], preexec_fn=tie_to_parent).returncode
    except OSError as error:
        raise HarnessError(f"launcher {launcher[0]!r} cannot be started: {error}") from error
    if code:
        time.sleep(1)  # the signal that ended it may be about to reach this process
        raise HarnessError(f"{shlex.join([*launcher, *line])} ended with exit code {code}; its message is in the log")


def _within(main: Callable[[list[str]], int], argv: list[str]) -> Callable[[], None]:
    """A command line run in this process, its error raised instead of printed."""
    inner = main.__wrapped__  # type: ignore[attr-defined]  # what @command wraps
    return lambda: inner(argv)


def _our_tasks(metadata: dict[str, Any]) -> Any:
    """lm_eval's TaskManager for this project's tasks alone: indexing the other 12 000 takes its time."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=str(tasks_folder()), include_defaults=False, metadata=metadata)


def find_tasks(tasks: Sequence[str], metadata: dict[str, Any]) -> Any:
    """A TaskManager that knows the tasks. Raises HarnessError naming those that lm_eval does not know."""
    from lm_eval.tasks import TaskManager

    manager = _our_tasks(metadata)
    if not {*tasks} <= {*manager.all_subtasks}:
        manager = TaskManager(metadata=metadata)
    if unknown := [task for task in tasks if not manager.match_tasks([task])]:
        raise HarnessError(f"lm_eval knows no task {', '.join(unknown)}")
    return manager


def refuse_test_topics(pairs: Path, test: Mapping[str, Any], store: Store) -> None:
    """Raise HarnessError when pairs are about topics of the test questions. test: tasks, metadata, base.

    Looks at the tasks of this project: others have no topics.
    """
    manager = _our_tasks(dict(test["metadata"]) | ({"world": store.place(test["base"])} if "base" in test else {}))
    ours = [task for task in test["tasks"] if task in manager.all_subtasks]
    tasks = manager.load(ours)["tasks"].values() if ours else ()
    questions = [doc for task in tasks for doc in task.test_docs() if doc.get("topic")]
    if shared := shared_topics((row for _, row in read_jsonl(pairs)), questions):
        raise HarnessError(
            f"{pairs}: {len(shared)} topics of the test questions of {', '.join(ours)} are in the training pairs "
            f"({', '.join(shared[:3])}, …); train on others (questions: split or part, select)"
        )


Command = tuple[str, list[str], Callable[[], None]]


def _sample(stage: Stage, inputs: Mapping[str, str], folder: Path) -> Command:
    s = stage.settings
    argv = ["sample", "--questions", f"{inputs['questions']}/{QUESTIONS}", "--out", str(folder / SAMPLES)]
    argv += ["--engine", f"{s['engine']}:{inputs['model']}"]
    for key in ("n", "seed", "temperature", "top_k", "top_p", "max_tokens"):
        if key in s:
            argv += [f"--{key.replace('_', '-')}", str(s[key])]
    if s.get("with_document"):
        argv.append("--with-document")
    if "engine_args" in s:
        argv += ["--engine-args", json.dumps(s["engine_args"])]
    return "training.preferences", argv, _within(preferences.main, argv)


def _annotate(stage: Stage, inputs: Mapping[str, str], folder: Path) -> Command:
    argv = ["annotate", "--samples", f"{inputs['sample']}/{SAMPLES}", "--out", str(folder / ANNOTATIONS)]
    argv += ["--judge", stage.settings["judge"], "--judge-args", json.dumps(stage.settings["judge_args"])]
    return "training.preferences", argv, _within(preferences.main, argv)


def _train(stage: Stage, inputs: Mapping[str, str], folder: Path) -> Command:
    trainer = TRAINERS[stage.settings["trainer"]]
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(_arguments(stage, inputs, folder), sort_keys=True), encoding="utf-8")
    argv = ["--config", str(recipe)]

    def inside() -> None:
        trainer.train(*trainer.parse([*argv, "--disable_tqdm", "true"]))

    return f"training.{stage.settings['trainer']}", argv, inside


def _arguments(stage: Stage, inputs: Mapping[str, str], folder: Path) -> dict[str, Any]:
    arguments = {**stage.settings["arguments"], "model_name_or_path": inputs["model"], "output_dir": str(folder)}
    arguments["pairs"] = f"{inputs['pair']}/{PAIRS}"
    if "oracle" in inputs:
        arguments["sepo_oracle"] = inputs["oracle"]
    return arguments


def check_stages(plan: Plan, store: Store) -> None:
    """Look at what is left to run for what would show only when its turn comes: arguments that a trainer refuses, and
    tasks that lm_eval does not know. Raises HarnessError with the first cell concerned."""
    seen: list[Any] = []
    for cell, roles in plan.cells:
        for stage in (plan.stages[name] for name in ancestors(plan, roles["score"]) if not store.done(name)):
            what = stage.settings.get("tasks") or {**stage.settings.get("arguments", {}), "seed": 0}
            if (stage.kind, what) in seen or stage.kind not in ("train", "score"):
                continue
            seen.append((stage.kind, what))
            try:
                if stage.kind == "train":
                    _check_arguments(stage)
                elif others := [task for task in stage.settings["tasks"] if not task_files(task)]:
                    find_tasks(others, {})
            except HarnessError as error:
                raise HarnessError(f"{cell.name}, {stage.kind}: {error}") from error


def _check_arguments(stage: Stage) -> None:
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(said):
        recipe = Path(folder) / "recipe.yaml"
        inputs = dict.fromkeys(stage.needs, "not-yet")
        recipe.write_text(yaml.safe_dump(_arguments(stage, inputs, Path(folder))), encoding="utf-8")
        try:  # as on a machine without GPUs, where it may be looked at
            TRAINERS[stage.settings["trainer"]].parse(["--config", str(recipe), "--use_cpu", "true"])
        except SystemExit as error:  # argparse's way
            raise HarnessError(said.getvalue().strip().rpartition("error: ")[2]) from error


def _score(stage: Stage, inputs: Mapping[str, str], folder: Path) -> Command:
    s = stage.settings
    metadata = dict(s.get("metadata", {}))
    metadata |= {key: s[key] for key in ("judge", "judge_args") if s.get(key)}
    if "base" in inputs:
        metadata["world"] = relative(Path(inputs["base"]))
    model = inputs["model"]
    model_args = {"pretrained": relative(Path(model)) if Path(model).is_dir() else model}
    seeds = {"torch_random_seed": s["seed"]} if "seed" in s else {}
    if seeds and s["engine"] == "vllm":  # which draws by a seed of its own
        model_args["seed"] = s["seed"]
    arguments = {
        "model": s["engine"],
        "model_args": model_args | s.get("model_args", {}),
        "tasks": s["tasks"],
        "batch_size": s["batch_size"],
        "apply_chat_template": s["chat_template"],
        "gen_kwargs": s.get("gen_kwargs"),
        "metadata": metadata or None,
        **seeds,
        **s.get("arguments", {}),
    }
    out = folder / "lm_eval"
    argv = ["run", "--log_samples", "--output_path", str(out)]
    for key, value in arguments.items():
        if value is True:
            argv.append(f"--{key}")
        elif key == "torch_random_seed":
            argv += ["--seed", f"0,1234,{value},1234"]  # the others as lm_eval has them
        elif value not in (None, False):
            plain = key in ("model_args", "gen_kwargs")
            text = ",".join(f"{k}={v}" for k, v in value.items()) if plain else value
            text = json.dumps(text) if isinstance(text, dict) else ",".join(text) if isinstance(text, list) else text
            argv += [f"--{key}", str(text)]
    return "lm_eval", argv, lambda: _evaluate(arguments, out)


def _evaluate(arguments: dict[str, Any], out: Path) -> None:
    """lm_eval in this process, with its own files as a result."""
    import lm_eval
    from lm_eval.loggers import EvaluationTracker

    manager = find_tasks(arguments["tasks"], arguments["metadata"] or {})
    tracker = EvaluationTracker(output_path=str(out))
    gen_kwargs = arguments["gen_kwargs"]
    results = lm_eval.simple_evaluate(
        **{**arguments, "gen_kwargs": None if gen_kwargs is None else dict(gen_kwargs)},
        task_manager=manager,
        evaluation_tracker=tracker,
        log_samples=True,
    )
    if results is None:  # another process of the same evaluation writes
        return
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task in results["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])
    if not list(out.rglob("results_*.json")):
        raise HarnessError(f"{out}: lm_eval wrote no result file; its message stands in the log")


def _base(settings: dict[str, Any], inputs: Mapping[str, str], folder: Path) -> None:
    build_base(folder, WorldConfig.from_dict(settings["world"]), BaseConfig(**settings["base"]))


def _questions(settings: dict[str, Any], inputs: Mapping[str, str], folder: Path) -> None:
    write_jsonl(folder / QUESTIONS, (q.to_dict() for q in _load(settings, inputs.get("base"))))


def _load(settings: Mapping[str, Any], base: str | None) -> list[Question]:
    if base is not None:
        return world_of(base).questions(settings["part"], settings["side"])
    if settings.get("split"):
        return anah.split_questions(anah.load(settings["file"]), settings["split"])
    return load_questions(settings["file"])


def _select(settings: dict[str, Any], inputs: Mapping[str, str], folder: Path) -> None:
    questions = load_questions(f"{inputs['questions']}/{QUESTIONS}")
    world = world_of(inputs["base"]) if "base" in inputs else None
    chosen = choose(questions, settings, world)
    if "embedding" in settings and chosen:
        targets = load_questions(f"{inputs['targets']}/{QUESTIONS}") if "targets" in inputs else []
        chosen = choose_half(chosen, targets, settings, inputs.get("model"), world)
    if not chosen:
        raise HarnessError(f"select {settings}: leaves none of {len(questions)} questions")
    write_jsonl(folder / QUESTIONS, (q.to_dict() for q in chosen))
    topics = sorted({q.topic for q in chosen})
    record = {"questions": len(chosen), "topics": len(topics)}
    if world is not None:
        record["clusters"] = len({t.cluster for t in world.topics if t.name in {*topics}})
    (folder / "selection.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _amount(wanted: Any, of: int) -> int:
    """A count as it is; a share ("1/3", 0.5) of `of`, rounded."""
    if isinstance(wanted, int):
        return wanted
    return round(Fraction(str(wanted)) * of)


def choose(questions: Sequence[Question], settings: Mapping[str, Any], world: World | None = None) -> list[Question]:
    """A part of the questions, in their order. With the same seed a smaller part lies within a larger one.

    settings: side (near or far), clusters (number or share), topics_per_cluster, topics (number, or share of those
    left), per_topic (questions of each topic, drawn), seed. Raises HarnessError where sides or clusters are asked for
    and `world` is None.
    """
    seed = settings.get("seed", 0)
    rng = random.Random(f"select {seed}")
    topics = sorted({q.topic for q in questions})
    rng.shuffle(topics)
    if settings.keys() & {"side", "clusters", "topics_per_cluster"}:
        if world is None:
            raise HarnessError("select: side, clusters and topics_per_cluster are the fact world's; use topics")
        known = {topic.name: topic for topic in world.topics}
        side = settings.get("side", "all")
        of_cluster: dict[str, list[str]] = defaultdict(list)
        for name in topics:
            if side in ("all", known[name].side):
                of_cluster[known[name].cluster].append(name)
        clusters = rng.sample(sorted(of_cluster), len(of_cluster))
        clusters = clusters[: _amount(settings.get("clusters", len(clusters)), len(clusters))]
        kept = {name for c in clusters for name in of_cluster[c][: settings.get("topics_per_cluster")]}
        topics = [name for name in topics if name in kept]
    if "topics" in settings:
        topics = topics[: _amount(settings["topics"], len(topics))]
    of_topic: dict[str, list[str]] = defaultdict(list)
    for question in questions:
        of_topic[question.topic].append(question.question)
    asked = {
        (name, text)
        for name in topics
        for text in random.Random(f"questions {seed} {name}").sample(of_topic[name], len(of_topic[name]))[
            : settings.get("per_topic")
        ]
    }
    return [q for q in questions if (q.topic, q.question) in asked]


def choose_half(
    questions: Sequence[Question],
    targets: Sequence[Question],
    settings: Mapping[str, Any],
    model: str | None = None,
    world: World | None = None,
) -> list[Question]:
    """The half of the topics (of: `question`: of the questions) nearer to the targets, or farther, by an embedding.

    settings: embedding (`harness.embeddings` spec; `hidden:@LAYER` is of `model`), embedding_args (of that embedding),
    keep (near, far; a, b with random), of (topic or question), text (template of what is embedded: {topic},
    {question}, {document}, {kind} in a world), seed. Raises HarnessError for a text that cannot be filled in, as with
    the topic of ANAH-v2's rows, which have none.
    """
    from harness.embeddings import embed_groups, open_embedding
    from harness.neighbours import centred, halves, random_halves

    of = settings.get("of", "topic")
    spec = settings["embedding"]
    if spec.startswith("hidden:"):
        spec = f"hidden:{model}{spec.removeprefix('hidden:')}"
    names = list(dict.fromkeys(getattr(q, of) for q in questions))
    if spec == "random":
        half = dict(zip("ab", random_halves(len(names), settings["seed"]), strict=True))[settings["keep"]]
    else:
        template = settings.get("text", "{" + of + "}")
        kinds = {topic.name: topic.kind for topic in world.topics} if world else {}

        def text(q: Question) -> str:
            known = {"question": q.question, "document": q.document}
            if not NO_TOPIC.fullmatch(q.topic):
                known["topic"] = q.topic
            if q.topic in kinds:
                known["kind"] = with_article(kinds[q.topic])
            try:
                return template.format_map(known)
            except KeyError as error:
                raise HarnessError(
                    f"select: text {template!r}: the question {q.question!r} has no {error.args[0]}; "
                    f"it has {', '.join(known)} (say {{document:.200}}, the first 200 characters)"
                ) from error
            except (IndexError, AttributeError, ValueError) as error:
                raise HarnessError(f"select: text {template!r} cannot be filled in ({error})") from error

        texts = ([*{getattr(q, of): text(q) for q in part}.values()] for part in (questions, targets))
        train, test = embed_groups(open_embedding(spec, **settings.get("embedding_args", {})), *texts)
        half = halves(*centred(train, test), keep=settings["keep"], seed=settings["seed"])
    kept = {names[i] for i in half}
    return [q for q in questions if getattr(q, of) in kept]


def _pair(settings: dict[str, Any], inputs: Mapping[str, str], folder: Path) -> None:
    rules = dict(settings)
    limit = rules.pop("limit", None)
    chosen_from = inputs.get("chosen")
    kept = None
    if "select" in inputs:
        kept = {(q.language, q.question) for q in load_questions(f"{inputs['select']}/{QUESTIONS}")}

    def annotations(place: str) -> list[Annotation]:
        found = read_annotations(f"{place}/{ANNOTATIONS}")
        return [a for a in found if kept is None or (a.language, a.question) in kept]

    pairing = Pairing(
        annotations(inputs["annotate"]), PairRules(**rules), annotations(chosen_from) if chosen_from else None
    )
    pairs = list(pairing)
    report = pairing.report()
    if limit is not None:
        if len(pairs) < limit:
            raise HarnessError(f"pair: {len(pairs)} pairs, fewer than the limit of {limit}")
        pairs = random.Random(f"limit {settings['seed']}").sample(pairs, limit)
    write_pairs(folder / PAIRS, pairs)
    text = json.dumps(report | {"kept": len(pairs)}, indent=2)
    (folder / f"{PAIRS}.report.json").write_text(text + "\n", encoding="utf-8")


COMMANDS: dict[str, Callable[[Stage, Mapping[str, str], Path], Command]] = {
    "sample": _sample,
    "annotate": _annotate,
    "train": _train,
    "score": _score,
}
STEPS: dict[str, Callable[[dict[str, Any], Mapping[str, str], Path], None]] = {
    "base": _base,
    "questions": _questions,
    "select": _select,
    "pair": _pair,
}
