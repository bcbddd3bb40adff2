"""Human labels: ANAH's tagged strings, FActScore's biographies, plain rows; what is malformed is kept and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factuality_harness.harness.annotation import Label
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.judging.labels import load_anah, load_biographies, load_rows, parse_annotation


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


EN: dict[str, Any] = {
    "name": "Port Lorne lighthouse",
    "documents": ["The lighthouse was lit in 1871.", "Its tower is 24 metres high. Ann Roe kept it until 1920."],
    "selected_questions": ["When was it lit?", "How high is it?", "Who kept it?"],
    "GPT3.5_answers_D": [
        "It was lit in 1871. I hope this helps!",
        "Its tower is 30 metres high. It is built of brick.",
        "Ann Roe kept it.",
    ],
    "InternLM_answers": ["In 1871.", "About 24 metres.", "Nobody knows."],
    "human_GPT3.5_answers_D_ann": [
        ["<Hallucination> None\n<Reference> The lighthouse was lit in 1871.", "<No Fact>"],
        [
            "<Hallucination> Contradictory\n<Reference> Its tower is 24 metres high. <SEP> It was lit in 1871.\n"
            "<Correction> “30 metres” to “24 metres”",
            "<Hallucination> Unverifiable\n<Reference> None",
        ],
        ["<Hallucination> Nonne\n<Reference> Ann Roe kept it until 1920."],
    ],
    "human_InternLM_answers_ann": [["<hallucination>none\n<reference>1871"], ["<Hallucination> None"], ["", ""]],
    "language": "en",
}
ZH = {
    "name": "洛恩灯塔",
    "documents": ["灯塔于1871年点亮。", "塔高24米。"],
    "selected_questions": ["何时点亮？", "塔有多高？", "谁看守？"],
    "GPT3.5_answers_D": ["灯塔于1871年点亮。希望对您有帮助。", "塔高30米。", "塔由砖砌成。"],
    "InternLM_answers": ["不知道。", "不知道。", "不知道。"],
    "human_GPT3.5_answers_D_ann": [
        ["<幻觉>无\n<参考>灯塔于1871年点亮。", "<无事实>"],
        ["<幻觉>矛盾\n<参考>塔高24米。\n<改正>“30米”改为“24米”"],
        ["<幻觉>无法验证"],
    ],
    "human_InternLM_answers_ann": None,
    "language": "zh",
}


@pytest.fixture
def anah_file(tmp_path: Path) -> Path:
    return write(tmp_path / "thing.jsonl", [EN, ZH])


def test_anah_in_both_languages(anah_file: Path) -> None:
    labels = load_anah(anah_file)
    found = [(r.claim.language, r.claim.sentence, r.label, r.evidence) for r in labels.rows]
    assert found == [
        ("en", "It was lit in 1871.", "ok", ("The lighthouse was lit in 1871.",)),
        ("en", "I hope this helps!", "nofact", ()),
        (
            "en",
            "Its tower is 30 metres high.",
            "contradictory",
            ("Its tower is 24 metres high.", "It was lit in 1871."),
        ),
        ("en", "It is built of brick.", "unverifiable", ()),
        ("en", "In 1871.", "ok", ("1871",)),
        ("en", "About 24 metres.", "ok", ()),
        ("zh", "灯塔于1871年点亮。", "ok", ("灯塔于1871年点亮。",)),
        ("zh", "希望对您有帮助。", "nofact", ()),
        ("zh", "塔高30米。", "contradictory", ("塔高24米。",)),
        ("zh", "塔由砖砌成。", "unverifiable", ()),
    ]
    assert labels.rows[0].claim.document == "\n".join(EN["documents"])
    assert labels.rows[0].topic == "Port Lorne lighthouse (en)"
    assert {r.groups["answers"] for r in labels.rows} == {"GPT3.5", "InternLM"}
    assert labels.typed


def test_malformed_annotations_are_kept_with_their_place(anah_file: Path) -> None:
    wrong, unequal = load_anah(anah_file).malformed
    assert wrong.where == "thing.jsonl, row 1, human_GPT3.5_answers_D_ann, answer 3, sentence 1"
    assert wrong.reason.startswith("hallucination type 'Nonne")
    assert (unequal.where, unequal.reason) == (
        "thing.jsonl, row 1, human_InternLM_answers_ann, answer 3",
        "2 annotations for 1 sentences",
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"human_InternLM_answers_ann": [["<No Fact>"]]}, "not one list of annotations for each"),
        ({"human_InternLM_answers_ann": "<No Fact>"}, "not one list of annotations for each"),
        ({"human_InternLM_answers_ann": [["<No Fact>"], None, ["<No Fact>"]]}, "its annotations are not a list"),
        ({"human_InternLM_answers_ann": [[7], ["<No Fact>"], ["<No Fact>"]]}, "int instead of an annotation string"),
    ],
)
def test_anah_answers_of_another_shape(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    labels = load_anah(write(tmp_path / "a.jsonl", [EN | {"human_GPT3.5_answers_D_ann": None} | change, ZH]))
    assert len(labels.malformed) == 1
    assert reason in labels.malformed[0].reason


def test_every_sound_sentence_is_a_row_or_malformed(tmp_path: Path) -> None:
    """A colon before a line break: the annotators' sentences may part there or not."""
    answer = "It has two floors:\nthe lower one is of stone.\nThe upper one is of wood."
    row = EN | {"InternLM_answers": [answer] * 3, "human_GPT3.5_answers_D_ann": None}
    ann = ["<Hallucination> None"]
    row["human_InternLM_answers_ann"] = [ann * 2, ann * 3, ann * 4]
    labels = load_anah(write(tmp_path / "a.jsonl", [row]))
    assert [len([r for r in labels.rows if r.claim.question == q]) for q in EN["selected_questions"]] == [2, 3, 0]
    assert len(labels.malformed) == 1


