"""The ANAH-v2 annotator (`opencompass/anah-v2`): the three-turn dialogue with the exact prompts it was trained on.

The prompt texts belong to the reference repository and are read from its pinned file (see `harness.prompts.anah_v2`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from factuality_harness.harness.annotation import Label
from factuality_harness.harness.annotators.base import Claim
from factuality_harness.harness.annotators.dialogue import READERS, DialogueAnnotator, DialogueOptions, Prompts, Readers
from factuality_harness.harness.engines import CachedEngine
from factuality_harness.harness.prompts import prompt
from factuality_harness.harness.prompts.anah_v2 import UpstreamPrompts, load_prompts

SYSTEM = prompt("anah_v2_system") + "\n"
"""The system turn of lmdeploy's `internlm2` template, by which the reference runs its annotator, with its last line end
(Apache-2.0; the same text from lmdeploy 0.2.1 to 0.9)."""


class _Prompts:
    def __init__(self, upstream: UpstreamPrompts) -> None:
        self._upstream = upstream

    def fact(self, claim: Claim) -> str:
        return self._upstream.render(
            "fact_check_prompt", claim.language, question=claim.question, annotation=claim.sentence
        )

    def reference(self, claim: Claim) -> str:
        return self._upstream.render(
            "reference_check_prompt",
            claim.language,
            question=claim.question,
            reference=claim.document,
            annotation=claim.sentence,
        )

    def type(self, claim: Claim, reference: str) -> str:
        return self._upstream.render(
            "hallucination_check_prompt",
            claim.language,
            question=claim.question,
            reference=reference,
            annotation=claim.sentence,
        )


def _squeeze(answer: str) -> str:
    """Lower case without white space: how ANAH-v2 compares answers."""
    return re.sub(r"\s+", "", answer).lower()


def _upstream_fact(text: str) -> bool | None:
    return {"<nofacts>": False, "<无事实>": False, "<factspresent>": True, "<有事实>": True}.get(text)


def _upstream_type(text: str) -> Label | None:
    if "nohallucination" in text or "无幻觉" in text:
        return Label.OK
    if "contradictory" in text or "矛盾" in text:
        return Label.CONTRADICTORY
    if "unverifiable" in text or "无法验证" in text:
        return Label.UNVERIFIABLE
    return None


def _upstream_first(rule: Callable[[str], Any], otherwise: Callable[[str], Any]) -> Callable[[str], Any]:
    """The reference's rule for answers of the form its model was trained on, which is nothing but bracketed words; the
    common reading for all others."""

    def read_answer(answer: str) -> Any:
        text = _squeeze(answer)
        value = rule(text) if re.fullmatch(r"(?:<[^<>]+>)+", text) else None
        return otherwise(answer) if value is None else value

    return read_answer


class AnahV2Options(DialogueOptions):
    """As `dialogue`; passages are longer, the labels are not constrained, since the model was trained on them, and
    `system` is what the reference sends first ("" for none)."""

    max_tokens: PositiveInt = 1024
    guided: bool = False
    system: str = SYSTEM


class AnahV2Annotator(DialogueAnnotator):
    """ANAH-v2's own model and prompts. One reminder is sent when an answer does not parse, as for `dialogue`."""

    name = "anah_v2"
    OPTIONS = AnahV2Options
    readers = Readers(
        fact=_upstream_first(_upstream_fact, READERS.fact),
        reference=READERS.reference,
        type=_upstream_first(_upstream_type, READERS.type),
    )

    def __init__(
        self,
        engine: CachedEngine,
        prompts: Prompts | None = None,
        *,
        prompt_file: str | Path | None = None,
        any_checksum: bool = False,
        **options: Any,
    ) -> None:
        """prompt_file: a local copy of the upstream prompt file (else $HARNESS_ANAH_V2_PROMPTS, else downloaded once).

        any_checksum: accept a changed file. options: `AnahV2Options`. Raises HarnessError when the file is missing,
        changed, or of another shape.
        """
        super().__init__(engine, prompts or _Prompts(load_prompts(prompt_file, any_checksum=any_checksum)), **options)
