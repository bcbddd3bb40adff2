"""Tiny models of every family: tokenizers that lose nothing, templates of its shape, weights that are saved whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from factuality_harness.harness.data.anah import load_mini
from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.rehearsal.families import family_of, make_model

QUESTIONS = load_mini("all")
TEXTS = [q.document for q in QUESTIONS[::4]] + [q.question for q in QUESTIONS[::4]]
UNSEEN = "Zwölf 😀 «naïve» 鑫淼\n\tend "
MODELS = {
    "meta-llama/Llama-3.1-8B-Instruct": (
        "llama",
        "TokenizersBackend",
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>",
    ),
    "out/models/internlm2-chat-7b": ("llama", "LlamaTokenizer", "<|im_start|>user\nHi<|im_end|>\n"),
    "Qwen/Qwen2-7B-Instruct": ("qwen2", "Qwen2Tokenizer", "<|im_start|>user\nHi<|im_end|>\n"),
    "google/gemma-2-9b-it": ("gemma2", "GemmaTokenizer", "<start_of_turn>user\nHi<end_of_turn>\n"),
    "01-ai/Yi-1.5-6B-Chat": ("llama", "LlamaTokenizer", "<|im_start|>user\nHi<|im_end|>\n"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_tiny_model_is_of_its_family_and_speaks(name: str, tmp_path: Path) -> None:
    kind, tokenizer_kind, turn = MODELS[name]
    make_model(name, tmp_path, TEXTS)
    tokenizer, model = AutoTokenizer.from_pretrained(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path)
    assert (model.config.model_type, type(tokenizer).__name__) == (kind, tokenizer_kind)
    assert tokenizer.is_fast and model.dtype == torch.bfloat16 and model.num_parameters() < 100_000
    for text in [*TEXTS, UNSEEN]:
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert turn in prompt and tokenizer.decode(tokenizer(prompt, add_special_tokens=False).input_ids) == prompt
    asked = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    torch.manual_seed(0)
    out = model.generate(
        **asked, do_sample=True, temperature=1.0, max_new_tokens=24, num_return_sequences=8, pad_token_id=0
    )
    answers = {tokenizer.decode(row[asked.input_ids.shape[1] :], skip_special_tokens=True) for row in out}
    assert len(answers) > 4


def test_the_same_name_gives_the_same_weights_and_another_others(tmp_path: Path) -> None:
    for folder, name in (("a", "Yi-1.5-6B-Chat"), ("b", "Yi-1.5-6B-Chat"), ("c", "Yi-1.5-9B-Chat")):
        make_model(name, tmp_path / folder, TEXTS[:8])
    one, same, other = ((tmp_path / f / "model.safetensors").read_bytes() for f in "abc")
    assert one == same != other


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(
        HarnessError, match=r"mistralai/Mistral-7B: of a family that has no tiny model yet; known are Llama"
    ):
        family_of("mistralai/Mistral-7B")
