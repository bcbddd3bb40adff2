"""Thinking that a model writes into its answer, set aside: a judge's before it is read, the evaluated model's before
it is judged."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TAGS = r"think|thinking|thought|reasoning|reason|analysis|reflection"
_BLOCK = re.compile(rf"<({_TAGS})>.*?</\1>|\[THINK\].*?\[/THINK\]|◁think▷.*?◁/think▷", re.IGNORECASE | re.DOTALL)
_END = re.compile(rf"</(?:{_TAGS})>|\[/THINK\]|◁/think▷", re.IGNORECASE)
_START = re.compile(rf"<(?:{_TAGS})>|\[THINK\]|◁think▷", re.IGNORECASE)
# gpt-oss' channels: only what stands in the last one is the answer.
_CHANNEL = re.compile(r"(?:<\|start\|>\w*)?<\|channel\|>\s*(\w+)[^<]*<\|message\|>")
_CHANNEL_END = re.compile(r"<\|(?:end|return|call)\|>")


@dataclass(frozen=True, slots=True)
class Spoken:
    """An answer without its thinking. cut: it ended inside the thinking, so there is no answer at all."""

    text: str
    thinking: bool = False
    cut: bool = False


def set_thinking_aside(answer: str) -> Spoken:
    """What a model says to the reader: whole thinking blocks, what stands before a lone end tag, and what follows a
    start tag that is never closed are left out."""
    if channels := list(_CHANNEL.finditer(answer)):
        last = channels[-1]
        if last[1].lower() != "final":
            return Spoken("", True, True)
        return Spoken(_CHANNEL_END.split(answer[last.end() :])[0].strip(), True)
    text = _BLOCK.sub("", answer)
    ends = list(_END.finditer(text))
    if ends:
        text = text[ends[-1].end() :]
    start = _START.search(text)
    if start:
        return Spoken(text[: start.start()].strip(), True, not text[: start.start()].strip())
    return Spoken(text.strip() if text != answer else text, text != answer, False)
