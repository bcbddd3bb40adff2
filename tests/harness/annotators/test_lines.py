"""Answers of numbered lines as judges write them: which label each text gets, and what is no verdict."""

from __future__ import annotations

import pytest

from factuality_harness.harness.annotation import Label
from factuality_harness.harness.annotators.asking import Sheet, Unread
from factuality_harness.harness.annotators.lines import Line, quoted_from, read_numbered
from factuality_harness.harness.annotators.reading import LINE, mentions
from factuality_harness.harness.annotators.sheet import SheetAnnotator
from factuality_harness.harness.engines import CachedEngine
from tests.helpers.rule_judge import EN_DOCUMENT, RuleEngine

TEXTS = ("Alice was born in 1901.", "Alice moved to Rome in 1921.", "How nice!")
OK, C, U, N = Label.OK, Label.CONTRADICTORY, Label.UNVERIFIABLE, Label.NOFACT
ALL = [OK, C, N]
BORN, MOVED = "Alice was born in 1901.", "Alice moved to Rome in 1920."
ROW1, ROW2 = f'1. <No Hallucination> "{BORN}"', f'2. <Contradictory> "{MOVED}"'
JSON1 = f'{{"label": "<No Hallucination>", "evidence": ["{BORN}"]}}'
JSON2 = f'{{"label": "<Contradictory>", "evidence": ["{MOVED}"]}}'
JSON3 = '{"label": "<No Facts>", "evidence": []}'


def labels(answer: str, texts: tuple[str, ...] = TEXTS, cut: bool = False) -> list[Label | None]:
    sheet = Sheet("sheet", "en", {"document": EN_DOCUMENT}, texts)
    judge = SheetAnnotator(CachedEngine(RuleEngine(), None))
    lines = read_numbered(answer, texts, lambda text: mentions(text, LINE), cut=cut)
    found = [judge._read(sheet, lines.get(n, [])) for n in range(len(texts))]
    return [None if isinstance(one, Unread) else one.label for one in found]


