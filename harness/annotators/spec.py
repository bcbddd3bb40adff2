"""Judges by name: what a spec says, which judge it opens, and how results name it."""

from __future__ import annotations

import importlib
import inspect
import os
from typing import Any

from factuality_harness.harness.annotators.base import Annotator
from factuality_harness.harness.engines import ENGINES, AnswerCache, open_engine
from factuality_harness.harness.errors import HarnessError

JUDGES = {
    "anah_v2": "factuality_harness.harness.annotators.anah_v2",
    "dialogue": "factuality_harness.harness.annotators.dialogue",
    "lexical": "factuality_harness.harness.annotators.lexical",
    "world": "factuality_harness.harness.world.judge",
}
"""Judge's name to the module that holds it, as ANNOTATOR."""


def annotator_names() -> list[str]:
    """Names of the annotators."""
    return sorted(JUDGES)


def _choices() -> str:
    return (
        "lexical (no model), world (the fact world's sentences only), "
        "dialogue@openai:http://HOST:PORT/v1#MODEL, dialogue@vllm:MODEL, dialogue@hf:MODEL, "
        "anah_v2@openai:URL#MODEL, anah_v2@vllm:opencompass/anah-v2, anah_v2@hf:opencompass/anah-v2; "
        "for the FActScore tasks also factscore@openai:URL#MODEL, factscore@vllm:MODEL, factscore@hf:MODEL"
    )


def judge_spec(configured: object = None, default: str | None = None) -> str:
    """The judge to use: `configured` (task metadata), else $HARNESS_JUDGE, else the task's own `default`.

    Raises HarnessError listing the choices when there is none: a score without a judge does not exist.
    """
    spec = configured or os.environ.get("HARNESS_JUDGE") or default
    if not spec:
        raise HarnessError(
            'no judge is configured. Give --metadata \'{"judge": "SPEC"}\' or set HARNESS_JUDGE; SPEC is one of: '
            + _choices()
        )
    if not isinstance(spec, str):
        raise HarnessError(f"the judge must be a string, not {type(spec).__name__}; one of: {_choices()}")
    return spec


def open_annotator(spec: str, options: dict[str, Any] | None = None, cache: AnswerCache | None = None) -> Annotator:
    """Annotator from a judge spec.

    options: the annotator's own (say `prompts` for anah_v2), everything else goes to its engine (concurrency, timeout,
    batch_size, …). Raises HarnessError for an unknown name, a missing or superfluous engine, or an unknown option.
    """
    name, at, engine = spec.partition("@")
    if name not in annotator_names():
        raise HarnessError(f"judge {spec!r} is not known; one of: {_choices()}")
    cls = importlib.import_module(JUDGES[name]).ANNOTATOR
    parameters = inspect.signature(cls).parameters
    options = dict(options or {})
    own = {key: options.pop(key) for key in list(options) if key in parameters and key != "engine"}
    if "engine" not in parameters:
        if at:
            raise HarnessError(f"judge {name!r} needs no engine; write just {name!r}")
        if options:
            raise HarnessError(f"judge {name!r} has no option {', '.join(sorted(options))}")
        return cls(**own)
    if not engine:
        raise HarnessError(
            f"judge {name!r} needs a model: "
            f"{name}@openai:http://HOST:PORT/v1#MODEL, {name}@vllm:MODEL or {name}@hf:MODEL"
        )
    return cls(open_engine(engine, cache, **options), **own)


def judge_name(spec: str) -> str:
    """A judge's spec as annotations carry it, without the place where its model was served; others stay as they are.

    A server's model that the spec does not name, and the digest of a local folder, are in annotations only.
    """
    name, at, engine = spec.partition("@")
    kind, colon, target = engine.partition(":")
    if not (at and colon and kind in ENGINES):
        return spec
    model = target.partition("#")[2] if kind == "openai" else target
    return f"{name}@{kind}#{model}" if model else f"{name}@{kind}"
