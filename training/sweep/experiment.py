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

import importlib
import inspect
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    create_model,
    model_validator,
)

from harness.annotators import annotator_names
from harness.data.world.generate import BaseConfig, WorldConfig
from harness.embeddings import CHOICES
from harness.engines import ENGINES
from harness.errors import HarnessError
from training.preferences.pairing import PairRules

Kind = Literal["base", "questions", "sample", "annotate", "select", "pair", "train", "score"]
STAGES: tuple[str, ...] = get_args(Kind)
Name = Annotated[str, Field(min_length=1)]
Options = dict[str, Any]


# ---------------------------------------------------------------- what a file may hold


def _share(value: int | float | str) -> int | float | str:
    if not (re.fullmatch(r"[1-9]\d*(/[1-9]\d*)?|0?\.\d+", str(value)) and value != 0):
        raise ValueError("a number from 1, or a share such as 1/3 or 0.5")
    return value


def _judge(spec: str) -> str:
    name, at, engine = spec.partition("@")
    if name not in (*annotator_names(), "factscore"):
        raise ValueError(f"one of {', '.join(annotator_names())} and factscore")
    judge = None if name == "factscore" else importlib.import_module(f"harness.annotators.{name}").ANNOTATOR
    engine_name, _, target = engine.partition(":")
    if judge is not None and "engine" not in inspect.signature(judge).parameters:
        if at:
            raise ValueError(f"{name} (it needs no engine)")
    elif engine_name not in ENGINES or not target:
        raise ValueError(f"{name}@ENGINE:TARGET, ENGINE one of {', '.join(ENGINES)}")
    return spec


def _embedding(spec: str) -> str:
    if not re.fullmatch(r"tfidf|random|(hidden|sentence|openai):.+", spec):
        raise ValueError(CHOICES)
    if spec.startswith("hidden:"):
        hidden_model(spec)
    return spec


def hidden_model(embedding: str) -> tuple[Any, str]:
    """Model and layer ("" for the last) of `hidden:MODEL[@LAYER]`; MODEL is `policy`, or as `sample` names one.

    Raises ValueError when it names none.
    """
    name, at, layer = embedding.removeprefix("hidden:").partition("@")
    try:
        model = yaml.safe_load(name)
        TypeAdapter(Model).validate_python(model)
        int(layer if at else 0)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError("hidden:MODEL or hidden:MODEL@LAYER, MODEL policy, a name or {init: 1}") from error
    return model, layer


