"""The ANAH-v2 annotator (`opencompass/anah-v2`): the three-turn dialogue with the exact prompts it was trained on.

The prompt texts belong to the reference repository and are read from its pinned file (see `harness.prompts.anah_v2`).
"""

from __future__ import annotations

from pathlib import Path

from factuality_harness.harness.annotators.base import Claim
from factuality_harness.harness.annotators.dialogue import DialogueAnnotator
from factuality_harness.harness.engines import CachedEngine
from factuality_harness.harness.prompts.anah_v2 import UpstreamPrompts, load_prompts


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


class AnahV2Annotator(DialogueAnnotator):
    """ANAH-v2's own model and prompts. One reminder is sent when an answer does not parse, as for `dialogue`."""

    name = "anah_v2"

    def __init__(
        self,
        engine: CachedEngine,
        *,
        prompt_file: str | Path | None = None,
        any_checksum: bool = False,
        max_tokens: int = 1024,
        guided: bool = False,
        window: int = 4096,
    ) -> None:
        """prompt_file: a local copy of the upstream prompt file (else $HARNESS_ANAH_V2_PROMPTS, else downloaded once).

        any_checksum: accept a changed file. Raises HarnessError when the file is missing, changed, or of another shape.
        """
        super().__init__(
            engine,
            max_tokens=max_tokens,
            guided=guided,
            window=window,
            prompts=_Prompts(load_prompts(prompt_file, any_checksum=any_checksum)),
        )
