"""Work for tests of the sweep's engine: stages in a real store that sleep, so that they can be killed meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from factuality_harness.training.sweep.plan import Plan, Stage
from factuality_harness.training.sweep.store import Store


def doze_plan(stages: int = 4, slow: int = 1, seconds: float = 100) -> Plan:
    """Independent stages, the first `slow` of which take long the first time."""
    names = [f"base-{i:012d}" for i in range(stages)]
    return Plan(stages={n: Stage("base", n, {"seconds": seconds * (i < slow)}, {}) for i, n in enumerate(names)})


def doze(stage: Stage, store: Store) -> None:
    """Sleep through a stage. A slow one says who sleeps in `slow-ID.json`, and is a quick one when run again.

    Its child sleeps in a session of its own, out of reach of signals to groups, as launchers' processes do.
    """
    begun, sign = time.monotonic(), store.root / f"slow-{stage.id}.json"
    folder = store.begin(stage, resume=False)
    if stage.settings["seconds"] and not sign.exists():
        child = subprocess.Popen(["sleep", str(stage.settings["seconds"])], start_new_session=True)
        part = sign.with_suffix(".part")
        part.write_text(json.dumps({"pid": os.getpid(), "child": child.pid, "job": os.environ.get("SLURM_JOB_ID")}))
        part.rename(sign)
        child.wait()
    if "fails" in stage.settings:
        store.fail(stage.id, stage.settings["fails"])
        return
    (folder / "slept").write_text(str(stage.settings["seconds"]))
    store.finish(stage, time.monotonic() - begun, [])


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
