"""How far the reference implementation's masks lie from the exact ones."""

from __future__ import annotations

import csv
import json

import pytest
from transformers import AutoTokenizer

from benchmarks.reference_mask_error import (
    length_sum_mask,
    pair_errors,
    reference_mask_error,
    response_error,
    summarise_errors,
)
from factuality_harness.harness.annotation import COUNTING, Label
from factuality_harness.harness.commands import entry
from factuality_harness.training.mask_dpo.pairs import Pair
from tests.helpers.paths import ROOT
from tests.helpers.tiny import labelled, save_pairs, tiny_tokenizer

QUESTION = ({"role": "user", "content": "Who was Ada?"},)


def main(words: list[object]) -> int:
    return entry(reference_mask_error, [str(word) for word in words])


def test_the_references_borders_shift_at_white_space(smollm2):
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    exact = labelled([("It is red.", " ", Label.OK), ("It is blue.", "", Label.CONTRADICTORY)])
    assert response_error(QUESTION, exact, tokenizer, COUNTING["chosen"]).different == 0
    gap = labelled(
        [("It is red.", "\n\n\n", Label.OK), ("It is blue.", "\n\n", Label.CONTRADICTORY), ("Yes.", "", Label.OK)]
    )
    measured = response_error(QUESTION, gap, tokenizer, COUNTING["chosen"])
    assert measured.different > 0 and measured.still_trained > 0
    assert summarise_errors([measured])["wrong_mask"] == round(measured.different / measured.tokens, 4)


def test_the_reference_masks_token_zero_and_falls_back_past_the_end():
    chosen, ok, wrong = COUNTING["chosen"], Label.OK, Label.CONTRADICTORY
    assert length_sum_mask([ok], [3], [5, 0, 7], chosen) == [1, 0, 1]
    assert length_sum_mask([ok, wrong], [1, 1], [5, 6, 7], chosen) == [1, 0, 1]
    assert length_sum_mask([ok, wrong], [2, 2], [5, 6, 7], chosen) is None
    assert length_sum_mask([wrong, ok], [2, 2], [5, 6, 7], chosen) == [0, 0, 1]


def test_a_fall_back_takes_the_masks_of_both_sides(smollm2):
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    # Without the blank before it each "Wendy" is a token longer, and the last sentence has to be masked.
    long = labelled([("Wendy sings.", " ", Label.CONTRADICTORY)] * 10)
    fine = labelled([("It is red.", " ", Label.CONTRADICTORY), ("It is blue.", "", Label.OK)])
    assert response_error(QUESTION, long, tokenizer, COUNTING["chosen"]).fell_back
    assert not response_error(QUESTION, fine, tokenizer, COUNTING["rejected"]).fell_back
    chosen, rejected = pair_errors(Pair(QUESTION, long, fine), tokenizer)
    assert chosen.fell_back and rejected.fell_back
    assert chosen.still_trained == chosen.masked > 0 and rejected.still_trained == rejected.masked > 0


def test_white_space_between_sentences_by_either_rule(smollm2):
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    response = labelled([("It is red.", "\n", Label.CONTRADICTORY), ("Yes.", "", Label.OK)])
    by_rule = response_error(QUESTION, response, tokenizer, COUNTING["chosen"])
    always = response_error(QUESTION, response, tokenizer, COUNTING["chosen"], gaps_count=True)
    assert (by_rule.tokens, by_rule.masked, by_rule.different) == (always.tokens, always.masked + 1, 1)
    assert always.different == 0


@pytest.mark.slow
def test_the_table_is_the_committed_one_and_has_the_stated_errors(smollm2, shared_data, tmp_path):
    """2.3 % of tokens, 1.9 % a response (1.85), up to 54.5 %, 2.8 % of those to mask, 2 of 339 that fall back."""
    out = tmp_path / "error.csv"
    assert main(["--tokenizer", smollm2, "--biographies", shared_data / "factscore_labeled", "--out", out]) == 0
    assert out.read_bytes() == (ROOT / "results" / "masks" / "drift.csv").read_bytes()
    (row,) = [r for r in csv.DictReader(out.open()) if r["white_space_between"] == "always trained"]
    assert (row["responses"], row["fell_back"]) == ("339", "2")
    shares = [float(row[k]) for k in ("wrong_mask", "wrong_mask_mean", "wrong_mask_max", "still_trained")]
    assert shares == pytest.approx([0.023, 0.019, 0.545, 0.028], abs=5.1e-4)


def test_the_command(tmp_path, capsys):
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    sentences = [("It is red.", "S"), ("It is blue.", "NS")]
    row = {
        "input": "Question: Tell me a bio of A.",
        "output": "It is red. It is blue.",
        "topic": "A",
        "cat": [],
        "annotations": [
            {"text": t, "is-relevant": True, "human-atomic-facts": [{"text": t, "label": label}]}
            for t, label in sentences
        ],
    }
    for name in ("ChatGPT", "InstructGPT"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    tokenizer, out = ["--tokenizer", tmp_path / "tokenizer"], tmp_path / "error.csv"
    assert main([*tokenizer, "--biographies", tmp_path, "--out", out]) == 0
    assert "ChatGPT,chosen,sentence before,1," in out.read_text()
    assert json.loads((tmp_path / "error.manifest.json").read_text())["settings"] == {"tokenizer": "tokenizer"}
    capsys.readouterr()
    assert main([*tokenizer, "--pairs", save_pairs(tmp_path / "pairs.jsonl", 2)]) == 0
    assert json.loads(capsys.readouterr().out)["responses"] == 4
    assert main(tokenizer) == 2
    assert "give --pairs FILE, or --biographies" in capsys.readouterr().err
    (tmp_path / "ChatGPT.jsonl").write_text(json.dumps(row | {"output": "It is red."}) + "\n")
    assert main([*tokenizer, "--biographies", tmp_path, "--out", out]) == 2
    assert "ChatGPT.jsonl, A: sentence 2 is not in the response" in capsys.readouterr().err
