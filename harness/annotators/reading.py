"""Reading what a judge wrote: which label it states, whether it says true or false, and when it said neither.

One rule for every judge. Thinking is set aside first. Then the wording is brought to one form (full width, traditional
characters, hyphens, markdown, quotes, JSON). A label in brackets goes before one in plain words; a negated label is not
stated; of several different ones the last counts only where the answer announces it as its conclusion. Whatever is left
in doubt is no verdict: `None`, never a guess.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from factuality_harness.harness.annotation import Label
from factuality_harness.harness.engines import Reply
from factuality_harness.harness.thinking import set_thinking_aside

# Traditional characters of the words that are read, in simplified form.
_SIMPLIFIED = str.maketrans(
    "無實覺驗證確誤對錯屬沒與據論斷應結稱爲為題後終這現關內係絕未貨個並說認",
    "无实觉验证确误对错属没与据论断应结称为为题后终这现关内系绝未货个并说认",
)
_CONTRACTED = re.compile(r"n't\b")
_DASHES = re.compile(r"[-_‐-―]+")
_MARKUP = re.compile(r"[*`#~\"'“”‘’«»「」『』|]+")
_SPACES = re.compile(r"\s+")


def plain(text: str) -> str:
    """One form of a wording: half width, simplified, lower case, no markdown or quotes, hyphens and white space as one
    space."""
    text = unicodedata.normalize("NFKC", text).translate(_SIMPLIFIED).lower()
    text = text.replace("〈", "<").replace("〉", ">").replace("《", "<").replace("》", ">")
    return _SPACES.sub(
        " ",
        _DASHES.sub(" ", _MARKUP.sub(" ", _CONTRACTED.sub(" not", text.replace("’", "'").replace("can't", "can not")))),
    ).strip()


def _json_texts(text: str) -> list[str] | None:
    """The values of a JSON answer, fenced or bare, that may hold a verdict; None where it is no JSON object or list."""
    fenced = re.search(r"```(?:json)?\s*(.*?)```", text, re.DOTALL | re.IGNORECASE)
    body = (fenced[1] if fenced else text).strip()
    if not body.startswith(("{", "[", '"')):
        return None
    try:
        data = json.loads(body)
    except (json.JSONDecodeError, RecursionError):
        return None
    return list(_verdict_values(data))


_KEYS = re.compile(
    r"label|type|verdict|answer|result|judg|conclusion|decision|supported|correct|true|step|类型|结论|判断|答案|标签|结果"
)


def _verdict_values(data: Any) -> Iterator[str]:
    if isinstance(data, dict):
        named = {k: v for k, v in data.items() if _KEYS.search(str(k).lower())}
        for value in (named or data).values():
            yield from _verdict_values(value)
    elif isinstance(data, list):
        for value in data:
            yield from _verdict_values(value)
    elif data is not None:
        yield str(data).lower() if isinstance(data, bool) else str(data)


@dataclass(frozen=True, slots=True)
class Wording:
    """A way to state one value. pattern: of `plain` text, tried longest first; it swallows negations that belong to
    it ("no hallucination")."""

    value: Any
    pattern: re.Pattern[str]


def _wordings(table: Sequence[tuple[Any, str]]) -> tuple[Wording, ...]:
    return tuple(Wording(value, re.compile(pattern)) for value, pattern in table)


_NO = r"(?:no|not|non|without|never|free of|zero)"
FACT = _wordings(
    [
        (False, r"\bno (?:\w+ ){0,2}?facts?(?: (?:are |is )?present)?\b|\bnofacts?\b"),
        (False, r"\b(?:facts?|it) (?:are |is )?not present\b|\bfacts? absent\b|\bwithout (?:\w+ ){0,2}?facts?\b"),
        (
            False,
            r"\b(?:does|do|did) not (?:state|contain|hold|have|include|present) (?:any |a )?(?:\w+ ){0,2}?facts?\b",
        ),
        (False, r"(?:无|没有|不含|不包含|未包含|不存在|缺乏)(?:任何|可|核查|查证|检查|验证|的|具体|客观)*事实"),
        (
            True,
            r"\b(?:facts? (?:are |is )?present|factspresent"
            r"|(?:contains?|has|states?|have) (?:a |at least one )?(?:\w+ ){0,1}?facts?)\b",
        ),
        (True, r"(?:有|含有|包含|存在)(?:可|核查|查证|检查|验证|的|具体|客观)*事实"),
    ]
)
"""Turn 1: does the sentence hold a checkable fact?"""

TYPE = _wordings(
    [
        (
            Label.OK,
            rf"\b(?:{_NO} (?:a |any |an )?hallucinations?|nohallucinations?|hallucination free)\b",
        ),
        (Label.OK, r"(?:无|没有|不存在|未发现|不含|没|不是|非)(?:任何)?幻觉"),
        (Label.CONTRADICTORY, r"\bcontradict(?:ory|ion|ions|s|ed|ing)?\b|(?:相互|自相)?矛盾"),
        (
            Label.UNVERIFIABLE,
            r"\bunverifi(?:able|ed)\b|\b(?:cannot|can not|could not|not) (?:be )?verif(?:ied|iable)\b",
        ),
        (Label.UNVERIFIABLE, r"(?:无法|不能|不可|难以|未能)(?:被|得到)?(?:验证|核实|证实|查证)"),
    ]
)
"""Turn 3: no hallucination, contradictory or unverifiable."""

LINE = tuple(Wording(Label.NOFACT, w.pattern) for w in FACT if w.value is False) + TYPE
"""A line of a sheet: all labels that a sentence can have."""

_TRUE = r"true|correct|supported|accurate|factual"
TRUTH = _wordings(
    [
        (
            None,
            r"\b(?:cannot|can not|could not|unable to|(?:not |im)possible to|hard to) (?:be )?"
            r"(?:determin|verif|confirm|tell|say|know|judge|decid|answer|establish|assess)\w*",
        ),
        (
            None,
            r"\b(?:unknown|undetermined|uncertain|unclear|unverifi\w+|neither|insufficient|inconclusive|doubt\w*|whether"
            r"|if true|partial(?:ly)?|partly|half|mostly|nothing|no one|nobody"
            r"|(?:if|would|could|might|may) (?:it |this |that )?(?:is|were|was|be)"
            r"|not (?:sure|certain|clear|enough|known|think|believe|say|mean|seem|appear|find|consider)"
            r"|no (?:\w+ )?(?:information|evidence|indication|proof|support|mention|passages?|sources?|basis"
            r"|reason|way))\b",
        ),
        (
            None,
            r"(?:无法|不能|难以|未能|没法)(?:被)?(?:确定|判断|验证|核实|证实|确认|得知)|不确定|未知|不清楚|不知道|未提及|没有提及|没有提到"
            r"|(?:没有|缺乏|缺少|无)(?:相关|任何)?(?:信息|证据|依据|资料|根据)|信息不足|是否|部分|基本|如果|也许|可能",
        ),
        (False, rf"\b(?:not|never|hardly|cannot|far from) (?:\w+ ){{0,2}}?(?:{_TRUE}|right)\b"),
        (False, r"\b(?:untrue|incorrect|unsupported|inaccurate|false|wrong|contradict\w*|refuted|falsehood)\b"),
        (
            False,
            r"(?:不|并非|不是|没有|未|非)(?:完全|全部|太|是|怎么)?(?:真实|正确|属实|准确|符合|对|真的|真|被支持|得到支持)",
        ),
        (False, r"错误|虚假|错的|有误|矛盾|假的?|失实|不符|否定"),
        (True, rf"(?:^|(?:\b(?:is|are|was|as|completely|fully|indeed|answer|verdict|label)|[:<]) ?)(?:{_TRUE})\b"),
        (True, rf"\b(?:{_TRUE})(?=\W*$|\W*[.,;:!?)>])"),
        (True, r"正确|属实|真实|真的?|准确"),
    ]
)
"""FActScore: is the fact true? The value None says that it cannot be told."""

_NEGATION = re.compile(
    r"(?:\b(?:not|no|never|neither|nor|without|cannot|nothing|none|hardly|than|instead of"
    r"|exclud\w+|rules? out|ruled out)\b"
    r"(?:[ <]+(?!(?:and|so|but|therefore|thus|hence|because|since|yet|which)\b)[\w']+){0,5}?"
    r"|(?:不|没有|没|未|无|非|排除)(?:(?!因此|所以|故|但|而|则)[^,.;:。;:!?]){0,4}?)[ <]*$"
)
_CONCLUSION = re.compile(
    r"(?:\b(?:answer|verdict|label|conclusion|decision|judge?ment|result|step [13])\b(?: is| would be|:)*"
    r"|\b(?:therefore|thus|hence|so|finally|in conclusion|overall)\b"
    r"|答案|结论|因此|所以|综上|最终|判断(?:为|是)?|标签)[^.。!?]*$"
)
_BRACKETED = re.compile(r"[<\[{(【〔]\s*([^<>\[\]{}()【】〔〕]{1,40}?)\s*[>\]})】〕]")


@dataclass(frozen=True, slots=True)
class _Found:
    value: Any
    start: int
    end: int
    negated: bool


def _stated(text: str, wordings: Sequence[Wording]) -> list[_Found]:
    """Every label in `text` (plain), in order; a place belongs to the first wording of the table that takes it."""
    taken = [False] * len(text)
    found = []
    for wording in wordings:
        for match in wording.pattern.finditer(text):
            if match.start() == match.end() or any(taken[match.start() : match.end()]):
                continue
            taken[match.start() : match.end()] = [True] * (match.end() - match.start())
            before = text[max(0, match.start() - 60) : match.start()]
            found.append(_Found(wording.value, match.start(), match.end(), bool(_NEGATION.search(before))))
    return sorted(found, key=lambda f: f.start)


def mentions(text: str, wordings: Sequence[Wording]) -> bool:
    """Whether any of the wordings stands in a text, negated or not."""
    return bool(_stated(plain(text), wordings))


def read(answer: str, wordings: Sequence[Wording]) -> Any:
    """The value that `answer` states, None where it states none or leaves it open. Thinking must be set aside before
    (`set_thinking_aside`)."""
    if (texts := _json_texts(answer)) is not None:
        values = [read(text, wordings) for text in texts if not text.lstrip().startswith(("{", "["))]
        stated = {value for value in values if value is not None}
        return stated.pop() if len(stated) == 1 else None
    text = plain(answer)
    bracketed = []
    for match in _BRACKETED.finditer(text):
        inner = _stated(match[1], wordings)
        if len(inner) == 1 and inner[0].end - inner[0].start >= len(match[1]) - 2:
            negated = inner[0].negated or bool(_NEGATION.search(text[max(0, match.start() - 60) : match.start()]))
            bracketed.append(_Found(inner[0].value, match.start(), match.end(), negated))
    return _settled(bracketed, text) if bracketed else _settled(_stated(text, wordings), text)


def _settled(found: Sequence[_Found], text: str) -> Any:
    held = [f for f in found if not f.negated]
    values = {f.value for f in held}
    if len(values) == 1:
        return held[0].value
    if len(values) > 1:
        last = held[-1]
        others = [f for f in held if f.value != last.value]
        announced = _CONCLUSION.search(text[others[-1].end : last.start])
        return last.value if announced else None
    return None


_YES = re.compile(r"^\W*(?:yes|yeah|correct|是的?|对的?|支持|成立)\W*$")
_NOT = re.compile(r"^\W*(?:no|nope|否|不是?|不对|不成立|不支持)(?:\W*$|[,.;:!?,。] ?)")


def read_truth(answer: str) -> bool | None:
    """True or False as the answer has it; None where it says neither, both, or that it cannot be told."""
    value = read(answer, TRUTH)
    if value is not None or _json_texts(answer) is not None:
        return value
    text = plain(answer)
    if _stated(text, TRUTH):
        return None
    return False if _NOT.match(text) else True if _YES.match(text) else None


_NO_REFERENCE = re.compile(
    r"no ?reference ?information|无参考信息|^\W*(?:none|n/?a|nil|null"
    r"|no (?:\w+ )?(?:passages?|information|references?)(?: found)?"
    r"|nothing(?: relevant)?|无|没有|没有(?:相关|参考)?(?:信息|内容|段落|资料)|无相关(?:信息|内容|段落|资料))\W*$"
)


def read_passages(answer: str) -> tuple[str, ...] | None:
    """Quoted passages; () where the answer says that there are none; None for an empty answer."""
    if _NO_REFERENCE.search(plain(answer)) or "noreferenceinformation" in re.sub(r"\s+", "", answer).lower():
        return ()
    passages = tuple(p for part in re.split(r"<SEP>", answer, flags=re.IGNORECASE) if (p := part.strip()))
    return passages or None


def spoken(reply: Reply) -> tuple[str | None, str]:
    """What is to be read of a reply, its thinking set aside; (None, why) where there is nothing to read."""
    if reply.text is None:
        return None, reply.error
    said = set_thinking_aside(reply.text)
    if not said.text.strip():
        if said.thinking or reply.cut:
            return None, "cut inside its thinking: raise the token limit, or ask for less thinking"
        return None, "an empty answer"
    return said.text, ""
