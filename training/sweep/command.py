"""`factuality sweep run` and `factuality sweep status`."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from factuality_harness.harness.commands import Flag, Several
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.io.write import write_json
from factuality_harness.training.shipped import shipped
from factuality_harness.training.sweep.doctor import examine, examine_machine, tell
from factuality_harness.training.sweep.estimate import estimate
from factuality_harness.training.sweep.experiment import Cell, Experiment, load_experiment
from factuality_harness.training.sweep.plan import Plan, make_plan, stages_of
from factuality_harness.training.sweep.schema import Executor
from factuality_harness.training.sweep.store import Store

STORES = Path("out/sweeps")
Experiments = Annotated[
    list[Path], Parameter(help="Files, or shipped ones by name (world/table02_mask.yaml); all of them share stages.")
]
StoreFolder = Annotated[Path | None, Parameter(help="Folder of stages; default out/sweeps/FOLDER OF THE EXPERIMENT.")]
Seeds = Annotated[list[int] | None, Several, Parameter(help="Instead of the experiments' own.")]


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
    """done when all its stages are; failed, running, waiting for the first stage that is not done."""
    for stage in stages_of(plan, roles):
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
        for stage in stages_of(plan, roles):
            users[stage].add(cell.name)
    lines += [f"  {state(stage, store):8} {stage}, for {len(users[stage])} cells" for stage in left]
    lines += [f"error in {stage}: {why.splitlines()[0]}" for stage in left if (why := store.failure(stage))]
    if at_work := store.at_work():
        lines.append(f"a run is at work: {at_work['host']}, process {at_work['pid']}")
        lines[-1] += f", dashboard {at_work['dashboard']}" if at_work["dashboard"] else ""
    return "\n".join(lines)


def _counts(states: Sequence[str]) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(Counter(states).items())) or "0"


def _label(cell: Cell) -> str:
    return f"{', '.join(f'{axis} {value}' for axis, value in cell.labels.items())}, seed {cell.seed}"


def load_experiments(paths: Sequence[Path], seeds: Sequence[int] | None = None) -> list[Experiment]:
    """Experiments from files, the package's own by name (`world/table02_mask.yaml`).

    Raises HarnessError for a file that is none, and for two with one name.
    """
    experiments = [
        load_experiment(shipped(path, "experiments"), seeds=None if seeds is None else [*seeds]) for path in paths
    ]
    names = [experiment.name for experiment in experiments]
    if len({*names}) < len(names):
        raise HarnessError(f"two experiments have the same name: {', '.join(sorted(names))}")
    return experiments


def begin(experiments: Sequence[Experiment], plan: Plan, store: Store) -> None:
    """Make the store ready for workers: failures forgotten, cells written.

    Raises HarnessError for files and checkpoints that are missing.
    """
    if plan.missing:
        error, where = next(iter(plan.missing.items()))
        raise HarnessError(f"{where}: {error}")
    store.root.mkdir(parents=True, exist_ok=True)
    store.forget_failures(plan)
    write_experiments(experiments, plan, store)
    made_with = store.root / "manifest.json"
    if not made_with.is_file() or not all(map(store.done, plan.stages)):  # else it made nothing
        write_manifest(made_with, manifest(inputs=[experiment.path for experiment in experiments]))


def check_done(plan: Plan, store: Store) -> None:
    """Raise HarnessError when stages are left."""
    left = [stage for stage in plan.stages if not store.done(stage)]
    if left:
        failed = sum(store.failure(stage) is not None for stage in left)
        raise HarnessError(f"{len(left)} of {len(plan.stages)} stages are not done ({failed} failed)")


def opened(
    paths: Sequence[Path], store: Path | None, seeds: Sequence[int] | None
) -> tuple[list[Experiment], Plan, Store]:
    """Experiments, their plan and their store. Raises HarnessError as those do."""
    experiments = load_experiments(paths, seeds)
    folder = store or STORES / experiments[0].path.resolve().parent.name
    return experiments, make_plan(experiments), Store(folder)


def run(
    experiments: Experiments,
    /,
    *,
    store: StoreFolder = None,
    seeds: Seeds = None,
    dry_run: Flag = False,
    executor: Executor = "local",
    workers: int | None = None,
    job: Annotated[tuple[str, ...], Several] = (),
) -> None:
    """Run experiments cell by cell, on this machine or a cluster.

    What is finished is never run again: interrupted, or after a change, run the same command again.

    Parameters
    ----------
    dry_run
        Print the plan, an estimate and what is missing (`factuality doctor`), run nothing; exit code 2 if something is.
    workers
        Processes or jobs; default one per core of this machine.
    executor
        This machine, or jobs of a queueing system.
    job
        KEY=VALUE …: options of a job, such as partition=gpu gpus_per_node=4 time=1440 (of sbatch; by letter, q=gpu,
        elsewhere).
    """
    from factuality_harness.training.sweep.cluster import check_executor
    from factuality_harness.training.sweep.engine import run_stages

    loaded, plan, place = opened(experiments, store, seeds)
    count = (os.cpu_count() or 1) if workers is None else workers
    if count < 1:
        raise HarnessError(f"--workers {count}: at least one is needed")
    options = dict(option.partition("=")[::2] for option in job)
    if not dry_run:
        check_executor(executor, options)
    if not all(map(place.done, plan.stages)):
        from factuality_harness.training.sweep.stages import check_stages  # the heavy imports

        check_stages(plan, place)
    if dry_run:
        print(estimate(loaded, plan, place, count))
        for cell, roles in plan.cells:
            print(f"{cell_state(roles, plan, place):8} {cell.name}: {' '.join(roles.values())}")
        tell(examine(loaded, plan, place, elsewhere=executor != "local"))
        return
    begin(loaded, plan, place)
    print(estimate(loaded, plan, place, count))
    run_stages(plan, place, executor=executor, workers=count, options=options)
    print(status(loaded, plan, place))
    check_done(plan, place)


def show_status(experiments: Experiments, /, *, store: StoreFolder = None, seeds: Seeds = None) -> None:
    """What has run, what is left, what failed."""
    print(status(*opened(experiments, store, seeds)))


def doctor(*experiments: Path, store: StoreFolder = None, elsewhere: Flag = False) -> None:
    """What a run needs, and what of it is missing; exit code 2 if something is.

    Parameters
    ----------
    experiments
        Files, or shipped ones by name (llama31-8b/table01_main.yaml). Without any: what this machine has.
    elsewhere
        Stages run on other machines (a cluster): GPUs here do not matter.
    """
    tell(examine(*opened(experiments, store, None), elsewhere=elsewhere) if experiments else examine_machine())
