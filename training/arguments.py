"""Arguments of the training commands: which pairs, and how a recipe and a command line are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

import yaml
from trl import ModelConfig, TrlParser

from factuality_harness.harness.errors import HarnessError

Config = TypeVar("Config")


@dataclass
class PairArguments:
    """What to train on. Files in the official preference format (`.gz` too)."""

    pairs: str = field(default="", metadata={"help": "Preference pairs to train on (JSONL)."})
    eval_pairs: str | None = field(default=None, metadata={"help": "Preference pairs to evaluate on (JSONL)."})
    max_pairs: int | None = field(default=None, metadata={"help": "Use only the first N pairs of the file."})


def parse_arguments(
    config_type: type[Config], program: str, argv: list[str] | None
) -> tuple[PairArguments, Config, ModelConfig]:
    """YAML file and command line to arguments. Raises HarnessError for an unreadable file or an unknown key."""
    kinds: list[Any] = [PairArguments, config_type, ModelConfig]
    parser = TrlParser(kinds, prog=program)
    try:
        script_args, config, model_args = parser.parse_args_and_config(argv)
    except (OSError, ValueError, TypeError, IndexError, yaml.YAMLError) as error:
        raise HarnessError(f"configuration: {error}") from error
    return script_args, config, model_args
