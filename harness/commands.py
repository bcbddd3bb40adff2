"""Command lines made of functions: the signature gives the options, the docstring the help.

A command is a plain function with typed parameters and a numpy-style docstring (`Parameters` section), listed in
`factuality_harness.cli`. Options that mean the same thing everywhere have their type here, so they are spelled alike.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter, Token

from factuality_harness.harness.errors import HarnessError


def json_object(_type: Any, tokens: Sequence[Token]) -> dict[str, Any]:
    """A JSON object typed as one option. Raises ValueError saying what it is instead."""
    text = tokens[0].value
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{text!r} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{text!r} is no JSON object of options")
    return value


def _file_or_dash(_type: Any, value: str) -> None:
    if value.startswith("-") and value != "-":
        raise ValueError(f"unknown option {value}")


FileOrStdin = Annotated[str, Parameter(allow_leading_hyphen=True, validator=_file_or_dash)]
"""A file's name, or - for standard input."""
Several = Parameter(consume_multiple=True, negative="")
"""An option that takes all values that follow it: `--seeds 0 1 2`."""
Flag = Annotated[bool, Parameter(negative="")]
Options = Annotated[dict[str, Any], Parameter(converter=json_object, n_tokens=1, accepts_keys=False, negative="")]
Out = Annotated[Path, Parameter(help="Where to write.")]
Judge = Annotated[str | None, Parameter(help="Judge spec, NAME or NAME@ENGINE:TARGET; default $HARNESS_JUDGE.")]
JudgeArgs = Annotated[
    Options, Parameter(help='JSON object of judge and engine options, such as {"concurrency": 8}.', show_default=False)
]
MaxUnparsed = Annotated[float, Parameter(help="Share without a verdict from which the command ends as failed.")]
Seed = Annotated[int, Parameter(help="Of everything random.")]
Questions = Annotated[
    str, Parameter(help="Source of questions: a file, hf:REPO, mini:PART, anah:PART or world:FOLDER:PART.")
]
Split = Annotated[
    Literal["train", "test", "all"] | None, Parameter(help="Part of the questions, where --questions does not say it.")
]


def new_app(name: str, **options: Any) -> App:
    """An app whose help is plain text, without markup of its own."""
    return App(name=name, help_format="plaintext", version_flags=[], **options)


def call(app_or_function: App | Callable[..., Any], argv: Sequence[str] | None = None) -> None:
    """Run a command with the words of a command line. Raises HarnessError, for words that do not fit as well, and for
    a package that is not installed because an extra brings it.
    """
    if isinstance(app_or_function, App):
        app = app_or_function
    else:
        app = new_app(app_or_function.__name__)
        app.default(app_or_function)
    try:
        app(argv, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        raise HarnessError(str(error)) from error
    except ImportError as error:
        if extra := missing_extra(error):
            raise HarnessError(extra) from error
        raise


def missing_extra(error: BaseException) -> str | None:
    """What to install when an import failed for lack of a package that one of our extras brings; else None."""
    while error.__cause__:
        error = error.__cause__
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    package = error.name.partition(".")[0]
    try:
        requirements = importlib.metadata.requires("factuality-harness") or []
    except importlib.metadata.PackageNotFoundError:  # a bare checkout
        return None
    found = [re.match(r"([\w-]+)[^;]*;.*extra == '([\w-]+)'", r.replace('"', "'")) for r in requirements]
    extras = Counter(match[2] for match in found if match)
    bringing = [match[2] for match in found if match and match[1].replace("-", "_") == package]
    if not bringing:
        return None
    smallest = min(bringing, key=extras.__getitem__)  # not `dev`, which brings them all
    return f"{package} is not installed: pip install 'factuality-harness[{smallest}]'"


def entry(app_or_function: App | Callable[..., Any], argv: Sequence[str] | None = None) -> int:
    """Run a command as a process does: a HarnessError becomes one line on standard error and exit code 2."""
    try:
        call(app_or_function, argv)
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads on, as with `| head`; what is still to be written has no place to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
