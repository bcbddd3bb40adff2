"""The lexical baseline: its rules, and what it says about the shipped documents."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factuality_harness.harness.annotation import Label
from factuality_harness.harness.annotators.base import Claim
from factuality_harness.harness.annotators.lexical import anchors, judge_claim
from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.data.anah import Question, load_mini
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.sentences import split

DOCUMENT = (
    "The Eiffel Tower was built in Paris by Gustave Eiffel in 1889. It is 330 metres tall and has 1,665 steps. "
    "It was not designed as a permanent structure. Visitors reach its three levels by lift."
)
ZH_DOCUMENT = (
    "都江堰位于四川省成都平原西部的岷江上，约公元前256年由李冰主持修建。《史记》记载了这项工程。工程不筑拦河大坝。"
)


def label(sentence: str, language: str = "en", question: str = "Tell me about it.") -> Label:
    return judge_claim(Claim(question, sentence, DOCUMENT if language == "en" else ZH_DOCUMENT, language)).label


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("The Eiffel Tower was built in Paris in 1889.", "ok"),
        ("The tower, built by Gustave Eiffel, has 1665 steps.", "ok"),
        ("The Eiffel Tower was built in Paris in 1887.", "contradictory"),
        ("The Eiffel Tower was built not in Paris by Gustave Eiffel.", "contradictory"),
        ("The tower was designed as a permanent structure.", "contradictory"),
        ("Napoleon Bonaparte admired Chinese porcelain from Jingdezhen.", "unverifiable"),
        ("In 1923 Napoleon admired porcelain.", "unverifiable"),
        ("I hope this helps!", "nofact"),
        ("Sure, here it is.", "nofact"),
        ("Yes.", "nofact"),
    ],
)
def test_english_rules(sentence: str, expected: str) -> None:
    assert label(sentence) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("都江堰位于四川省的岷江上。", "ok"),
        ("《史记》记载了都江堰工程。", "ok"),
        ("都江堰约公元前256年由李冰主持修建。", "ok"),
        ("都江堰约公元前300年由李冰主持修建。", "contradictory"),
        ("长城由秦始皇下令修筑而成。", "unverifiable"),
        ("希望这些信息对您有帮助！", "nofact"),
    ],
)
def test_chinese_rules(sentence: str, expected: str) -> None:
    assert label(sentence, "zh") == expected


def test_words_of_the_question_are_no_facts() -> None:
    sentence = "Gustave Eiffel built Towers."
    assert label(sentence) != "nofact"
    assert label(sentence, question="Which towers did Gustave Eiffel build, and who built them?") == "nofact"


def test_thousands_separators_do_not_matter() -> None:
    assert anchors("It has 1,665 steps.", "en").numbers == anchors("It has 1665 steps.", "en").numbers


def test_evidence_is_the_likest_sentence() -> None:
    judgement = judge_claim(Claim("Q?", "It has 1,700 steps and is tall in metres.", DOCUMENT, "en"))
    assert judgement.evidence == ("It is 330 metres tall and has 1,665 steps.",)
    assert re.fullmatch(r"coverage \d\.\d\d, likeness \d\.\d\d", judgement.detail)


@given(st.text(max_size=80), st.text(min_size=1, max_size=80), st.sampled_from(["en", "zh"]))
def test_any_text_gets_a_label(sentence: str, document: str, language: str) -> None:
    assert judge_claim(Claim("Q?", sentence, document, language)).label != Label.UNPARSED


def mini() -> list[Question]:
    return load_mini("test") + load_mini("train")


def test_every_sentence_of_the_shipped_documents_is_supported_by_its_document() -> None:
    wrong = [
        (question.topic, sentence.text)
        for question in mini()
        for sentence in split(question.document, question.language)
        if judge_claim(Claim(question.question, sentence.text, question.document, question.language)).label
        not in (Label.OK, Label.NOFACT)
    ]
    assert wrong == []


def test_no_sentence_with_a_changed_year_is_supported() -> None:
    changed = 0
    for question in mini():
        for sentence in split(question.document, question.language):
            for year in re.finditer(r"(?<!\d)(?:1\d|20)\d\d(?!\d)", sentence.text):
                other = next(y for i in range(1, 99) if (y := str(int(year[0]) - i)) not in question.document)
                text = sentence.text[: year.start()] + other + sentence.text[year.end() :]
                claim = Claim(question.question, text, question.document, question.language)
                assert judge_claim(claim).label not in (Label.OK, Label.NOFACT), text
                changed += 1
    assert changed > 500


def test_an_empty_document_is_refused() -> None:
    with pytest.raises(HarnessError, match=r"'Who[?]' has no reference document"):
        JudgeSpec("lexical").open().judge([Claim("Who?", "She was born in 1901.", " ", "en")])


def test_progress_is_told() -> None:
    ticks: list[int] = []
    judge = JudgeSpec("lexical").open()
    judge.check()
    judge.judge([Claim("Q?", "Yes.", DOCUMENT, "en")] * 3, ticks.append)
    assert sum(ticks) == 3


def test_it_is_cheap() -> None:
    claims = [Claim("Q?", f"The Eiffel Tower has {i} steps.", DOCUMENT, "en") for i in range(2000)]
    start = time.process_time()
    JudgeSpec("lexical").open().judge(claims)
    assert time.process_time() - start < 2  # some 10 000 a second; ten times slower would show
