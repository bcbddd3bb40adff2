"""What a judge would ask, counted before anything is spent.

The judge itself runs, over an engine that asks nothing: an answer that is stored is taken from the cache, and every
other one is the answer that leads to the most requests. What is counted is the judge's own prompts, so that nothing has
to be kept in step with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import yaml
from cyclopts import Parameter
from pydantic import Field

from factuality_harness.harness.engines import BatchEngine, CachedEngine, Conversation, Engine, Reply, Sampling
from factuality_harness.harness.engines.base import Batch
from factuality_harness.harness.engines.cache import usable
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import open_text
from factuality_harness.harness.io.write import json_text
from factuality_harness.harness.settings import Settings, read_settings
from factuality_harness.harness.words import tokens_about

Count = Callable[[Conversation], float]
ESTIMATE = (
    "an estimate from above: every answer that is not stored is taken to be the one that leads to the most requests; "
    "second tries after unreadable answers are not counted"
)


def token_counter(tokenizer: str | None) -> tuple[Count, str]:
    """A function from a conversation to its tokens, and a note on how it counts.

    With the name of a Hugging Face tokenizer that one counts, chat template included where it has one; else four
    characters or one Chinese character are a token. Raises HarnessError when the tokenizer cannot be loaded.
    """
    if tokenizer is None:
        return (
            lambda conversation: sum(tokens_about(m["content"]) for m in conversation),
            "tokens are an estimate: characters / 4, Chinese characters",
        )
    from transformers import AutoTokenizer

    try:
        loaded: Any = AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError) as error:
        raise HarnessError(f"tokenizer {tokenizer!r} cannot be loaded: {error}") from error

    def count(conversation: Conversation) -> float:
        if loaded.chat_template is None:
            text = "\n".join(m["content"] for m in conversation)
        else:
            text = loaded.apply_chat_template(list(conversation), tokenize=False, add_generation_prompt=True)
        return len(loaded(text, add_special_tokens=False, verbose=False)["input_ids"])

    return count, f"tokens are counted with the tokenizer {tokenizer}"


class Price(Settings):
    """Money for a million tokens. cached: of prompt tokens that the server has read before. batch_discount: share that
    a batch costs less."""

    prompt: Annotated[float, Field(ge=0)]
    completion: Annotated[float, Field(ge=0)]
    cached: Annotated[float, Field(ge=0)] | None = None
    batch_discount: Annotated[float, Field(ge=0, le=1)] = 0.0


def read_prices(path: str | Path) -> dict[str, Price]:
    """Model to its price, from JSON or YAML. Raises HarnessError naming the file and what is wrong in it."""
    try:
        with open_text(Path(path)) as file:
            data: Any = yaml.safe_load(file)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise HarnessError(f"{path}: cannot be read as prices ({error})") from error
    if not isinstance(data, dict) or not all(isinstance(row, dict) for row in data.values()):
        raise HarnessError(f"{path}: prices are an object of models, each with prompt and completion")
    return {str(model): read_settings(Price, row, f"{path}, {model}") for model, row in data.items()}


@dataclass(slots=True)
class Calls:
    """Requests to one model for one part of the work. requests: all; those the cache answers; and the different ones
    left to ask, with their tokens. shared_tokens: of the prompts, the part that an earlier prompt began with, which a
    server with a prompt cache reads once."""

    part: str
    engine: str
    batched: bool = False
    requests: int = 0
    from_cache: int = 0
    to_ask: int = 0
    prompt_tokens: float = 0.0
    shared_tokens: float = 0.0
    completion_tokens: float = 0.0

    def to_dict(self, price: Price | None) -> dict[str, Any]:
        """Plain data; with a price the cost, and where prompts that were read before are cheaper, that cost too."""
        names = ("part", "engine", "requests", "from_cache", "to_ask")
        tokens = ("prompt_tokens", "shared_tokens", "completion_tokens")
        row = {name: getattr(self, name) for name in names} | {name: round(getattr(self, name)) for name in tokens}
        if price is not None:
            row["cost"] = self._cost(price, 0.0)
            if price.cached is not None and self.shared_tokens:
                row["cost_with_prompt_cache"] = self._cost(price, self.shared_tokens)
        return row

    def _cost(self, price: Price, cached: float) -> float:
        fresh = (self.prompt_tokens - cached) * price.prompt + cached * (price.cached or 0.0)
        whole = (fresh + self.completion_tokens * price.completion) / 1e6
        return round(whole * (1 - price.batch_discount if self.batched else 1), 4)


class _Silent:
    """An engine's name and settings, for the cache's keys, without the engine."""

    remote = False

    def __init__(self, engine: Engine) -> None:
        self.identity = engine.identity
        self.settings = engine.settings
        self.schemas = getattr(engine, "schemas", False)

    def check(self) -> None:
        """Nothing is asked."""

    def stream(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[Batch]:
        raise NotImplementedError


class DryEngine(CachedEngine):
    """Counts what would be asked. The cache is read and not changed."""

    def __init__(self, real: CachedEngine, calls: Calls, count: Count) -> None:
        super().__init__(_Silent(real.engine), real.cache, real.judge)
        self.real = real
        self.calls = calls
        self._count = count
        self._counted: set[bytes] = set()
        self._before = ""
        self._asked_texts: set[int] = set()

    def complete(
        self,
        conversations: Sequence[Conversation],
        sampling: Sampling,
        on_reply: Callable[[int, Reply], None] | None = None,
        keep: Callable[[int, Reply], bool] = usable,
        typical: Callable[[int], str] | None = None,
    ) -> list[Reply]:
        self._new: set[bytes] = set()
        keys = [self.key(c, sampling) for c in conversations]  # now: whoever hears a reply may write on in them
        replies = super().complete(conversations, sampling, on_reply, keep, typical)
        self.calls.requests += len(replies)
        self.calls.from_cache += sum(key not in self._new for key in keys)
        return replies

    def _answers(
        self, conversations: Sequence[Conversation], sampling: Sampling, typical: Callable[[int], str]
    ) -> Iterator[Batch]:
        batch: Batch = []
        for i, conversation in enumerate(conversations):
            text = typical(i) or (sampling.choices[0] if sampling.choices else "")
            batch.append((i, Reply(text)))
            key = self.key(conversation, sampling)
            self._new.add(key)
            if key in self._counted:
                continue  # a real run has it from the cache by now
            self._counted.add(key)
            tokens = self._count(conversation)
            self.calls.to_ask += 1
            self.calls.prompt_tokens += tokens
            self.calls.shared_tokens += tokens * self._shared(conversation)
            self.calls.completion_tokens += self._count([{"role": "assistant", "content": text}])
        yield batch

    def _shared(self, conversation: Conversation) -> float:
        """Share of the conversation's characters that the one before began with, or that was asked a turn earlier."""
        texts = [m["content"] for m in conversation]
        whole = "\0".join(texts)
        turn = next((n for n in range(len(texts) - 1, 0, -1) if hash(tuple(texts[:n])) in self._asked_texts), 0)
        self._asked_texts.add(hash(tuple(texts)))
        same = next((i for i, (a, b) in enumerate(zip(whole, self._before, strict=False)) if a != b), 0)
        self._before = whole
        return max(same, len("\0".join(texts[:turn]))) / max(1, len(whole))

    def _store(self, rows: Sequence[tuple[bytes, str]]) -> None:
        """A typical answer is no answer."""

    def _drop(self, keys: Collection[bytes]) -> None:
        """The cache stays as it is."""


