"""Atomic facts: demonstrations, prompts, parsing, second tries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factuality_harness.harness.engines import AnswerCache, CachedEngine
from factuality_harness.harness.errors import EngineError, HarnessError
from factuality_harness.harness.factscore.facts import (
    Demonstration,
    Demonstrations,
    Extraction,
    FactExtractor,
    load_demonstrations,
    own_demonstrations,
    parse_facts,
)
from tests.helpers.rule_engine import RuleEngine


@pytest.fixture
def engine(tmp_path: Path) -> CachedEngine:
    return CachedEngine(RuleEngine(), AnswerCache(tmp_path / "answers.sqlite"))


@pytest.mark.parametrize(
    ("answer", "facts"),
    [
        ("- One.\n- Two.", ("One.", "Two.")),
        ("Sure! Here are the facts:\n\n  - One.  \n\nI hope this helps.", ("One.",)),
        ("* One.\n• Two.\n1. Three.\n12) Four.\n(3) Five.", ("One.", "Two.", "Three.", "Four.", "Five.")),
        ("- One.\n- One.\n- Two.", ("One.", "Two.")),
        ("- 他生于1952年。\n２、他是诗人。", ("他生于1952年。", "他是诗人。")),
        ("1、他生于1952年。", ("他生于1952年。",)),
        ("- 3.5 million copies were sold.", ("3.5 million copies were sold.",)),
        ("No facts", ()),
        ("no facts.", ()),
        ("- No facts", ()),
        ("无事实", ()),
        ("The sentence is an offer of help.\nNo facts", ()),
        ("- No facts\n- One.", ("One.",)),
        ("", None),
        ("I cannot help with that.", None),
        ("- \n-\n- …", None),
    ],
)
def test_parse(answer: str, facts: tuple[str, ...] | None) -> None:
    assert parse_facts(answer) == facts


@given(st.text())
def test_any_text_parses_or_not(answer: str) -> None:
    facts = parse_facts(answer)
    assert facts is None or all(f and f == f.strip() and f in answer for f in facts)


@given(st.lists(st.text(alphabet="abc 12", min_size=1).map(str.strip).filter(bool), unique=True, min_size=1))
def test_written_facts_are_read_back(facts: list[str]) -> None:
    assert parse_facts("\n".join(f"- {f}" for f in facts)) == tuple(facts)


@pytest.mark.parametrize(("language", "least"), [("en", 14), ("zh", 10)])
def test_own_demonstrations(language: str, least: int) -> None:
    examples = own_demonstrations(language).examples
    assert len(examples) >= least
    assert len({d.sentence for d in examples}) == len(examples)
    assert any(not d.facts for d in examples[:7])  # the fixed ones show a sentence without facts
    for d in examples:
        assert parse_facts("\n".join(f"- {f}" for f in d.facts) or "No facts") == d.facts


def test_conversation_shows_seven_fixed_and_the_nearest(engine: CachedEngine) -> None:
    examples = [Demonstration(f"fixed {i}", (f"f{i}",)) for i in range(7)]
    examples += [Demonstration("a painter in Rome", ("p",)), Demonstration("a sailor at sea", ())]
    extractor = FactExtractor(engine, Demonstrations(examples))
    messages = extractor.conversation("He was a sailor {from} Oslo.", "en")
    assert [m["role"] for m in messages] == ["user", "assistant"] * 8 + ["user"]
    assert [m["content"][-7:] for m in messages[:14:2]] == [f"fixed {i}" for i in range(7)]
    assert messages[14]["content"] == "Sentence: a sailor at sea"
    assert messages[15]["content"] == "No facts"
    assert messages[13]["content"] == "- f6"
    assert messages[16]["content"] == "Sentence: He was a sailor {from} Oslo."
    assert "begin the line with" in messages[0]["content"]
    assert "begin the line with" not in messages[2]["content"]
    # All sentences share the fixed turns, word for word.
    assert extractor.conversation("A painter.", "en")[:14] == messages[:14]
    assert extractor.conversation("A painter.", "en")[14] != messages[14]


def test_few_demonstrations_are_all_shown(engine: CachedEngine) -> None:
    extractor = FactExtractor(engine, Demonstrations([Demonstration("x", ("y",))]))
    assert len(extractor.conversation("z", "en")) == 3


def test_chinese_prompts(engine: CachedEngine) -> None:
    messages = FactExtractor(engine).conversation("他生于上海。", "zh")
    assert messages[-1]["content"] == "句子：他生于上海。"
    assert "无事实" in {m["content"] for m in messages}
    with pytest.raises(HarnessError, match="'fr' is not supported"):
        FactExtractor(engine).conversation("Il est né.", "fr")


def test_demonstrations_from_files(tmp_path: Path) -> None:
    original = {f"Sentence {i}.": [f"Fact {i}."] for i in range(9)}
    (tmp_path / "demons.json").write_text(json.dumps(original))
    rows = "".join(json.dumps({"sentence": s, "facts": f}) + "\n" for s, f in original.items())
    (tmp_path / "demos.jsonl").write_text(rows)
    (tmp_path / "one.jsonl").write_text(json.dumps({"sentence": "Sentence 0.", "facts": ["Fact 0."]}))
    expected = tuple(Demonstration(s, tuple(f)) for s, f in original.items())
    assert load_demonstrations(tmp_path / "demons.json").examples == expected
    assert load_demonstrations(tmp_path / "demons.json").name == "demons.json"
    assert load_demonstrations(tmp_path / "demos.jsonl").examples == expected
    assert load_demonstrations(tmp_path / "one.jsonl").examples == expected[:1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"A.": "not a list"}', "entry 1: expected a sentence and a list"),
        ('{"sentence": "A.", "facts": [1]}', "row 1: expected a sentence and a list"),
        ('{"sentence": "A."}', "row 1: missing facts"),
        ("[1]", "row 1: expected an object"),
        ("{}", "row 1: missing sentence"),
        ("", "no demonstrations"),
        ("nonsense", "row 1: not valid JSON"),
    ],
)
def test_bad_demonstrations(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(HarnessError, match=message):
        load_demonstrations(tmp_path / "d.json")


def test_extraction(engine: CachedEngine) -> None:
    sentences = [
        ("Ada was a poet and a scientist.", "en"),
        ("STUTTER and Ada.", "en"),
        ("MUMBLE.", "en"),
        ("I hope this helps.", "en"),
        ("TOOLONG.", "en"),
        ("她生于伦敦，卒于巴黎。", "zh"),
    ]
    done: list[int] = []
    results = FactExtractor(engine).extract(sentences, done.append)
    assert results[0] == Extraction(("Ada was a poet.", "a scientist."))
    assert results[1] == Extraction(("STUTTER.", "Ada."))
    assert results[2].facts is None
    assert results[2].detail == "no list of facts in the answer: 'Let me think about that.'"
    assert results[3] == Extraction(())
    assert results[4] == Extraction(None, "prompt too long")
    assert results[5] == Extraction(("她生于伦敦.", "卒于巴黎."))
    assert sum(done) == len(sentences)
    assert engine.asked == 6 + 2  # two second tries
    assert FactExtractor(engine).extract(sentences)[:4] == results[:4]
    assert engine.asked == 8 + 4  # what was of no use is asked again: MUMBLE twice, STUTTER's first answer, TOOLONG


def test_nothing_to_extract(engine: CachedEngine) -> None:
    assert FactExtractor(engine).extract([]) == []


def test_engine_failure_is_raised_and_answers_are_kept(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "answers.sqlite")
    broken = CachedEngine(RuleEngine(fail_after=4), cache)
    sentences = [(f"Ada wrote book {i}.", "en") for i in range(6)]
    with pytest.raises(EngineError):
        FactExtractor(broken).extract(sentences)
    whole = CachedEngine(RuleEngine(), cache)
    assert all(e.facts for e in FactExtractor(whole).extract(sentences))
    assert whole.asked == 2
