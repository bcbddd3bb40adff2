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
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from harness.data.world.generate import BaseConfig, WorldConfig
from harness.errors import HarnessError
from training.preferences.pairing import PairRules

SAMPLE = {"model", "n", "temperature", "top_k", "top_p", "max_tokens", "with_document", "engine", "engine_args"}
SELECT = {"side", "clusters", "topics", "topics_per_cluster", "per_topic", "seed"}
HALF = {"embedding", "keep", "of", "text", "relative_to"}
SETTINGS: dict[str, set[str] | None] = {
    "world": {f.name for f in fields(WorldConfig)} - {"seed"},
    "base": {f.name for f in fields(BaseConfig)},
    "model": None,
    "questions": {"file", "split", "part", "side"},
    "sample": SAMPLE,
    "chosen": SAMPLE,
    "judge": None,
    "judge_args": None,
    "select": SELECT | HALF,
    "pair": ({f.name for f in fields(PairRules)} - {"seed"}) | {"limit"},
    "train": None,
    "score": {"tasks", "engine", "model_args", "gen_kwargs", "batch_size", "metadata", "arguments", "chat_template"},
}
STEP = {"trainer", "recipe", "arguments", "oracle"}
TABLE = {"number", "kind", "reference", "columns", "rename", "where", "note"}
TOP = {"extends", "title", "table", "seeds", "defaults", "grid", "cells", "launch", "threads", "estimate"}
STAGES = ("base", "questions", "sample", "annotate", "select", "pair", "train", "score")


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
    """A checked experiment file. table: what `analysis.tables` shows of it. launch: stage to the command that starts it
    in a process of its own (else it runs inside the worker). threads: CPU threads of a stage inside the worker.
    estimate: stage to seconds, before any was measured."""

    name: str
    path: Path
    title: str
    table: dict[str, Any]
    cells: list[Cell]
    launch: dict[str, str]
    threads: int
    estimate: dict[str, float]


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`old` with the changes of `new`; neither is touched."""
    out = deepcopy(dict(old))
    for key, value in new.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(out.get(key), Mapping):
            out[key] = merged(out[key], value)
        else:
            out[key] = deepcopy(value)
    return out


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise HarnessError(f"{path}: no such experiment file") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise HarnessError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(data, dict):
        raise HarnessError(f"{path}: an experiment is a mapping with the keys {', '.join(sorted(TOP))}")
    _known(data, TOP, str(path))
    if "extends" in data:
        data = merged(_read(path.parent / data.pop("extends")), data)
    return data


def _known(data: Any, allowed: set[str], where: str) -> None:
    if not isinstance(data, dict):
        raise HarnessError(f"{where}: {data!r} is no mapping of {', '.join(sorted(allowed))}")
    for key in data:
        if key not in allowed:
            raise HarnessError(f"{where}: unknown key {key!r}; known are {', '.join(sorted(allowed))}")


def _check(settings: dict[str, Any], where: str) -> None:
    _known(settings, set(SETTINGS), where)
    for key, allowed in SETTINGS.items():
        if allowed is not None and key in settings:
            _known(settings[key], allowed, f"{where}, {key}")
    select = settings.get("select", {})
    if select.keys() & HALF:
        if missing := {"embedding", "keep"} - select.keys():
            raise HarnessError(f"{where}, select: a half needs {' and '.join(sorted(missing))}")
        sides = ("a", "b") if select["embedding"] == "random" else ("near", "far")
        if select["keep"] not in sides or select.get("of", "topic") not in ("topic", "question"):
            raise HarnessError(f"{where}, select: keep is {' or '.join(sides)} here; of is topic or question")
        if select["embedding"] != "random" and "relative_to" not in select:
            raise HarnessError(f"{where}, select: near and far need relative_to, the questions of the test topics")
    steps = settings.get("train", [])
    if not isinstance(steps, list):
        raise HarnessError(f"{where}, train: a list of steps, [] for the untrained model")
    for number, step in enumerate(steps, 1):
        _check_step(step, f"{where}, train step {number}")


def _check_step(step: Any, where: str) -> None:
    _known(step, STEP, where)
    if "recipe" not in step:
        raise HarnessError(f"{where}: names no recipe")
    if step.get("trainer", "mask_dpo") not in ("mask_dpo", "sft"):
        raise HarnessError(f"{where}: trainer {step['trainer']!r}; use mask_dpo or sft")
    if "oracle" in step:
        _check_step(step["oracle"], f"{where}, oracle")


def _product(grid: dict[str, Any]) -> Iterator[tuple[dict[str, str], list[Any]]]:
    for values in itertools.product(*(axis.items() for axis in grid.values())) if grid else ():
        labels = {axis: str(label) for axis, (label, _) in zip(grid, values, strict=True)}
        yield labels, [changes for _, changes in values]


def _listed(cells: Any, path: Path) -> Iterator[tuple[dict[str, str], list[Any]]]:
    for cell in cells if isinstance(cells, list) else [cells]:
        if not isinstance(cell, dict) or not isinstance(cell.get("labels"), dict) or not cell["labels"]:
            raise HarnessError(f"{path}, cells: {cell!r} has no labels (a mapping of axis to value)")
        changes = {key: value for key, value in cell.items() if key != "labels"}
        yield {str(axis): str(value) for axis, value in cell["labels"].items()}, [changes]


def load_experiment(path: str | Path, seeds: list[int] | None = None) -> Experiment:
    """Read an experiment file and form its cells; seeds: instead of the file's.

    Raises HarnessError for a missing or unreadable file, an unknown key, and a grid without cells.
    """
    path = Path(path)
    data = _read(path)
    table, grid = data.get("table", {}), data.get("grid") or {}
    seeds = data.get("seeds", [0]) if seeds is None else seeds
    _known(table, TABLE, f"{path}, table")
    _known(data.get("launch", {}), {*STAGES}, f"{path}, launch")
    _known(data.get("estimate", {}), {*STAGES, "sentences", "test_questions"}, f"{path}, estimate")
    if not isinstance(grid, dict) or not all(isinstance(axis, dict) and axis for axis in grid.values()):
        raise HarnessError(f"{path}: the grid has no cells; give every axis at least one value")
    if not isinstance(seeds, list) or not seeds or not all(type(s) is int for s in seeds) or len({*seeds}) < len(seeds):
        raise HarnessError(f"{path}: seeds is a list of different whole numbers, not {seeds!r}")
    cells = []
    for labels, changes in [*_product(grid), *_listed(data.get("cells", []), path)]:
        where = f"{path}, cell {', '.join(labels.values())}"
        settings = data.get("defaults", {})
        for change in changes:
            if not isinstance(change or {}, dict):
                raise HarnessError(f"{where}: {change!r} is no mapping of settings")
            settings = merged(settings, change or {})
        _check(settings, where)
        cells += [Cell(path.stem, labels, seed, settings) for seed in seeds]
    if not cells:
        raise HarnessError(f"{path}: the grid has no cells; give at least one axis with at least one value")
    twice = Counter(cell.name for cell in cells)
    if twice and max(twice.values()) > 1:
        raise HarnessError(f"{path}: two cells are called {max(twice, key=lambda name: twice[name])}")
    return Experiment(
        name=path.stem,
        path=path,
        title=str(data.get("title", path.stem)),
        table=table,
        cells=sorted(cells, key=lambda c: c.seed),
        launch=data.get("launch", {}),
        threads=int(data.get("threads", 0)),
        estimate=data.get("estimate", {}),
    )
