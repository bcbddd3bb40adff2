"""The ANAH-v2 annotator: upstream's texts in upstream's order, the same protocol around them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from factuality_harness.harness.annotation import Judgement, Label
from factuality_harness.harness.annotators.anah_v2 import SYSTEM, AnahV2Annotator
from factuality_harness.harness.annotators.base import Claim
from factuality_harness.harness.annotators.dialogue import DialogueAnnotator
from factuality_harness.harness.annotators.sheet import SheetAnnotator
from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.engines import AnswerCache, CachedEngine, Conversation, Reply, Sampling
from factuality_harness.harness.engines.base import Batch
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.prompts.anah_v2 import parse_prompts
from tests.helpers import upstream_shape

UPSTREAM = parse_prompts(upstream_shape.SOURCE)


class Scripted:
    """Answers by the opening words of the last message, whatever the sentence."""

    settings: ClassVar[dict[str, Any]] = {}
    remote = False
    identity = "scripted#1"

    def __init__(self, **answers: str) -> None:
        self.answers = answers
        self.asked: list[Conversation] = []

    def check(self) -> None:
        """Nothing can be missing."""

    def stream(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[Batch]:
        for i, conversation in enumerate(conversations):
            self.asked.append([dict(m) for m in conversation])
            last = conversation[-1]["content"].strip()
            turn = next(
                (n for n, opening in {"one": "Stage one甲", "two": "Stage two乙", "three": "Stage three丙"}.items()
                 if last[:1] == opening[-1] or last.startswith(opening[:-1])),
                "again",
            )  # fmt: skip
            yield [(i, Reply(self.answers[turn]))]


def annotator(tmp_path: Path, engine: Scripted, **options: Any) -> AnahV2Annotator:
    cached = CachedEngine(engine, AnswerCache(tmp_path / "answers.sqlite"))
    return AnahV2Annotator(cached, prompt_file=upstream_shape.write(tmp_path), any_checksum=True, **options)


CLAIMS = {
    "en": Claim("Who?", "She was born in 1901.", "Born in 1901. Moved in 1920.", "en"),
    "zh": Claim("谁？", "她生于1901年。", "生于1901年。1920年搬家。", "zh"),
}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_three_turns_of_upstream_text_make_one_conversation(tmp_path: Path, language: str) -> None:
    claim = CLAIMS[language]
    zh = language == "zh"
    engine = Scripted(
        one="<有事实>" if zh else "<Facts Present>",
        two="Born in 1901.<SEP>Moved in 1920.",
        three="<无幻觉>" if zh else "<No Hallucination>",
    )
    judge = annotator(tmp_path, engine)
    assert judge.judge([claim]) == [Judgement(Label.OK, ("Born in 1901.", "Moved in 1920."))]
    texts = {"question": claim.question, "annotation": claim.sentence}
    assert engine.asked[-1] == [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": UPSTREAM.render("fact_check_prompt", language, **texts)},
        {"role": "assistant", "content": engine.answers["one"]},
        {
            "role": "user",
            "content": UPSTREAM.render("reference_check_prompt", language, reference=claim.document, **texts),
        },
        {"role": "assistant", "content": engine.answers["two"]},
        {
            "role": "user",
            "content": UPSTREAM.render(
                "hallucination_check_prompt", language, reference=engine.answers["two"], **texts
            ),
        },
    ]
    assert judge.spec == "anah_v2@scripted#1"


@pytest.mark.parametrize(
    ("answers", "label", "requests"),
    [
        ({"one": "<No Facts>"}, Label.NOFACT, 1),
        ({"one": "<Facts Present>", "two": "<No Reference Information>"}, Label.UNVERIFIABLE, 2),
        ({"one": "<Facts Present>", "two": "It.", "three": "<Contradictory>"}, Label.CONTRADICTORY, 3),
        ({"one": "<Facts Present>", "two": "It.", "three": "<Unverifiable>"}, Label.UNVERIFIABLE, 3),
        ({"one": "eh", "again": "<No Facts>"}, Label.NOFACT, 2),
        ({"one": "eh", "again": "meh"}, Label.UNPARSED, 2),
    ],
)
def test_labels(tmp_path: Path, answers: dict[str, str], label: Label, requests: int) -> None:
    engine = Scripted(**answers)
    assert annotator(tmp_path, engine).judge([CLAIMS["en"]])[0].label == label
    assert len(engine.asked) == requests


def test_the_system_turn_is_the_references_byte_for_byte() -> None:
    # Of the string that lmdeploy's source gives InternLMChat7B as its meta_instruction, from 0.2.1 to 0.9.2.
    assert hashlib.sha256(SYSTEM.encode()).hexdigest() == (
        "5e620617b5f3514ddad14cc3b91859610de70779bcb9f4e93cd552a39c74dc22"
    )


def test_the_system_turn_can_be_another_or_none_and_is_part_of_the_key(tmp_path: Path) -> None:
    engine = Scripted(one="<No Facts>")
    openings = []
    for options in ({}, {}, {"system": ""}, {"system": "Be brief."}):
        annotator(tmp_path, engine, **options).judge([CLAIMS["en"]])
        openings.append(engine.asked[-1][0])
    assert len(engine.asked) == 3
    assert openings[0] == openings[1] == {"role": "system", "content": SYSTEM}
    assert openings[2]["role"] == "user"
    assert openings[3] == {"role": "system", "content": "Be brief."}


def test_other_judges_send_no_system_turn_of_their_own() -> None:
    for kind in (DialogueAnnotator, SheetAnnotator):
        assert kind.OPTIONS().system == ""


def test_the_prompt_file_comes_from_the_judges_options(tmp_path: Path) -> None:
    spec = "anah_v2@openai:http://127.0.0.1:9/v1#m"
    file = upstream_shape.write(tmp_path)
    judge = JudgeSpec.parse(spec).open({"prompt_file": str(file), "any_checksum": True, "concurrency": 2})
    assert judge.spec == "anah_v2@openai#m"
    with pytest.raises(HarnessError, match="not the pinned"):
        JudgeSpec.parse(spec).open({"prompt_file": str(file)})
    with pytest.raises(HarnessError, match="no such file"):
        JudgeSpec.parse(spec).open({"prompt_file": str(tmp_path / "none.py")})
