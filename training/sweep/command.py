"""The command line of sweeps."""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.errors import HarnessError, command
from factuality_harness.harness.io.jsonl import open_text
from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.io.write import write_json, write_text
from factuality_harness.training.sweep.executor import check_executor, run_workers
from factuality_harness.training.sweep.experiment import Cell, Experiment, load_experiment
from factuality_harness.training.sweep.plan import Plan, Stage, ancestors, make_plan
from factuality_harness.training.sweep.schema import STAGES
from factuality_harness.training.sweep.store import Store

STORES = Path("out/sweeps")
TURNS = 3  # most judge calls a sentence: the protocol of ANAH-v2 and `dialogue`
SENTENCES = 6  # a response, where the experiment does not say
QUESTIONS_A_TOPIC = 3


def write_experiments(experiments: Sequence[Experiment], plan: Plan, store: Store) -> None:
    """Say what the cells are and which stages they stand for, for analysis; nothing of other experiments is touched."""
    for experiment in experiments:
        cells = [
            {"labels": cell.labels, "seed": cell.seed, "stages": roles}
            for cell, roles in plan.cells
            if cell.experiment == experiment.name
        ]
        data = {"name": experiment.name, "title": experiment.title, "table": experiment.table, "cells": cells}
        write_json(store.root / "experiments" / f"{experiment.name}.json", data, indent=1)


def state(stage: str, store: Store) -> str:
    """done, failed, running or waiting."""
    if store.done(stage):
        return "done"
    if store.failure(stage) is not None:
        return "failed"
    return "running" if store.running(stage) else "waiting"


def cell_state(roles: Mapping[str, str], plan: Plan, store: Store) -> str:
    """done when its score is there; failed, running, waiting for the first stage that is not done."""
    for stage in ancestors(plan, roles["score"]):
        if (found := state(stage, store)) != "done":
            return found
    return "done"


def status(experiments: Sequence[Experiment], plan: Plan, store: Store) -> str:
    """Cells by state, what is left to run, and the errors."""
    lines = []
    for experiment in experiments:
        cells = [(c, roles) for c, roles in plan.cells if c.experiment == experiment.name]
        states = [cell_state(roles, plan, store) for _, roles in cells]
        lines.append(f"{experiment.name}: {_counts(states)} of {len(cells)} cells")
        lines += [f"  {s:8} {_label(cell)}" for s, (cell, _) in zip(states, cells, strict=True) if s != "done"]
    left = [stage for stage in plan.stages if not store.done(stage)]
    lines.append(f"stages: {_counts([state(stage, store) for stage in plan.stages])}")
    users = defaultdict(set)
    for cell, roles in plan.cells:
        for stage in ancestors(plan, roles["score"]):
            users[stage].add(cell.name)
    lines += [f"  {state(stage, store):8} {stage}, for {len(users[stage])} cells" for stage in left]
    lines += [f"error in {stage}: {why.splitlines()[0]}" for stage in left if (why := store.failure(stage))]
    return "\n".join(lines)


def _counts(states: Sequence[str]) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(Counter(states).items())) or "0"


def _label(cell: Cell) -> str:
    return f"{', '.join(f'{axis} {value}' for axis, value in cell.labels.items())}, seed {cell.seed}"


def estimate(experiments: Sequence[Experiment], plan: Plan, store: Store, workers: int) -> str:
    """Stages left by kind, with time (measured here, else as the experiment says) and calls of a judge model."""
    measured: dict[str, list[float]] = defaultdict(list)
    for path in store.root.glob("stages/*/stage.json"):
        record = store.record(path.parent.name)
        measured[record["kind"]].append(record["seconds"])
    given: dict[str, float] = {}
    for experiment in experiments:
        given |= experiment.estimate
    left = [stage for stage in plan.stages.values() if not store.done(stage.id)]
    lines, total, unknown = [], 0.0, []
    for kind in STAGES:
        stages = [s for s in left if s.kind == kind]
        if not stages:
            continue
        seconds = mean(measured[kind]) if measured[kind] else given.get(kind)
        calls = sum(_judge_calls(s, plan, given) for s in stages)
        known = (
            "time unknown" if seconds is None else f"{seconds:.0f} s each, {'measured' if measured[kind] else 'given'}"
        )
        lines.append(f"  {len(stages):4} {kind:9} ({known}){f', up to {calls} judge calls' if calls else ''}")
        total += (seconds or 0.0) * len(stages)
        unknown += [kind] if seconds is None else []
    time = f"about {total / 60 / workers:.0f} min with {workers} workers" if total else "nothing is known about time"
    rest = f", not counting {', '.join(unknown)}" if unknown and total else ""
    return "\n".join([f"{len(left)} of {len(plan.stages)} stages to run, {time}{rest}", *lines])


