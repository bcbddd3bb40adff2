"""What every engine does: conversations in, texts out, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

Message = dict[str, str]
"""`{"role": "user" | "assistant" | "system", "content": text}`."""
Conversation = Sequence[Message]


def opening(system: str) -> list[Message]:
    """What stands before the first question: a system message, or nothing for ""."""
    return [{"role": "system", "content": system}] if system else []


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to decode. temperature 0 is greedy. `seed` tells repeated samples of one prompt apart.
    choices: when not empty, the answer is constrained to be one of them word for word. schema: when not empty, to JSON
    of this schema (as JSON text), by engines whose `schemas` is true.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    choices: tuple[str, ...] = ()
    schema: str = ""

    def to_dict(self) -> dict[str, Any]:
        """What decides an answer; without a schema the cache's keys are those of before there were any."""
        return {name: value for name, value in asdict(self).items() if name != "schema" or value}


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `text` is None when there is none (a refused prompt, a content filter, nothing but thinking);
    `error` says why. cut: it ended at the token limit, not by itself."""

    text: str | None
    error: str = ""
    cut: bool = False


Batch = list[tuple[int, Reply]]


class Engine(Protocol):
    """A model that answers conversations.

    `identity` names engine and model for the cache and the records; it never holds a key or a password. `settings`:
    whatever else decides an answer (fields of every request, precision, quantization), for the cache. `remote`: another
    process holds the model, so that trying it costs no memory here. `schemas`, where there is one: whether answers can
    be held to a JSON schema, as far as is known by now.
    """

    @property
    def identity(self) -> str: ...

    @property
    def settings(self) -> dict[str, Any]: ...

    @property
    def remote(self) -> bool: ...

    def check(self) -> None:
        """Raise EngineError now if the engine cannot work (server down, package missing), before any work is spent."""

    def stream(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[Batch]:
        """Yield `[(index, reply), …]` as answers finish, in any order, each index exactly once.

        Raises EngineError when the engine fails as a whole; what was yielded before stays valid.
        """
