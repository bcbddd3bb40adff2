"""Leak checks: overlap against a plain count, every kind of file, topics, and the command."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factuality_harness.harness.compared import ComparedRow, as_row, read_rows
from factuality_harness.harness.contamination import find_overlap, leaks
from factuality_harness.harness.data import anah
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.ngrams import Ngrams
from factuality_harness.harness.words import tokens
from tests.helpers.cli import command as factuality

main = factuality("contamination")

QUESTION = "When did Marie Curie receive the Nobel Prize in Physics together with Pierre Curie and Henri Becquerel?"


def row(question: str = "", text: str = "", topic: str = "", where: str = "train, row 1") -> ComparedRow:
    return ComparedRow(topic, (question,) * bool(question), (text,) * bool(text), "", where)


def share(question: str, texts: list[str], sizes: tuple[int, int]) -> float:
    """The plain way: sets of n-grams."""
    words = tokens(question)
    chinese = sum("\u3400" <= w <= "\u9fff" for w in words) * 2 > len(words)
    n = min(sizes[chinese], len(words))
    if not words:
        return 0.0
    asked = {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}
    there = {tuple(t[i : i + n]) for t in map(tokens, texts) for i in range(len(t) - n + 1)}
    return len(asked & there) / len(asked)


WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "居", "里", "夫"]), max_size=14).map(" ".join)


@given(st.lists(WORDS, min_size=1, max_size=5), st.lists(WORDS, max_size=4), st.integers(1, 6), st.integers(1, 6))
def test_shares_are_those_of_sets_of_ngrams(questions: list[str], texts: list[str], n: int, zh: int) -> None:
    found = Ngrams(questions, (n, zh)).shares(texts)
    assert [found.get(i, 0.0) for i in range(len(questions))] == pytest.approx(
        [share(q, texts, (n, zh)) for q in questions]
    )


def test_the_row_with_the_largest_share_is_named() -> None:
    train = [
        row(text="In 1903 " + QUESTION[:60], where="f, row 1"),
        row(text=f"Exam: {QUESTION.upper()} Answer: 1903.", where="f, row 2"),
        row(text=QUESTION[20:], where="f, row 3"),
    ]
    (finding,) = find_overlap(train, [row(QUESTION, where="t, row 1")], sizes=(5, 5)).findings
    assert (finding.overlap, finding.found_in, finding.duplicate) == (1.0, "f, row 2", "")


def test_duplicates_but_for_case_width_and_punctuation() -> None:
    train = [row("who was ＡＤＡ Lovelace", where="f, row 7"), row("居里夫人是谁", where="f, row 8")]
    found = find_overlap(train, [row("Who was Ada Lovelace?"), row("居里夫人是谁？"), row("Who was Ada?")]).findings
    assert [f.duplicate for f in found] == ["f, row 7", "f, row 8", ""]


def test_chinese_is_counted_in_characters() -> None:
    question = "居里夫人在哪一年获得诺贝尔物理学奖"
    train = [row(text="她在哪一年获得诺贝尔化学奖")]
    found = find_overlap(train, [row(question)], sizes=(13, 4)).findings[0]
    assert found.overlap == pytest.approx(share(question, ["她在哪一年获得诺贝尔化学奖"], (13, 4)))
    assert 0.4 < found.overlap < 0.6


def test_embedding_finds_the_paraphrase() -> None:
    train = [
        row("How tall is the Eiffel Tower?", where="f, row 1"),
        row("Who founded the Red Cross?", where="f, row 2"),
    ]
    (finding,) = find_overlap(train, [row("Who was the founder of the Red Cross?")], embedding="tfidf").findings
    assert finding.near == "f, row 2: Who founded the Red Cross?"
    assert finding.similarity is not None
    assert 0.5 < finding.similarity < 1


def write(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return str(path)


MESSAGE = [{"role": "assistant", "content": "She was born in Warsaw."}]
KINDS: dict[str, dict[str, Any]] = {
    "question": {"topic": "Curie", "question": QUESTION, "document": "Born in Warsaw.", "language": "en"},
    "anah": {
        "name": "Curie",
        "selected_questions": ["Who?", QUESTION],
        "documents": ["Born in Warsaw."],
        "language": "en",
    },
    "pair": {
        "prompt": [{"role": "user", "content": QUESTION}],
        "chosen": MESSAGE,
        "rejected": MESSAGE,
        "topic": "Curie",
    },
    "sample": {"doc_id": 0, "doc": {"question": QUESTION, "topic": "Curie", "document": "d"}, "resps": [["She was."]]},
    "response": {"question": QUESTION, "response": "She was born in Warsaw.", "topic": "Curie"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_on_both_sides(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", KINDS[kind])
    report = find_overlap(read_rows(path), list(read_rows(path)))
    finding = report.findings[-1]
    assert (finding.question, finding.overlap) == (QUESTION, 1.0)
    assert finding.duplicate.endswith("rows.jsonl, row 1")
    assert report.shared_topics == ("Curie",)
    assert "in Warsaw" in " ".join(next(read_rows(path)).texts) or kind == "sample"


def test_shared_topics() -> None:
    test = [as_row(q) for q in anah.load_mini("test")]
    train = anah.load_mini("train")

    def shared(rows: list[dict[str, Any]]) -> list[str]:
        return list(find_overlap([*map(as_row, train), *map(as_row, rows)], test).shared_topics)

    assert shared([]) == []
    held = anah.load_mini("test")[0]
    assert shared([{"topic": f" {held.topic.upper()}", "prompt": [{"role": "user", "content": "x"}]}]) == [held.topic]
    renamed = {"topic": "another name", "question": "x", "document": held.document.replace(" ", "\n")}
    assert shared([renamed]) == [held.topic]
    bare = [as_row({"question": "x"})]
    assert find_overlap(bare, bare).shared_topics == ()  # neither topic nor document


DOCUMENT = (
    "Marie Curie was born in Warsaw in 1867 and moved to Paris in 1891, where she studied physics at the Sorbonne. "
    "With her husband she found two elements, polonium and radium, and shared a prize with him and Henri Becquerel. "
    "After his death in 1906 she took over his chair and was the first woman to teach at the university."
)
OTHER = (
    "Lise Meitner was born in Vienna in 1878 and moved to Berlin in 1907, where she studied physics with Max Planck. "
    "With a colleague she found one element, protactinium, and explained what becomes of a nucleus hit by a neutron."
)
ZH = "居里夫人一八六七年生于华沙，后来到巴黎求学，与丈夫一起发现了钋和镭，是第一位获得诺贝尔奖的女性。"


@pytest.mark.parametrize(
    ("train", "why"),
    [
        ({"question": "Where did she study?", "document": DOCUMENT}, "topics"),
        ({"question": "Where did she study?", "document": f"Marie Curie | {DOCUMENT} See also: radium."}, "document"),
        ({"question": "Where did she study?", "document": DOCUMENT[: len(DOCUMENT) // 2]}, "document"),
        ({"question": f"{QUESTION.upper()}", "document": OTHER}, "questions"),
        ({"question": f"Answer in one sentence. {QUESTION}", "document": OTHER}, "questions"),
        ({"prompt": [{"role": "user", "content": QUESTION}], "chosen": "A", "rejected": "B"}, "questions"),
        ({"prompt": f"Read this: {DOCUMENT} Who?", "chosen": "A", "rejected": "B"}, "document"),
        ({"question": "她在哪里求学？", "document": f"{ZH}人物。", "language": "zh"}, "document"),
        ({"question": "Where did she study?", "document": OTHER}, ""),
        ({"question": QUESTION.replace("Physics", "Chemistry"), "document": OTHER}, ""),
        ({"question": "Who?", "document": OTHER + DOCUMENT[:110]}, ""),  # a sentence in common
        ({"question": QUESTION[:40], "document": OTHER}, ""),
    ],
)
def test_rows_without_topic_are_compared_by_question_and_document(train: dict[str, Any], why: str) -> None:
    test = [
        {"question": QUESTION, "document": DOCUMENT},
        {"question": "居里夫人是第几位获得诺贝尔奖的女性？", "document": ZH},
    ]
    found = leaks(find_overlap([as_row(train)], [as_row(row) for row in test]))
    assert [why in line for line in found[:1]] == [True] * bool(why), found


def test_documents_of_one_form_on_named_topics_are_not_the_same() -> None:
    """The fact world's: but for names and a few values they agree."""
    train, test = (list(read_rows(f"world:0:{part}")) for part in ("train", "test"))
    assert leaks(find_overlap(train, test)) == []


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write(tmp_path / "train.jsonl", KINDS["pair"])
    test = write(tmp_path / "test.jsonl", KINDS["question"])
    out = tmp_path / "new" / "report.json"
    command = ["--train", train, "--test", test, "--out", str(out)]
    assert main(command) == 0
    assert "1 asked again word for word" in capsys.readouterr().out
    data = json.loads(out.read_text())
    assert data["findings"][0]["overlap"] == 1.0
    assert data["shared_topics"] == ["Curie"]
    assert set(data["manifest"]["settings"]["files"]) == {train, test}
    for extra in (
        ["--fail-above", "0.5"],
        ["--fail-on-topics"],
        ["--embedding", "tfidf", "--fail-above-cosine", "0.9"],
    ):
        with pytest.raises(SystemExit) as stop:
            main([*command[:4], *extra])
        assert stop.value.code == 1
        assert "failed: 1 test" in capsys.readouterr().err
    assert main(["--train", "mini:train", "--test", "mini:test", "--fail-above", "0.5", "--fail-on-topics"]) == 0
    assert main(["--train", "world:0:train", "--test", "world:0:test", "--fail-on-topics"]) == 0


