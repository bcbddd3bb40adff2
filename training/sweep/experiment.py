"""Experiment files: a grid of cells over common settings, checked before anything runs.

    extends: common.yaml        # optional, a file beside this one
    title: DPO and its relatives on the same pairs
    table: {number: 8, reference: DPO, columns: {score: world_factuality_near}}
    seeds: [0, 1, 2]
    defaults: {…}               # settings of every cell
    grid:                       # axis -> value -> settings that differ; cells are the product of the axes
      method:
        DPO: {train: [{recipe: training/recipes/world/dpo.yaml}]}
    cells:                      # optional, cells besides the grid's
      - {labels: {method: base}, train: []}

Mappings are merged key by key, null removes a key, lists and plain values replace.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.settings import merged, read_settings
from factuality_harness.training.shipped import find_shipped
from factuality_harness.training.sweep.schema import STAGES, CellSettings, ExperimentFile, check


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell with one seed. labels: axis to value. settings: defaults with the changes of its values."""

    experiment: str
    labels: dict[str, str]
    seed: int
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        """For people: the values of its axes and the seed."""
        return f"{self.experiment}: {', '.join(self.labels.values())} (seed {self.seed})"


@dataclass(frozen=True, slots=True)
class Experiment:
    """A checked experiment file. table: what `factuality tables` shows of it. launch: stage to the command that starts
    it in a process of its own (else it runs inside the worker). threads: stage to its CPU threads inside the
    worker. estimate: stage to seconds, before any was measured."""

    name: str
    path: Path
    title: str
    table: dict[str, Any]
    cells: list[Cell]
    launch: dict[str, str]
    threads: dict[str, int]
    estimate: dict[str, float]


def _product(grid: dict[str, Any]) -> Iterator[tuple[dict[str, str], list[Any]]]:
    for values in itertools.product(*(axis.items() for axis in grid.values())) if grid else ():
        labels = {axis: str(label) for axis, (label, _) in zip(grid, values, strict=True)}
        yield labels, [changes for _, changes in values]


def _listed(cells: list[dict[str, Any]], path: Path) -> Iterator[tuple[dict[str, str], list[Any]]]:
    for cell in cells:
        if not isinstance(cell.get("labels"), dict) or not cell["labels"]:
            raise HarnessError(f"{path}, cells: {cell!r} has no labels (a mapping of axis to value)")
        changes = {key: value for key, value in cell.items() if key != "labels"}
        yield {str(axis): str(value) for axis, value in cell["labels"].items()}, [changes]


def load_experiment(path: str | Path, seeds: list[int] | None = None) -> Experiment:
    """Read an experiment file and form its cells; seeds: instead of the file's.

    Raises HarnessError naming file and key for a missing or unreadable file, an unknown key, a value of another type
    than the key's or not among its choices, and a grid without cells.
    """
    path = find_shipped(path, "experiments")
    data = merged({}, read_settings(path, "experiments"))
    check(ExperimentFile, data, str(path))
    grid = data.get("grid", {})
    seeds = data.get("seeds", [0]) if seeds is None else seeds
    if not all(grid.values()):
        raise HarnessError(f"{path}: the grid has no cells; give every axis at least one value")
    if not isinstance(seeds, list) or not seeds or not all(type(s) is int for s in seeds) or len({*seeds}) < len(seeds):
        raise HarnessError(f"{path}: seeds is a list of different whole numbers, not {seeds!r}")
    cells = []
    for labels, changes in [*_product(grid), *_listed(data.get("cells", []), path)]:
        where = f"{path}, cell {', '.join(labels.values())}"
        settings = data.get("defaults", {})
        for change in changes:
            settings = merged(settings, change or {})
        check(CellSettings, settings, where)
        cells += [Cell(path.stem, labels, seed, settings) for seed in seeds]
    if not cells:
        raise HarnessError(f"{path}: the grid has no cells; give at least one axis with at least one value")
    twice = Counter(cell.name for cell in cells)
    if twice and max(twice.values()) > 1:
        raise HarnessError(f"{path}: two cells are called {max(twice, key=lambda name: twice[name])}")
    threads = data.get("threads", {})
    return Experiment(
        name=path.stem,
        path=path,
        title=data.get("title", path.stem),
        table=data.get("table", {}),
        cells=sorted(cells, key=lambda c: c.seed),
        launch=data.get("launch", {}),
        threads=threads if isinstance(threads, dict) else dict.fromkeys(STAGES, threads),
        estimate=data.get("estimate", {}),
    )
