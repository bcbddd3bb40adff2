"""Engines: messages in, text out, in batches, with one cache under all of them."""

from __future__ import annotations

from typing import Any

from factuality_harness.harness.engines.base import Conversation, Engine, Message, Reply, Sampling, opening
from factuality_harness.harness.engines.cache import AnswerCache, CachedEngine, cache_path
from factuality_harness.harness.engines.local import TransformersEngine, VLLMEngine
from factuality_harness.harness.engines.openai import OpenAIEngine
from factuality_harness.harness.errors import HarnessError

ENGINES: dict[str, Any] = {"openai": OpenAIEngine, "vllm": VLLMEngine, "hf": TransformersEngine}

__all__ = [
    "ENGINES",
    "AnswerCache",
    "CachedEngine",
    "Conversation",
    "Engine",
    "Message",
    "Reply",
    "Sampling",
    "cache_path",
    "check_engine",
    "open_engine",
    "opening",
]


def check_engine(spec: str) -> tuple[str, str]:
    """(ENGINE, TARGET) of an engine's spec. Raises HarnessError for a misspelt one."""
    name, _, target = spec.partition(":")
    if name not in ENGINES or not target:
        raise HarnessError(
            f"engine {spec!r} is not known; use openai:http://HOST:PORT/v1#MODEL, vllm:MODEL or hf:MODEL"
        )
    return name, target


def open_engine(spec: str, cache: AnswerCache | None = None, *, role: str = "judge", **options: Any) -> CachedEngine:
    """Engine from `openai:URL#MODEL`, `vllm:MODEL` or `hf:MODEL`, with the cache in front.

    role: `judge` or `model`, which decides where a server's key is read from. options go to the engine (concurrency,
    timeout, batch_size, …). Raises HarnessError for a misspelt spec or option.
    """
    name, target = check_engine(spec)
    try:
        engine: Engine = ENGINES[name](target, *([role] if name == "openai" else []), **options)
    except TypeError as error:
        raise HarnessError(f"engine {name}: {error}") from error
    return CachedEngine(engine, cache if cache is not None else AnswerCache())
