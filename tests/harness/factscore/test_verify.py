"""Verification: reading verdicts, prompts, annotators as verifiers."""

from __future__ import annotations

from pathlib import Path

import pytest

from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.engines import AnswerCache, CachedEngine, Reply
from factuality_harness.harness.factscore.knowledge import Passage
from factuality_harness.harness.factscore.verify import (
    AnnotatorVerifier,
    ModelVerifier,
    Query,
    read_verdict,
    reference_verdict,
)
from tests.helpers.rule_engine import RuleEngine

PASSAGES = (Passage("Ada", "Ada was born in London in 1815."), Passage("Ada", "Byron was a poet."))


def query(fact: str, language: str = "en") -> Query:
    return Query("Ada", "Tell me a bio of Ada.", fact, language, PASSAGES)


@pytest.fixture
def engine(tmp_path: Path) -> CachedEngine:
    return CachedEngine(RuleEngine(), AnswerCache(tmp_path / "answers.sqlite"))


@pytest.mark.parametrize(
    ("answer", "supported"),
    [
        ("True", True),
        ("false.", False),
        ("The statement is TRUE because it is not denied.", True),
        ("True or false? False", False),
        ("It is false that this is true", True),
        ("True... no, wait: False", False),
        ("True or False? True", True),
    ],
)
def test_reference_a_word_decides_and_of_both_the_later(answer: str, supported: bool) -> None:
    verdict = reference_verdict(answer)
    assert (verdict.supported, verdict.undecided) == (supported, False)


@pytest.mark.parametrize(
    ("answer", "supported"),
    [
        ("Yes, it is.", True),
        ("", True),
        ("The passages say so", True),
        ("This is NOT stated.", False),
        ("It cannot, be said", False),
        ("Unknown.", False),
        ("There is no information", False),
        ("Nothing notable", True),  # whole words only
    ],
)
def test_reference_neither_word(answer: str, supported: bool) -> None:
    verdict = reference_verdict(answer)
    assert (verdict.supported, verdict.undecided) == (supported, True)
    assert "neither true nor false" in verdict.detail


@pytest.mark.parametrize(
    ("answer", "supported", "undecided"),
    [
        ("True", True, False),
        ("正确。", True, False),
        ("不正确", False, False),
        ("错误", False, False),
        ("资料没有提到", False, True),
        ("是的", True, True),
    ],
)
def test_reference_chinese_answers(answer: str, supported: bool, undecided: bool) -> None:
    verdict = reference_verdict(answer, "zh")
    assert (verdict.supported, verdict.undecided) == (supported, undecided)


def test_prompt_puts_the_passages_first_and_the_best_last(engine: CachedEngine) -> None:
    (message,) = ModelVerifier(engine).conversation(query("Ada wrote {notes}."))
    text = message["content"]
    assert text.startswith("Title: Ada\nText: Byron was a poet.\n\nTitle: Ada\nText: Ada was born in London")
    assert text.endswith("Statement: Ada wrote {notes}.\nTrue or False?")
    (chinese,) = ModelVerifier(engine).conversation(query("她生于伦敦。", "zh"))
    assert chinese["content"].startswith("标题：Ada\n正文：Byron")


def test_model_verifier(engine: CachedEngine) -> None:
    verifier = ModelVerifier(engine)
    facts = ["Ada was born in London in 1815.", "She was born in Paris.", "VAGUE.", "UNSURE.", "TOOLONG."]
    done: list[int] = []
    verdicts = verifier.verify([query(f) for f in facts], done.append)
    assert [v.supported for v in verdicts] == [True, False, None, None, None]
    assert [v.undecided for v in verdicts] == [False, False, True, True, True]
    assert verdicts[4].detail == "prompt too long"
    assert sum(done) == 5
    assert verifier.spec == "factscore@rule#1"
    verifier.check()
    reference = ModelVerifier(engine, reading="reference").verify([query(f) for f in facts])
    assert [v.supported for v in reference] == [True, False, True, False, None]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(None, "refused"),
        Reply(""),
        Reply("<think>it is true", cut=True),
        Reply("True because the passages", cut=True),
        Reply("I'm sorry, I can't assist with that request."),
        Reply("Neither."),
    ],
)
def test_no_answer_is_never_supported(reply: Reply) -> None:
    verdict = read_verdict(reply)
    assert (verdict.supported, verdict.undecided) == (None, True)
    assert verdict.detail


def test_annotator_verifier() -> None:
    verifier = AnnotatorVerifier(JudgeSpec.parse("lexical").open())
    verifier.check()
    verdicts = verifier.verify(
        [query("Ada was born in London in 1815."), query("She sailed to Peru in 1790."), query("Ok.")]
    )
    assert [v.supported for v in verdicts] == [True, False, False]
    assert [v.checkable for v in verdicts] == [True, True, False]
    assert verifier.spec == "lexical"
    assert verifier.verify([]) == []
