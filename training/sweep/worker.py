"""A worker: takes one ready stage after another until nothing is left to do. Any number may share a store."""

from __future__ import annotations

import logging
import os
import time
import traceback
from functools import cache
from pathlib import Path

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.sweep.plan import Plan, Stage
from factuality_harness.training.sweep.store import Store

POLL = 1.0  # seconds between looks when all that is ready is in other hands

log = logging.getLogger(__name__)


def work(store_root: Path, plan_file: Path) -> None:
    """Run the plan's stages, each when those it needs are done. Returns when every stage is done or failed, or when
    what is left waits for stages that nobody runs and nobody can.

    A stage that fails is noted with its error, and what depends on it is noted as failed too; the rest goes on.
    """
    store, plan = Store(store_root), Plan.from_json(plan_file.read_text(encoding="utf-8"))
    while True:
        left = [s for s in plan.stages.values() if not store.done(s.id) and store.failure(s.id) is None]
        if not left:
            return
        moved = False
        for stage in left:
            if broken := [name for name in stage.needs.values() if store.failure(name) is not None]:
                store.fail(stage.id, f"needs {broken[0]}, which failed")
                moved = True
            elif all(store.done(name) for name in stage.needs.values()):
                with store.claim(stage.id) as ours:
                    if ours:
                        _run(stage, store)
                        moved = True
                if moved:
                    break  # what was just done may have made an earlier stage ready
        if not moved:
            time.sleep(POLL)


def _run(stage: Stage, store: Store) -> None:
    import torch

    from factuality_harness.training.sweep.stages import resumes, run_stage  # the heavy imports, in workers only

    usual = _usual_threads()
    torch.set_num_threads(stage.threads or usual)
    folder = store.begin(stage, resume=resumes(stage))
    log.info("%s in %s", stage.id, folder)
    started = time.monotonic()
    try:
        commands = run_stage(stage, store, folder)
    except HarnessError as error:
        store.fail(stage.id, str(error))
    except Exception as error:  # whatever it was, the other stages go on
        store.fail(stage.id, f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
    else:
        store.finish(stage, time.monotonic() - started, commands)


@cache
def _usual_threads() -> int:
    """CPU threads of this process before any stage said how many."""
    import torch

    return torch.get_num_threads()


def set_up_process() -> None:
    """Call first in a worker's process: quiet libraries, and no threads behind tokenizers."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
