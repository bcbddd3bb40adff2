"""The published numbers, and what does not fit together in them."""

import shutil

import pytest

from factuality_harness.analysis.tables.paper import KEYS, PAPER, load_paper, oddities
from factuality_harness.harness.errors import HarnessError


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(PAPER, tmp_path / "paper")


def edit(folder, name, old, new):
    file = folder / name
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_results_paper_equals_the_published_numbers(shared_data):
    for file in sorted((shared_data / "paper").glob("*.csv")):
        assert (PAPER / file.name).read_bytes() == file.read_bytes()
    assert len(list(PAPER.glob("*.csv"))) == 12


def test_every_row_has_a_name_of_its_own():
    for table in load_paper().values():
        assert len({table.label(row) for row in table.rows}) == len(table.rows) > 1
        assert set(table.keys).isdisjoint(table.values)


def test_the_known_oddities_are_found():
    found = oddities(load_paper())
    assert any("factscore_correct is 5.0 here and 5.90 in table 1" in note for note in found[3])
    assert [n for n in found[5] if "printed difference" in n] == [
        "Llama3.1-8B, Random: the printed difference is 0.56, the printed scores 71.11 and 70.6 differ by 0.51"
    ]
    assert [n for n in found[8] if "not the printed score" in n] == [
        "SePO: the printed counts 254 and 611.4 give 29.35, not the printed score 58.45 (swapped they give 70.65)"
    ]
    assert not any(
        "not the printed score" in n or "printed difference" in n for k in (1, 2, 3, 4, 12) for n in found[k]
    )


def test_oddities_are_computed(copy):
    edit(copy, "table03_sampling_ablation.csv", "5.0,18.59", "5.9,18.59")
    edit(copy, "table05_near_far.csv", "0.56", "0.51")
    edit(copy, "table08_preference_optimization.csv", "SePO,254,611.4,58.45", "SePO,254,611.4,29.35")
    edit(copy, "table12_question_clustering.csv", "near,518,195,71.92,0.23", "near,195,518,71.92,0.29")
    found = oddities(load_paper(copy))
    assert not found[3] or not any("5.0 here" in note for note in found[3])
    assert not any("printed difference" in note for note in found[5])
    assert not any("SePO" in note for note in found[8])
    assert len([n for n in found[12] if "not the printed score" in n or "printed difference" in n]) == 2


def test_scores_follow_from_counts():
    table = load_paper()[1]
    llama = next(row for row in table.rows if row["model"] == "Llama3.1-8B")
    assert table.recomputed(llama, "anah_v2_") == pytest.approx(100 * 461 / 937)
    assert table.counted() == ("anah_v2_",)


def test_missing_or_damaged_tables_are_named(copy):
    edit(copy, "table02_mask_ablation.csv", "446.6", "446,6.")
    with pytest.raises(HarnessError, match=r"table02_mask_ablation\.csv, row 2: not 7 fields"):
        load_paper(copy)
    edit(copy, "table02_mask_ablation.csv", "446,6.", "4x6")
    with pytest.raises(HarnessError, match=r"row 2: anah_v2_correct is '4x6', which is no number"):
        load_paper(copy)
    edit(copy, "table02_mask_ablation.csv", "setting", "set")
    with pytest.raises(HarnessError, match=r"lacks the column setting"):
        load_paper(copy)
    (copy / "table07_sft.csv").unlink()
    edit(copy, "table02_mask_ablation.csv", "set,", "setting,")
    edit(copy, "table02_mask_ablation.csv", "4x6", "446.6")
    with pytest.raises(HarnessError, match=r"table07_\*\.csv"):
        load_paper(copy)
    assert set(KEYS) == set(range(1, 13))
