"""A small deterministic judge of sheets: numbered texts against a document, in one answer.

A sentence with a digit holds a fact, supported when the document has all its numbers, else contradicted; the document's
first sentence that shares its first word is quoted, and without one it is unverifiable. MUMBLE: no line for it, ever;
STUTTER: none in an answer on several sentences.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from factuality_harness.harness.sentences import split

_PROMPT = re.compile(r"\A(?:Reference document:|参考文档：)\n\n(?P<document>.*?)\n\n---\n", re.DOTALL)
_LINE = re.compile(r"^(\d+)\. (.*)$", re.MULTILINE)
_FACTS = re.compile(r"\A(?P<document>.*?)\n\n---\n", re.DOTALL)


def texts_of(messages: Sequence[dict[str, str]]) -> list[str]:
    """The texts a request asks about."""
    last = messages[-1]["content"].rpartition(":\n" if "Reference document" in messages[-1]["content"] else "：\n")[2]
    return [text for _, text in _LINE.findall(last)]


def verdict(sentence: str, document: str) -> tuple[str, list[str]]:
    """Label in English, and evidence."""
    if not re.search(r"\d", sentence):
        return "<No Facts>", []
    passages = [s.text for s in split(document, "en") if s.text.split()[0] == sentence.split()[0]]
    if not passages:
        return "<Unverifiable>", []
    right = all(number in document for number in re.findall(r"\d+", sentence))
    return ("<No Hallucination>" if right else "<Contradictory>"), passages[:1]


def answer(messages: Sequence[dict[str, str]]) -> str:
    """Plain lines, or JSON where the prompt asks for it."""
    content = messages[-1]["content"]
    found = _PROMPT.search(content)
    assert found is not None, content
    texts = texts_of(messages)
    lines = {
        n: verdict(text, found["document"])
        for n, text in enumerate(texts, 1)
        if "MUMBLE" not in text and not ("STUTTER" in text and len(texts) > 1)
    }
    if "JSON" in content:
        return json.dumps({str(n): {"label": label, "evidence": quoted} for n, (label, quoted) in lines.items()})
    return "\n".join(f"{n}. {label} " + " ".join(f'"{q}"' for q in quoted) for n, (label, quoted) in lines.items())
