"""What does the sweep's engine cost? Empty stages through its local workers: seconds and CPU of all its processes.

    python -m benchmarks.sweep_engine [--stages 200] [--workers 2] [--rounds 3]

An empty stage writes the shipped mini questions once more, through the same store as every stage. Every round runs two
sweeps in processes of their own, of as many stages as there are workers and of as many more as asked for; the first is
the start (imports included), the difference is what a stage costs.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.io.write import write_csv

OUT = Path("results/benchmarks/sweep_engine")


def sweep(root: Path, stages: int, workers: int) -> None:
    """Run so many empty stages in a new store."""
    from factuality_harness.training.sweep.engine import run_stages
    from factuality_harness.training.sweep.plan import Plan, Stage
    from factuality_harness.training.sweep.store import Store

    names = [f"questions-{number:012d}" for number in range(stages)]
    settings = {"file": "mini:train"}
    plan = Plan(stages={n: Stage("questions", n, settings | {"number": i}, {}) for i, n in enumerate(names)})
    store = Store(root)
    run_stages(plan, store, workers=workers)
    assert all(map(store.done, names)), [why for name in names if (why := store.failure(name))][:1]


def cost(stages: int, workers: int) -> tuple[float, float]:
    """Seconds and CPU seconds of a sweep with all its processes."""
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans are ours to wait for, and their CPU time counts
    with tempfile.TemporaryDirectory() as folder:
        before, started = _cpu(), time.monotonic()
        process = multiprocessing.get_context("fork").Process(target=sweep, args=[Path(folder), stages, workers])
        process.start()
        process.join()
        seconds = time.monotonic() - started
        assert process.exitcode == 0, process.exitcode
        try:
            while True:
                os.wait()
        except ChildProcessError:
            return seconds, _cpu() - before


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep_engine", description=str(__doc__).split("\n")[0])
    parser.add_argument("--stages", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT, help="result files without their ending")
    args = parser.parse_args(argv)
    rows: list[dict[str, Any]] = []
    for number in range(args.rounds):
        start, start_cpu = cost(args.workers, args.workers)
        whole, whole_cpu = cost(args.workers + args.stages, args.workers)
        row = {"round": number, "stages": args.stages, "workers": args.workers}
        row |= {"start_s": round(start, 2), "start_cpu_s": round(start_cpu, 2)}
        row |= {"stage_s": round((whole - start) / args.stages, 4)}
        row |= {"stage_cpu_s": round((whole_cpu - start_cpu) / args.stages, 4)}
        rows.append(row)
        print(row, flush=True)
    write_csv(args.out.with_suffix(".csv"), rows)
    command = f"python -m benchmarks.sweep_engine --stages {args.stages} --workers {args.workers}"
    write_manifest(args.out.with_suffix(".manifest.json"), manifest(command=command, rounds=args.rounds))


if __name__ == "__main__":
    main()
