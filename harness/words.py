"""Characters and words of a text, East Asian scripts character by character."""

from __future__ import annotations

import re
import unicodedata

EAST_ASIAN = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_EAST_ASIAN = re.compile(f"[{EAST_ASIAN}]")
WORD = re.compile(rf"[{EAST_ASIAN}]|[^\W{EAST_ASIAN}]+")
"""A word, or one character of a script that writes none apart."""


def whole_characters(text: str) -> str:
    """The text with U+FFFD for half a surrogate pair, which JSON and models can make and no file or database takes."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def tokens_about(text: str) -> float:
    """How many tokens a model makes of a text, roughly: one an East Asian character, one four other characters."""
    east_asian = len(_EAST_ASIAN.findall(text))
    return east_asian + (len(text) - east_asian) / 4


def tokens(text: str) -> list[str]:
    """Lower-case words, full-width forms folded; every Chinese character is one."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())
