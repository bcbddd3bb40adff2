"""llama.cpp's own server over HTTP, with SmolLM2-135M-Instruct in 4 bits, on the CPU.

A model this small is a poor judge; what is tested is the way to it and back, and what this server does differently.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from factuality_harness.harness.annotation import Label, load_annotations
from factuality_harness.harness.annotators import dialogue
from factuality_harness.harness.annotators.base import Claim
from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.engines import AnswerCache
from factuality_harness.harness.errors import EngineError
from factuality_harness.harness.io.models import fetch_gguf
from tests.helpers.cli import command
from tests.helpers.llama_cpp import KEY, MODEL, LlamaServer
from tests.helpers.paths import ROOT

pytestmark = [pytest.mark.llama_cpp, pytest.mark.timeout(300)]
LEARNED = ["with response_format instead of structured_outputs"]
DOCUMENT = "France is a country in western Europe. Its capital and largest city is Paris."
SENTENCES = ("Paris is the capital of France.", "France is a country in Asia.", "How nice!")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    gguf = fetch_gguf("smollm2-135m", ROOT / "models" / "smollm2-135m-gguf")
    server = LlamaServer(gguf, tmp_path_factory.mktemp("llama_cpp") / "server.log")
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_API_KEY", KEY)


def opened(name: str, url: str, folder: Path, **options: Any) -> Any:
    return JudgeSpec.parse(f"{name}@openai:{url}#{MODEL}").open(options, AnswerCache(folder / "cache.sqlite"))


def claims(*sentences: str, document: str = DOCUMENT) -> list[Claim]:
    return [Claim("What is France?", sentence, document, "en") for sentence in sentences]


def test_three_turns_constrained_in_the_form_that_this_server_takes(
    server: LlamaServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Left to itself this judge finds no facts anywhere; take the first turn's choice from it.
    monkeypatch.setitem(dialogue.CHOICES["1_fact"], "en", ("<Facts Present>",))
    judge = opened("dialogue", server.url, tmp_path, label_tokens=32, max_tokens=32)
    judge.check()
    judgements = judge.judge(claims(*SENTENCES))
    assert {j.label for j in judgements} <= {Label.OK, Label.CONTRADICTORY, Label.UNVERIFIABLE}, judgements
    assert any(j.evidence for j in judgements)
    usage = judge.engine.usage()
    assert usage["adapted"] == LEARNED
    assert usage["prompt_tokens"] > usage["cached_tokens"] > 0  # one document, read once
    assert usage["completion_tokens"] > 0


def test_a_sheet_is_held_to_its_schema(server: LlamaServer, tmp_path: Path) -> None:
    judge = opened("sheet", server.url, tmp_path, quotes=False, max_tokens=192, line_tokens=64)
    judgements = judge.judge(claims(*SENTENCES))
    assert len(judgements) == len(SENTENCES)
    assert all(j.label is not Label.UNPARSED or j.detail for j in judgements)
    usage = judge.engine.usage()
    assert usage["adapted"] == LEARNED
    assert usage["completion_tokens"] > 0


def test_the_command_counts_every_sentence(
    server: LlamaServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "questions.jsonl").write_text(json.dumps({"question": "What is France?", "document": DOCUMENT}) + "\n")
    row = {"question": "What is France?", "response": " ".join(SENTENCES)}
    (tmp_path / "responses.jsonl").write_text(json.dumps(row) + "\n")
    judge, out = f"dialogue@openai:{server.url}#{MODEL}", tmp_path / "annotations.jsonl"
    arguments = [tmp_path / "responses.jsonl", "--questions", tmp_path / "questions.jsonl", "--judge", judge]
    options = json.dumps({"stop_after": 0, "label_tokens": 32, "max_tokens": 32})
    code = command("annotate")([*arguments, "--judge-args", options, "--out", out])
    (line,) = out.read_text().splitlines()
    labels = [j.label for j in load_annotations(line)[0].judgements]
    assert len(labels) == len(SENTENCES)
    assert code == (2 if Label.UNPARSED in labels else 0), capsys.readouterr().err


def test_a_prompt_that_does_not_fit_fails_alone_with_the_servers_words(server: LlamaServer, tmp_path: Path) -> None:
    long = claims(SENTENCES[0], document="Paris is large. " * 2000)
    short, refused = opened("dialogue", server.url, tmp_path, label_tokens=32).judge([*claims(SENTENCES[0]), *long])
    assert short.label is not Label.UNPARSED
    assert refused.label is Label.UNPARSED
    assert "context size" in refused.detail


@pytest.mark.parametrize(
    ("path", "model", "key", "words"),
    [
        ("/v1/chat/completions", MODEL, KEY, "write {url}#smollm2"),
        ("/api/v1", MODEL, KEY, "write {url}#smollm2"),
        ("/v2", MODEL, KEY, "write {url}#smollm2"),
        ("/v1", "gpt-5", KEY, "does not serve 'gpt-5'; it serves: smollm2"),
        ("/v1", MODEL, "sk-wrong", "set JUDGE_API_KEY or OPENAI_API_KEY"),
    ],
)
def test_what_is_wrong_shows_before_generation(
    path: str,
    model: str,
    key: str,
    words: str,
    server: LlamaServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JUDGE_API_KEY", key)
    url = server.url.removesuffix("/v1") + path
    judge = JudgeSpec.parse(f"dialogue@openai:{url}#{model}").open({}, AnswerCache(tmp_path / "cache.sqlite"))
    with pytest.raises(EngineError) as caught:
        judge.check()
    assert words.format(url=server.url) in str(caught.value)
