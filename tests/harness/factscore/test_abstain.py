"""Abstention detectors."""

from __future__ import annotations

from pathlib import Path

import pytest

from factuality_harness.harness.data.biographies import load_labelled
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.factscore.abstain import DETECTORS, abstains


@pytest.mark.parametrize("detector", DETECTORS)
def test_empty_answers_abstain(detector: str) -> None:
    assert abstains("", detector)
    assert abstains(" \n", detector)
    assert not abstains("Ada Lovelace was an English mathematician.", detector)
    assert not abstains("张衡是东汉时期的天文学家。", detector)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm sorry, but I do not know this person.", True),
        ("I’m sorry, I have no information.", True),
        ("Could you provide more context?", True),
        ("很抱歉，我没有相关信息。", True),
        ("请提供更多信息。", True),
        ("She said: I'm sorry.", False),
        ("I am not sure.", False),
    ],
)
def test_generic(text: str, expected: bool) -> None:
    assert abstains(text, "generic") is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I could not find any information on Jo Doe.", True),
        ("I couldn't find a biography of Jo Doe. There is a Jo Doe Street [2].", True),
        ("There is no information available [1] about Jo Doe in the search results.", True),
        ("The search results do not provide a biography of Jo Doe.", True),
        ("Jo Doe is not mentioned in the provided search results.", True),
        ("Unfortunately, I was unable to find details.", True),
        ("抱歉，没有找到关于他的资料。", True),
        ("Jo Doe is a sailor [1]. There is no information on his youth [2].", False),
        ("Jo Doe found no peace in the city he was born in.", False),
        ("I'm sorry to say that Jo Doe died in 2001.", False),
    ],
)
def test_perplexity(text: str, expected: bool) -> None:
    assert abstains(text, "perplexity_ai") is expected


def test_none_looks_only_for_emptiness() -> None:
    assert not abstains("I'm sorry, I could not find any information.", "none")


def test_unknown_detector() -> None:
    with pytest.raises(HarnessError, match="'polite' is not known; use one of: generic"):
        abstains("x", "polite")


def test_generic_agrees_with_the_people_who_labelled(shared_data: Path) -> None:
    rows = load_labelled(shared_data / "factscore_labeled" / "ChatGPT.jsonl").rows
    agree = sum(abstains(r.output) == (r.sentences is None) for r in rows)
    assert agree >= 0.95 * len(rows)
