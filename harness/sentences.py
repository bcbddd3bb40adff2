"""Sentence splitting with exact character spans.

Style `anah` follows the splitting rules of the ANAH reference code (its `sentence_tokenize`), style `spacy` is
spaCy's rule-based sentencizer. Neither rewrites the text: the rules of the reference that delete white space
("J. K. Rowling" -> "J.K.Rowling") are applied to a copy whose characters remember where they came from.

    factuality sentences --language en|zh [--style anah|spacy] [FILE|-]
"""

from __future__ import annotations

import codecs
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from factuality_harness.harness.annotation import Sentence
from factuality_harness.harness.commands import FileOrStdin
from factuality_harness.harness.errors import HarnessError

Language = Literal["en", "zh"]
Style = Literal["anah", "spacy"]
LANGUAGES: tuple[str, ...] = get_args(Language)
STYLES: tuple[str, ...] = get_args(Style)

_ABBREVIATIONS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sept|Oct|Nov|Dec|No|Op|D|Dr|St"
# White space that must not split a sentence. Every group named by `_glue` is removed from the working copy, in this
# order: a rule sees what the rules before it left.
_ENGLISH_GLUE = tuple(
    re.compile(pattern)
    for pattern in (
        r"O\.S\.B\.M\.( )",
        r"(?<!\w)[A-Z]\.( ?)[A-Z]\.( ?)(?=[A-Za-z])",  # J. K. Campbell
        r"(?<!\w)[A-Z]\.( )(?=[A-Za-z])",  # J. Campbell
        r"(?:\n[^\S\n]*|\. )\d+\.(\s+)",  # list heads: "1. Text"
        r"^\d+\.(\s+)",
        rf"(?<!\w)(?:{_ABBREVIATIONS})\.(\s+)",
        r"(?<!\w)et al\.(\s+)(?=[a-z])",
        r"(?:Alexander v\.( )(?=Holmes))|(?:Brown v\.( )(?=Board))",
    )
)
_COLON_SPACE = re.compile(r"[:：](\s+)")
_ENGLISH_END = re.compile(r"[.!?;]\s+|\n+")
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_HAN_CHARACTER = re.compile(f"[{_HAN}]")
# A half-width stop ends a Chinese sentence after a Chinese character or a closing mark, where Chinese or nothing comes;
# after a number or a word only with white space too. A number that opens a line, or stands alone, is a list's.
_CHINESE_END = re.compile(
    rf"[。！？；]|\n+|(?<=[{_HAN}》”’」』）)])[.!?;](?=\s|[{_HAN}《“‘「『（(]|$)"
    rf"|(?:[{_HAN}]\d{{1,9}}%?|(?<=[A-Za-z]{{3}}))[.!?;](?=[^\S\n]+[{_HAN}《“「『])"
)


def says_something(text: str) -> bool:
    """Whether a piece of text has a letter or digit: a rule, a lone quote or an emoji states nothing."""
    return any(character.isalnum() for character in text)


def language_of(text: str, expected: Language | str) -> Language | str:
    """The language of a text that should be in `expected`: the other one if, of its letters, less than a tenth are Han
    characters where Chinese is expected, or more than half where English is. A text without letters is as expected.
    """
    letters = sum(map(str.isalpha, text))
    han = len(_HAN_CHARACTER.findall(text))
    if not letters or expected not in LANGUAGES:
        return expected
    share = han / letters
    if expected == "zh":
        return "en" if share < 0.1 else "zh"
    return "zh" if share > 0.5 else "en"


def split(
    text: str, language: Language | str, style: Style | str = "anah", *, keep_colon: bool = False
) -> list[Sentence]:
    """Split `text` into sentences whose spans slice it exactly.

    Between, before and after the sentences there is only white space. keep_colon: let a line break after a colon end
    a sentence (style `anah`; the reference's option of that name). Raises HarnessError for an unknown language or
    style.
    """
    if language not in LANGUAGES:
        raise HarnessError(f"language {language!r} is not supported; use one of: {', '.join(LANGUAGES)}")
    if style == "anah":
        pieces = _split_anah(text, language, keep_colon)
    elif style == "spacy":
        pieces = _split_spacy(text, language)
    else:
        raise HarnessError(f"sentence style {style!r} is not known; use one of: {', '.join(STYLES)}")
    return [s for start, end in pieces if (s := _strip(text, start, end)) is not None]


def _strip(text: str, start: int, end: int) -> Sentence | None:
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    piece = piece.strip()
    return Sentence(piece, start, start + len(piece)) if piece else None


def _glue(text: str, origin: list[int], rule: re.Pattern[str], keep: str = "") -> tuple[str, list[int]]:
    """Replace every group that `rule` matches by `keep` (at most one character); `origin` follows the characters."""
    chars: list[str] = []
    kept: list[int] = []
    done = 0
    for match in rule.finditer(text):
        for group in range(1, rule.groups + 1):
            start, end = match.span(group)
            if start == end:
                continue
            chars += text[done:start], keep
            kept += origin[done:start] + origin[start : start + len(keep)]
            done = end
    if not done:
        return text, origin
    return "".join(chars) + text[done:], kept + origin[done:]


def _split_anah(text: str, language: str, keep_colon: bool) -> Iterator[tuple[int, int]]:
    working, origin = text, list(range(len(text)))
    if language == "en":
        for rule in _ENGLISH_GLUE:
            working, origin = _glue(working, origin, rule)
    if not keep_colon:
        working, origin = _glue(working, origin, _COLON_SPACE, keep=" " if language == "en" else "")
        if language == "en":
            # The one space kept after a colon stands for all of it, a line break included, and splits nothing.
            working = re.sub(r"([:：])\s", r"\1 ", working)
    start = 0
    for match in (_ENGLISH_END if language == "en" else _CHINESE_END).finditer(working):
        end = origin[match.end()] if match.end() < len(origin) else len(text)
        yield start, end
        start = end
    yield start, len(text)


@cache
def _spacy_pipeline(language: str) -> Any:
    import spacy

    pipeline = spacy.blank(language)
    pipeline.add_pipe("sentencizer")
    pipeline.max_length = sys.maxsize  # a limit for parsers; the sentencizer has no use for one
    return pipeline


def _split_spacy(text: str, language: str) -> Iterator[tuple[int, int]]:
    start = 0
    for sentence in _spacy_pipeline(language)(text).sents:
        end = sentence.end_char
        yield start, end
        start = end
    yield start, len(text)


def split_file(file: FileOrStdin = "-", *, language: Language, style: Style = "anah") -> None:
    """Split text into sentences: one JSON line per sentence, with its offsets.

    Parameters
    ----------
    file
        Text file, or - for standard input.
    language
        Language of the text.
    style
        Rules to split by: the ANAH reference's, or spaCy's.
    """
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if marked else "utf-8-sig")
    except OSError as error:
        raise HarnessError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise HarnessError(f"{file}: not UTF-8 ({error.reason} at byte {error.start})") from error
    for s in split(text, language, style):
        print(json.dumps({"text": s.text, "start": s.start, "end": s.end}, ensure_ascii=False))
