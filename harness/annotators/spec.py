"""A judge's spec: parsed once, opened once, and the name that results give it.

A judge is written NAME or NAME@ENGINE:TARGET: `lexical`, `dialogue@openai:http://host:8000/v1#model`,
`dialogue@batch:http://host/v1#model`, `dialogue@vllm:model`, `dialogue@hf:model`, `anah_v2@vllm:out/models/anah-v2`.
"""

from __future__ import annotations

import os
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from factuality_harness.harness.annotators.base import Annotator
from factuality_harness.harness.dry_run import DryRun
from factuality_harness.harness.engines import ENGINES, AnswerCache, CachedEngine, check_engine, open_engine
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.settings import nearest, option_defaults

CHOICES = (
    "lexical (no model), world (the fact world's sentences only), "
    "dialogue@openai:http://HOST:PORT/v1#MODEL, dialogue@batch:URL#MODEL, dialogue@vllm:MODEL, dialogue@hf:MODEL, "
    "sheet@ENGINE (one request a response; ENGINE as for dialogue), "
    "anah_v2@openai:URL#MODEL, anah_v2@vllm:FOLDER, anah_v2@hf:FOLDER; "
    "for the FActScore tasks also factscore@openai:URL#MODEL, factscore@vllm:MODEL, factscore@hf:MODEL, "
    "and factscore_sheet@ENGINE (one request a response)"
)


DECIDE = {"extra_body", "reasoning_effort", "chat_template_kwargs"}
"""Options of an engine that can change an answer."""


@dataclass(frozen=True, slots=True)
class RegisteredJudge:
    """where: `module:class`, imported when a judge is opened. needs_engine: whether it asks a model.

    sentences: whether it labels the sentences of an answer; one that does not only decides facts taken from it.
    """

    where: str
    needs_engine: bool
    sentences: bool = True

    def load(self) -> Any:
        """The judge's class."""
        return pkgutil.resolve_name(self.where)


JUDGES = {
    "anah_v2": RegisteredJudge("factuality_harness.harness.annotators.anah_v2:AnahV2Annotator", True),
    "dialogue": RegisteredJudge("factuality_harness.harness.annotators.dialogue:DialogueAnnotator", True),
    "factscore": RegisteredJudge("factuality_harness.harness.factscore.annotator:FactVerifier", True, sentences=False),
    "factscore_sheet": RegisteredJudge(
        "factuality_harness.harness.factscore.annotator:FactSheet", True, sentences=False
    ),
    "lexical": RegisteredJudge("factuality_harness.harness.annotators.lexical:LexicalAnnotator", False),
    "sheet": RegisteredJudge("factuality_harness.harness.annotators.sheet:SheetAnnotator", True),
    "world": RegisteredJudge("factuality_harness.harness.world.judge:WorldAnnotator", False),
}


