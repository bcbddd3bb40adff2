"""Reading an answer of numbered lines: which line belongs to which of the texts asked about, and what it quotes.

What a line states is read as any judge's answer (`reading`). JSON (an object by number, a list, one object a line) and
plain lines (any usual numbering, markdown, tables) are taken apart here. A text that several lines speak of, in
different words for different labels, has no verdict; nor has one whose line was cut off.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

LABEL = re.compile(r"label|type|verdict|answer|result|judg|conclusion|decision|supported|类型|结论|判断|答案|标签|结果")
QUOTED = re.compile(r"evidence|quot|passage|reference|source|proof|证据|原文|引文|依据|摘录|资料")
NUMBER = re.compile(
    r"^(?:(?:sentence|line|fact|statement|item)?[ _]?(?:number|no\.?|nr|id|index)|sentence|line|fact|n|i|#"
    r"|句子|序号|编号)$"
)
_DIGITS = r"(?:\d{1,4}|[①-⑳])"
_KEY = r"(?:sentence|line|fact|statement|item|number|no\.?|句子?|第|编号|#)?[ _]?(\d{1,4})[a-z]?\W{0,2}[句条行]?"
_START = re.compile(
    r"^[\s>*#|\-•·_`~(\[（【《「<]*"
    r"(?:(?:sentence|line|statement|fact|claim|item|number|no\.?|句子?|第|陈述|事实|编号)\s*)?[#№]?\s*"
    rf"(?P<number>{_DIGITS})(?P<part>[a-z]?)(?:\s*(?:句|条|行))?"
    r"(?=[\s.．。)）\]】》>、:：|*_,，;\-—–<\[(（【`「]|$)(?![.．]\d)"
    r"[\s.．。)）\]】》>、:：|*_`~\-—–,，;」]*",
    re.IGNORECASE,
)
_MARKS = re.compile(r"\"([^\"\n]+)\"|“([^”]+)”|‘([^’]+)’|«([^»]+)»|「([^」]+)」|『([^』]+)』|(?<!\w)'([^'\n]+)'(?!\w)")
_PARTS = re.compile(
    r"<SEP>|[<＜〈\[【][^<>＜＞〈〉\[\]【】\n]{1,40}[>＞〉\]】]|\n|\||\s[-—–]+\s|(?<=[^\d])[:：]|(?<=[.;])\s|(?<=[。；])",
    re.IGNORECASE,
)
_GAP = re.compile(r"\.{3,}|…+|\[\s*(?:\.{3}|…)\s*\]")
_LABEL = 24  # characters up to which words in quotation marks may be a label
_SHORTEST = 4  # letters and digits from which a part of a line that is not marked as quoted counts as a quotation


@dataclass(frozen=True, slots=True)
class Line:
    """What an answer says of one text. stated: the words that may hold a label; all that hold one must agree. passages:
    what may be quotations. marked: whether they were given as such."""

    stated: tuple[str, ...]
    passages: tuple[str, ...] = ()
    marked: bool = True


class _Pairs(list[tuple[str, Any]]):
    """A JSON object, repeated keys and all."""


def read_numbered(
    answer: str, texts: Sequence[str], states: Callable[[str], bool], *, cut: bool = False
) -> Mapping[int, list[Line]]:
    """The lines of an answer by the place of their text in `texts`, from 0. Thinking must be set aside before.

    states: whether words state a label. A numbered line that states none belongs to the line before it. cut: the answer
    ended at the token limit, so that its last line is left out. Numbers beyond the texts are left out; an answer that
    counts from 0 has no line at all, since nobody knows what it means by 1.
    """
    found = [(n, line) for n, line in _json_lines(answer, len(texts), cut)]
    if not found:
        found = list(_plain_lines(answer, texts, states, cut))
    lines: dict[int, list[Line]] = defaultdict(list)
    if any(number == 0 for number, _ in found):
        return lines
    for number, line in found:
        if number <= len(texts):
            lines[number - 1].append(line)
    return lines


# ------------------------------------------------------------ JSON


def _json_lines(answer: str, count: int, cut: bool) -> list[tuple[int, Line]]:
    """[] where the answer is no JSON that numbers lines."""
    fenced = re.search(r"```(?:jsonl?)?\s*(.*?)(?:```|\Z)", answer, re.DOTALL | re.IGNORECASE)
    body = (fenced[1] if fenced else answer).strip()
    if not body.startswith(("{", "[")):
        start = re.search(r"^\s*[{\[]", body, re.MULTILINE)
        body = body[start.start() :].strip() if start and body.endswith(("}", "]")) else ""
    data = _load(body)
    if data is None:
        rows = [_load(line.rstrip(",")) for line in body.splitlines() if line.strip()]
        data = rows if len(rows) > 1 and all(isinstance(row, _Pairs) for row in rows) else None
    if data is None and cut:
        data = _whole_parts(body)
    return list(_entries(data, count)) if data is not None else []


def _load(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return None


def _whole_parts(body: str) -> Any:
    """What is complete of a JSON answer that was cut off: `"1": {…}` pairs, or the objects of a list."""
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs)
    pairs, position = _Pairs(), 0
    keyed = re.compile(r'"([^"\n]{1,20})"\s*:\s*(?=[{"\[])')
    while match := keyed.search(body, position):
        position = match.end()
        if _number(match[1]) is None:
            continue
        try:
            value, position = decoder.raw_decode(body, match.end())
        except (ValueError, RecursionError):
            break
        pairs.append((match[1], value))
    if pairs:
        return pairs
    objects, position = [], 0
    while (position := body.find("{", position)) >= 0:
        try:
            value, position = decoder.raw_decode(body, position)
            objects.append(value)
        except (ValueError, RecursionError):
            position += 1
    return objects


def _number(value: Any) -> int | None:
    if isinstance(value, int):
        return None if isinstance(value, bool) else value
    if not isinstance(value, str):
        return None
    match = re.fullmatch(_KEY, unicodedata.normalize("NFKC", value).strip().lower())
    return int(match[1]) if match else None


def _entries(data: Any, count: int) -> Iterator[tuple[int, Line]]:
    if isinstance(data, _Pairs):
        if data and all(_number(key) is not None for key, _ in data):
            for key, value in data:
                if (line := _line(value)) is not None:
                    yield _number(key) or 0, line
        elif (row := _row(data)) is not None:
            yield row
        elif count == 1 and (line := _line(data)) is not None and any(LABEL.search(k.lower()) for k, _ in data):
            yield 1, line
        else:  # {"sentences": [...]}
            for _, value in data:
                if isinstance(value, list):
                    yield from _entries(value, count)
    elif isinstance(data, list):
        rows = [_row(value) for value in data if isinstance(value, _Pairs)]
        if len(rows) == len(data) == count and not any(rows):  # in the texts' order, without numbers
            lines = [_line(value) for value in data]
            yield from ((n, line) for n, line in enumerate(lines, 1) if line is not None)
        else:
            yield from (row for row in rows if row is not None)


def _row(data: _Pairs) -> tuple[int, Line] | None:
    """An object that says its number."""
    numbers = {n for key, value in data if NUMBER.match(key.strip().lower()) and (n := _number(value)) is not None}
    line = _line(data)
    return (numbers.pop(), line) if len(numbers) == 1 and line is not None else None


def _line(value: Any) -> Line | None:
    if isinstance(value, str | bool):
        text = str(value).lower() if isinstance(value, bool) else value
        quotes = tuple(_quotes(text))
        return Line((_MARKS.sub(" ", text) if quotes else text,), quotes)
    if not isinstance(value, _Pairs):
        return None
    labels = [v for key, v in value if LABEL.search(key.lower()) and not QUOTED.search(key.lower())]
    quoted = [v for key, v in value if QUOTED.search(key.lower())]
    texts = [str(v).lower() if isinstance(v, bool) else v for v in labels if isinstance(v, str | bool)]
    return Line(tuple(texts), tuple(passage for v in quoted for passage in _passages(v))) if texts else None


def _passages(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from (p.strip() for p in re.split(r"<SEP>", value, flags=re.IGNORECASE) if p.strip())
    elif isinstance(value, _Pairs):
        for _, inner in value:
            yield from _passages(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _passages(inner)


# ------------------------------------------------------------ plain lines


def _plain_lines(
    answer: str, texts: Sequence[str], states: Callable[[str], bool], cut: bool
) -> Iterator[tuple[int, Line]]:
    pieces: list[tuple[int, str]] = []
    for row in answer.splitlines():
        if match := _START.match(row):
            pieces.append((int(unicodedata.normalize("NFKC", match["number"])), row[match.end() :]))
        elif pieces:
            pieces[-1] = pieces[-1][0], f"{pieces[-1][1]}\n{row}"
    if not pieces and len(texts) == 1:
        pieces = [(1, answer)]
    if cut:
        pieces = pieces[:-1]
    lines: list[tuple[int, str, str]] = []
    for number, text in pieces:
        stated = _spoken_of(text, number, texts, states)
        if states(stated):
            lines.append((number, stated, text))
        elif lines:  # a quotation that begins with a number, say
            lines[-1] = (*lines[-1][:2], f"{lines[-1][2]}\n{text}")
    for number, stated, text in lines:
        quotes = tuple(_quotes(text))
        yield number, Line((stated,), quotes or tuple(p.strip(" *_`") for p in _PARTS.split(text)), bool(quotes))


def _spoken_of(text: str, number: int, texts: Sequence[str], states: Callable[[str], bool]) -> str:
    """A line without its quotations and without the text it speaks of, which may look like an answer itself."""
    text = " ".join(text.split())
    if 0 < number <= len(texts):
        text = text.replace(" ".join(texts[number - 1].split()), " ")

    def unless_label(match: re.Match[str]) -> str:
        inner = next(group for group in match.groups() if group is not None)
        label = len(inner) <= _LABEL and not re.search(r"\d", inner) and states(inner)
        return inner if label else " "

    return _MARKS.sub(unless_label, text)


def _quotes(text: str) -> Iterator[str]:
    for match in _MARKS.finditer(text):
        yield next(group for group in match.groups() if group is not None).strip()


# ------------------------------------------------------------ quotations


@lru_cache(maxsize=64)
def _letters(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


def quoted_from(document: str, line: Line) -> tuple[str, ...]:
    """The passages of a line that stand in the document, white space, case and punctuation aside, each once. An
    ellipsis stands for what was left out."""
    whole = _letters(document)
    shortest = 1 if line.marked else _SHORTEST
    found = []
    for passage in line.passages:
        parts = [_letters(part) for part in _GAP.split(passage)]
        parts = [part for part in parts if part]
        if parts and sum(map(len, parts)) >= shortest and all(part in whole for part in parts):
            found.append(passage)
    return tuple(dict.fromkeys(found))
