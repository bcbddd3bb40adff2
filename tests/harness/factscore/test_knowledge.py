"""Knowledge sources: real SQLite files, JSONL, datasets, dicts."""

from __future__ import annotations

import gzip
import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.factscore.knowledge import (
    SEPARATOR,
    cut_words,
    missing_error,
    missing_titles,
    open_knowledge,
    token_cut,
)


def database(path: Path, pages: dict[str, str | None]) -> Path:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE documents (title PRIMARY KEY, text)")
    db.executemany("INSERT INTO documents VALUES (?, ?)", pages.items())
    db.commit()
    db.close()
    return path


def texts(source: object, title: str) -> list[str]:
    return [p.text for p in open_knowledge(source).passages(title)]  # type: ignore[arg-type]


def test_database(tmp_path: Path) -> None:
    text = SEPARATOR.join(["<s>Ada was born in 1815.</s>", " She wrote. ", ""])
    path = database(tmp_path / "wiki.db", {"Ada": text, 'O\'Neil "x"': "He.", "empty": "", "null": None})
    before = path.read_bytes()
    knowledge = open_knowledge(path)
    assert knowledge.name == "wiki.db"
    assert [p.text for p in knowledge.passages("Ada")] == ["Ada was born in 1815.", "She wrote."]
    assert {p.title for p in knowledge.passages("Ada")} == {"Ada"}
    assert [p.text for p in knowledge.passages('O\'Neil "x"')] == ["He."]
    assert missing_titles(knowledge, ["Ada", "ada", "empty", "null", "ada"]) == ["ada", "empty", "null"]
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["wiki.db"]


def test_database_is_told_by_its_content_and_may_have_a_strange_name(tmp_path: Path) -> None:
    path = database(tmp_path / "a ?#%.jsonl", {"Ada": "Text."})
    assert texts(path, "Ada") == ["Text."]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.db", b"not a database", "neither a SQLite database"),
        ("x.db", b"", "neither a SQLite database"),
        ("x.db", b"SQLite format 3\0" + b"\xff" * 500, "not a FActScore knowledge source"),
        ("x.jsonl", b'{"title": "A"}\n', "row 1: missing text"),
        ("x.jsonl", b'{"title": "A", "text": "a"}\n{"title": "A", "text": "b"}\n', "row 2: a second page"),
        ("x.jsonl", b'{"title": "A", "text": [1]}\n', "row 1: `text` must be"),
        ("x.jsonl", b'{"title": NaN, "text": ""}\n', "row 1: `title` is nan, which is no name"),
        ("x.jsonl", b'{"title": "A", "text": NaN}\n', "row 1: `text` must be"),
        ("x.jsonl", b"", "no pages in it"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(HarnessError, match=message):
        open_knowledge(tmp_path / name)


def test_wrong_table_and_missing_file(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "o.db").execute("CREATE TABLE other (x)").connection.close()
    with pytest.raises(HarnessError, match=r"needs a table documents\(title, text\)"):
        open_knowledge(tmp_path / "o.db")
    with pytest.raises(HarnessError, match="no such file"):
        open_knowledge(tmp_path / "none.db")


def test_jsonl_text_or_list(tmp_path: Path) -> None:
    rows = [{"title": "A", "text": "One. Two."}, {"title": "B", "text": ["One.", "Two."]}]
    lines = "".join(json.dumps(r) + "\n" for r in rows)
    (tmp_path / "k.jsonl").write_text(lines)
    with gzip.open(tmp_path / "k.jsonl.gz", "wt") as out:
        out.write(lines)
    for name in ("k.jsonl", "k.jsonl.gz"):
        assert texts(tmp_path / name, "A") == ["One. Two."]
        assert texts(tmp_path / name, "B") == ["One.\nTwo."]


def test_dict_and_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert texts({"Who?": "Nobody.", "L": ["a", "b"]}, "Who?") == ["Nobody."]
    assert texts({"A": "x"}, "B") == []
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"title": "A", "text": "One."}\n')
    assert texts(f"hf:{folder}@train", "A") == ["One."]
    (folder / "train.jsonl").write_text('{"title": "A", "body": "One."}\n')
    with pytest.raises(HarnessError, match="no column text"):
        open_knowledge(f"hf:{folder}")


def test_missing_pages_are_named() -> None:
    knowledge = open_knowledge({"A": "x"})
    message = str(missing_error(knowledge, [f"t{i}" for i in range(8)]))
    assert "no page for 8 topics: 't0', 't1', 't2', 't3', 't4' and 3 more" in message
    assert "for 1 topic: 't'." in str(missing_error(knowledge, ["t"]))


@given(st.text(alphabet="ab 1.,中文é\n", max_size=300), st.integers(min_value=1, max_value=20))
def test_cut_keeps_the_text_and_the_limit(text: str, limit: int) -> None:
    pieces = cut_words(text, limit)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    at = 0
    for piece in pieces:
        at = text.index(piece, at) + len(piece)  # slices, in order
        assert len(cut_words(piece, 1)) <= limit


def test_long_page_is_cut_at_256() -> None:
    page = " ".join(f"w{i}" for i in range(600))
    assert [len(t.split()) for t in texts({"P": page}, "P")] == [256, 256, 88]
    assert [len(t) for t in texts({"P": "字" * 300}, "P")] == [256, 44]


def test_cut_by_a_tokenizer(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")  # a token a character
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]").save_pretrained(tmp_path / "t")
    assert token_cut(str(tmp_path / "t"), 4)("abcdefghi") == ["abcd", "efgh", "i"]
    knowledge = open_knowledge({"P": "x" * 300}, tokenizer=str(tmp_path / "t"))
    assert [len(p.text) for p in knowledge.passages("P")] == [256, 44]
    with pytest.raises(HarnessError, match="cannot be loaded"):
        token_cut(str(tmp_path / "nowhere"))