def test_bad_anah_rows(tmp_path: Path) -> None:
    for change, message in (
        ({"language": "fr"}, "row 1: language is 'fr'"),
        ({"documents": []}, "row 1: no reference document"),
    ):
        with pytest.raises(HarnessError, match=message):
            load_anah(write(tmp_path / "a.jsonl", [EN | change]))
    only_bad = EN | {"human_GPT3.5_answers_D_ann": None, "human_InternLM_answers_ann": [["x"], ["x"], ["x"]]}
    with pytest.raises(HarnessError, match=r"no usable human label in it; 3 are malformed.*no label in it"):
        load_anah(write(tmp_path / "a.jsonl", [only_bad]))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no label"),
        ("None", "no label"),
        ("<Reference> something", "no label"),
        ("<Hallucination>", "type '' is not known"),
        ("<Hallucination> maybe", "type 'maybe'"),
        ("<No Fact>\n<Hallucination> None", "2 labels"),
        ("<幻觉>无事", "type '无事'"),
        (None, "NoneType instead"),
    ],
)
def test_annotations_that_are_none(text: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_annotation(text)


PASSAGES = st.lists(st.text(st.characters(categories=["L", "N"]), min_size=5, max_size=9), min_size=1, max_size=3)


@given(
    st.sampled_from(
        [
            (
                "<Hallucination> ",
                "<Reference> ",
                {"None": "ok", "Contradictory": "contradictory", "Unverifiable": "unverifiable"},
            ),
            ("<幻觉>", "<参考>", {"无": "ok", "矛盾": "contradictory", "无法验证": "unverifiable"}),
        ]
    ),
    st.integers(0, 2),
    PASSAGES,
    st.sampled_from(["\n", " \n", "\n\n"]),
)
def test_annotations_are_read_back(tags: Any, kind: int, passages: list[str], gap: str) -> None:
    hallucination, reference, types = tags
    word = list(types)[kind]
    label, evidence = parse_annotation(f"{hallucination}{word}{gap}{reference}{'<SEP>'.join(passages)}{gap}")
    assert (label, evidence) == (Label(types[word]), tuple(p for p in passages if p.casefold() != "none"))


ROW = {"question": "Q?", "sentence": "S.", "document": "D.", "language": "en", "label": "ok"}


def test_plain_rows(tmp_path: Path) -> None:
    rows = [
        ROW | {"topic": "T", "frequency": "rare", "evidence": "D."},
        {k: v for k, v in ROW.items() if k != "sentence"}
        | {"response": "One. Two.", "span": [5, 9], "label": "nofact"},
        ROW | {"label": "true"},
    ]
    labels = load_rows(write(tmp_path / "l.jsonl", rows))
    first, second = labels.rows
    assert (first.topic, first.groups, first.evidence) == ("T", {"frequency": "rare"}, ("D.",))
    assert (second.topic, second.claim.sentence, second.label) == ("Q?", "Two.", "nofact")
    assert [m.where for m in labels.malformed] == ["l.jsonl, row 3"]
    assert "'true' is none of: ok," in labels.malformed[0].reason
    facts = load_rows(write(tmp_path / "f.jsonl", [ROW | {"label": label} for label in ("S", "NS", "IR", "nofact")]))
    assert not facts.typed


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{k: v for k, v in ROW.items() if k != "sentence"}], "row 1: give `sentence`, or `response` with its `span`"),
        ([ROW, ROW | {"sentence": " "}], "row 2: question, sentence and document must be text"),
        ([ROW | {"language": "de"}], "row 1: language is 'de'"),
        ([ROW, ROW | {"label": "NS"}], "labels of two kinds"),
        ([ROW, ROW | {"evidence": 5}], "row 2: evidence must be text or a list of texts, not 5"),
        ([ROW | {"evidence": ["D.", None]}], "row 1: evidence must be text"),
        ([ROW | {"label": "?"}], "no usable human label in it; 1 are malformed"),
        ([{k: v for k, v in ROW.items() if k != "document"}], "row 1: missing document"),
    ],
)
def test_bad_rows(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        load_rows(write(tmp_path / "l.jsonl", rows))


def biography(topic: str, *sentences: tuple[str, bool, list[tuple[str, str]] | None]) -> dict[str, Any]:
    return {
        "input": f"Question: Tell me a bio of {topic}.",
        "output": " ".join(s for s, _, _ in sentences),
        "topic": topic,
        "cat": ["very rare", "Europe/Middle East"],
        "annotations": [
            {
                "text": text,
                "is-relevant": relevant,
                "human-atomic-facts": None if facts is None else [{"text": t, "label": x} for t, x in facts],
            }
            for text, relevant, facts in sentences
        ]
        or None,
    }


def biographies(folder: Path) -> Path:
    folder.mkdir()
    one = [
        biography(
            "Ada",
            ("Ada wrote two books.", True, [("Ada wrote.", "S"), ("Ada wrote two books.", "NS")]),
            ("Ada lived in Rome.", True, [("Ada lived in Rome.", "S"), ("Rome is big.", "IR")]),
            ("Rome is old.", True, [("Rome is old.", "IR")]),
            ("I hope this helps.", False, None),
            ("Ada sang.", True, None),
        ),
        biography("Ben", ("Ben ran.", True, [("Ben ran.", "NS"), ("Ben ran.", "?")])),
    ]
    two = [biography("Ada", ("Ada rowed.", True, [("Ada rowed.", "S"), ("Ada flew.", "NS")])), biography("Ben")]
    write(folder / "One.jsonl", one)
    write(folder / "Two.jsonl", two)
    return folder


def test_biographies_by_fact_and_by_sentence(tmp_path: Path) -> None:
    folder = biographies(tmp_path / "bios")
    facts = load_biographies(folder)
    assert [(r.topic, r.claim.sentence, r.label) for r in facts.rows] == [
        ("Ada", "Ada wrote.", "S"),
        ("Ada", "Ada wrote two books.", "NS"),
        ("Ada", "Ada lived in Rome.", "S"),
        ("Ada", "Rome is big.", "IR"),
        ("Ada", "Rome is old.", "IR"),
        ("Ada", "Ada rowed.", "S"),
        ("Ada", "Ada flew.", "NS"),
    ]
    assert {r.claim.document for r in facts.rows[:5]} == {"Ada rowed."}
    assert {r.claim.document for r in facts.rows[5:]} == {"Ada wrote.\nAda lived in Rome."}
    assert facts.rows[0].groups == {"answers": "One", "frequency": "very rare", "region": "Europe/Middle East"}
    assert len(facts.malformed) == 2  # a fact with an unknown label, a relevant sentence without facts
    # Of Ben one system says nothing, so that the other's answer has nothing to be checked against.
    why = "1 hold no labelled fact (abstentions among them), 1 have nothing to be checked against."
    assert f"2 of 4 answers are used: {why}" in facts.caveats
    sentences = load_biographies(folder, "sentence")
    assert [r.label for r in sentences.rows] == ["NS", "S", "IR", "nofact", "NS"]


def test_biographies_against_pages(tmp_path: Path) -> None:
    folder = biographies(tmp_path / "bios")
    page = " ".join(f"Filler number {i} speaks of other things altogether." for i in range(400)) + " Ada lived in Rome."
    pages = write(tmp_path / "pages.jsonl", [{"title": "Ada", "text": page}])
    labels = load_biographies(folder, knowledge=pages)
    assert {r.topic for r in labels.rows} == {"Ada"}
    rome = next(r for r in labels.rows if r.claim.sentence == "Ada lived in Rome.")
    assert "Ada lived in Rome." in rome.claim.document
    assert len(rome.claim.document) < len(page)
    assert not any("lower bound" in c for c in labels.caveats)


def test_biographies_need_another_system(tmp_path: Path) -> None:
    folder = biographies(tmp_path / "bios")
    (folder / "Two.jsonl").unlink()
    with pytest.raises(HarnessError, match=r"holds 1 \.jsonl files; give a knowledge source"):
        load_biographies(folder)
    with pytest.raises(HarnessError, match="unit 'word' is not known"):
        load_biographies(folder, "word")


def test_a_sample_of_topics(anah_file: Path) -> None:
    labels = load_anah(anah_file)
    assert labels.of_topics(None) is labels
    assert labels.of_topics(9).rows == labels.rows
    one = labels.of_topics(1, seed=3)
    assert len({r.topic for r in one.rows}) == 1
    assert one == labels.of_topics(1, seed=3)
    assert "1 of 2 topics, drawn with seed 3" in one.caveats[-1]
    assert len({labels.of_topics(1, seed=s).rows[0].topic for s in range(9)}) == 2
    with pytest.raises(HarnessError, match="at least one"):
        labels.of_topics(0)


def test_one_language(anah_file: Path) -> None:
    labels = load_anah(anah_file).in_language("zh")
    assert {r.claim.language for r in labels.rows} == {"zh"}
    assert len(labels.rows) == 4
    with pytest.raises(HarnessError, match="'fr' is not supported"):
        labels.in_language("fr")
    with pytest.raises(HarnessError, match="no human label in language 'en'; there are labels in: zh"):
        labels.in_language("en")