class _Mapping(BaseModel):
    """Keys and types of a mapping. Values are only looked at: what is hashed and run is what the file says."""

    model_config = ConfigDict(strict=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _known(cls, data: Any) -> Any:
        for key in data if isinstance(data, dict) else ():
            if key not in cls.model_fields:
                raise ValueError(f"unknown key {key!r}; known are {', '.join(sorted(cls.model_fields))}")
        return data


def _fields_of(kind: type) -> Any:
    """A mapping of fields of a dataclass that also passes its own checks; its seed is the cell's to say."""
    fields: dict[str, Any] = {
        name: (Annotated[hint, Field(strict=get_origin(hint) is not tuple)], None)  # YAML has lists only
        for name, hint in get_type_hints(kind).items()
        if name != "seed"
    }

    def checked(self: BaseModel) -> BaseModel:
        try:
            kind(**self.model_dump(include={*fields}, exclude_unset=True))
        except HarnessError as error:
            raise ValueError(str(error)) from error
        return self

    validators: dict[str, Any] = {"checked": model_validator(mode="after")(checked)}
    return create_model(kind.__name__, __base__=_Mapping, __validators__=validators, **fields)


class _World(_fields_of(WorldConfig)):  # type: ignore[misc]
    pass


class _Base(_fields_of(BaseConfig)):  # type: ignore[misc]
    pass


class _Pair(_fields_of(PairRules)):  # type: ignore[misc]
    limit: PositiveInt = 1


Model = Name | _Base


class _Questions(_Mapping):
    file: Name = ""
    split: Literal["train", "test", "all"] = "all"
    part: Literal["train", "validation", "test", "bio"] = "train"
    side: Literal["near", "far", "all"] = "all"


class _Sample(_Mapping):
    model: Model = ""
    engine: Literal[tuple(ENGINES)] = "hf"  # type: ignore[valid-type]
    engine_args: Options = {}
    n: PositiveInt = 1
    temperature: NonNegativeFloat = 0
    top_k: NonNegativeInt = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1
    max_tokens: PositiveInt = 1
    with_document: bool = False


class _Select(_Mapping):
    side: Literal["near", "far", "all"] = "all"
    clusters: Annotated[int | float | str, AfterValidator(_share)] = 1
    topics: Annotated[int | float | str, AfterValidator(_share)] = 1
    topics_per_cluster: PositiveInt = 1
    per_topic: PositiveInt = 1
    seed: int = 0
    embedding: Annotated[str, AfterValidator(_embedding)] = ""
    embedding_args: Options = {}
    keep: Literal["near", "far", "a", "b"] = "near"
    of: Literal["topic", "question"] = "topic"
    text: Name = ""
    relative_to: _Questions = _Questions()

    @model_validator(mode="after")
    def _half(self) -> _Select:
        given = self.model_fields_set
        if not given & {"embedding", "embedding_args", "keep", "of", "text", "relative_to"}:
            return self
        if missing := {"embedding", "keep"} - given:
            raise ValueError(f"a half needs {' and '.join(sorted(missing))}")
        sides = ("a", "b") if self.embedding == "random" else ("near", "far")
        if self.keep not in sides:
            raise ValueError(f"keep is {' or '.join(sides)} here")
        if self.embedding != "random" and "relative_to" not in given:
            raise ValueError("near and far need relative_to, the questions of the test topics")
        return self


class _Step(_Mapping):
    recipe: Name
    trainer: Literal["mask_dpo", "sft"] = "mask_dpo"
    arguments: Options = {}
    oracle: _Step | None = None


class _Score(_Mapping):
    tasks: Annotated[list[Name], Field(min_length=1)] = []
    engine: Name = "hf"
    model_args: Options = {}
    gen_kwargs: Options = {}
    batch_size: int | str = 1
    chat_template: bool | str = True
    metadata: Options = {}
    arguments: Options = {}
    judge: Annotated[str, AfterValidator(_judge)] = ""
    judge_args: Options = {}


class _Settings(_Mapping):
    model: Model = ""
    world: _World = _World()
    base: _Base = _Base()
    questions: _Questions = _Questions()
    sample: _Sample = _Sample()
    chosen: _Sample = _Sample()
    judge: Annotated[str, AfterValidator(_judge)] = ""
    judge_args: Options = {}
    select: _Select = _Select()
    pair: _Pair = _Pair()
    train: list[_Step] = []
    score: _Score = _Score()


class _Column(_Mapping):
    task: Name
    metric: Name = ""


class _Table(_Mapping):
    number: int = 0
    kind: str = ""
    reference: str = ""
    columns: dict[str, Name | _Column] = {}
    rename: dict[str, str] = {}
    where: dict[str, str | int | float] = {}
    note: str = ""


class _File(_Mapping):
    title: str = ""
    table: _Table = _Table()
    seeds: Any = None
    defaults: Options = {}
    grid: dict[str, dict[str, Options | None]] = {}
    cells: list[Options] = []
    launch: dict[Kind, Name] = {}
    threads: NonNegativeInt = 0
    estimate: dict[Kind | Literal["sentences", "test_questions"], NonNegativeFloat] = {}


def _check(kind: type[BaseModel], data: dict[str, Any], where: str) -> None:
    """Raise one HarnessError that names the key."""
    try:
        text = json.dumps(data)
    except TypeError as error:
        raise HarnessError(f"{where}: {error}; put dates and the like in quotes") from error
    try:
        kind.model_validate(json.loads(text))
    except ValidationError as error:
        found = [(*_place(json.loads(text), one["loc"]), one) for one in error.errors()]
        keys, value, worst = max(found, key=lambda one: len(one[0]))  # where a union is meant: its nearest member
        said = [
            re.sub(r"Value error, |Input should be | or instance of \w+", "", one["msg"])
            for at, _, one in found
            if at == keys
        ]
        if worst["type"] == "missing":
            raise HarnessError(f"{', '.join([where, *keys])}: {worst['loc'][-1]} is missing") from error
        shown = "" if isinstance(value, dict) else f", not {value!r}"
        raise HarnessError(f"{', '.join([where, *keys])}: {' or '.join(dict.fromkeys(said))}{shown}") from error


def _place(data: Any, loc: tuple[int | str, ...]) -> tuple[list[str], Any]:
    """Keys of the file among pydantic's, which also name members of unions, and the value there."""
    keys = []
    for key in loc:
        if key in data if isinstance(data, dict) else isinstance(data, list) and key in range(len(data)):
            data = data[key]
            keys.append(f"entry {key + 1}" if isinstance(key, int) else key)
    return keys, data


# ---------------------------------------------------------------- files to cells


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
        elif isinstance(value, Mapping):
            out[key] = merged({}, value)
        else:
            out[key] = deepcopy(value)
    return out


def _read(path: Path, children: tuple[Path, ...] = ()) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise HarnessError(f"{path}: no such experiment file") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise HarnessError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(data, dict):
        raise HarnessError(f"{path}: an experiment is a mapping with the keys {', '.join(sorted(_File.model_fields))}")
    parent = data.pop("extends", None)
    if parent is None:
        return merged({}, data)
    if not isinstance(parent, str):
        raise HarnessError(f"{path}, extends: must be the name of a file beside this one, not {parent!r}")
    children += (path.resolve(),)
    if (path.parent / parent).resolve() in children:
        raise HarnessError(f"{path}, extends: {parent} extends itself")
    return merged(_read(path.parent / parent, children), data)


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
    path = Path(path)
    data = _read(path)
    _check(_File, data, str(path))
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
        _check(_Settings, settings, where)
        cells += [Cell(path.stem, labels, seed, settings) for seed in seeds]
    if not cells:
        raise HarnessError(f"{path}: the grid has no cells; give at least one axis with at least one value")
    twice = Counter(cell.name for cell in cells)
    if twice and max(twice.values()) > 1:
        raise HarnessError(f"{path}: two cells are called {max(twice, key=lambda name: twice[name])}")
    return Experiment(
        name=path.stem,
        path=path,
        title=data.get("title", path.stem),
        table=data.get("table", {}),
        cells=sorted(cells, key=lambda c: c.seed),
        launch=data.get("launch", {}),
        threads=data.get("threads", 0),
        estimate=data.get("estimate", {}),
    )
