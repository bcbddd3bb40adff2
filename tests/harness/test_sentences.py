"""Sentences: the reference's splits, exact spans, any text."""

from __future__ import annotations

import io
import json
import re
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.sentences import language_of, split
from tests.helpers.cli import command

LANGUAGES = st.sampled_from(["en", "zh"])
STYLES = st.sampled_from(["anah", "spacy"])
# Arbitrary text seldom holds what the rules are about: mix it with their pieces.
# fmt: off
PIECES = st.sampled_from([
    ". ", ".", "! ", "? ", "; ", "。", "！", "？", "；", "\n", "\n\n", "\r\n", " ", "\t", "\u3000", "\x85", ": ", "：",
    ":\n", "A. ", "J. K. R", "Dr. ", "No. 5", "Sept.\n", "et al. say", "et al. Say", "\n1. ", ". 12. ", "1. ",
    "Brown v. Board", "O.S.B.M. ", "word", "字", "数字", "é", "👩\u200d🚀", "\u200b", "3.14",
])
# fmt: on
TEXTS = st.one_of(st.text(), st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=40).map("".join))


def squeeze(text: str) -> str:
    return re.sub(r"\s+", "", text)


def test_golden_sentences(shared_data: Path) -> None:
    lines = (shared_data / "golden" / "anah_sentences.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 350
    for row in rows:
        found = split(row["text"], row["language"])
        assert [squeeze(s.text) for s in found] == [squeeze(s) for s in row["sentences"]]
        assert all(row["text"][s.start : s.end] == s.text for s in found)
        assert language_of(row["text"], row["language"]) == row["language"]


@given(TEXTS, LANGUAGES, STYLES, st.booleans())
def test_spans_and_white_space_rebuild_any_text(text: str, language: str, style: str, keep_colon: bool) -> None:
    end = 0
    rebuilt = ""
    for sentence in split(text, language, style, keep_colon=keep_colon):
        assert text[sentence.start : sentence.end] == sentence.text
        assert sentence.text
        assert sentence.text == sentence.text.strip()
        skipped = text[end : sentence.start]
        assert skipped == "" or skipped.isspace()
        rebuilt += skipped + sentence.text
        end = sentence.end
    assert rebuilt + text[end:] == text
    assert not text[end:].strip()


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("One. Two! Three? Four; five.", "en", ["One.", "Two!", "Three?", "Four;", "five."]),
        ("Pi is 3.14 or so. Yes.", "en", ["Pi is 3.14 or so.", "Yes."]),
        ("J. K. Campbell wrote it. J. Smith read it.", "en", ["J. K. Campbell wrote it.", "J. Smith read it."]),
        (
            "Dr. No lived on St. Helena in Sept. of 1800. Yes.",
            "en",
            ["Dr. No lived on St. Helena in Sept. of 1800.", "Yes."],
        ),
        ("Lee et al. say so. Lee et al. Then no.", "en", ["Lee et al. say so.", "Lee et al.", "Then no."]),
        ("1. First one. 2. Second one.\n3. Third.", "en", ["1. First one.", "2. Second one.", "3. Third."]),
        ("A list:\n\nOne. Two.", "en", ["A list:\n\nOne.", "Two."]),
        ("First line\nsecond line", "en", ["First line", "second line"]),
        ("一。二！三？四；五", "zh", ["一。", "二！", "三？", "四；", "五"]),
        ("他说：\n\n好。 再见。", "zh", ["他说：\n\n好。", "再见。"]),
        ("第一行\n第二行", "zh", ["第一行", "第二行"]),
        ("圆周率是3.14。是的.", "zh", ["圆周率是3.14。", "是的."]),
    ],
)
def test_rules(text: str, language: str, expected: list[str]) -> None:
    assert [s.text for s in split(text, language)] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("他生于1990年.他是作家.", ["他生于1990年.", "他是作家."]),
        ("他生于1990. 他死于2000. 完", ["他生于1990.", "他死于2000.", "完"]),
        ("他是《红楼梦》. 好的!真的?是;不是", ["他是《红楼梦》.", "好的!", "真的?", "是;", "不是"]),
        ("他学 Python. 他用 3.14 计算.", ["他学 Python.", "他用 3.14 计算."]),
        ("1. 他来. 2. 她走.", ["1. 他来.", "2. 她走."]),
        ("J. K. 罗琳写书. 她在英国.", ["J. K. 罗琳写书.", "她在英国."]),
        ("包括: 1. 他 2. 她", ["包括: 1. 他 2. 她"]),
        ("版本2.0发布了", ["版本2.0发布了"]),
        ("网址是a.b.com。好", ["网址是a.b.com。", "好"]),
    ],
)
def test_half_width_stops_in_chinese(text: str, expected: list[str]) -> None:
    assert [s.text for s in split(text, "zh")] == expected


