"""Work for tests of the executor: real stages in a real store that sleep, so that they can be killed meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cloudpickle

from factuality_harness.training.sweep.process import tie_to_parent

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests


def doze_plan(folder: Path, stages: int = 4, slow: int = 1, seconds: float = 100) -> Path:
    """A plan file of independent stages, the first `slow` of which take long the first time."""
    from factuality_harness.training.sweep.plan import Plan, Stage

    names = [f"base-{i:012d}" for i in range(stages)]
    plan = Plan(stages={n: Stage("base", n, {"seconds": seconds * (i < slow)}, {}) for i, n in enumerate(names)})
    path = folder / "plan.json"
    path.write_text(plan.to_json(), encoding="utf-8")
    return path


def doze(store_root: Path, plan_file: Path) -> None:
    """Sleep through each stage. A slow one says who sleeps in `slow-ID.json`, and is a quick one when run again.

    Claims and results are files as `Store` has them, without its imports, which take longer than these tests.
    """
    stages = {stage["id"]: stage["settings"]["seconds"] for stage in json.loads(plan_file.read_text())}
    while left := [name for name in stages if not (store_root / "stages" / name / "stage.json").exists()]:
        for name in left:
            claim, sign = store_root / f"{name}.claim", store_root / f"slow-{name}.json"
            if claim.exists() and not lives(int(claim.read_text())):
                claim.unlink(missing_ok=True)
            try:
                own = store_root / f"{os.getpid()}.claim"
                own.write_text(str(os.getpid()))
                claim.hardlink_to(own)
            except FileExistsError:
                continue
            if stages[name] and not sign.exists():
                child = subprocess.Popen(["sleep", str(stages[name])], preexec_fn=tie_to_parent)
                part = sign.with_suffix(".part")
                part.write_text(
                    json.dumps({"pid": os.getpid(), "child": child.pid, "job": os.environ.get("SLURM_JOB_ID")})
                )
                part.rename(sign)
                if child.wait():
                    time.sleep(10)  # the signal that ended it is for us, too
            (store_root / "stages" / name).mkdir(parents=True, exist_ok=True)
            (store_root / "stages" / name / "stage.json").write_text("{}")
        time.sleep(0.2)


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Until the condition holds. Raises TimeoutError."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.1)


def sleepers(store_root: Path) -> list[dict]:
    """Who sleeps, or slept, in a slow stage: pid, child, job."""
    return [json.loads(path.read_text()) for path in sorted(store_root.glob("slow-*.json"))]


def lives(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
