"""Reading what a judge wrote: a table of wordings, English and Chinese. What is left in doubt is no verdict."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factuality_harness.harness.annotation import Label
from factuality_harness.harness.annotators.reading import (
    FACT,
    TYPE,
    read,
    read_passages,
    read_truth,
    spoken,
)
from factuality_harness.harness.engines import Reply
from factuality_harness.harness.thinking import set_thinking_aside

TYPES: list[tuple[str, Label | None]] = [
    ("**Contradictory**", Label.CONTRADICTORY),
    ('"<Unverifiable>"', Label.UNVERIFIABLE),
    ("No-Hallucination.", Label.OK),
    ("There is no contradiction, yet nothing confirms it: <Unverifiable>", Label.UNVERIFIABLE),
    ("＜矛盾＞", Label.CONTRADICTORY),
    ("没有幻觉", Label.OK),
    ("不矛盾，但<无法验证>", Label.UNVERIFIABLE),
    ("无法验证", Label.UNVERIFIABLE),
    ("無法驗證", Label.UNVERIFIABLE),
    ("<無幻覺>", Label.OK),
    ("It is not contradictory but unverifiable", Label.UNVERIFIABLE),
    ("Contradictory or unverifiable", None),
    ("not <No Hallucination>", None),
    ("<No Hallucination> ... <Contradictory>", None),
    (
        "The options were <No Hallucination>, <Contradictory> and <Unverifiable>. Final answer: <Contradictory>",
        Label.CONTRADICTORY,
    ),
    ('{"label": "Unverifiable"}', Label.UNVERIFIABLE),
    ('```json\n{"reason":"there is a contradiction?","type":"No Hallucination"}\n```', Label.OK),
    ("no_hallucination", Label.OK),
    ("NO HALLUCINATION", Label.OK),
    ("NoHallucination", Label.OK),
    ("The sentence is contradicted by the passage.", Label.CONTRADICTORY),
    ("It cannot be verified.", Label.UNVERIFIABLE),
    ("This does not contradict the passages.", None),
    ("没有矛盾", None),
    ("并非无幻觉", None),
    ("Hallucination", None),
    ("", None),
    ("[Contradictory]", Label.CONTRADICTORY),
    ("Step 3: Contradictory", Label.CONTRADICTORY),
    ("No contradiction", None),
    ("It isn't unverifiable", None),
    ("it is not a hallucination", Label.OK),
    ("<No Hallucination>.", Label.OK),
    ("Answer: No Hallucination (the passages confirm it)", Label.OK),
    ("无法证实", Label.UNVERIFIABLE),
    ("Unverifiable, not contradictory", Label.UNVERIFIABLE),
    ("neither contradictory nor unverifiable", None),
    ("I don't see any contradiction.", None),
    ("It does not appear to contain a contradiction", None),
    ("It is not confirmed and therefore unverifiable", Label.UNVERIFIABLE),
    ("No, it is contradictory", Label.CONTRADICTORY),
    ("资料没有提到，因此无法验证", Label.UNVERIFIABLE),
    ("没有提到因此无法验证", Label.UNVERIFIABLE),
    ("The passages do not mention it, so it is unverifiable.", Label.UNVERIFIABLE),
    ("Neither contradictory nor unverifiable: no hallucination", Label.OK),
    ("nothing contradicts it", None),
    ("它与资料相矛盾", Label.CONTRADICTORY),
]
FACTS: list[tuple[str, bool | None]] = [
    ("<No Facts Present>", False),
    ("<Facts Present>", True),
    ("没有事实", False),
    ("这句话没有事实，只是客套话。", False),
    ("<有事实>", True),
    ("无事实", False),
    ("Facts present.", True),
    ("No facts", False),
    ("no checkable facts", False),
    ("There are no facts present in it", False),
    ("The sentence contains checkable facts", True),
    ("<Facts Present> or <No Facts>", None),
    ("maybe", None),
    ("有事实", True),
    ("這句話有事實", True),
    ("Not <No Facts>", None),
    ("factspresent", True),
    ("facts_present", True),
    ("Yes, facts present", True),
    ("Facts are not present", False),
    ("不包含可核查的事实", False),
]
TRUTHS: list[tuple[str, bool | None]] = [
    ("False", False),
    ('{"verdict": false}', False),
    ("Not True", False),
    ("No.", False),
    ("Unsupported.", False),
    ("不完全正确", False),
    ("正确性无法确定", None),
    ("假", False),
    ("与资料矛盾", False),
    ("The statement is not true.", False),
    ("", None),
    ("True", True),
    ("True.", True),
    ("untrue", False),
    ("否", False),
    ("不属实", False),
    ("属实", True),
    ("正确", True),
    ("Yes", True),
    ("It is true that she was born there, so: True", True),
    ("True or False? False", None),
    ("False. It is not true.", False),
    ("Neither true nor false", None),
    ("I cannot determine whether it is true", None),
    ("**True**", True),
    ("真", True),
    ("是", True),
    ("是的", True),
    ("不是", False),
    ("不正确", False),
    ("錯誤", False),
    ("This isn't correct", False),
    ("The answer is False, because the passage says true north", False),
    ("true", True),
    ("“True”", True),
    ("ok", None),
    ("I'm sorry, I can't help with that.", None),
    ("No, she was a botanist.", False),
    ("Nothing is known", None),
    ("There is no evidence that this is true.", None),
    ("I don't think that is true.", None),
    ("It may be true", None),
    ("The true founder was Bell.", None),
    ("I can't determine if it is true", None),
    ("This cannot be true.", False),
    ("The statement is indeed true.", True),
    ("<True>", True),
    ("Answer: True", True),
    ("资料没有提到,是否属实未知", None),
    ("The claim is supported by the passages.", True),
    ("The claim is not supported by the passages.", False),
    ("It is true that she was a botanist.", True),
    ("If true, the passages would say so.", None),
    ("Not supported", False),
    ("It is unclear", None),
    ("不确定", None),
    ("并非真实", False),
    ("Partially true", None),
    ("Not entirely true", False),
    ("Mostly false", None),
    ("half-true", None),
    ("部分正确", None),
    ("是真的", True),
    ("不是真的", False),
    ("Yes, but it is not stated", None),
]
PASSAGES: list[tuple[str, tuple[str, ...] | None]] = [
    ("None", ()),
    ("<No Reference Information>", ()),
    ("No reference information.", ()),
    ("无参考信息", ()),
    ("a <SEP> b", ("a", "b")),
    ("", None),
    ("无", ()),
    ("The canal is long.", ("The canal is long.",)),
    ("N/A", ()),
    ("One.<SEP> Two.\n<sep>Three.", ("One.", "Two.", "Three.")),
    ("<SEP>One.<SEP><SEP>", ("One.",)),
    ("no  reference\ninformation", ()),
    (" <SEP> \n", None),
]
THINKING = [
    ("<think>x</think>True", "True", False),
    ("x</think>\nTrue", "True", False),
    ("<think>x true", "", True),
    ("True", "True", False),
    (
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>True<|return|>",
        "True",
        False,
    ),
    ("<|channel|>analysis<|message|>hm", "", True),
    ("[THINK]a[/THINK]b", "b", False),
]


@pytest.mark.parametrize(("answer", "label"), TYPES)
def test_type(answer: str, label: Label | None) -> None:
    assert read(answer, TYPE) == label


@pytest.mark.parametrize(("answer", "facts"), FACTS)
def test_fact(answer: str, facts: bool | None) -> None:
    assert read(answer, FACT) is facts


@pytest.mark.parametrize(("answer", "truth"), TRUTHS)
def test_truth(answer: str, truth: bool | None) -> None:
    assert read_truth(answer) is truth


@pytest.mark.parametrize(("answer", "passages"), PASSAGES)
def test_passages(answer: str, passages: tuple[str, ...] | None) -> None:
    assert read_passages(answer) == passages


@pytest.mark.parametrize(("answer", "text", "cut"), THINKING)
def test_thinking_is_set_aside(answer: str, text: str, cut: bool) -> None:
    said = set_thinking_aside(answer)
    assert (said.text, said.cut) == (text, cut)


@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "**{}**",
        '"{}"',
        "`{}`",
        "<think>the options: <No Hallucination>, false</think>{}",
        "Answer: {}",
        '{{"label": "{}"}}',
        '```json\n{{"label": "{}"}}\n```',
    ],
)
@pytest.mark.parametrize(
    ("label", "word"),
    [
        (Label.OK, "No Hallucination"),
        (Label.CONTRADICTORY, "Contradictory"),
        (Label.UNVERIFIABLE, "Unverifiable"),
        (Label.CONTRADICTORY, "矛盾"),
        (Label.OK, "无幻觉"),
    ],
)
def test_what_stands_around_a_label_does_not_matter(around: str, label: Label, word: str) -> None:
    text, _ = spoken(Reply(around.format(word)))
    assert text is not None and read(text, TYPE) == label


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply(None, "refused"), "refused"),
        (Reply(""), "an empty answer"),
        (Reply(" \n"), "an empty answer"),
        (Reply("<think>so True", cut=True), "cut inside its thinking"),
        (Reply("<think>so True"), "cut inside its thinking"),
        (Reply("<think>True</think>"), "cut inside its thinking"),
    ],
)
def test_nothing_to_read(reply: Reply, why: str) -> None:
    text, reason = spoken(reply)
    assert text is None and reason.startswith(why)


@given(st.text())
def test_any_answer_is_read_or_not(answer: str) -> None:
    text = set_thinking_aside(answer).text
    assert read(text, FACT) in (True, False, None)
    assert read(text, TYPE) in (None, Label.OK, Label.CONTRADICTORY, Label.UNVERIFIABLE)
    assert read_truth(text) in (True, False, None)
    passages = read_passages(text)
    assert passages is None or all(p and p in text for p in passages)
