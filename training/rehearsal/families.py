"""Families of models: architecture, tokenizer and chat template of each, in miniature and with random weights."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.write import write_json
from factuality_harness.training.rehearsal.vocabulary import byte_level, pieces

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WITH_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}"
    "{% endif %}" + CHATML
)
LLAMA3 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] | trim %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
    "Today Date: 26 Jul 2024\n\n' + system + '<|eot_id|>' }}"
    "{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' "
    "+ message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SPREAD = 2.0  # standard deviation of the scores that a random network gives the next token
WORD, STOP, END = 3.0, 6.4, 4.6  # what is added for whole words, full stops and what ends an answer


@dataclass(frozen=True, slots=True)
class Family:
    """names: the models it stands for. config: module and class of transformers. settings: what tells its configuration
    from the class's own. specials: special tokens in their order; bos, eos and pad are taken from `tokens`.

    make: from texts, special tokens and `tokens` to a tokenizer. stops: tokens that end an answer.
    """

    title: str
    names: str
    config: str
    template: str
    specials: tuple[str, ...]
    stops: tuple[str, ...]
    tokens: dict[str, str]
    make: Callable[..., Any]
    tokenizer: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


_ROPE3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_IM = ("<|im_start|>", "<|im_end|>")
FAMILIES = (
    Family(
        "Llama 3.1",
        r"llama-?3",
        "LlamaConfig",
        LLAMA3,
        (
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eom_id|>",
            "<|eot_id|>",
        ),
        ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},  # and no padding token
        byte_level,
        settings={"num_key_value_heads": 2, "max_position_embeddings": 131072, "rope_parameters": _ROPE3},
    ),
    Family(
        "InternLM2 as plain Llama",
        r"internlm-?2|anah-v2",
        "LlamaConfig",
        "{{ bos_token }}" + CHATML,
        ("<unk>", "<s>", "</s>", *_IM),
        ("</s>", "<|im_end|>"),
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"},
        pieces,
        tokenizer="LlamaTokenizer",
        settings={
            "num_key_value_heads": 2,
            "max_position_embeddings": 32768,
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1000000.0, "factor": 2.0},
        },
    ),
    Family(
        "Qwen2",
        r"qwen-?2",
        "Qwen2Config",
        WITH_SYSTEM,
        ("<|endoftext|>", *_IM),
        ("<|im_end|>", "<|endoftext|>"),
        {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        byte_level,
        tokenizer="Qwen2Tokenizer",
        settings={"num_key_value_heads": 2, "max_position_embeddings": 32768},
    ),
    Family(
        "Gemma 2",
        r"gemma-?2",
        "Gemma2Config",
        GEMMA,
        ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"),
        ("<eos>", "<end_of_turn>"),
        {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"},
        pieces,
        tokenizer="GemmaTokenizer",
        settings={"num_key_value_heads": 2, "head_dim": 16, "query_pre_attn_scalar": 16},
    ),
    Family(
        "Yi 1.5 (Llama)",
        r"\byi-",
        "LlamaConfig",
        CHATML,
        ("<unk>", "<|startoftext|>", "<|endoftext|>", *_IM),
        ("<|im_end|>",),
        {"bos_token": "<|startoftext|>", "eos_token": "<|im_end|>", "unk_token": "<unk>", "pad_token": "<unk>"},
        pieces,
        tokenizer="LlamaTokenizer",
        settings={"num_key_value_heads": 2, "max_position_embeddings": 4096},
    ),
)


def family_of(model: str) -> Family:
    """The family of a model by its name. Raises HarnessError naming the families that are known."""
    name = Path(model).name.lower()
    for family in FAMILIES:
        if re.search(family.names, name):
            return family
    known = ", ".join(family.title for family in FAMILIES)
    raise HarnessError(f"{model}: of a family that has no tiny model yet; known are {known} (by the model's name)")


def make_model(model: str, folder: Path, texts: Sequence[str]) -> Family:
    """Write a tiny random model of the family of `model` as a Hugging Face folder; its weights follow from its name.

    texts: what the tokenizer's words are taken from. Raises HarnessError for an unknown family.
    """
    import torch
    import transformers

    family = family_of(model)
    tokenizer = family.make(texts, family.specials, family.tokens, family.tokenizer)
    tokenizer.chat_template = family.template
    ids = {name.replace("_token", "_token_id"): tokenizer.convert_tokens_to_ids(t) for name, t in family.tokens.items()}
    ids.pop("unk_token_id", None)
    none = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    stops = tokenizer.convert_tokens_to_ids(list(family.stops))
    config = getattr(transformers, family.config)(
        **{
            "vocab_size": len(tokenizer),
            **SIZE,
            "head_dim": 8,
            "initializer_range": 0.1,
            **none,
            **ids,
            **family.settings,
        }
    )
    torch.manual_seed(int(hashlib.sha256(model.encode()).hexdigest()[:8], 16))
    network: Any = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    _speak(network, tokenizer, stops)
    network.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    answers = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, **ids, "eos_token_id": stops}
    write_json(folder / "generation_config.json", answers, indent=1)
    return family


def _speak(network: Any, tokenizer: Any, stops: Sequence[int]) -> None:
    """Let random answers hold words, sentences and an end, greedy ones too: one dimension, the same for every token
    that is read, is a bias of the tokens that are written."""
    import torch

    bias = torch.zeros(len(tokenizer))
    for token, number in tokenizer.get_vocab().items():
        if token[0] in "Ġ▁" and token[1:].isalpha():
            bias[number] = WORD
        elif token == ".":
            bias[number] = STOP
    bias[list(stops)] = END
    read, written = network.get_input_embeddings().weight, network.get_output_embeddings().weight
    width = read.shape[1]
    constant = 4.0
    norm = ((constant**2 + width - 1) / width) ** 0.5  # of a token's embedding, before the layers add to it
    deviation = SPREAD * norm / (width - 1) ** 0.5
    with torch.no_grad():
        if written is read:  # a token would follow itself for ever, were what it is louder than what the layers say
            written.normal_(0, deviation)
            written[:, 0] = constant * deviation + bias * norm / constant
            for name, weight in network.named_parameters():
                if re.search(r"post_\w+norm", name):
                    weight.fill_(8.0)
        else:
            read.normal_(0, 1)
            read[:, 0] = constant
            written.normal_(0, deviation)
            written[:, 0] = bias * norm / constant
