"""Asking about many texts in one request, and once more about each that got no usable line."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from pydantic import NonNegativeInt, PositiveInt

from factuality_harness.harness.annotators.base import Progress
from factuality_harness.harness.annotators.lines import Line, read_numbered
from factuality_harness.harness.annotators.reading import spoken
from factuality_harness.harness.annotators.watch import FailureWatch
from factuality_harness.harness.engines import CachedEngine, Message, Reply, Sampling, opening
from factuality_harness.harness.prompts import prompt
from factuality_harness.harness.settings import Settings

_ECHO = 200  # characters of an answer kept in an error
Read = TypeVar("Read")


class SheetOptions(Settings):
    """max_tokens: limit of an answer; a judge that thinks needs more. line_tokens: room that is reckoned for the line
    of one text; a response with more texts than fit into max_tokens is asked about in parts. guided: hold answers to a
    JSON schema where the engine can. stop_after: see `FailureWatch`. system: a system message before all."""

    max_tokens: PositiveInt = 4096
    line_tokens: PositiveInt = 128
    guided: bool = True
    stop_after: NonNegativeInt = 20
    system: str = ""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Texts to ask about together. prompt: name of the prompt's file, without the language. fields: its places."""

    prompt: str
    language: str
    fields: Mapping[str, str]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unread:
    """A text without a usable line, and why."""

    why: str


Place = tuple[int, int]
"""Sheet and number of a text in it."""
Request = tuple[Sheet, tuple[Place, ...]]


