"""Annotators: sentence to label, one file each, found by name.

A judge is written `NAME` or `NAME@ENGINE:TARGET`: `lexical`, `dialogue@openai:http://host:8000/v1#model`,
`dialogue@vllm:model`, `dialogue@hf:model`, `anah_v2@vllm:opencompass/anah-v2`.
"""

from __future__ import annotations

from factuality_harness.harness.annotators.base import Annotator, Claim
from factuality_harness.harness.annotators.spec import annotator_names, judge_spec, open_annotator

__all__ = ["Annotator", "Claim", "annotator_names", "judge_spec", "open_annotator"]