@pytest.mark.parametrize(
    ("text", "expected", "found"),
    [
        ("Lu Xun (鲁迅) wrote 《狂人日记》 in 1918.", "en", "en"),
        ("Lu Xun wrote it.", "zh", "en"),
        ("鲁迅于1918年写了《狂人日记》。", "en", "zh"),
        ("Python是一种编程语言。", "zh", "zh"),
        ("Python是一种编程语言。", "en", "zh"),
        ("He is Lu Xun (鲁迅), who wrote a number of books and lived in Shanghai.", "zh", "en"),
        ("", "zh", "zh"),
        ("", "en", "en"),
        ("1990 — 👍", "zh", "zh"),
        ("漢字", "en", "zh"),
    ],
)
def test_the_language_of_an_answer(text: str, expected: str, found: str) -> None:
    assert language_of(text, expected) == found


@pytest.mark.parametrize(("language", "text"), [("en", "Note:\nOne."), ("zh", "注意：\n一。")])
def test_keep_colon_lets_a_line_break_after_a_colon_split(language: str, text: str) -> None:
    assert len(split(text, language)) == 1
    assert len(split(text, language, keep_colon=True)) == 2


@pytest.mark.parametrize("style", ["anah", "spacy"])
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("text", ["", " ", "\n\t\u3000\n"])
def test_nothing_to_split(text: str, language: str, style: str) -> None:
    assert split(text, language, style) == []


def test_spacy_style_splits_without_its_rules() -> None:
    assert [s.text for s in split("Dr. No came. He left.", "en", "spacy")] == ["Dr. No came.", "He left."]
    assert [s.text for s in split("一。二。", "zh", "spacy")] == ["一。", "二。"]


def test_unknown_language_and_style() -> None:
    with pytest.raises(HarnessError, match=r"'fr'.*en, zh"):
        split("Bonjour.", "fr")
    with pytest.raises(HarnessError, match=r"'nltk'.*anah, spacy"):
        split("Hello.", "en", "nltk")


@pytest.mark.parametrize(
    "unit", ["\n", "\n ", " ", "A. ", "1. ", "\n1. ", ". ", ": ", "1", "et al. a", "字。", "a", "《"]
)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_long_monotonous_text_takes_no_time(unit: str, language: str) -> None:
    text = unit * (60_000 // len(unit))  # a quadratic rule takes a minute over this
    start = time.process_time()
    split(text, language)
    assert time.process_time() - start < 2


main = command("sentences")


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text = "  One. Zwölf?\n"
    file = tmp_path / "a.txt"
    file.write_text(text, encoding="utf-8")
    assert main(["--language", "en", str(file)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == ["One.", "Zwölf?"]
    assert all(text[row["start"] : row["end"]] == row["text"] for row in rows)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("一。二".encode())))
    assert main(["--language", "zh", "-"]) == 0
    assert [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()] == ["一。", "二"]


def test_command_line_refuses_what_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "latin1.txt"
    file.write_bytes("Zwölf".encode("latin-1"))
    assert main(["--language", "en", str(file)]) == 2
    assert "not UTF-8" in capsys.readouterr().err
    assert main(["--language", "en", str(tmp_path / "none.txt")]) == 2
    assert "none.txt" in capsys.readouterr().err
