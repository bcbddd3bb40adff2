"""Text without the marks of its layout: what a judge reads of a sentence, whose span stays that of the original."""

from __future__ import annotations

import re

_SPACE = r"[^\S\n]"
_MARKS = (
    rf">{_SPACE}+|>(?=>)",  # quote
    rf"#{{1,6}}{_SPACE}+",  # heading
    rf"[-*+•‣▪▫◦●○■□◆◇➤►∙–—]{_SPACE}+(?:\[[ xX]\]{_SPACE}+)?",  # list, with or without a box
    rf"(?:\d{{1,3}}[.)]|[a-zA-Z]\)){_SPACE}+|(?:\(\d{{1,3}}\)|（\d{{1,3}}）|\d{{1,3}}、(?!\d)|[①-⑳]){_SPACE}*",
)
# A mark with nothing after it on its line is all there is to read.
_HEAD = re.compile(rf"^{_SPACE}*(?:(?:{'|'.join(_MARKS)})(?=\S))+", re.MULTILINE)
_MARKED = re.compile(rf"[|*_]|{_HEAD.pattern}", re.MULTILINE)
_HEADING_END = re.compile(r"(?<=\S)\s+#+\s*$")
# Bold marks may have lost their other half to the next sentence. Between letters or digits ** is an operator.
_BOLD = re.compile(r"(?<![0-9A-Za-z*])\*{2,3}(?!\*)|(?<!\*)\*{2,3}(?![0-9A-Za-z*])")
_UNDERSCORES = re.compile(r"(?<!\w)(_{1,3})(?=[^\s_])([^_\n]*[^\s_])\1(?!\w)")
_ITALIC = re.compile(r"(?<![\w*])\*(?=[^\s*])([^*\n]*[^\s*])\*(?![\w*])")


def plain(text: str) -> str:
    """`text` without markdown's list, heading, quote, bold, italic and table marks; cells are set apart by commas.

    Text without such marks comes back as it is. A list number is one only at the start of a line, with text after it.
    """
    if not _MARKED.search(text):
        return text
    lines = [line for line in map(_plain_line, text.split("\n")) if line is not None]
    text = _HEAD.sub("", _BOLD.sub("", "\n".join(lines)))
    return _ITALIC.sub(r"\1", _UNDERSCORES.sub(r"\2", text)).strip()


def _plain_line(line: str) -> str | None:
    """The line without the marks at its ends and a table's; None for the rule below a table's head."""
    bare = line.strip()
    if "|" in bare and "-" in bare and {*bare} <= {*"|:- "}:
        return None
    if bare.startswith("| ") or bare.endswith(" |") or (len(bare) > 2 and bare[0] == bare[-1] == "|"):
        return ", ".join(cell.strip() for cell in bare.split("|") if cell.strip())
    shorter = _HEAD.sub("", line)
    return _HEADING_END.sub("", shorter) if bare.startswith("#") and shorter != line else shorter
