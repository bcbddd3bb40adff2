"""Our own prompt texts: complete in both languages, and every place is filled."""

from __future__ import annotations

import string
from importlib.resources import files

import pytest

from factuality_harness.harness.annotators.base import Claim
from factuality_harness.harness.annotators.dialogue import CHOICES, OwnPrompts
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.prompts import prompt

NAMES = sorted(f.name.removesuffix(".txt") for f in files("harness.prompts").iterdir() if f.name.endswith(".txt"))
DIALOGUE = [n for n in NAMES if n.startswith("dialogue_")]


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_the_dialogue_is_complete_in_both_languages() -> None:
    steps = [f"{turn}{again}" for turn in ("1_fact", "2_reference", "3_type") for again in ("", "_again")]
    assert sorted(f"dialogue_{lang}_{step}" for lang in ("en", "zh") for step in steps) == DIALOGUE


@pytest.mark.parametrize("name", [n for n in DIALOGUE if "_en_" in n])
def test_the_languages_have_the_same_places(name: str) -> None:
    assert fields(prompt(name)) == fields(prompt(name.replace("_en_", "_zh_")))


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_ends_without_a_line_end(name: str) -> None:
    assert prompt(name).strip()
    assert not prompt(name).endswith("\n")


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("turn", ["1_fact", "3_type"])
def test_every_allowed_answer_is_offered(turn: str, language: str) -> None:
    for choice in CHOICES[turn][language]:
        assert choice in prompt(f"dialogue_{language}_{turn}")
        assert choice in prompt(f"dialogue_{language}_{turn}_again")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_rendered_turns_hold_the_texts(language: str) -> None:
    claim = Claim("QUESTION?", "SENTENCE.", "DOCUMENT.", language)
    own = OwnPrompts()
    first = own.fact(claim)
    assert all(text in first for text in ("QUESTION?", "SENTENCE.", "DOCUMENT."))
    assert "SENTENCE." in own.type(claim, "passages")
    assert not any(set("{}") & set(text) for text in (first, own.reference(claim), own.type(claim, "passages")))


def test_no_such_prompt() -> None:
    with pytest.raises(HarnessError, match="no prompt named 'dialogue_fr_1_fact'"):
        prompt("dialogue_fr_1_fact")