@dataclass
class DryRun:
    """A count in the making: give `engine`'s engines to a judge, let it judge, and read the `plan`."""

    tokenizer: str | None = None
    prices: str | Path | None = None
    calls: list[Calls] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._count, how = token_counter(self.tokenizer)
        self._prices = None if self.prices is None else read_prices(self.prices)
        self._how = how

    def engine(self, real: CachedEngine, part: str = "judge") -> DryEngine:
        """An engine that counts in place of `real`. part: what its requests are for."""
        real = real.real if isinstance(real, DryEngine) else real
        calls = Calls(part, real.engine.identity, isinstance(real.engine, BatchEngine))
        self.calls.append(calls)
        return DryEngine(real, calls, self._count)

    def plan(self, judge: str, **about: Any) -> dict[str, Any]:
        """The counts as plain data. about: what was judged."""
        prices = self._prices or {}
        used = [calls for calls in self.calls if calls.requests]
        rows = [calls.to_dict(prices.get(calls.engine.partition("#")[2])) for calls in used]
        sums = ("requests", "from_cache", "to_ask", "prompt_tokens", "shared_tokens", "completion_tokens")
        total: dict[str, Any] = {name: sum(row[name] for row in rows) for name in sums}
        notes = [ESTIMATE, self._how, *self.notes] if rows else [f"the judge {judge} asks no model", *self.notes]
        if self._prices is not None:
            unpriced = sorted({row["engine"].partition("#")[2] for row in rows if "cost" not in row})
            total["cost"] = None if unpriced else round(sum(row["cost"] for row in rows), 4)
            notes += [f"no price for {model} in {self.prices}; it has: {', '.join(prices)}" for model in unpriced]
        return {"dry_run": True, "judge": judge, **about, **total, "by_part": rows, "notes": notes}

    def show(self, judge: str, **about: Any) -> None:
        """Print the plan as JSON."""
        print(json_text(self.plan(judge, **about), indent=2))


@dataclass(frozen=True)
class Asking:
    """How a judged command asks its judge: with the answer cache or without, or only counting what it would ask."""

    no_cache: Annotated[bool, Parameter(negative="", help="Ask everything anew, and keep no answer.")] = False
    dry_run: Annotated[bool, Parameter(negative="", help="Count calls and tokens; ask nothing.")] = False
    tokenizer: Annotated[str | None, Parameter(help="Of --dry-run: whose tokens to count, a model.")] = None
    prices: Annotated[Path | None, Parameter(help="Of --dry-run: JSON or YAML of prices by model.")] = None

    def options(self, judge_args: Mapping[str, Any] | None) -> dict[str, Any]:
        """The judge's options, with `cache` where none is wanted."""
        return {**(judge_args or {}), **({"cache": False} if self.no_cache else {})}

    def dry(self) -> DryRun | None:
        """Where a dry run counts; None for a real one. Raises HarnessError for options that only a dry run has."""
        return DryRun(self.tokenizer, self.prices) if self.checked().dry_run else None

    def task_setting(self) -> dict[str, Any] | None:
        """`dry_run` of a task's metadata; None for a real run. Raises HarnessError as `dry` does."""
        prices = None if self.prices is None else str(self.prices)
        return {"tokenizer": self.tokenizer, "prices": prices} if self.checked().dry_run else None

    def checked(self) -> Asking:
        """Itself. Raises HarnessError for options that only a dry run has."""
        if not self.dry_run and (self.tokenizer or self.prices):
            raise HarnessError("--tokenizer and --prices go with --dry-run")
        return self


AskingOptions = Annotated[Asking, Parameter(name="*")]
ASK = Asking()