@pytest.mark.parametrize("source", ["mini", "mini:test", "anah_factuality_mini"])
def test_names_of_questions_and_of_tasks_on_both_sides(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--train", source, "--test", "mini:test"]) == 0
    said = capsys.readouterr().out
    asked = len(anah.load_mini("test"))
    assert f"{asked} test questions" in said
    assert f"{asked} asked again word for word" in said


def test_a_folder_of_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pairs").mkdir()
    for name in "ab":
        write(tmp_path / "pairs" / f"{name}.jsonl", KINDS["pair"])
    assert main(["--train", str(tmp_path / "pairs"), "--test", write(tmp_path / "t.jsonl", KINDS["question"])]) == 0
    assert "1 test questions against 2 training rows: 1 asked again word for word" in capsys.readouterr().out


def test_rows_without_a_topic_do_not_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = {"prompt": [{"role": "user", "content": "Where was she born?"}], "chosen": MESSAGE, "rejected": MESSAGE}
    command = ["--train", write(tmp_path / "p.jsonl", pair, pair | {"topic": "Curie"}), "--test", "mini:test"]
    assert main(command) == 0
    assert "warning: 1 training rows name no topic or document" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main([*command, "--fail-on-topics"])
    assert stop.value.code == 1
    assert "failed: 1 training rows name no topic or document" in capsys.readouterr().err


def test_an_exact_duplicate_shares_its_topic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    renamed = KINDS["pair"] | {"topic": "Maria Skłodowska"}
    sides = write(tmp_path / "train.jsonl", renamed), write(tmp_path / "test.jsonl", KINDS["question"])
    with pytest.raises(SystemExit):
        main(["--train", sides[0], "--test", sides[1], "--fail-on-topics"])
    assert "\nfailed: 1 test questions are in the training set (When did" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--train", "mini:train", "--test", "mini:test", "--out", "."], "--out .: is a folder"),
        (["--train", "absent.jsonl", "--test", "mini:test"], "absent.jsonl: no such file or folder"),
        pytest.param(
            ["--train", "mini:train", "--test", "no_task"],
            "no_task: neither a file or folder, hf:REPO[@SPLIT], mini[:PART]",
            marks=pytest.mark.slow,  # lm_eval reads all its tasks
        ),
        (["--train", "mini:train", "--test", "mini:half"], "split 'half' is not known"),
        (["--train", "mini:train", "--test", "world:train"], "world:SEED:PART"),
        (["--train", "mini:train", "--test", "mini:test", "--ngram", "0"], "at least one"),
        (["--train", "mini:train", "--test", "mini:test", "--fail-above-cosine", "1"], "needs an --embedding"),
    ],
)
def test_bad_commands(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 2
    assert message in capsys.readouterr().err


def test_bad_rows_are_named(tmp_path: Path) -> None:
    good = write(tmp_path / "good.jsonl", KINDS["question"])
    with pytest.raises(HarnessError, match=r"bad\.jsonl, row 2: no question, document"):
        find_overlap(read_rows(write(tmp_path / "bad.jsonl", KINDS["pair"], {"id": 3})), list(read_rows(good)))
    with pytest.raises(HarnessError, match=r"bad\.jsonl, row 1: not a row"):
        list(read_rows(write(tmp_path / "bad.jsonl", {"prompt": [3]})))
    for bad, message in (
        ({"question": {"a": 1}}, r"row 1: question must be text or a list of texts, not \{'a': 1\}"),
        ({"selected_questions": ["Who?", 3]}, "row 1: question must be text"),
        ({"question": "Who?", "documents": {"a": "b"}}, "row 1: document must be text"),
    ):
        with pytest.raises(HarnessError, match=rf"bad\.jsonl, {message}"):
            list(read_rows(write(tmp_path / "bad.jsonl", bad)))
    with pytest.raises(HarnessError, match="holds no question"):
        find_overlap(read_rows(good), list(read_rows(write(tmp_path / "d.jsonl", {"topic": "a", "document": "d"}))))


def test_a_twentieth_of_a_large_training_set_takes_seconds() -> None:
    """8 000 documents of 3 000 words must take under a minute."""
    questions = anah.load_mini("test")
    words = " ".join(q.document for q in questions if q.language == "en").split()
    rng = np.random.default_rng(0)
    texts = [" ".join(words[i] for i in rng.integers(len(words), size=3000)) for _ in range(40)]
    train = [row(text=text) for text in texts * 10]
    start = time.process_time()
    find_overlap(train, [row(q.question) for q in questions])
    assert time.process_time() - start < 12
