"""The comparison of methods: choosing rates, intervals over seeds, tables, and finished parts kept."""

from __future__ import annotations

import math

import pytest

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.world_methods import METHODS, RATES, TASKS, _once, choose_rates, interval, main, tables

SEEDS = [0, 1, 2]


def test_the_interval_is_students_over_seeds():
    mean, low, high = interval([0.5, 0.6, 0.7])
    assert mean == pytest.approx(0.6)
    assert high - mean == pytest.approx(mean - low) == pytest.approx(4.303 * 0.1 / math.sqrt(3), rel=1e-3)
    assert math.isnan(interval([0.5])[1])


def tuned(factuality, unparsed):
    return {
        ("tune", seed, method, rate): {"factuality": factuality(rate), "unparsed_rate": unparsed(rate)}
        for seed in SEEDS
        for method in METHODS
        for rate in RATES
    }


def test_the_best_rate_that_stays_parsable_is_chosen():
    best = RATES[-3]
    rates, rows = choose_rates(tuned(lambda r: r, lambda r: 0.0 if r <= best else 0.5), SEEDS)
    assert set(rates.values()) == {best} and len(rows) == len(METHODS) * len(RATES)
    with pytest.raises(HarnessError, match=r"every learning rate leaves more than 2% unparsed"):
        choose_rates(tuned(lambda r: r, lambda r: 0.5), SEEDS)


def test_levels_and_differences_are_paired_by_seed():
    rates = dict.fromkeys(METHODS, RATES[0])
    value = {"base": 0.4, "dpo": 0.5}
    scores = {
        ("score", seed, method, rate): {
            task: {
                "factuality": value.get(method, 0.6) + seed / 10,
                "correct": 30,
                "incorrect": 10,
                "responses": 10,
                "nofact_rate": 0.1,
                "unparsed_rate": 0.0,
                "sentences_per_response": 4.4,
            }
            for task in TASKS
        }
        for seed in SEEDS
        for method, rate in {"base": 0.0, **rates}.items()
    }
    levels, differences = tables(scores, SEEDS, rates)
    assert len(levels) == len(TASKS) * (len(METHODS) + 1)
    first = levels[(levels.task == "near") & (levels.method == "mask_dpo")].iloc[0]
    assert (first.factuality, first.correct_per_response) == (pytest.approx(0.7), 3.0)
    assert first.low < 0.7 < first.high
    row = differences[(differences.method == "mask_dpo") & (differences.minus == "dpo")].iloc[0]
    # The seeds differ by far more than the methods do: only the paired difference shows it.
    assert row.difference == pytest.approx(0.1) and row.low == pytest.approx(0.1) and row.holds


def test_a_finished_part_is_not_made_again(tmp_path):
    made = []
    for _ in range(2):
        assert _once(tmp_path / "a" / "x.json", lambda: made.append(1) or {"n": 1}) == {"n": 1}
    assert made == [1]


def test_tuning_seeds_are_not_fresh(tmp_path, capsys):
    assert main(["--out", str(tmp_path), "--seeds", "1", "2", "--tuning-seeds", "2"]) == 2
    assert "either for tuning or fresh" in capsys.readouterr().err
