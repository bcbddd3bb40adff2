"""The scripted judge is read by the real judges, in both languages, and gives every label."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from factuality_harness.harness.annotators.base import Claim
from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.embeddings.models import open_embedding
from factuality_harness.harness.engines import AnswerCache
from factuality_harness.training.rehearsal.data import Data, write_data
from factuality_harness.training.rehearsal.judge import ScriptedJudge


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return write_data(tmp_path)


@pytest.mark.parametrize("judge", ["anah_v2", "dialogue", "factscore"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_it_is_understood(judge: str, language: str, data: Data, tmp_path: Path) -> None:
    question, document = (
        ("What is it?", "It is a river. It flows.")
        if language == "en"
        else ("这是什么？", "这是一条河流。它流向东方。")
    )
    sentence = "Sentence number {}." if language == "en" else "这是第{}句话。"
    claims = [Claim(question, sentence.format(n), document, language) for n in range(40)]
    own = {"prompt_file": str(data.prompts), "any_checksum": True} if judge == "anah_v2" else {}
    with ScriptedJudge() as server:
        spec = JudgeSpec.parse(f"{judge}@openai:{server.stand_for('opencompass/anah-v2')}")
        opened = spec.open(own, AnswerCache(tmp_path / "answers.sqlite"), facts=True)
        opened.check()
        labels = Counter(judgement.label.value for judgement in opened.judge(claims))
        assert server.requests >= len(claims)
    kinds = {"ok", "unverifiable"} if judge == "factscore" else {"ok", "nofact", "contradictory", "unverifiable"}
    assert set(labels) == kinds


def test_it_embeds(tmp_path: Path) -> None:
    with ScriptedJudge() as server:
        embedding = open_embedding(
            f"openai:{server.stand_for('text-embedding-3-large')}", cache=AnswerCache(tmp_path / "answers.sqlite")
        )
        one, other, same = embedding.embed(["a", "b", "a"])
    assert (one == same).all() and (one != other).any()
