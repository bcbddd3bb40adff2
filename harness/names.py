"""Names of topics and pages: what is one, and which spellings mean the same."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from factuality_harness.harness.errors import HarnessError

_QUOTES = str.maketrans("‘’‚‛′`´“”„‟″", "'''''''" + '"""""')
_SPACES = re.compile(r"[\s_]+")


def name_of(value: Any, what: str, where: str) -> str:
    """A name; a whole number is one too, as spreadsheets make of "1984". Raises HarnessError for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise HarnessError(f"{where}: {what} is {value!r}, which is no name; give it one or leave the row out")
    return value


def folded(name: str) -> str:
    """What spellings of one name share: NFC, single spaces for spaces of all kinds and `_`, straight quotes."""
    return _SPACES.sub(" ", unicodedata.normalize("NFC", name)).strip().translate(_QUOTES)


class Names:
    """Finds the spelling in use: a name as it is, else the only one with the same `folded` form."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {*names}
        self._folded: dict[str, list[str]] | None = None

    def find(self, name: str) -> str | None:
        """The spelling of `name` here; None where there is none, or several that only `folded` takes for one."""
        if name in self._names:
            return name
        if self._folded is None:
            self._folded = defaultdict(list)
            for known in self._names:
                self._folded[folded(known)].append(known)
        alike = self._folded.get(folded(name), [])
        return alike[0] if len(alike) == 1 else None


def glob_patterns(name: str) -> list[str]:
    """Patterns of SQLite's GLOB that match the spellings of `name`, and others, which `folded` tells apart: any run of
    characters stands for a space, any character for a quote.
    """
    loose = {" ": "*", "'": "?", '"': "?", "[": "[[]", "*": "[*]", "?": "[?]"}
    forms = [folded(name), unicodedata.normalize("NFD", folded(name))]
    return list(dict.fromkeys("".join(loose.get(c, c) for c in form) for form in forms))
