"""Arguments of the trainers: which pairs, what all trainers share, and how a recipe and a command line are read."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, NoReturn, TypeVar

import torch
from cyclopts import Parameter
from transformers import TrainingArguments
from trl import ModelConfig, TrlParser

from factuality_harness.harness.commands import entry, new_app
from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.settings import read_settings

Config = TypeVar("Config")
Words = Annotated[str, Parameter(allow_leading_hyphen=True)]
"""Words of a command line that TRL's parser reads."""


@dataclass
class PairArguments:
    """What to train on, in the official preference format: JSONL (`.gz` too), Parquet, or `hf:REPO[@SPLIT]`."""

    pairs: str = field(
        default="", metadata={"help": "Preference pairs to train on: JSONL, Parquet, or hf:REPO[@SPLIT]."}
    )
    eval_pairs: str | None = field(default=None, metadata={"help": "Preference pairs to evaluate on, as pairs."})
    max_pairs: int | None = field(default=None, metadata={"help": "Use only the first N pairs of the file."})


@dataclass
class TrainerDefaults:
    """Fields of every trainer here; a base class to stand before TRL's config."""

    end_of_turn: bool = field(default=True, metadata={"help": "Whether end-of-turn tokens count."})
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "Recompute activations in the backward pass: less memory, slower."}
    )


def fill_defaults(config: TrainingArguments) -> None:
    """Defaults that depend on the machine: bfloat16 where there is a GPU; no search for unused parameters."""
    if config.bf16 is None:
        config.bf16 = not config.fp16 and not config.use_cpu and torch.cuda.is_available()
    if config.ddp_find_unused_parameters is None:
        config.ddp_find_unused_parameters = False


class _Parser(TrlParser):
    def error(self, message: str) -> NoReturn:
        raise HarnessError(message)


def parse_arguments(
    config_type: type[Config], program: str, argv: Sequence[str]
) -> tuple[PairArguments, Config, ModelConfig]:
    """`--config RECIPE` and what overrides it, to arguments. RECIPE: a file, or a shipped one such as `world/dpo.yaml`.

    Raises HarnessError for an unreadable file, an unknown key, and a value that will not do.
    """
    kinds: list[Any] = [PairArguments, config_type, ModelConfig]
    parser = _Parser(kinds, prog=program)
    known = [action.dest for action in parser._actions]
    parser.add_argument("--config", help="Recipe: a YAML file of these settings, or the name of a shipped one.")
    recipe = parser.parse_known_args([*argv])[0].config
    if recipe is not None:
        settings = read_settings(recipe, "recipes")
        os.environ.update({name: str(value) for name, value in settings.pop("env", {}).items()})
        for key in settings:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                raise HarnessError(f"{recipe}: unknown setting {key}" + (f"; is {near[0]} meant?" if near else ""))
        parser.set_defaults_with_config(**settings)
    try:
        script_args, config, model_args, *_ = parser.parse_args_into_dataclasses([*argv])
    except (OSError, ValueError, TypeError) as error:
        raise HarnessError(f"configuration: {error}") from error
    return script_args, config, model_args


def launched(main: Callable[..., None]) -> None:
    """Run a trainer's command as the process that accelerate or torchrun started, `--help` left to TRL's parser."""
    app = new_app("train", help_flags=[])
    app.default(main)
    sys.exit(entry(app))
