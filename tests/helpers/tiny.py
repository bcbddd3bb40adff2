"""A tiny random Llama with a byte-level tokenizer and a chat template, and preference pairs to train it on."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from factuality_harness.harness.annotation import Label, Sentence
from factuality_harness.training.mask_dpo.pairs import LabelledResponse, Pair, write_pairs

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TRUE = ("Iron rusts in wet air.", "The Nile flows north.", "Bees make honey.", "Snow is cold.")
FALSE = ("Iron floats.", "The Nile ends in Peru.", "Bees are birds.", "Snow burns the skin of fish.")


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, and the four special tokens of the chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in ("<|pad|>", "<|user|>", "<|assistant|>", "<|end|>")]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>", clean_up_tokenization_spaces=False
    )
    fast.chat_template = TEMPLATE
    return fast


def tiny_model(seed: int = 0, **settings: int) -> LlamaForCausalLM:
    """Two layers of width 32, random weights of a size that makes distributions far from uniform."""
    torch.manual_seed(seed)
    size: Any = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    } | settings
    config = LlamaConfig(
        vocab_size=260,
        num_key_value_heads=size["num_attention_heads"],
        max_position_embeddings=512,
        initializer_range=0.15,
        pad_token_id=256,
        eos_token_id=259,
        bos_token_id=None,
        **size,
    )
    return LlamaForCausalLM(config).float()


def save_tiny(folder: Path, seed: int = 0) -> Path:
    """The tiny model and its tokenizer as a Hugging Face folder."""
    tiny_model(seed).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def labelled(pieces: list[tuple[str, str, Label]], lead: str = "") -> LabelledResponse:
    """A response from (sentence, white space after it, label); lead: white space in front."""
    text, sentences = lead, []
    for sentence, gap, _ in pieces:
        sentences.append(Sentence(sentence, len(text), len(text) + len(sentence)))
        text += sentence + gap
    return LabelledResponse(text, tuple(sentences), tuple(label for *_, label in pieces))


def response(sentences: list[tuple[str, Label]]) -> LabelledResponse:
    """A response of labelled sentences joined by blanks."""
    gaps = [" "] * (len(sentences) - 1) + [""]
    return labelled([(sentence, gap, label) for (sentence, label), gap in zip(sentences, gaps, strict=True)])


def tiny_pairs(count: int, seed: int = 0) -> list[Pair]:
    """Pairs of one to four sentences a side, of mixed truth; every side has a sentence that counts."""
    draw = random.Random(seed)
    pairs = []
    for number in range(count):
        sides = []
        for needed, label in ((TRUE, Label.OK), (FALSE, Label.CONTRADICTORY)):
            sentences = [(draw.choice(needed), label)]
            for _ in range(draw.randrange(4)):
                sentences.append(
                    (draw.choice(TRUE), Label.OK) if draw.random() < 0.5 else (draw.choice(FALSE), Label.UNVERIFIABLE)
                )
            draw.shuffle(sentences)
            sides.append(response(sentences))
        prompt = ({"role": "user", "content": f"Fact {number}?" + " please" * draw.randrange(4)},)
        pairs.append(Pair(prompt, sides[0], sides[1], topic=f"t{number}", where=f"tiny, row {number + 1}"))
    return pairs


def save_pairs(path: Path, count: int, seed: int = 0) -> Path:
    """`tiny_pairs` as a file in the official format."""
    write_pairs(path, tiny_pairs(count, seed))
    return path
