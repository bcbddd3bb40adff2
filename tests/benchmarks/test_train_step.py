"""The speed benchmark measures what it says on every side (its numbers are never asserted)."""

import pytest

from benchmarks.train_step import SIDES, biography_pairs, measure
from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.mask_dpo.pairs import read_pairs
from tests.helpers.tiny import save_pairs, save_tiny


@pytest.mark.slow
def test_every_side_measures_the_same_tokens(tmp_path):
    model, pairs = save_tiny(tmp_path / "tiny"), save_pairs(tmp_path / "p.jsonl", 4)
    rows = [measure(side, pairs, str(model), 2, tmp_path / str(n)) for n, side in enumerate(SIDES)]
    assert {row["tokens"] for row in rows} == {rows[0]["tokens"]} and rows[0]["tokens"] > 0
    assert all(row["seconds"] > 0 and row["peak_gib"] > 0 and row["pairs"] == 4 for row in rows)


def test_pairs_of_the_biographies(shared_data, tmp_path):
    biography_pairs(shared_data / "factscore_labeled", 5, tmp_path / "p.jsonl")
    pairs = list(read_pairs(tmp_path / "p.jsonl"))
    assert len(pairs) == 5 and all(p.prompt[0]["content"].startswith("Question: Tell me a bio") for p in pairs)
    with pytest.raises(HarnessError, match="wanted"):
        biography_pairs(shared_data / "factscore_labeled", 5000, tmp_path / "p.jsonl")
