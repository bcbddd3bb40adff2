"""Preference pairs with labelled sentences, in the reference implementation's file format.

A row: `{"prompt": [messages], "chosen": [{"role": "assistant", "content": …}], "chosen_item": {"sents": […], "type":
[…]}, "rejected": …, "rejected_item": …}` with types `hallucination` and `no_hallucination`. Written rows also hold
`labels` and `spans` in the items and `topic` at the top, which the reference ignores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factuality_harness.harness.annotation import WRONG, Label, Sentence
from factuality_harness.harness.data.biographies import hub_rows
from factuality_harness.harness.engines import Message
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import write_jsonl
from factuality_harness.harness.io.tables import read_rows

TYPES = {"no_hallucination": Label.OK, "hallucination": Label.CONTRADICTORY}
_KEYS = ("prompt", "chosen", "chosen_item", "rejected", "rejected_item")


@dataclass(frozen=True, slots=True)
class LabelledResponse:
    """A response, its sentences with exact spans (`text[s.start:s.end] == s.text`), and one label per sentence."""

    text: str
    sentences: tuple[Sentence, ...]
    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        if len(self.sentences) != len(self.labels):
            raise HarnessError(f"{len(self.sentences)} sentences but {len(self.labels)} labels")


@dataclass(frozen=True, slots=True)
class Pair:
    """prompt: chat messages before the response. where: "FILE, row N", for messages."""

    prompt: tuple[Message, ...]
    chosen: LabelledResponse
    rejected: LabelledResponse
    topic: str = ""
    where: str = ""


def locate(text: str, sentences: Iterable[str]) -> tuple[Sentence, ...]:
    """Spans of `sentences`, in order, in `text`; white space may differ, as the reference rewrites some of it.

    Raises HarnessError for a sentence that is not there, and for text that no sentence covers.
    """
    places = [i for i, character in enumerate(text) if not character.isspace()]
    solid = "".join(text[i] for i in places)
    found = []
    done = 0
    for number, sentence in enumerate(sentences, 1):
        wanted = "".join(sentence.split())
        if not wanted:
            raise HarnessError(f"sentence {number} is empty")
        if not solid.startswith(wanted, done):
            if wanted in solid[done:]:
                raise HarnessError(f"no sentence holds {solid[done : solid.index(wanted, done)]!r} of the response")
            raise HarnessError(f"sentence {number} is not in the response (or not in order): {sentence!r}")
        start, end = places[done], places[done + len(wanted) - 1] + 1
        found.append(Sentence(text[start:end], start, end))
        done += len(wanted)
    if done < len(solid):
        raise HarnessError(f"no sentence holds the end of the response: {solid[done:][:60]!r}")
    return tuple(found)


def read_pairs(path: str | Path) -> Iterator[Pair]:
    """Pairs of a file (JSONL, `.gz` too, or Parquet) or of the hub (`hf:REPO[@SPLIT]`), one at a time.

    Raises HarnessError naming file, row, and what is wrong with it.
    """
    for number, row in _rows(str(path)):
        where = f"{path}, row {number}"
        try:
            yield Pair(
                prompt=_prompt(row["prompt"]),
                chosen=_response(row["chosen"], row["chosen_item"], "chosen"),
                rejected=_response(row["rejected"], row["rejected_item"], "rejected"),
                topic=str(row.get("topic") or ""),
                where=where,
            )
        except HarnessError as error:
            raise HarnessError(f"{where}: {error}. Fix or remove the row.") from error


def _rows(source: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if not source.startswith("hf:"):
        yield from read_rows(source, required=_KEYS)
        return
    rows, columns = hub_rows(source)
    if missing := [key for key in _KEYS if key not in columns]:
        raise HarnessError(f"{source}: no column {', '.join(missing)}; it has {', '.join(columns)}")
    yield from enumerate(rows, 1)


def pair_to_dict(pair: Pair) -> dict[str, Any]:
    """A row of the format. An unparsed sentence gets the type that does not count on its side."""
    row: dict[str, Any] = {"prompt": list(pair.prompt)}
    for side, response in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        unparsed = "hallucination" if side == "chosen" else "no_hallucination"
        row[side] = [{"role": "assistant", "content": response.text}]
        row[f"{side}_item"] = {
            "sents": [s.text for s in response.sentences],
            "type": [_type(label, unparsed) for label in response.labels],
            "labels": [label.value for label in response.labels],
            "spans": [[s.start, s.end] for s in response.sentences],
        }
    if pair.topic:
        row["topic"] = pair.topic
    return row


def write_pairs(path: str | Path, pairs: Iterable[Pair]) -> int:
    """Write pairs to a file; returns how many."""
    count = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal count
        for pair in pairs:
            count += 1
            yield pair_to_dict(pair)

    write_jsonl(path, rows())
    return count


def _type(label: Label, unparsed: str) -> str:
    if label is Label.UNPARSED:
        return unparsed
    return "hallucination" if label in WRONG else "no_hallucination"


def _prompt(messages: Any) -> tuple[Message, ...]:
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        raise HarnessError('prompt must be a list of messages {"role": …, "content": text}')
    return tuple({"role": m["role"], "content": m["content"]} for m in messages)


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))


def _response(messages: Any, item: Any, side: str) -> LabelledResponse:
    if not isinstance(messages, list) or len(messages) != 1 or not _is_message(messages[0]):
        raise HarnessError(f'{side} must be a list of one message {{"role": "assistant", "content": text}}')
    text = messages[0]["content"]
    if not text.strip():
        raise HarnessError(f"{side}: the response is empty")
    if not isinstance(item, dict) or "sents" not in item or "type" not in item:
        raise HarnessError(f"{side}_item must hold sents and type")
    sents, types = item["sents"], item["type"]
    if not isinstance(sents, list) or not isinstance(types, list) or not all(isinstance(s, str) for s in sents):
        raise HarnessError(f"{side}_item: sents must be a list of texts, type a list of words")
    if len(sents) != len(types):
        raise HarnessError(f"{side}_item: {len(sents)} sentences but {len(types)} types")
    labels = _labels(item, types, side)
    try:
        sentences = _spans(text, item["spans"], sents) if item.get("spans") is not None else locate(text, sents)
    except HarnessError as error:
        raise HarnessError(f"{side}: {error}") from error
    return LabelledResponse(text, sentences, labels)


def _labels(item: dict[str, Any], types: list[Any], side: str) -> tuple[Label, ...]:
    given = item.get("labels")
    if given is None:
        unknown = next((t for t in types if not isinstance(t, str) or t not in TYPES), None)
        if unknown is not None:
            raise HarnessError(f"{side}_item: unknown type {unknown!r}; use {' or '.join(TYPES)}")
        return tuple(TYPES[t] for t in types)
    if not isinstance(given, list) or len(given) != len(types):
        raise HarnessError(f"{side}_item: {len(types)} types but labels is no list of that length")
    try:
        return tuple(Label(label) for label in given)
    except ValueError as error:
        raise HarnessError(f"{side}_item: {error}; use {', '.join(label.value for label in Label)}") from error


def _spans(text: str, spans: Any, sents: list[str]) -> tuple[Sentence, ...]:
    if not isinstance(spans, list) or len(spans) != len(sents):
        raise HarnessError(f"{len(sents)} sentences but spans is no list of that length")
    found: list[Sentence] = []
    for span, sentence in zip(spans, sents, strict=True):
        if not (isinstance(span, list) and len(span) == 2 and all(isinstance(place, int) for place in span)):
            raise HarnessError(f"{span!r} is no span [start, end]")
        start, end = span
        if not sentence.strip():
            raise HarnessError(f"sentence {len(found) + 1} is empty")
        if start < (found[-1].end if found else 0) or end > len(text) or text[start:end] != sentence:
            raise HarnessError(f"characters {start}:{end} of the response are not the next sentence, {sentence!r}")
        found.append(Sentence(sentence, start, end))
    return tuple(found)
