"""What a tokenizer does to the texts that a model is to read: one that loses them is refused before anything runs.

A model asked through such a tokenizer answers all the same, about another text. Losses that a tokenizer's own files
state (an uncased one, one that makes all white space a space, Unicode's compatible forms) are its model's way to read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from factuality_harness.harness.errors import HarnessError

ENGLISH = (
    "Ada Lovelace was born in London in 1815.\nHer notes hold:\n\n  - the first program (for a machine, never built)",
)
CHINESE = ("居里夫人生于1867年，曾两次获得诺贝尔奖。\n她发现了镭。",)
Read = Callable[[str], Any]
_WORD = re.compile(r"[^\W\u4e00-\u9fff]+|[^\w\s]|[\u4e00-\u9fff]")
_SHOWN = 40
_HEADROOM = 10


def check_tokenizer(tokenizer: Any, where: str, texts: Sequence[str] = ENGLISH + CHINESE) -> None:
    """Raise HarnessError where a text does not survive `decode(encode(text))` as far as the tokenizer's files state.

    tokenizer: of transformers; another kind (a server's, Mistral's own) is not looked at. Spaces at a text's ends never
    count. where: the model, for the message.
    """
    from transformers import PreTrainedTokenizerBase

    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return
    read = _stated(tokenizer)
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        back = str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        unknown = tokenizer.unk_token if tokenizer.unk_token_id in ids else None
        if unknown is None and read(back) == read(text):
            continue
        lost = f"has {unknown} for what it does not know" if unknown else f"loses {_kind(text, back, read)}"
        shown, came = _parting(text, back)
        raise HarnessError(
            f"{where}: its tokenizer {lost}, and its files do not say so: {shown!r} comes back as {came!r}. What such "
            "a model reads and writes is another text: use a folder whose tokenizer.json keeps texts (`factuality "
            "model llamafy` makes one of an InternLM2 or ANAH-v2)"
        )


def _stated(tokenizer: Any) -> Read:
    """What of a text is left for comparison, after the losses that a tokenizer's files state."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    normalizer, splitter = getattr(backend, "normalizer", None), getattr(backend, "pre_tokenizer", None)

    def normal(text: str) -> str:
        return (normalizer.normalize_str(text) if normalizer else text).replace("\u2581", " ").strip(" ")

    steps: list[Read] = []
    if getattr(tokenizer, "do_lower_case", False) or normal("A") == "a":
        steps.append(str.lower)
    if normal("é") == "e":
        steps.append(
            lambda text: "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
        )
    if normal("，") == ",":
        steps.append(lambda text: unicodedata.normalize("NFKC", text))
    pieces = [piece for piece, _ in splitter.pre_tokenize_str("a  b\nc")] if splitter else []
    if pieces == ["a", "b", "c"]:
        steps.append(_WORD.findall)
    elif normal("a  b") == normal("a\nb") == "a b":
        steps.append(lambda text: " ".join(text.split()))
    elif normal("a  b") == "a b":
        steps.append(lambda text: re.sub(" +", " ", text))
    elif normal("a\nb") == "a b":
        steps.append(lambda text: text.replace("\n", " "))

    def read(text: str) -> Any:
        left: Any = text.strip(" ")
        for step in steps:
            left = step(left)
        return left

    return read


def _kind(text: str, back: str, read: Read) -> str:
    if read(text.lower()) == read(back.lower()):
        return "upper case"
    if "".join(text.split()) == "".join(back.split()):
        return "white space"
    return "characters"


def _parting(text: str, back: str) -> tuple[str, str]:
    """Both texts around the place where they part."""
    text, back = text.strip(" "), back.strip(" ")
    same = next((i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), min(len(text), len(back)))
    start = max(0, same - _HEADROOM)
    return text[start : start + _SHOWN], back[start : start + _SHOWN]