def _judge_calls(stage: Stage, plan: Plan, given: Mapping[str, float]) -> int:
    """At most, for a judge that is a model; sentences a response and test questions as the experiment estimates."""
    if not JudgeSpec.from_results(stage.settings.get("judge", "")).engine:
        return 0
    if stage.kind == "annotate":
        sample = plan.stages[stage.needs["sample"]]
        responses = _questions(plan.stages[sample.needs["questions"]], plan) * sample.settings["n"]
    else:
        responses = int(given.get("test_questions", 0))
    return round(responses * given.get("sentences", SENTENCES)) * TURNS


def _questions(stage: Stage, plan: Plan) -> int:
    if "base" in stage.needs:
        world = plan.stages[stage.needs["base"]].settings["world"]
        return QUESTIONS_A_TOPIC * world["clusters"] * world["topics"][0]
    path = Path(stage.settings["file"])
    if not path.is_file():
        return 0
    with open_text(path) as lines:
        return sum(1 for _ in lines)


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training.sweep", description="Run experiments cell by cell.")
    parser.add_argument("action", choices=("run", "status"))
    parser.add_argument("experiments", type=Path, nargs="+", metavar="EXPERIMENT.yaml", help="all of them share stages")
    parser.add_argument("--store", type=Path, help="folder of stages (default: out/sweeps/FOLDER OF THE EXPERIMENT)")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the experiments' own")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and an estimate, run nothing")
    parser.add_argument("--executor", choices=("local", "slurm"), default="local")
    parser.add_argument("--workers", type=int, help="processes or Slurm jobs (default: local, one a core)")
    parser.add_argument("--slurm", nargs="+", default=[], metavar="KEY=VALUE", help="partition=gpu gpus_per_node=4 …")
    args = parser.parse_args(argv)
    experiments = [load_experiment(path, seeds=args.seeds) for path in args.experiments]
    names = [experiment.name for experiment in experiments]
    if len({*names}) < len(names):
        raise HarnessError(f"two experiments have the same name: {', '.join(sorted(names))}")
    plan = make_plan(experiments)
    store = Store(args.store or STORES / args.experiments[0].resolve().parent.name)
    workers = (os.cpu_count() or 1) if args.workers is None else args.workers
    if workers < 1:
        raise HarnessError(f"--workers {workers}: at least one is needed")
    options = dict(option.partition("=")[::2] for option in args.slurm)
    if args.action == "run":
        if not args.dry_run:
            check_executor(args.executor, options)
        if not all(map(store.done, plan.stages)):
            from factuality_harness.training.sweep.stages import check_stages  # the heavy imports

            check_stages(plan, store)
    if args.action == "status":
        print(status(experiments, plan, store))
    elif args.dry_run:
        print(estimate(experiments, plan, store, workers))
        for cell, roles in plan.cells:
            print(f"{cell_state(roles, plan, store):8} {cell.name}: {' '.join(roles.values())}")
        print("\n".join(f"missing, first needed by {where}: {error}" for error, where in plan.missing.items()))
    else:
        if plan.missing:
            error, where = next(iter(plan.missing.items()))
            raise HarnessError(f"{where}: {error}")
        store.root.mkdir(parents=True, exist_ok=True)
        store.forget_failures(plan)
        write_experiments(experiments, plan, store)
        print(estimate(experiments, plan, store, workers))
        text = plan.to_json()
        plan_file = store.root / "plans" / f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
        write_text(plan_file, text)
        line = shlex.join(["python", "-m", "training.sweep", *(sys.argv[1:] if argv is None else argv)])
        made_with = store.root / "manifest.json"
        if not made_with.is_file() or not all(map(store.done, plan.stages)):  # else it made nothing
            write_manifest(made_with, manifest(inputs=args.experiments, command=line))
        run_workers(
            store.root,
            plan_file,
            executor=args.executor,
            workers=workers,
            options=options,
            log_folder=store.root / "logs",
        )
        print(status(experiments, plan, store))
        failed = [stage for stage in plan.stages if store.failure(stage)]
        left = [stage for stage in plan.stages if not store.done(stage)]
        if failed or left:
            raise HarnessError(f"{len(left)} of {len(plan.stages)} stages are not done ({len(failed)} failed)")
