"""A small deterministic judge for tests: it follows the three-turn dialogue by rules, in English and Chinese.

A sentence with a digit holds a fact. Passages of the document that share its first word (zh: its first two characters)
bear on it. It is supported when the passages hold all its numbers, else contradicted. Words in capitals ask for
trouble. MUMBLE, DODGE: no usable answer in turn 1, 3. STUTTER, HUSH: none in turn 1, 2 at the first try. HEDGE:
unverifiable. REFUSE: the request is refused.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from factuality_harness.harness.engines import Conversation, Reply, Sampling
from factuality_harness.harness.engines.base import Batch
from factuality_harness.harness.errors import EngineError
from factuality_harness.harness.sentences import split

EN_DOCUMENT = "Alice was born in 1901. Alice moved to Rome in 1920. Bob sells 12 pears."
ZH_DOCUMENT = "张三生于1901年。张三1920年到罗马。李四卖12个梨。"

_DOCUMENT = re.compile(r"\A(?:Reference document:|参考文档：)\n\n(.*?)\n\n---\n", re.DOTALL)
_SENTENCE = re.compile(r"\n(?:Sentence: |句子：)(.*)\n\n(?:Step 1\. |第一步：)", re.DOTALL)
_AGAIN = ("That was not", "That answer was", "刚才的回答")


def answer(messages: Conversation) -> str | None:
    """The judge's next message; None: the request is refused."""
    first = messages[0]["content"]
    document, sentence = _DOCUMENT.search(first), _SENTENCE.search(first)
    assert document is not None and sentence is not None, first
    return _answer(messages, document[1], sentence[1])


def _answer(messages: Conversation, document: str, sentence: str) -> str | None:
    zh = bool(re.search(r"[一-鿿]", document))
    if "REFUSE" in sentence:
        return None
    asked = [m["content"] for m in messages if m["role"] == "user"]
    alone = asked[-1].startswith(_AGAIN)
    # After an empty answer the reminder stands in the question's own message.
    again = alone or any(f"\n\n{opening}" in asked[-1] for opening in _AGAIN)
    last = asked[-2] if alone else asked[-1]
    if last == asked[0] or not last.startswith(("Step", "第")):
        if "MUMBLE" in sentence or ("STUTTER" in sentence and not again):
            return "Well, who can say?"
        return (
            ("<有事实>" if zh else "<Facts Present>")
            if re.search(r"\d", sentence)
            else ("<无事实>" if zh else "<No Facts>")
        )
    if last.startswith(("Step 2.", "第二步")):
        if "HUSH" in sentence and not again:
            return " \n"
        opening = sentence[:2] if zh else sentence.split()[0]
        passages = [s.text for s in split(document, "zh" if zh else "en") if opening in s.text]
        return " <SEP> ".join(passages) or ("<无参考信息>" if zh else "<No Reference Information>")
    assert last.startswith(("Step 3.", "第三步")), last
    if "DODGE" in sentence:
        return "It depends."
    if "HEDGE" in sentence:
        return "<无法验证>" if zh else "<Unverifiable>"
    # A stuttering judge has said more than once what it quotes: its words before the last question count.
    passages_said = messages[[m["content"] for m in messages].index(last) - 1]["content"]
    right = all(number in passages_said for number in re.findall(r"\d+", sentence))
    return ("<无幻觉>" if right else "<矛盾>") if zh else ("<No Hallucination>" if right else "<Contradictory>")


class RuleEngine:
    """The rules as an engine: in batches and out of order, as engines may.

    fail_after: it breaks down after that many answers. delay: seconds a batch. asked: every request it saw.
    """

    settings: ClassVar[dict[str, Any]] = {}
    remote = False

    def __init__(self, identity: str = "rules#1", *, fail_after: int | None = None, delay: float = 0.0) -> None:
        self.identity = identity
        self.fail_after = fail_after
        self.delay = delay
        self.asked: list[list[dict[str, str]]] = []
        self.samplings: list[Sampling] = []

    def check(self) -> None:
        """Nothing can be missing."""

    def stream(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[Batch]:
        order = list(range(len(conversations)))[::-1]
        for start in range(0, len(order), 3):
            time.sleep(self.delay)
            batch: Batch = []
            for i in order[start : start + 3]:
                if self.fail_after is not None and len(self.asked) >= self.fail_after:
                    if batch:
                        yield batch
                    raise EngineError("the rules gave out")
                self.asked.append([dict(m) for m in conversations[i]])
                self.samplings.append(sampling)
                text = answer(conversations[i])
                batch.append((i, Reply(text, "" if text is not None else "refused by the rules")))
            yield batch
