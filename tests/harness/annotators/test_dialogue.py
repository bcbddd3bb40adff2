"""The three-turn dialogue: parsing, labels, second tries, refusals, batching, resuming."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from factuality_harness.harness import metrics
from factuality_harness.harness.annotate import DocumentedResponse, annotate
from factuality_harness.harness.annotation import Judgement, Label
from factuality_harness.harness.annotators.base import Claim
from factuality_harness.harness.annotators.dialogue import (
    CHOICES,
    READERS,
    DialogueAnnotator,
)
from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.engines import AnswerCache, CachedEngine
from factuality_harness.harness.errors import EngineError, HarnessError
from tests.helpers.judge_server import JudgeServer
from tests.helpers.rule_judge import EN_DOCUMENT, ZH_DOCUMENT, RuleEngine


@pytest.fixture
def rules() -> RuleEngine:
    return RuleEngine()


@pytest.fixture
def judge(rules: RuleEngine, tmp_path: Path) -> DialogueAnnotator:
    return DialogueAnnotator(CachedEngine(rules, AnswerCache(tmp_path / "answers.sqlite")))


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer() as server:
        yield server


def en(sentence: str) -> Claim:
    return Claim("Who is Alice?", sentence, EN_DOCUMENT, "en")


def zh(sentence: str) -> Claim:
    return Claim("张三是谁？", sentence, ZH_DOCUMENT, "zh")


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("turn", ["1_fact", "3_type"])
def test_every_allowed_answer_parses(turn: str, language: str) -> None:
    parse = {"1_fact": READERS.fact, "3_type": READERS.type}[turn]
    answers: list[object] = [parse(choice) for choice in CHOICES[turn][language]]
    assert None not in answers
    assert len(set(answers)) == len(answers)


LABELS_EN = {
    "Alice was born in 1901.": Judgement(Label.OK, ("Alice was born in 1901.", "Alice moved to Rome in 1920.")),
    "Alice was born in 1902.": Judgement(
        Label.CONTRADICTORY, ("Alice was born in 1901.", "Alice moved to Rome in 1920.")
    ),
    "Bob HEDGE has 12 pears.": Judgement(Label.UNVERIFIABLE, ("Bob sells 12 pears.",)),
    "Carol has 3 cats.": Judgement(Label.UNVERIFIABLE),
    "How nice!": Judgement(Label.NOFACT),
}
LABELS_ZH = {
    "张三生于1901年。": Judgement(Label.OK, ("张三生于1901年。", "张三1920年到罗马。")),
    "张三生于1902年。": Judgement(Label.CONTRADICTORY, ("张三生于1901年。", "张三1920年到罗马。")),
    "李四HEDGE有12个。": Judgement(Label.UNVERIFIABLE, ("李四卖12个梨。",)),
    "王五有3只猫。": Judgement(Label.UNVERIFIABLE),
    "真好！": Judgement(Label.NOFACT),
}


def test_labels_and_evidence_in_both_languages_mixed(judge: DialogueAnnotator) -> None:
    claims = [c for a, b in zip(LABELS_EN, LABELS_ZH, strict=True) for c in (en(a), zh(b))]
    expected = [c for a, b in zip(LABELS_EN.values(), LABELS_ZH.values(), strict=True) for c in (a, b)]
    ticks: list[int] = []
    assert judge.judge(claims, ticks.append) == expected
    assert sum(ticks) == len(claims)


def test_all_sentences_take_a_turn_together(judge: DialogueAnnotator, rules: RuleEngine) -> None:
    judge.judge([en(s) for s in LABELS_EN])
    turns = [len(messages) for messages in rules.asked]
    assert turns == [1] * 5 + [3] * 4 + [5] * 3


def test_the_conversation_starts_with_the_document_and_ends_with_the_sentence(
    judge: DialogueAnnotator, rules: RuleEngine
) -> None:
    """So that sentences of one document share their prefix in the engine's cache."""
    judge.judge([en("Alice was born in 1901."), en("Alice was born in 1902.")])
    first, second = (messages[0]["content"] for messages in rules.asked[:2])
    start = first.index("Sentence: ")
    assert EN_DOCUMENT in first[:start]
    assert first[:start] == second[:start]
    assert [m["role"] for m in rules.asked[-1]] == ["user", "assistant", "user", "assistant", "user"]


@pytest.mark.parametrize(
    ("sentence", "turn", "label"),
    [
        ("Alice STUTTER was born in 1901.", 0, Label.OK),
        ("Alice HUSH was born in 1901.", 1, Label.OK),
        ("Alice STUTTER HUSH was born in 1902.", 1, Label.CONTRADICTORY),
    ],
)
def test_an_unusable_answer_is_asked_for_again_with_a_reminder(
    judge: DialogueAnnotator, rules: RuleEngine, sentence: str, turn: int, label: Label
) -> None:
    assert judge.judge([en(sentence)])[0].label == label
    reminders = [m[-1]["content"] for m in rules.asked if "That " in m[-1]["content"]]
    assert len(reminders) == sentence.count("STUTTER") + sentence.count("HUSH")
    assert ("two allowed answers" if turn == 0 else "answer was empty") in reminders[-1]


@pytest.mark.parametrize(
    ("claim", "detail", "requests"),
    [
        (en("MUMBLE 1."), "turn 1_fact: no usable answer: 'Well, who can say?'", 2),
        (zh("MUMBLE1。"), "turn 1_fact: no usable answer: 'Well, who can say?'", 2),
        (en("Alice DODGE 1901."), "turn 3_type: no usable answer: 'It depends.'", 4),
        (en("REFUSE 1."), "turn 1_fact: refused by the rules", 1),
    ],
)
def test_after_one_reminder_the_sentence_is_unparsed_with_the_reason(
    judge: DialogueAnnotator, rules: RuleEngine, claim: Claim, detail: str, requests: int
) -> None:
    judgement = judge.judge([claim])[0]
    assert (judgement.label, judgement.detail) == (Label.UNPARSED, detail)
    assert len(rules.asked) == requests


