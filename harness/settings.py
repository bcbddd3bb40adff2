"""Settings have a schema: unknown keys, wrong types and impossible values are one clear line before anything runs."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from factuality_harness.harness.errors import HarnessError


class Settings(BaseModel):
    """Base of all settings. Strict: "8" is no number, and neither is true; numbers must be finite."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


Kind = TypeVar("Kind", bound=Settings)


def read_settings(kind: type[Kind], given: Mapping[str, Any], where: str) -> Kind:
    """`given` as settings of a kind. where: what to call the place in the message.

    Raises HarnessError naming the key, what is wrong with it, and for an unknown key the nearest known one.
    """
    known = [*kind.model_fields]
    for key in given:
        if key not in known:
            raise HarnessError(f"{where}: no option {key!r}{nearest(str(key), known)}")
    try:
        return kind(**given)
    except ValidationError as error:
        option = str(error.errors()[0]["loc"][0])
        said = f"{option} is {given[option]!r}" if option in given else f"{option} is missing"
        raise HarnessError(f"{where}: {said}; it must be {_wanted(kind, option)}") from error


_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
}


def _wanted(kind: type[Settings], option: str) -> str:
    """What an option must be, in words, from its JSON schema."""
    schema = kind.model_json_schema()["properties"][option]
    return " or ".join(dict.fromkeys(_words(one) for one in schema.get("anyOf", [schema])))


def _words(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return f"one of {', '.join(map(repr, schema['enum']))}"
    low, high = schema.get("minimum"), schema.get("maximum")
    bounds = [f"above {schema['exclusiveMinimum']}"] if "exclusiveMinimum" in schema else []
    if low is not None:
        bounds.append(f"of at least {low}" if high is None else f"from {low} to {high}")
    return " ".join([_TYPES[schema["type"]], *bounds])


def option_defaults(kind: type) -> dict[str, Any]:
    """Options of a judge or an engine with their defaults: its own keyword parameters, and the fields of its
    `OPTIONS`."""
    options: type[Settings] | None = getattr(kind, "OPTIONS", None)
    found = {
        name: parameter.default
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    if options is not None:
        found |= {name: field.get_default(call_default_factory=True) for name, field in options.model_fields.items()}
    return found


def nearest(name: str, known: list[str]) -> str:
    """How a message goes on after an unknown name: the nearest known one, else all of them."""
    close = difflib.get_close_matches(name, known, 1, 0.7)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(sorted(known)) or 'none'}"