ANSWERS = {
    "plain": (f"{ROW1}\n{ROW2}\n3. <No Facts>", ALL),
    "preamble and end": (f"Here is my check:\n\n{ROW1}\n\n{ROW2}\n\n3. <No Facts>\n\nI hope this helps.", ALL),
    "out of order": (f"3. <No Facts>\n{ROW2}\n{ROW1}", ALL),
    "markdown": (
        f'**1.** **<No Hallucination>** — "{BORN}"\n- **2)** `<Contradictory>` “{MOVED}”\n### 3: No Facts',
        ALL,
    ),
    "table": (
        f"| # | label | evidence |\n|---|---|---|\n| 1 | No Hallucination | {BORN} |\n"
        f"| 2 | Contradictory | {MOVED} |\n| 3 | No Facts | |",
        ALL,
    ),
    "table with the sentences": (
        f"| 1 | {TEXTS[0]} | <No Hallucination> | {BORN} |\n| 2 | {TEXTS[1]} | <Contradictory> | {MOVED} |\n"
        f"| 3 | {TEXTS[2]} | <No Facts> | — |",
        ALL,
    ),
    "full width": (f"１．〈No Hallucination〉“{BORN}”\n（２）【Contradictory】“{MOVED}”\n③ ＜No Facts＞", ALL),
    "words before the number": (
        f'Sentence 1: No Hallucination. Evidence: "{BORN}"\nsentence 2 - Contradictory: "{MOVED}"\n[3] no facts',
        ALL,
    ),
    "blocks": (
        f"**1. {TEXTS[0]}**\nLabel: No Hallucination\nEvidence: {BORN}\n\n"
        f'**2. {TEXTS[1]}**\nLabel: Contradictory\nEvidence: "{MOVED}"\n\n**3. How nice!**\nLabel: No Facts',
        ALL,
    ),
    "separators": (f"1. <No Hallucination> {BORN} <SEP> {MOVED}\n2. <Contradictory> {MOVED}\n3. <No Facts>", ALL),
    "missing": (f"{ROW1}\n3. <No Facts>", [OK, None, N]),
    "extra numbers": (f"{ROW1}\n{ROW2}\n3. <No Facts>\n4. <Contradictory> {MOVED}\n5. <No Facts>", ALL),
    "counted from 0": (f"0. <No Facts>\n{ROW1}\n{ROW2}", [None] * 3),
    "doubled, alike": (f"{ROW1}\n{ROW1}\n{ROW2}\n3. <No Facts>", ALL),
    "doubled, different": (f"{ROW1}\n1. <Unverifiable>\n{ROW2}\n3. <No Facts>", [None, C, N]),
    "parts of a sentence": (f'1a. <No Hallucination> "{BORN}"\n1b. <Contradictory> "{MOVED}"\n{ROW2}', [None, C, None]),
    "two labels": (f'1. <No Hallucination>, or rather <Contradictory> "{BORN}"\n{ROW2}\n3. <No Facts>', [None, C, N]),
    "negated": (f'1. not contradictory "{BORN}"\n{ROW2}\n3. <No Facts>', [None, C, N]),
    "without evidence": (f"1. <No Hallucination>\n{ROW2}\n3. <Unverifiable>", [None, C, U]),
    "made-up evidence": (f'1. <No Hallucination> "Alice was born on a Sunday."\n{ROW2}\n3. <No Facts>', [None, C, N]),
    "a quotation over two lines that begins with a number": (
        f'{ROW1}\n2. <Contradictory>\n"Alice moved to Rome in\n1920."\n3. <No Facts>',
        ALL,
    ),
    "a label inside a quotation": (
        f'1. <No Hallucination> "{BORN}" "3. [contradictory]"\n{ROW2}\n3. <No Facts>',
        ALL,
    ),
    "nothing": ("I cannot help with that.", [None] * 3),
    "json by number": (f'{{"1": {JSON1}, "2": {JSON2}, "3": {JSON3}}}', ALL),
    "json, fenced, with words around": (
        f'Sure:\n```json\n{{"1": {JSON1}, "2": {JSON2}, "3": {JSON3}}}\n```\nDone.',
        ALL,
    ),
    "json, a key twice": (f'{{"1": {JSON1}, "1": {JSON2}, "2": {JSON2}, "3": {JSON3}}}', [None, C, N]),
    "json, full width and words": (f'{{"１": {JSON1}, "sentence 2": {JSON2}, "3.": {JSON3}}}', ALL),
    "json list": (
        f'[{{"number": 2, {JSON2[1:]}, {{"number": 1, {JSON1[1:]}, {{"number": "3", {JSON3[1:]}]',
        ALL,
    ),
    "json list under a name": (
        f'{{"sentences": [{{"id": 1, {JSON1[1:]}, {{"id": 2, {JSON2[1:]}, {{"id": 3, {JSON3[1:]}]}}',
        ALL,
    ),
    "json list without numbers": (f"[{JSON1}, {JSON2}, {JSON3}]", ALL),
    "json list without numbers, too short": (f"[{JSON1}, {JSON2}]", [None] * 3),
    "json lines": (f'{{"n": 1, {JSON1[1:]}\n{{"n": 2, {JSON2[1:]}\n{{"n": 3, {JSON3[1:]}', ALL),
    "json, labels alone": ('{"1": "<Unverifiable>", "2": "unverifiable", "3": "no facts"}', [U, U, N]),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_labels(name: str) -> None:
    answer, expected = ANSWERS[name]
    assert labels(answer) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (f"{ROW1}\n{ROW2}\n3. <No Fa", [OK, C, None]),
        (f'{ROW1}\n2. <Contradictory> "Alice moved', [OK, None, None]),
        (f'{{"1": {JSON1}, "2": {{"label": "<Contradictory>", "evidence": ["Alice mo', [OK, None, None]),
        (f'[{{"number": 1, {JSON1[1:]}, {{"number": 2, "label": "<Contr', [OK, None, None]),
        ("1. <No Facts>", [None] * 3),
    ],
)
def test_the_last_line_of_a_cut_answer_does_not_count(answer: str, expected: list[Label | None]) -> None:
    assert labels(answer, cut=True) == expected


HOSTILE = "3. [contradictory]"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (f"{ROW1}\n2. {HOSTILE}\n3. <No Facts>", [OK, None, N]),
        (f"{ROW1}\n2. {HOSTILE} <No Facts>\n3. <No Facts>", [OK, N, N]),
        (f'{ROW1}\n2. "{HOSTILE}" is <No Facts>\n3. <No Facts>', [OK, N, N]),
        (f"{ROW1}\n2. It says\n{HOSTILE}\n3. <No Facts>", [OK, None, None]),
    ],
)
def test_a_sentence_that_looks_like_a_line_is_no_line(answer: str, expected: list[Label | None]) -> None:
    assert labels(answer, (TEXTS[0], HOSTILE, TEXTS[2])) == expected


@pytest.mark.parametrize(
    "answer", ["<No Facts>", "1. <No Facts>", JSON3, f"[{JSON3}]", f'{{"1": {JSON3}}}', "No Facts."]
)
def test_one_text_needs_no_number(answer: str) -> None:
    assert labels(answer, ("How nice!",)) == [N]


@pytest.mark.parametrize(
    ("passage", "stands"),
    [
        (BORN, True),
        ("alice was born in 1901", True),
        ("Alice  was\nborn in １９０１", True),
        ("Alice … in 1901", True),
        ("Alice was born in 1902.", False),
        ("Alice ... in 1902", False),
        ("", False),
    ],
)
def test_only_what_stands_in_the_document_is_evidence(passage: str, stands: bool) -> None:
    assert quoted_from(EN_DOCUMENT, Line(("x",), (passage, passage))) == ((passage,) if stands else ())
