"""transformers in this process, on a model of a few thousand weights that is made here; once on a real one."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from factuality_harness.harness.annotation import Label
from factuality_harness.harness.annotators.base import Claim
from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.engines import AnswerCache, Sampling, open_engine
from factuality_harness.harness.engines.local import TransformersEngine, VLLMEngine, model_identity
from factuality_harness.harness.errors import EngineError
from tests.helpers.internlm2 import save_internlm2

TEMPLATE = "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {% endfor %}assistant :"
CHOICES = ("<Yes>", "<No>", "<No way>")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with a byte-level tokenizer; its context is 128 tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<end>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["user : yes assistant : no way"] * 5, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(fast),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=128,
            bos_token_id=None,
            eos_token_id=fast.eos_token_id,
        )
    ).save_pretrained(folder)
    return folder


def say(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def ask(engine: Any, texts: list[str], sampling: Sampling) -> list[Any]:
    pairs = [pair for batch in engine.stream([say(t) for t in texts], sampling) for pair in batch]
    assert sorted(i for i, _ in pairs) == list(range(len(texts)))
    return [reply for _, reply in sorted(pairs, key=lambda pair: pair[0])]


def test_every_conversation_gets_its_answer_whatever_the_batches(tiny: Path) -> None:
    texts = ["a", "yes no yes no", "字", "b " * 9, "", "c"]
    one = ask(TransformersEngine(str(tiny), batch_size=1, device="cpu"), texts, Sampling(6))
    assert all(r.text is not None and r.error == "" for r in one)
    assert len({r.text for r in one}) > 1  # so that mixed-up answers would show
    assert ask(TransformersEngine(str(tiny), batch_size=4, device="cpu"), texts, Sampling(6)) == one


def test_a_prompt_over_the_context_fails_alone(tiny: Path) -> None:
    replies = ask(TransformersEngine(str(tiny), batch_size=2, device="cpu"), ["a", "x" * 200, "b"], Sampling(6))
    assert [r.text is None for r in replies] == [False, True, False]
    assert "exceeds the context of 128" in replies[1].error


def test_guided_answers_are_always_one_of_the_choices(tiny: Path) -> None:
    engine = TransformersEngine(str(tiny), batch_size=3, device="cpu")
    texts = [f"question {i} {'no ' * i}" for i in range(5)]
    greedy = ask(engine, texts, Sampling(24, choices=CHOICES))
    assert {r.text for r in greedy} <= set(CHOICES)
    sampled = [
        r.text
        for seed in range(4)
        for r in ask(engine, texts, Sampling(24, temperature=1.5, seed=seed, choices=CHOICES))
    ]
    assert set(sampled) == set(CHOICES)
    free = ask(engine, texts, Sampling(24))
    assert not {r.text for r in free} & set(CHOICES)


def test_a_seed_repeats_its_sample(tiny: Path) -> None:
    engine = TransformersEngine(str(tiny), device="cpu")
    first, again, other = (
        ask(engine, ["a", "b"], Sampling(12, temperature=1.0, top_k=40, seed=seed)) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_a_changed_model_is_another_model(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / tiny.name
    shutil.copytree(tiny, copy)
    before = model_identity(str(copy))
    assert before.startswith(f"{tiny.name}@")
    assert model_identity(str(copy) + "/") == before
    os.utime(copy / "model.safetensors", ns=(1, 1))
    retrained = model_identity(str(copy))
    assert retrained != before
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"rope_theta": 1.0}))
    assert model_identity(str(copy)) not in (before, retrained)
    assert model_identity("owner/model") == "owner/model"


def test_where_a_model_lies_is_not_in_its_identity(tiny: Path) -> None:
    assert str(tiny.parent) not in TransformersEngine(str(tiny)).identity
    assert TransformersEngine(str(tiny)).identity.startswith("hf#")
    assert VLLMEngine(str(tiny)).identity.startswith("vllm#")


def test_answers_are_stored_under_the_model(tiny: Path, tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "a.sqlite")
    engine = open_engine(f"hf:{tiny}", cache, device="cpu")
    replies = engine.complete([say("a"), say("b")], Sampling(4), keep=lambda i, reply: True)
    assert all(reply.cut for reply in replies)
    again = open_engine(f"hf:{tiny}", cache, device="cpu")
    found = again.complete([say("a"), say("b")], Sampling(4), keep=lambda i, reply: True)
    assert [reply.text for reply in found] == [reply.text for reply in replies]
    assert (again.asked, again.hits) == (0, 2)
    other = open_engine(f"hf:{tiny}", cache, device="cpu", dtype="bfloat16")
    other.complete([say("a")], Sampling(4))
    assert (other.asked, other.hits) == (1, 0)  # another precision is another answer


def test_a_model_that_cannot_be_loaded_is_named_at_the_check(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"transformers cannot load .*empty"):
        TransformersEngine(str(tmp_path / "empty")).check()


def test_code_from_the_hub_is_never_run(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="never run; `factuality model llamafy`"):
        TransformersEngine(str(save_internlm2(tmp_path / "internlm2"))).check()


def test_a_model_without_a_chat_template_is_no_judge(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "base")
    for name in ("chat_template.jinja", "chat_template.json"):
        (tmp_path / "base" / name).unlink(missing_ok=True)
    settings = json.loads((tmp_path / "base" / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (tmp_path / "base" / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(EngineError, match="has no chat template"):
        TransformersEngine(str(tmp_path / "base"), device="cpu").check()


def test_vllm_where_it_is_not_installed_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    # A folder of tests named vllm is no vLLM, but Python would import it.
    monkeypatch.setattr(sys, "path", [p for p in sys.path if not Path(p, "vllm").is_dir()])
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    with pytest.raises(EngineError, match=r"needs vLLM.*factuality-harness\[vllm\].*openai:URL.*hf:MODEL"):
        JudgeSpec.parse("dialogue@vllm:owner/model").open().check()


@pytest.mark.slow
def test_a_real_model_judges_two_sentences(smollm2: Path) -> None:
    document = "Marie Curie was born in Warsaw in 1867. She won two Nobel Prizes."
    judge = JudgeSpec.parse(f"dialogue@hf:{smollm2}").open({"guided": True, "max_tokens": 32, "batch_size": 4})
    judge.check()
    claims = [
        Claim("Who was Marie Curie?", "Marie Curie was born in Warsaw in 1867.", document, "en"),
        Claim("Who was Marie Curie?", "She was born in Paris in 1900.", document, "en"),
    ]
    found = judge.judge(claims)
    assert len(found) == 2
    assert all(j.label != Label.UNPARSED for j in found), found
    assert judge.spec.startswith("dialogue@hf#smollm2-135m@")
    again = JudgeSpec.parse(f"dialogue@hf:{smollm2}").open({"guided": True, "max_tokens": 32, "batch_size": 4})
    assert again.judge(claims) == found
    assert again.engine.asked == 0  # type: ignore[attr-defined]