def test_unparsed_sentences_are_left_out_of_the_score_and_trouble_no_other(judge: DialogueAnnotator) -> None:
    clean = "Alice was born in 1901. Alice was born in 1902. How nice!"
    troubled = "REFUSE 1. Alice was born in 1901. MUMBLE 2. Alice was born in 1902. Alice DODGE 3. How nice!"
    items = [DocumentedResponse("Who is Alice?", response, EN_DOCUMENT, "en") for response in (clean, troubled)]
    first, second = (metrics.count([a]) for a in annotate(items, judge, progress=False))
    assert (second.unparsed, first.unparsed) == (3, 0)
    assert (
        (first.ok, first.contradictory, first.nofact) == (second.ok, second.contradictory, second.nofact) == (1, 1, 1)
    )
    assert metrics.factuality([first]) == metrics.factuality([second]) == 0.5


def test_guided_turns_carry_their_choices(rules: RuleEngine, tmp_path: Path) -> None:
    engine = CachedEngine(rules, AnswerCache(tmp_path / "a.sqlite"))
    DialogueAnnotator(engine, max_tokens=99, label_tokens=7).judge([en("Alice 1901."), zh("张三1901。")])
    for messages, sampling in zip(rules.asked, rules.samplings, strict=True):
        language = "zh" if "张三" in messages[0]["content"] else "en"
        turn = {1: "1_fact", 3: "2_reference", 5: "3_type"}[len(messages)]
        assert sampling.choices == (() if turn == "2_reference" else CHOICES[turn][language])
        assert sampling.max_tokens == (99 if turn == "2_reference" else 7)
        assert sampling.temperature == 0


def test_braces_and_markup_in_the_texts_are_text(judge: DialogueAnnotator, rules: RuleEngine) -> None:
    document = "{sentence} costs {0} in 1901. {{question}}"
    claim = Claim("Is {document} {x}?", "{sentence} costs {0} in 1901.", document, "en")
    assert judge.judge([claim])[0].label == Label.OK
    assert document in rules.asked[0][0]["content"]
    assert "Is {document} {x}?" in rules.asked[0][0]["content"]


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (Claim("Who?", "She.", " \n", "en"), "'Who[?]' has no reference document"),
        (Claim("Qui?", "Elle.", "Un texte.", "fr"), "language 'fr' of question 'Qui[?]'"),
    ],
)
def test_a_claim_that_cannot_be_judged_is_named_before_anything_is_asked(
    judge: DialogueAnnotator, rules: RuleEngine, claim: Claim, message: str
) -> None:
    with pytest.raises(HarnessError, match=message):
        judge.judge([en("Alice 1901."), claim])
    assert rules.asked == []


def test_a_judge_that_breaks_down_is_resumed_where_it_stopped(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "answers.sqlite")
    claims = [en(f"Alice moved {i} times to Rome in 1920.") for i in range(10)]
    broken = RuleEngine(fail_after=17)
    with pytest.raises(EngineError, match="gave out"):
        DialogueAnnotator(CachedEngine(broken, cache)).judge(claims)
    mended = RuleEngine()
    judgements = DialogueAnnotator(CachedEngine(mended, cache)).judge(claims)
    assert len(broken.asked) == 17
    assert len(mended.asked) == 30 - 17
    assert not [m for m in mended.asked if m in broken.asked]
    fresh = DialogueAnnotator(CachedEngine(RuleEngine(), AnswerCache(tmp_path / "other.sqlite")))
    assert judgements == fresh.judge(claims)


def test_the_server_dies_half_way_and_is_not_asked_twice_what_it_answered(server: JudgeServer) -> None:
    """The server's own record says what it was asked before and after."""
    spec = f"dialogue@openai:{server.url}#rules"
    options = {"concurrency": 4, "retries": 0}
    claims = [
        c for i in range(8) for c in (en(f"Alice has {i} and 1901."), zh(f"张三有{i}和1901。"), en(f"Hm {'!' * i}"))
    ]
    server.stop_after = 30
    with pytest.raises(EngineError, match=r"cannot be reached.*run the same command again"):
        JudgeSpec.parse(spec).open(options).judge(claims)
    before = set(server.answered)
    assert len(before) == 30
    server.stop_after = None
    server.answered.clear()
    server.start()
    judgements = JudgeSpec.parse(spec).open(options).judge(claims)
    assert [j.label for j in judgements[2::3]] == [Label.NOFACT] * 8
    assert not any(j.label == Label.UNPARSED for j in judgements)
    assert before.isdisjoint(server.answered)
    assert len(server.answered) == len(set(server.answered)) == 3 * 16 + 8 - 30
    server.requests.clear()
    assert JudgeSpec.parse(spec).open(options).judge(claims) == judgements
    assert server.requests == []


def test_a_request_the_server_refuses_fails_alone(server: JudgeServer) -> None:
    judge = JudgeSpec.parse(f"dialogue@openai:{server.url}#rules").open()
    judge.check()
    found = judge.judge([en("Alice was born in 1901."), en("REFUSE 1."), en("Alice was born in 1902.")])
    assert [j.label for j in found] == [Label.OK, Label.UNPARSED, Label.CONTRADICTORY]
    assert found[1].detail.startswith("turn 1_fact: refused by the server: Error code: 400")