@dataclass(frozen=True, slots=True)
class JudgeSpec:
    """A judge as a user or a result names it; `str` gives the text back.

    target: what follows `ENGINE:`, "" in the name that results use. model: the served model, "" where a server's is
    not named.
    """

    name: str
    engine: str = ""
    target: str = ""
    model: str = ""

    @classmethod
    def parse(cls, text: str) -> JudgeSpec:
        """A judge to open. Raises HarnessError for an unknown name or engine, and a missing or superfluous engine."""
        spec = cls.from_results(text)
        judge = JUDGES.get(spec.name)
        if judge is None:
            raise HarnessError(f"judge {text!r} is not known; one of: {CHOICES}")
        _, at, engine = text.partition("@")
        if not judge.needs_engine:
            if at:
                raise HarnessError(f"judge {spec.name!r} needs no engine; write just {spec.name!r}")
        elif not engine:
            raise HarnessError(
                f"judge {spec.name!r} needs a model: {spec.name}@openai:http://HOST:PORT/v1#MODEL, "
                f"{spec.name}@vllm:MODEL or {spec.name}@hf:MODEL"
            )
        else:
            check_engine(engine)
        return spec

    @classmethod
    def from_results(cls, text: str) -> JudgeSpec:
        """What a result says of its judge: a spec, or `NAME@ENGINE#MODEL`; other text becomes the name."""
        name, _, rest = text.partition("@")
        match = re.fullmatch(r"([^:#]*)([:#]?)(.*)", rest, re.DOTALL)
        assert match is not None  # it matches any text
        engine, mark, target = match.groups()
        if mark == "#":
            return cls(name, engine, "", target)
        return cls(name, engine, target, target.partition("#")[2] if engine in ("openai", "batch") else target)

    @classmethod
    def configured(cls, given: object = None, default: str | None = None) -> JudgeSpec:
        """The judge to use: `given` (an option or task metadata), else $HARNESS_JUDGE, else `default`.

        Raises HarnessError listing the choices when there is none (a score without a judge does not exist), and as
        `parse` does.
        """
        text = given or os.environ.get("HARNESS_JUDGE") or default
        if not text:
            raise HarnessError(
                'no judge is configured. Give --judge SPEC (lm_eval: --metadata \'{"judge": "SPEC"}\') or set '
                f"HARNESS_JUDGE; SPEC is one of: {CHOICES}"
            )
        if not isinstance(text, str):
            raise HarnessError(f"the judge must be a string, not {type(text).__name__}; one of: {CHOICES}")
        return cls.parse(text)

    def __str__(self) -> str:
        engine = self.engine + (f":{self.target}" if self.target else f"#{self.model}" if self.model else "")
        return f"{self.name}@{engine}" if engine else self.name

    @property
    def fallible(self) -> bool:
        """Whether a text without a verdict counts against the judge. What a judge that asks no model cannot read is
        the text's own fault."""
        return JUDGES[self.name].needs_engine

    @property
    def of_facts(self) -> bool:
        """Whether it decides single facts, and not sentences."""
        return not JUDGES[self.name].sentences

    @property
    def recorded(self) -> str:
        """The judge as annotations name it, without the place where its model was served.

        A server's model that the spec does not name, and the digest of a local folder, are in annotations only. What is
        asked by the batch is asked of the same model.
        """
        engine = "openai" if self.engine == "batch" else self.engine
        return str(replace(self, engine=engine, target="") if self.engine in ENGINES else self)

    def open(
        self,
        options: Mapping[str, Any] | None = None,
        store: AnswerCache | None = None,
        *,
        facts: bool = False,
        dry: DryRun | None = None,
    ) -> Annotator:
        """The judge, ready to work.

        options: the judge's own (say `guided` for dialogue), everything else goes to its engine (`cache`, concurrency,
        timeout, batch_size, …). store: the answer cache, by default the common one. facts: accept a judge that does not
        label sentences. dry: count what it would ask, there, and ask nothing. Raises HarnessError for an unknown
        option, for options that are no mapping, and for a judge of facts where sentences are judged.
        """
        judge = JUDGES[self.name]
        if not (judge.sentences or facts):
            raise HarnessError(
                f"judge {self.name!r} decides single facts, it does not label the sentences of an answer; take another "
                "judge here, or the FActScore tasks, `factuality label`, `factuality score-facts` or `factuality "
                "judge-card` with this one"
            )
        cls = judge.load()
        own, of_engine = split_options(cls, self.engine, options, "judge_args")
        if judge.needs_engine:
            engine = open_engine(f"{self.engine}:{self.target}", store, judge=self.name, **of_engine)
            return cls(engine if dry is None else dry.engine(engine), **own)
        of_engine.pop("cache", None)  # it asks nothing that could be kept
        if of_engine:
            raise HarnessError(f"judge {self.name!r} has no option {', '.join(sorted(of_engine))}")
        return cls(**own)

    def label_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options that can change a label: all that are neither the engine's (concurrency, memory, …) nor at their
        default, and those that an engine adds to every request. All options for a judge that is not known."""
        if self.name not in JUDGES:
            return dict(options)
        own = option_defaults(JUDGES[self.name].load())
        of_engine = option_defaults(ENGINES[self.engine]) if self.engine in ENGINES else {}
        harmless = {"window", "stop_after", "cache", *of_engine} - DECIDE
        if self.engine == "vllm":  # whose further arguments go to vLLM
            harmless |= options.keys() - own.keys()
        return {k: v for k, v in options.items() if k not in harmless and not (k in own and v == own[k])}


def split_options(
    kind: type, engine: str, options: Mapping[str, Any] | None, where: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of one mapping as those of a judge or extractor (`kind`) and, all others, those of its engine ("": none).

    where: what the mapping is called. Raises HarnessError for options that are no mapping, and naming one that neither
    knows.
    """
    if not isinstance(options, Mapping | None):
        raise HarnessError(f"{where} must be an object of options, not {type(options).__name__}: {options!r}")
    rest = dict(options or {})
    known = option_defaults(kind)
    own = {key: rest.pop(key) for key in list(rest) if key in known}
    if engine and engine != "vllm":  # whose further arguments go to vLLM
        known |= option_defaults(ENGINES[engine]) | {"cache": True}
        if unknown := next((key for key in rest if key not in known), None):
            raise HarnessError(f"{where}: no option {unknown!r}{nearest(unknown, [*known])}")
    return own, rest


def engines_of(judge: Any) -> list[CachedEngine]:
    """The engines behind a judge, a verifier, a scorer of facts or a task, each once."""
    found: list[CachedEngine] = []
    for name in ("engine", "verifier", "annotator", "extractor", "scorer"):
        part = getattr(judge, name, None)
        found += [part] if isinstance(part, CachedEngine) else [] if part is None else engines_of(part)
    return list({id(engine): engine for engine in found}.values())


def usage_of(judge: Any) -> list[dict[str, Any]]:
    """What a judge asked so far, a row for each engine: requests, answers from the cache, tokens where the server
    counts them, and what was changed about the requests. For the results and manifests."""
    return [engine.usage() for engine in engines_of(judge)]
