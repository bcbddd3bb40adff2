"""All facts of a response against one set of passages, in one request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from factuality_harness.harness.annotation import Label
from factuality_harness.harness.annotators.base import Claim
from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.dry_run import Calls, DryRun
from factuality_harness.harness.engines import AnswerCache
from factuality_harness.harness.errors import EngineError
from factuality_harness.harness.factscore.evaluator import FactScorer, open_scorer
from factuality_harness.harness.factscore.knowledge import Passage, open_knowledge
from factuality_harness.harness.factscore.retrieval import union
from factuality_harness.harness.factscore.scored import TopicResponse
from factuality_harness.harness.words import tokens_about
from tests.helpers.cli import command
from tests.helpers.judge_server import JudgeServer
from tests.helpers.rule_engine import RuleEngine

PAGES = {  # a passage is 256 words
    "Ada": [
        "Ada was born in London in 1815" + " and so on" * 83,
        "Ada died in 1852" + " and so on" * 84,
        "Byron had a dog",
    ],
    "Bob": ["Bob was born in Oslo."],
}
LONG = "Ada was born in London, Ada died in 1852 and Ada sailed to Peru. I hope this helps!"
ITEMS = [
    TopicResponse("Ada", "Tell me a bio of Ada.", LONG),
    TopicResponse("Bob", "Tell me a bio of Bob.", "Bob was born in Oslo and Bob is VAGUE."),
    TopicResponse("Ada", "Tell me a bio of Ada.", "Ada died in 1852."),
]


def answer(messages: Sequence[dict[str, str]]) -> str | None:
    """Facts by rule; verdicts as JSON by number, without an entry for what is vague."""
    content = messages[-1]["content"]
    if "statements:" not in content:
        return RuleEngine().answer(messages).text
    passages, _, listed = content.partition("\n\n---\n")
    facts = re.findall(r"^(\d+)\. (.*)$", listed.rpartition("statements:\n")[2], re.MULTILINE)
    return json.dumps({n: RuleEngine.verdict(fact, passages) for n, fact in facts if "VAGUE" not in fact})


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer(answer) as server:
        yield server


def scorer(
    server: JudgeServer, tmp_path: Path, judge: str = "factscore_sheet", dry: DryRun | None = None, **options: Any
) -> FactScorer:
    return open_scorer(
        f"{judge}@openai:{server.url}#rules",
        open_knowledge(PAGES),
        k=1,
        store=AnswerCache(tmp_path / "a.sqlite"),
        options=options,
        dry=dry,
        progress=False,
    )


def asked_for_verdicts(server: JudgeServer) -> list[str]:
    return [text for r in server.requests if "statements:" in (text := r["messages"][-1]["content"])]


def test_a_request_a_response(server: JudgeServer, tmp_path: Path) -> None:
    found = scorer(server, tmp_path, guided=False)
    results = found.score(ITEMS)
    assert [[f.supported for f in r.facts] for r in results] == [[True, True, False], [True, None], [True]]
    assert [f.undecided for f in results[1].facts] == [False, True]
    assert "no line for it" in results[1].facts[1].detail
    assert {r.judge for r in results} == {"factscore_sheet@openai#rules"}
    assert len(asked_for_verdicts(server)) == 4  # and the vague fact alone
    shown = {f.passages for f in results[0].facts}
    assert shown == {(0, 1)}  # what was found for any of them
    assert results[2].facts[0].passages == (1,)
    assert found.settings()["passage_tokens"] == 4096
    assert found.settings()["reading"] == "stated"


def test_the_dry_run_counts_the_requests(server: JudgeServer, tmp_path: Path) -> None:
    def forecast(items: list[TopicResponse]) -> Calls:
        dry = DryRun()
        scorer(server, tmp_path, dry=dry).score(items)
        return next(calls for calls in dry.calls if calls.part == "judge")

    before = forecast(ITEMS)
    assert (before.requests, before.from_cache, before.to_ask) == (3, 0, 3)
    assert not server.requests
    sound = [ITEMS[0], ITEMS[2]]
    scorer(server, tmp_path).score(sound)
    after = forecast(sound)
    assert (after.requests, after.from_cache, after.to_ask) == (2, 2, 0)
    assert after.prompt_tokens == after.completion_tokens == 0


def test_the_union_of_passages_within_a_budget() -> None:
    page = [Passage("T", "x" * 40)] * 6
    ranks = [(4, 1), (4, 3), (0, 5)]
    assert union(ranks, page, 1000) == (0, 1, 3, 4, 5)
    assert union(ranks, page, 20) == (0, 4)  # the best of every fact go first
    assert union(ranks, page, 1) == (4,)
    assert union([], page, 9) == union([()], page, 9) == ()
    assert tokens_about("abcd字字") == 3


def test_a_sentence_sheet_judges_whole_responses_in_factscore_too(tmp_path: Path) -> None:
    with JudgeServer(lambda messages: '1. <No Hallucination> "Ada"\n2. <No Facts>') as server:
        found = scorer(server, tmp_path, "sheet", guided=False)
        (result,) = found.score([TopicResponse("Ada", "Tell me a bio of Ada.", "Ada died in 1852. How nice!")])
        assert [s.label() for s in result.sentences] == [Label.OK, Label.NOFACT]
        assert len(server.requests) == 1


def test_the_trial_and_stopping(tmp_path: Path) -> None:
    with JudgeServer(lambda messages: "Perhaps.") as server:
        judge = JudgeSpec.parse(f"factscore_sheet@openai:{server.url}#rules")
        with pytest.raises(EngineError, match="was tried on two plain facts and failed: no line for it: 'Perhaps"):
            judge.open(facts=True).check()
        many = [Claim(f"Q{n}?", "A. B.", "D.", "en", n) for n in range(30)]
        with pytest.raises(EngineError, match="failed for one reason"):
            judge.open({"concurrency": 1}, AnswerCache(tmp_path / "a.sqlite"), facts=True).judge(many)
        assert len(server.requests) < 30


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("1. True\n2. False", [Label.OK, Label.UNVERIFIABLE]),
        ("2) **False**\n1) **True**", [Label.OK, Label.UNVERIFIABLE]),
        ("1. 正确\n2. 错误", [Label.OK, Label.UNVERIFIABLE]),
        ('{"1": true, "2": "not true"}', [Label.OK, Label.UNVERIFIABLE]),
        ("1. True\n1. False\n2. False", [Label.UNPARSED, Label.UNVERIFIABLE]),
        ("| 1 | True |\n| 2 | It cannot be told |", [Label.OK, Label.UNPARSED]),
    ],
)
def test_lines_of_verdicts(tmp_path: Path, text: str, labels: list[Label]) -> None:
    def said(messages: Sequence[dict[str, str]]) -> str:
        return text if "2. " in messages[-1]["content"].rpartition(":\n")[2] else "Perhaps."

    with JudgeServer(said) as server:
        judge = JudgeSpec.parse(f"factscore_sheet@openai:{server.url}#rules")
        opened = judge.open(store=AnswerCache(tmp_path / "a.sqlite"), facts=True)
        claims = [Claim("Q?", s, "D.", "en") for s in ("Ada was born.", "Ada died.")]
        assert [j.label for j in opened.judge(claims)] == labels


def test_score_facts_and_judge_card(
    server: JudgeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    pages, answers, labels = (tmp_path / name for name in ("pages.jsonl", "answers.jsonl", "labels.jsonl"))
    pages.write_text("".join(json.dumps({"title": t, "text": " ".join(p)}) + "\n" for t, p in PAGES.items()))
    answers.write_text(json.dumps({"topic": "Ada", "output": LONG}) + "\n")
    judge = ["--judge", f"factscore_sheet@openai:{server.url}#rules"]
    assert command("score-facts")(["--responses", answers, "--knowledge", pages, *judge]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["facts"], said["supported"], said["passage_tokens"]) == (3, 2, 4096)
    rows = [
        {"topic": "Ada", "question": "Who is Ada?", "document": "Ada died in 1852.", "language": "en"}
        | {"sentence": sentence, "label": label}
        for sentence, label in (("Ada died in 1852.", "S"), ("Ada died in 1900.", "NS"))
    ]
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = len(asked_for_verdicts(server))
    assert command("judge-card")(["--labels", labels, *judge, "--out", tmp_path / "card"]) == 0
    card = json.loads((tmp_path / "card" / "card.json").read_text())
    assert card["judge"].startswith("factscore_sheet@openai")
    assert len(asked_for_verdicts(server)) == before + 1
