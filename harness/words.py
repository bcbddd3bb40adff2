"""Words of a text, East Asian scripts character by character."""

from __future__ import annotations

import re
import unicodedata

EAST_ASIAN = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
WORD = re.compile(rf"[{EAST_ASIAN}]|[^\W{EAST_ASIAN}]+")
"""A word, or one character of a script that writes none apart."""


def tokens(text: str) -> list[str]:
    """Lower-case words, full-width forms folded; every Chinese character is one."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())
