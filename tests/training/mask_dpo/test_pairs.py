"""The official preference format, read and written."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from factuality_harness.harness.annotation import Label, Sentence
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.sentences import split
from factuality_harness.training.mask_dpo.pairs import (
    LabelledResponse,
    Pair,
    locate,
    pair_to_dict,
    read_pairs,
    write_pairs,
)

TEXT = "It is red.  It is blue.\nWho knows."
OFFICIAL = {
    "prompt": [{"role": "user", "content": "What colour?"}],
    "chosen": [{"role": "assistant", "content": TEXT}],
    "chosen_item": {
        "sents": ["It is red.", "It is blue.", "Who knows."],
        "type": ["no_hallucination", "hallucination", "no_hallucination"],
    },
    "rejected": [{"role": "assistant", "content": "It is green."}],
    "rejected_item": {"sents": ["It is green."], "type": ["hallucination"]},
}


def write(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def changed(**changes) -> dict:
    row = json.loads(json.dumps(OFFICIAL))
    for place, value in changes.items():
        *parents, last = place.split("__")
        target = row
        for parent in parents:
            target = target[parent]
        target[last] = value
    return row


def test_an_official_row_gives_exact_spans(tmp_path):
    (pair,) = read_pairs(write(tmp_path / "p.jsonl", OFFICIAL))
    assert [TEXT[s.start : s.end] for s in pair.chosen.sentences] == OFFICIAL["chosen_item"]["sents"]
    assert pair.chosen.labels == (Label.OK, Label.CONTRADICTORY, Label.OK)
    assert pair.where.endswith("p.jsonl, row 1")
    compressed = tmp_path / "p.jsonl.gz"
    compressed.write_bytes(gzip.compress((tmp_path / "p.jsonl").read_bytes()))
    assert [p.chosen for p in read_pairs(compressed)] == [pair.chosen]


def test_sentences_the_reference_rewrote_are_found():
    found = locate("1. First : item\n\n2.  Second", ["1. First: item", "2. Second"])
    assert [(s.start, s.end) for s in found] == [(0, 15), (17, 27)]


texts = st.lists(st.sampled_from(["Red.", "It is  blue.", "她出生。", "😀!", "No. 5"]), min_size=1, max_size=6)


@given(texts, st.sampled_from([" ", "\n", "  \n"]), st.lists(st.sampled_from(list(Label)), min_size=6, max_size=6))
def test_what_is_written_is_read_back(tmp_path_factory, parts, gap, labels):
    text = gap.join(parts)
    sentences = tuple(split(text, "en"))
    response = LabelledResponse(text, sentences, tuple(labels[i % 6] for i in range(len(sentences))))
    pair = Pair(({"role": "user", "content": "Q"},), response, response, topic="T")
    path = tmp_path_factory.mktemp("pairs") / "p.jsonl"
    assert write_pairs(path, [pair]) == 1
    (back,) = read_pairs(path)
    assert (back.prompt, back.chosen, back.rejected, back.topic) == (pair.prompt, response, response, "T")


def test_the_reference_sees_the_same_masks_in_what_we_write():
    labels = tuple(Label)
    text = " ".join("ABCDE")
    response = LabelledResponse(text, tuple(Sentence(c, 2 * i, 2 * i + 1) for i, c in enumerate("ABCDE")), labels)
    row = pair_to_dict(Pair(({"role": "user", "content": "Q"},), response, response))
    chosen = dict(zip(labels, row["chosen_item"]["type"], strict=True))
    rejected = dict(zip(labels, row["rejected_item"]["type"], strict=True))
    assert [label for label in labels if chosen[label] == "no_hallucination"] == [Label.OK, Label.NOFACT]
    assert [label for label in labels if rejected[label] == "hallucination"] == [
        Label.CONTRADICTORY,
        Label.UNVERIFIABLE,
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({k: v for k, v in OFFICIAL.items() if k != "rejected_item"}, "missing rejected_item"),
        (changed(chosen_item={"sents": ["It is red."]}), "must hold sents and type"),
        (changed(chosen_item__sents=["It is red.", "It is pink.", "Who knows."]), "sentence 2 is not in the response"),
        (changed(chosen_item__sents=["It is red.", "It is blue.", ""]), "sentence 3 is empty"),
        (changed(chosen_item={"sents": ["It is red."], "type": ["hallucination"]}), "no sentence holds the end"),
        (changed(chosen_item={"sents": ["Who knows."], "type": ["hallucination"]}), "no sentence holds 'Itisred"),
        (changed(chosen_item__type=["hallucination"]), "3 sentences but 1 types"),
        (changed(rejected_item__type=["maybe"]), "unknown type 'maybe'"),
        (changed(rejected_item__type=[["hallucination"]]), "unknown type ['hallucination']"),
        (changed(rejected_item__labels=["maybe"]), "'maybe' is not a valid Label"),
        (changed(rejected_item__labels=[]), "labels is no list of that length"),
        (changed(rejected_item__spans=[[0, 3]]), "are not the next sentence"),
        (changed(rejected_item__spans=[[0, 99]]), "are not the next sentence"),
        (changed(rejected_item={"sents": [""], "type": ["hallucination"], "spans": [[0, 0]]}), "sentence 1 is empty"),
        (changed(rejected_item__spans=[[0]]), "is no span"),
        (changed(rejected_item__spans=[]), "spans is no list of that length"),
        (changed(rejected=[{"role": "assistant", "content": " "}]), "rejected: the response is empty"),
        (changed(rejected="It is green."), "rejected must be a list of one message"),
        (changed(prompt="What colour?"), "prompt must be a list of messages"),
        (changed(rejected_item__sents="It is green."), "sents must be a list of texts"),
    ],
)
def test_bad_rows_name_file_and_row(tmp_path, row, message):
    path = write(tmp_path / "p.jsonl", OFFICIAL, row)
    with pytest.raises(HarnessError, match=r"p\.jsonl, row 2: ") as caught:
        list(read_pairs(path))
    assert message in str(caught.value)


def test_a_truncated_file(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(OFFICIAL) + "\n" + json.dumps(OFFICIAL)[:50])
    with pytest.raises(HarnessError, match=r"row 2: .*truncated"):
        list(read_pairs(path))


def test_a_topic_may_be_missing(tmp_path):
    pairs = read_pairs(write(tmp_path / "p.jsonl", OFFICIAL, changed(topic=None), changed(topic="Red")))
    assert [pair.topic for pair in pairs] == ["", "", "Red"]


def test_labels_must_fit_the_sentences():
    with pytest.raises(HarnessError, match="1 sentences but 0 labels"):
        LabelledResponse("A.", (Sentence("A.", 0, 2),), ())


@pytest.mark.parametrize("official", [True, False], ids=["official", "ours"])
def test_the_same_pairs_from_parquet_and_from_the_hub(tmp_path, official):
    """Of the hub a folder stands in, which `datasets` reads the same way."""
    rows = [changed(topic=f"t{n}") for n in range(3)]
    rows[1].pop("topic")  # a column that not every row has
    path = write(tmp_path / "p.jsonl", *rows)
    if not official:
        write_pairs(path, read_pairs(path))
    expected = [pair_to_dict(pair) for pair in read_pairs(path)]
    (tmp_path / "hub").mkdir()
    data = Dataset.from_list([json.loads(line) for line in path.read_text().splitlines()])
    for file in (tmp_path / "p.parquet", tmp_path / "hub" / "train.parquet"):
        data.to_parquet(file)
    for source in (tmp_path / "p.parquet", f"hf:{tmp_path / 'hub'}", f"hf:{tmp_path / 'hub'}@train"):
        assert [pair_to_dict(pair) for pair in read_pairs(source)] == expected
    with pytest.raises(HarnessError, match=r"hf:.*: no column chosen_item; it has prompt, "):
        data.remove_columns("chosen_item").to_parquet(tmp_path / "hub" / "train.parquet")
        next(read_pairs(f"hf:{tmp_path / 'hub'}"))
    data.remove_columns("chosen_item").to_parquet(tmp_path / "p.parquet")
    with pytest.raises(HarnessError, match=r"p\.parquet, row 1: missing chosen_item"):
        next(read_pairs(tmp_path / "p.parquet"))
