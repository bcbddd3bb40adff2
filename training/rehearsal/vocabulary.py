"""Small tokenizers of the kinds that the families have: bytes (Llama 3, Qwen2) and pieces with bytes behind them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

WORDS = 700  # entries, besides the special tokens
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Where Llama 3 cuts text before bytes are merged."""


def byte_level(texts: Sequence[str], specials: Sequence[str], tokens: Mapping[str, str], kind: str) -> Any:
    """Merged bytes; special tokens come last, as in Llama 3 and Qwen2. kind: class of transformers, "" for none of its
    own. bos is put before every text where there is one."""
    import transformers
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=WORDS, initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator(texts, trainer)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    if bos := tokens.get("bos_token"):
        raw.post_processor = processors.TemplateProcessing(
            single=f"{bos}:0 $A:0", pair=f"{bos}:0 $A:0 {bos}:1 $B:1", special_tokens=[(bos, raw.token_to_id(bos))]
        )
    if not kind:
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=raw, clean_up_tokenization_spaces=False, model_max_length=131072, **tokens
        )
    vocab, merges = _read(raw)
    rest = [token for token in specials if token not in tokens.values()]
    return getattr(transformers, kind)(vocab=vocab, merges=merges, extra_special_tokens=rest, **tokens)


def pieces(texts: Sequence[str], specials: Sequence[str], tokens: Mapping[str, str], kind: str) -> Any:
    """Pieces of sentencepiece's kind, spaces as part of words, and bytes for what no piece holds; special tokens come
    first, as in InternLM2, Yi and Gemma."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    first = [*specials, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS + len(first), special_tokens=first, limit_alphabet=200, show_progress=False
    )
    raw.train_from_iterator(texts, trainer)
    vocab, merges = _read(raw)
    rest = [token for token in specials if token not in tokens.values()]
    return getattr(transformers, kind)(vocab=vocab, merges=merges, extra_special_tokens=rest, **tokens)


def _read(raw: Any) -> tuple[dict[str, int], list[tuple[str, str]]]:
    model = json.loads(raw.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]
