"""`factuality doctor`: what a run needs, and what of it is missing.

    factuality doctor [EXPERIMENT.yaml …]

Without an experiment it looks at this machine and this environment. With experiments, at all that their stages need
which are not done: packages and versions, GPUs and their memory, launchers, models, judges (one small dialogue with
each server), prompts, data, disk. `factuality sweep run … --dry-run` ends with the same list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.sweep import needs as checks
from factuality_harness.training.sweep.estimate import loads, total
from factuality_harness.training.sweep.experiment import Experiment
from factuality_harness.training.sweep.needs import Finding, this_machine
from factuality_harness.training.sweep.plan import Plan
from factuality_harness.training.sweep.store import Store

EXTRAS = ("train", "sweep", "vllm", "deepspeed")


def examine(experiments: Sequence[Experiment], plan: Plan, store: Store, *, elsewhere: bool = False) -> list[Finding]:
    """Everything that the stages which are not done need. elsewhere: they run on other machines than this one."""
    return list(_examine(experiments, plan, store, elsewhere))


def _examine(experiments: Sequence[Experiment], plan: Plan, store: Store, elsewhere: bool) -> Iterator[Finding]:
    stages = [stage for stage in plan.stages.values() if not store.done(stage.id)]
    yield from checks.packages(checks.extras_needed(stages))
    if not stages:
        return
    yield from checks.hardware(stages, this_machine(), elsewhere)
    yield from checks.launchers(stages)
    yield from checks.checkpoints(checks.models(stages))
    yield from checks.judges(stages)
    for error, where in plan.missing.items():
        if not error.startswith("missing checkpoint"):  # those are told above
            yield Finding("missing", "data", f"{error} (first needed by {where})")
    yield from checks.data(stages)
    yield checks.disk(store.root, total(loads(experiments, plan, store).values()).disk)


def tell(findings: Sequence[Finding]) -> None:
    """Print findings, what is missing last. Raises HarnessError when something is."""
    shown = sorted(dict.fromkeys(findings), key=lambda finding: finding.state == "missing")
    print("\n".join(map(str, shown)))
    if missing := sum(finding.state == "missing" for finding in shown):
        raise HarnessError(f"{missing} of the things this needs {'is' if missing == 1 else 'are'} missing; see above")


def examine_machine() -> list[Finding]:
    """What this machine and this environment have; a package of an extra that is not there is only noted."""
    extras = [
        Finding("note", f.what, f.detail) if f.state == "missing" and f.what != "packages" else f
        for f in checks.packages(EXTRAS)
    ]
    return [*extras, *checks.hardware([], this_machine(), False), checks.disk(Path(), 0)]
