"""Questions in other people's rows: which column holds what."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.sentences import LANGUAGES, language_of
from factuality_harness.harness.settings import nearest

USUAL = {
    "question": ("selected_questions", "questions", "question", "prompt", "instruction", "input"),
    "document": ("documents", "document", "reference", "context"),
    "topic": ("topic", "name", "title", "entity"),
    "language": ("language", "lang"),
}
"""What a question consists of, and its column's name in most files; the first that holds something counts."""
_LANGUAGES = {"english": "en", "chinese": "zh", "英文": "en", "英语": "en", "中文": "zh", "汉语": "zh", "cn": "zh"}


@dataclass(frozen=True)
class Columns:
    """Which column holds what, where it has another name than the usual ones (`USUAL`)."""

    named: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, given: object) -> Columns:
        """From an option. Raises HarnessError for what is no mapping of the four parts to columns."""
        if not isinstance(given, Mapping) or not all(isinstance(v, str) and v for v in given.values()):
            raise HarnessError(f'columns must say which column holds what, as {{"question": "COLUMN"}}, not {given!r}')
        for part in given:
            if part not in USUAL:
                raise HarnessError(f"columns: {part!r} is no part of a question{nearest(str(part), [*USUAL])}")
        return cls(dict(given))

    def value(self, row: Mapping[str, Any], part: str, where: str) -> Any:
        """What a row holds of a part, None for nothing. Raises HarnessError for a named column that it has not."""
        if (name := self.named.get(part)) is not None:
            if name not in row:
                raise HarnessError(f"{where}: no column {name!r}{nearest(name, [*map(str, row)])}")
            return row[name]
        return next((row[name] for name in USUAL[part] if row.get(name) not in (None, "", [])), None)

    def missing(self, part: str, row: Mapping[str, Any], where: str, found: Any) -> HarnessError:
        """The error for a row without a part; found: what stands there instead."""
        looked = self.named.get(part) or ", ".join(USUAL[part])
        instead = "" if found in (None, "", []) else f" but {found!r}"[:200]
        return HarnessError(
            f"{where}: no {_SAID[part]} in {looked}{instead}; the row has {', '.join(map(str, row))}. Drop the row, "
            f'add one, or say which column holds it: columns {{"{part}": "COLUMN"}}'
        )


USUAL_COLUMNS = Columns()
_SAID = {
    "question": "question (text)",
    "document": "reference document (text, or a list of texts)",
    "topic": "topic (the title of the page that answers are checked against)",
    "language": "language",
}


def texts_of(value: Any) -> list[str] | None:
    """A text, or a list of texts, as a list; None for anything else and for nothing but white space."""
    texts = [value] if isinstance(value, str) else value
    if isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts):
        return texts if any(text.strip() for text in texts) else None
    return None


def language_in(value: Any, question: str, where: str) -> str:
    """The language a row says, as `en`, `en-US`, `English` or `中文`; of a row that says none, its question's.

    Raises HarnessError for another language.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return language_of(question, "en")
    name = str(value).strip().lower()
    found = _LANGUAGES.get(name, name.replace("_", "-").partition("-")[0])
    if found not in LANGUAGES:
        raise HarnessError(f"{where}: language is {value!r}; only {' and '.join(LANGUAGES)} are supported")
    return found
