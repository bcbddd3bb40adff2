"""Every prompt is a text file beside this module, `NAME.txt`, with `{field}` places."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from factuality_harness.harness.errors import HarnessError


@cache
def prompt(name: str) -> str:
    """Text of a prompt, without its last line end. Raises HarnessError when there is no such prompt."""
    path = files(__name__).joinpath(f"{name}.txt")
    if not path.is_file():
        raise HarnessError(f"no prompt named {name!r} in harness/prompts")
    return path.read_text(encoding="utf-8").removesuffix("\n")
