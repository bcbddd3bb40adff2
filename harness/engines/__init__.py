"""Engines: messages in, text out, in batches, with one cache under all of them."""

from __future__ import annotations

from typing import Any

from factuality_harness.harness.engines.base import Conversation, Engine, Message, Reply, Sampling, opening
from factuality_harness.harness.engines.batch import BatchEngine
from factuality_harness.harness.engines.cache import AnswerCache, CachedEngine, cache_path
from factuality_harness.harness.engines.local import TransformersEngine, VLLMEngine
from factuality_harness.harness.engines.openai import OpenAIEngine
from factuality_harness.harness.errors import HarnessError

ENGINES: dict[str, Any] = {
    "openai": OpenAIEngine,
    "batch": BatchEngine,
    "vllm": VLLMEngine,
    "hf": TransformersEngine,
}

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
            f"engine {spec!r} is not known; use openai:http://HOST:PORT/v1#MODEL, batch:URL#MODEL, batch:FOLDER#MODEL, "
            "vllm:MODEL or hf:MODEL"
        )
    return name, target


def open_engine(
    spec: str,
    store: AnswerCache | None = None,
    *,
    cache: bool = True,
    role: str = "judge",
    judge: str = "",
    **options: Any,
) -> CachedEngine:
    """Engine from `openai:URL#MODEL`, `batch:URL#MODEL`, `vllm:MODEL` or `hf:MODEL`, with the cache in front.

    store: the cache, by default the common one; cache: False for none. role: `judge` or `model`, which decides where a
    server's key is read from. judge: who asks, for the cache's records. options go to the engine (concurrency, timeout,
    batch_size, …). Raises HarnessError for a misspelt spec or option.
    """
    if not isinstance(cache, bool):
        raise HarnessError(f"cache is {cache!r}: true, or false to ask everything anew and store nothing")
    name, target = check_engine(spec)
    try:
        engine: Engine = ENGINES[name](target, *([role] if name in ("openai", "batch") else []), **options)
    except TypeError as error:
        raise HarnessError(f"engine {name}: {error}") from error
    return CachedEngine(engine, (store if store is not None else AnswerCache()) if cache else None, judge)