class SheetAsker(Generic[Read]):
    """Asks an engine about sheets."""

    def __init__(
        self,
        engine: CachedEngine,
        judge: str,
        options: SheetOptions,
        schema: Callable[[str], dict[str, Any]],
        read: Callable[[Sheet, Sequence[Line]], Read | Unread],
        states: Callable[[str], bool],
        typical: Callable[[Sheet], str | tuple[str, str]],
    ) -> None:
        """judge: its name in messages. schema: of one line, by language. read: what the lines on one text say. states:
        whether words hold a label. typical: label, and passage where there are some, of a line, for a dry run."""
        self.engine, self.judge, self.options = engine, judge, options
        self._schema, self._read, self._states, self._line = schema, read, states, typical

    def ask(self, sheets: Sequence[Sheet], progress: Progress | None = None) -> list[list[Read | Unread]]:
        """What is read of every text, in order. Raises EngineError when the engine fails as a whole, and when nothing
        but failures of one kind comes back."""
        found: dict[Place, Read | Unread] = {}
        answers = FailureWatch(self.judge, self.options.stop_after)
        verdicts = FailureWatch(self.judge, self.options.stop_after)

        def settle(place: Place, one: Read | Unread) -> None:
            found[place] = one
            verdicts.note(one.why if isinstance(one, Unread) else "")
            if progress is not None:
                progress(1)

        def take(request: Request, ones: list[Read | Unread]) -> None:
            blank = all(isinstance(one, Unread) for one in ones)
            answers.note(ones[0].why if blank and isinstance(ones[0], Unread) else "")
            for place, one in zip(request[1], ones, strict=True):
                if isinstance(one, Unread):
                    found[place] = one
                else:
                    settle(place, one)

        def take_alone(request: Request, ones: list[Read | Unread]) -> None:
            settle(request[1][0], ones[0])

        self._send(self.requests(sheets), take)
        left = sorted(place for place, one in found.items() if isinstance(one, Unread))
        self._send([_part(sheets, (place,)) for place in left], take_alone)
        return [[found[i, j] for j in range(len(sheet.texts))] for i, sheet in enumerate(sheets)]

    def trial(self, sheet: Sheet) -> str:
        """Why the engine's model is no use for sheets, "" where it fills in this one."""
        first: list[Read | Unread] = []
        self._send(self.requests([sheet]), lambda request, ones: first.extend(ones))
        failures = [one.why for one in first if isinstance(one, Unread)]
        if failures and len(failures) < len(first):  # lines that are missing now and then can be asked for alone
            failures = [one.why for one in self.ask([sheet])[0] if isinstance(one, Unread)]
        return failures[0] if failures else ""

    def requests(self, sheets: Sequence[Sheet]) -> list[Request]:
        """What is asked at first: the sheets, in parts where an answer could not hold all lines."""
        size = max(1, self.options.max_tokens // self.options.line_tokens)
        return [
            _part(sheets, tuple((i, j) for j in range(start, min(start + size, len(sheet.texts)))))
            for i, sheet in enumerate(sheets)
            for start in range(0, len(sheet.texts), size)
        ]

    def conversation(self, sheet: Sheet) -> list[Message]:
        """The messages of a request. Every text is on a line of its own, whatever line breaks it holds."""
        name = f"{sheet.prompt}_{sheet.language}"
        texts = "\n".join(f"{n}. {' '.join(text.split())}" for n, text in enumerate(sheet.texts, 1))
        form = prompt(f"{name}_{'json' if self._guided() else 'lines'}")
        content = prompt(name).format(form=form, texts=texts, count=len(sheet.texts), **sheet.fields)
        return [*opening(self.options.system), {"role": "user", "content": content}]

    def sampling(self, sheet: Sheet) -> Sampling:
        """How to decode the answer to a sheet."""
        if not self._guided():
            return Sampling(max_tokens=self.options.max_tokens)
        numbers = [str(n) for n in range(1, len(sheet.texts) + 1)]
        schema = {
            "type": "object",
            "properties": {number: {"$ref": "#/$defs/line"} for number in numbers},
            "required": numbers,
            "additionalProperties": False,
            "$defs": {"line": self._schema(sheet.language)},
        }
        return Sampling(max_tokens=self.options.max_tokens, schema=json.dumps(schema, ensure_ascii=False))

    def _guided(self) -> bool:
        return self.options.guided and getattr(self.engine.engine, "schemas", False)

    def _send(self, requests: Sequence[Request], take: Callable[[Request, list[Read | Unread]], None]) -> None:
        """Ask, those with the same schema together."""
        batches: dict[Sampling, list[Request]] = defaultdict(list)
        for request in requests:
            batches[self.sampling(request[0])].append(request)
        order = sorted(batches, key=lambda s: -len(s.schema))
        self.engine.announce([([self.conversation(sheet) for sheet, _ in batches[s]], s) for s in order])
        for sampling in order:
            batch = batches[sampling]

            def arrived(index: int, reply: Reply, batch: Sequence[Request] = batch) -> None:
                take(batch[index], self._lines(batch[index][0], reply))

            def keep(index: int, reply: Reply, batch: Sequence[Request] = batch) -> bool:
                ones = self._lines(batch[index][0], reply)
                return not reply.cut and not all(isinstance(one, Unread) for one in ones)

            def typical(index: int, batch: Sequence[Request] = batch) -> str:
                return self.typical_answer(batch[index][0])

            self.engine.complete([self.conversation(sheet) for sheet, _ in batch], sampling, arrived, keep, typical)

    def typical_answer(self, sheet: Sheet) -> str:
        """A whole answer to a sheet."""
        line = self._line(sheet)
        numbers = range(1, len(sheet.texts) + 1)
        if not self._guided():
            words = line if isinstance(line, str) else f'{line[0]} "{line[1]}"'
            return "\n".join(f"{n}. {words}" for n in numbers)
        value = line if isinstance(line, str) else {"label": line[0], "evidence": [line[1]]}
        return json.dumps({str(n): value for n in numbers}, ensure_ascii=False)

    def _lines(self, sheet: Sheet, reply: Reply) -> list[Read | Unread]:
        text, why = spoken(reply)
        if text is None:
            return [Unread(why) for _ in sheet.texts]
        lines = read_numbered(text, sheet.texts, self._states, cut=reply.cut)
        ended = "cut at the token limit: " if reply.cut else ""
        missing = Unread(f"{ended}no line for it: {text[:_ECHO]!r}")
        return [self._read(sheet, lines[n]) if lines.get(n) else missing for n in range(len(sheet.texts))]


def _part(sheets: Sequence[Sheet], places: tuple[Place, ...]) -> Request:
    sheet = sheets[places[0][0]]
    return replace(sheet, texts=tuple(sheet.texts[j] for _, j in places)), places
