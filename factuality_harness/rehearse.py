"""`factuality sweep rehearse`: experiments from questions to tables with tiny models, before the real run."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from factuality_harness.analysis.collect import collect
from factuality_harness.analysis.figures.command import write_figures
from factuality_harness.analysis.figures.inputs import Inputs
from factuality_harness.analysis.results import load_results
from factuality_harness.analysis.tables.build import build_tables
from factuality_harness.analysis.tables.checks import lacking
from factuality_harness.analysis.tables.command import write_tables
from factuality_harness.analysis.tables.paper import PAPER
from factuality_harness.analysis.tables.text import to_frame
from factuality_harness.harness.commands import Flag, Out
from factuality_harness.harness.engines.cache import cache_path
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.write import write_text
from factuality_harness.harness.prompts.anah_v2 import COMMIT
from factuality_harness.training.rehearsal.data import write_data
from factuality_harness.training.rehearsal.judge import ScriptedJudge
from factuality_harness.training.rehearsal.rewrite import Rehearsal
from factuality_harness.training.shipped import shipped
from factuality_harness.training.sweep.command import Experiments, Seeds, run
from factuality_harness.training.sweep.experiment import Experiment, load_experiment
from factuality_harness.training.sweep.process import environment
from factuality_harness.training.sweep.store import Store

MARK = "rehearsal.txt"


def rehearse(
    experiments: Experiments,
    /,
    *,
    out: Annotated[Out, Parameter(help="Folder of everything made; an earlier rehearsal in it is removed.")] = Path(
        "out/rehearsal"
    ),
    seeds: Seeds = None,
    workers: int = 1,
    quick: Flag = False,
) -> None:
    """Run experiments from questions to tables with tiny random models, before the real ones are paid for.

    The same plan, commands and launchers; models of the same architectures and kinds of tokenizers, two layers deep; a
    handful of questions in the formats of the real files; a scripted judge behind a real server. What is replaced is
    printed. Numbers mean nothing. Nothing is fetched.

    Parameters
    ----------
    seeds
        Instead of the experiments' first one.
    workers
        Processes at once.
    quick
        Without the file's launchers: every stage runs inside the workers, which saves the start of Python for each.
    """
    loaded = [load_experiment(shipped(path, "experiments")) for path in experiments]
    _begin(out)
    with ScriptedJudge() as judge, _offline():
        rehearsal = Rehearsal(out, write_data(out / "data"), judge, prompts=_has_prompts(), quick=quick)
        folders = [
            (name, [(e, rehearsal.experiment(e, seeds)) for e in group])
            for name, group in groupby(sorted(loaded, key=_room), key=_room)
        ]
        print(f"What the rehearsal changes:\n{rehearsal.listed()}\n", flush=True)
        failed = [
            name
            for name, pairs in folders
            if not _rehearsed([e for e, _ in pairs], [p for _, p in pairs], out / name, workers)
        ]
        print(f"{judge.requests} requests to the scripted judge")
    if failed:
        raise HarnessError(f"the rehearsal of {', '.join(failed)} failed; what stands above says where")


def _room(experiment: Experiment) -> str:
    return experiment.path.resolve().parent.name


def _begin(out: Path) -> None:
    """An empty folder with our mark. Raises HarnessError for one that holds something else."""
    if out.exists() and any(out.iterdir()):
        if not (out / MARK).is_file():
            raise HarnessError(f"{out}: not empty and not an earlier rehearsal; name another --out")
        shutil.rmtree(out)
    write_text(out / MARK, "Made by `factuality sweep rehearse`; the next one removes this folder.\n")


@contextmanager
def _offline() -> Iterator[None]:
    """Inside, nothing is fetched, and no GPU is used."""
    offline = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    cpu = {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    with environment(**offline, **quiet, **cpu, OPENAI_API_KEY="rehearsal", VLLM_CPU_KVCACHE_SPACE="1"):
        yield


def _has_prompts() -> bool:
    own = os.environ.get("HARNESS_ANAH_V2_PROMPTS")
    return Path(own).is_file() if own else cache_path().with_name(f"anahv2_prompt-{COMMIT[:12]}.py").is_file()


def _rehearsed(experiments: Sequence[Experiment], files: list[Path], folder: Path, workers: int) -> bool:
    """Run the experiments of one folder and draw what they name; False when a cell failed or a number is missing."""
    begun = time.monotonic()
    store = folder / "store"
    good = True
    try:
        run(files, store=store, workers=workers)
    except HarnessError as error:
        print(f"error: {error}", flush=True)
        good = False
    seconds: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for path in sorted(store.glob("stages/*/stage.json")):
        record = Store(store).record(path.parent.name)
        count[record["kind"]] += 1
        seconds[record["kind"]] += record["seconds"]
    kinds = ", ".join(f"{number} {kind} ({seconds[kind]:.0f} s)" for kind, number in count.items())
    minutes = (time.monotonic() - begun) / 60
    print(f"\n{folder.name}: {len(files)} experiments, {sum(count.values())} stages in {minutes:.1f} min: {kinds}")
    try:
        results = load_results(store)
        tables = build_tables(results, PAPER)
    except HarnessError as error:
        print(f"error: {error}", flush=True)
        return False
    write_tables(tables, folder / "tables")
    collect(results, folder / "collected")
    for table in tables:
        if not any(row.cells for row in table.rows):
            continue  # the paper's alone
        rows, columns = to_frame(table).shape
        print(f"  {table.name}: {rows} rows, {columns} columns")
        for note in lacking(table):
            print(f"  error: {note}")
            good = False
    drawn, _ = write_figures(Inputs(results, tables), folder / "figures")
    print(f"  figures: {', '.join(sorted({path.stem for path in drawn}))}")
    return good
