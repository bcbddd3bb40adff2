"""Whether a response declines to answer. An abstaining response has no facts and no share in the score.

Detectors: `generic` (the answer opens with an apology or asks for more information), `perplexity_ai` (an
answer of a search engine that says it found nothing), `none`. An empty response abstains under all three.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from factuality_harness.harness.errors import HarnessError

Detector = Literal["generic", "perplexity_ai", "none"]
DETECTORS: tuple[str, ...] = get_args(Detector)

_CHINESE_SORRY = ("抱歉", "很抱歉", "非常抱歉", "十分抱歉", "对不起")
_CITATION = re.compile(r"\s*\[\d+\]")
_FIRST_SENTENCE = re.compile(r".*?(?:[.!?](?=\s|$)|[。！？]|\n|$)", re.DOTALL)
# "could not find any information", "there is no information", "the search results do not mention", "is not
# mentioned in the search results", and the same in Chinese.
_FOUND_NOTHING = re.compile(
    r"""
    \b(?:could|can|was|were|did|do|am|is|are)(?:\s?n[o']t|not|\s+unable\s+to)\s+(?:able\s+to\s+)?
        (?:find|locate|identify)\b
    | \bunable\s+to\s+(?:find|locate|identify)\b
    | \bno\s+(?:\w+\s+){0,2}(?:information|results?|sources?|mention|details?|evidence)\b
    | \b(?:search\s+results?|sources?)\s+(?:provided\s+)?(?:do|does|did)(?:\s+not|n't)\s+
        (?:\w+\s+)?(?:provide|contain|mention|include|give|offer|show)\b
    | \bnot\s+(?:\w+\s+)?(?:mentioned|provided|found|included|available|contained)\s+(?:\w+\s+){0,2}
        (?:in|among|from)\s+(?:\w+\s+){0,2}(?:search\s+results?|sources?)\b
    | (?:没有|未能|无法)(?:找到|查到|检索到|搜索到) | 搜索结果(?:中)?(?:没有|未|并未)
    """,
    re.IGNORECASE | re.VERBOSE,
)


def abstains(response: str, detector: str = "generic") -> bool:
    """Whether `response` declines, by the detector of that name. Raises HarnessError for an unknown detector.

    generic: opens with "I'm sorry" (zh 抱歉, 对不起) or contains "provide more" (zh 提供更多), case as
    written, as in FActScore. perplexity_ai: its first sentence, citation marks removed, says that nothing was
    found.
    """
    if detector not in DETECTORS:
        raise HarnessError(f"abstain detector {detector!r} is not known; use one of: {', '.join(DETECTORS)}")
    text = response.strip().replace("’", "'")
    if not text:
        return True
    if detector == "generic":
        return text.startswith(("I'm sorry", *_CHINESE_SORRY)) or "provide more" in text or "提供更多" in text
    if detector == "perplexity_ai":
        first = _FIRST_SENTENCE.match(_CITATION.sub("", text))
        return first is not None and _FOUND_NOTHING.search(first.group()) is not None
    return False
