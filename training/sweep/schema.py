"""What an experiment file may hold, checked with its place in the file named."""

from __future__ import annotations

import json
import re
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

from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.embeddings.models import CHOICES
from factuality_harness.harness.engines import ENGINES
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.world.generate import BaseConfig, WorldConfig
from factuality_harness.training.preferences.pairing import PairRules

Kind = Literal["base", "questions", "sample", "annotate", "select", "pair", "tokens", "train", "score", "distances"]
Amount = Literal["train_questions", "test_questions", "sentences", "facts", "answer_tokens", "document_tokens"]
Executor = Literal["local", "slurm", "pbs", "lsf", "sge"]
STAGES: tuple[str, ...] = get_args(Kind)
Name = Annotated[str, Field(min_length=1)]
Options = dict[str, Any]


def _share(value: int | float | str) -> int | float | str:
    if not (re.fullmatch(r"[1-9]\d*(/[1-9]\d*)?|0?\.\d+", str(value)) and value != 0):
        raise ValueError("a number from 1, or a share such as 1/3 or 0.5")
    return value


def _judge(spec: str) -> str:
    try:
        return str(JudgeSpec.parse(spec))
    except HarnessError as error:
        raise ValueError(str(error)) from error


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


class _Distances(_Mapping):
    embedding: Annotated[str, AfterValidator(_embedding)]
    relative_to: _Questions
    embedding_args: Options = {}
    text: Name = "{topic}"
    k: PositiveInt = 1
    centre: bool = True


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


class CellSettings(_Mapping):
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
    train_arguments: Options = {}
    score: _Score = _Score()
    distances: _Distances | None = None


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


class ExperimentFile(_Mapping):
    title: str = ""
    table: _Table = _Table()
    seeds: Any = None
    defaults: Options = {}
    grid: dict[str, dict[str, Options | None]] = {}
    cells: list[Options] = []
    launch: dict[Kind, Name] = {}
    threads: NonNegativeInt | dict[Kind, NonNegativeInt] = 0
    estimate: dict[Kind | Amount, NonNegativeFloat] = {}


def check(kind: type[BaseModel], data: dict[str, Any], where: str) -> None:
    """Raise one HarnessError that names the key, when the data are not of the kind."""
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
