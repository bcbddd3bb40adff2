"""Comparing checkpoints: error rate by simulation, known answers, verdicts, and the command on real files."""

from __future__ import annotations

import json
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from factuality_harness.analysis.compare.differences import compare_pair
from factuality_harness.analysis.compare.runs import Answer, JudgedRun, Key, check_alike, open_cell, open_run
from factuality_harness.analysis.compare.statistics import holm, influences, questions_needed, swap_test
from factuality_harness.analysis.compare.verdict import compare_all, comparison_text, verdict_on
from factuality_harness.analysis.intervals import paired_difference
from factuality_harness.harness.metrics import Counts, factuality
from tests.helpers.cli import command
from tests.helpers.stores import NEAR, StoreBuilder, annotation, full_store, lm_eval_files, questions

main = command("compare")
RUNS = 2_000


def checkpoints(
    rng: np.random.Generator, topics: int, gain: float = 0.0, facts: tuple[int, int] = (9, 9)
) -> tuple[np.ndarray, np.ndarray]:
    """(correct, checkable) by topic for two checkpoints that share the topics' difficulty and much of what they know.

    facts: mean checkable sentences a topic of each; every checkpoint has its own strengths, alike in size.
    """
    both = []
    hard = rng.normal(0, 1.2, topics)
    for mean, shift in zip(facts, (0.0, gain), strict=True):
        share = 1 / (1 + np.exp(-(hard + rng.normal(0, 0.4, topics))))
        share = np.clip(share + shift, 0, 1)
        checkable = 1 + rng.poisson(mean - 1, topics)
        both.append(np.stack([rng.binomial(checkable, share), checkable], axis=1).astype(float))
    return both[0], both[1]


@pytest.mark.slow
@pytest.mark.parametrize(("topics", "facts"), [(40, (9, 9)), (60, (12, 5))])
def test_rejects_at_the_nominal_rate(topics: int, facts: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    p = np.array([swap_test(*checkpoints(rng, topics, 0.0, facts), resamples=399, seed=i) for i in range(RUNS)])
    rates = {level: (p <= level).mean() for level in (0.01, 0.05, 0.2)}
    print(f"\nfacts {facts}: rejected under no difference {rates} of {RUNS} runs")
    for level, rate in rates.items():
        assert abs(rate - level) <= 3.3 * np.sqrt(level * (1 - level) / RUNS)


@pytest.mark.slow
def test_interval_covers_and_pairing_pays() -> None:
    rng = np.random.default_rng(4)
    a, b = (x.sum(0) for x in checkpoints(rng, 300_000, 0.06))
    truth = b[0] / b[1] - a[0] / a[1]
    covered, tighter = [], []
    for i in range(500):
        runs = [run_of(f"r{n}", table) for n, table in enumerate(checkpoints(rng, 60, 0.06))]
        found = compare_pair(*runs, seed=i, resamples=1_000)
        covered.append(found.score.low <= truth <= found.score.high)
        tighter.append(found.tighter)
    print(f"\ntrue difference {truth:.4f}: covers {np.mean(covered):.3f}, {np.mean(tighter):.2f} times tighter")
    assert np.mean(covered) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 500)
    assert np.mean(tighter) > 1.4


@pytest.mark.slow
def test_questions_needed_give_the_power_they_promise() -> None:
    rng = np.random.default_rng(5)
    planned = [
        compare_pair(*(run_of("r", t) for t in checkpoints(rng, 200, 0.06)), detect=0.056, seed=i).needed
        for i in range(5)
    ]
    topics = round(float(np.mean([n for n in planned if n])))  # a question a topic
    found = [swap_test(*checkpoints(rng, topics, 0.06), resamples=399, seed=i) <= 0.05 for i in range(600)]
    print(f"\n{topics} questions planned: detected in {np.mean(found):.3f}")
    assert abs(np.mean(found) - 0.8) < 0.07


def run_of(name: str, table: np.ndarray, **extra: Any) -> JudgedRun:
    answers: dict[Key, Answer] = {
        ("", f"q{i}", "1"): Answer(f"t{i}", Counts(f"t{i}", 1, int(ok), int(n - ok), **extra), 0)
        for i, (ok, n) in enumerate(table)
    }
    return JudgedRun(name, "task", "1", "judge", answers)


@given(st.lists(st.tuples(*[st.integers(0, 6)] * 4), min_size=2, max_size=12), st.integers(0, 99))
def test_turning_the_runs_round_turns_the_sign(rows: list[tuple[int, ...]], seed: int) -> None:
    table = np.array(rows, dtype=float)
    a = np.stack([table[:, 0], table[:, 0] + table[:, 1]], axis=1)
    b = np.stack([table[:, 2], table[:, 2] + table[:, 3]], axis=1)
    p, q = (swap_test(*pair, resamples=199, seed=seed) for pair in ((a, b), (b, a)))
    assert p == q or (np.isnan(p) and np.isnan(q))
    if not np.isnan(p):
        assert 0 < p <= 1
        assert swap_test(a, a, resamples=199) == 1.0


def test_swap_test_is_the_paired_t_test_for_many_equal_questions() -> None:
    rng = np.random.default_rng(6)
    for gain in (0.0, 0.02, 0.04):
        a = rng.uniform(0, 8, 150)
        b = a + rng.normal(10 * gain, 1.5, 150)
        table = [np.stack([x, np.full(150, 10.0)], axis=1) for x in (a, b)]
        assert swap_test(*table) == pytest.approx(ttest_rel(b, a).pvalue, abs=0.012)


def test_influences_give_the_jackknife() -> None:
    sums = np.random.default_rng(7).integers(1, 30, (50, 2)).astype(float)
    total = sums.sum(0)
    left_out = np.array([np.divide(*(total - row)) for row in sums])
    jackknife = 49 / 50 * ((left_out - left_out.mean()) ** 2).sum()
    assert (influences(sums) ** 2).sum() == pytest.approx(jackknife, rel=0.1)


def test_questions_needed_is_the_textbook_formula() -> None:
    # One question's variance 0.25, difference 0.1: (1.95996 + 0.84162)**2 * 0.25 / 0.01 = 196.2
    assert questions_needed(0.25 / 50, 50, 0.1) == 197
    assert questions_needed(float("inf"), 50, 0.1) is None


def test_without_a_variance_no_number_of_questions_is_planned() -> None:
    found = compare_all([made("a", [(0, 0)] * 30), made("b", BETTER)])
    assert "n/a questions paired, n/a unpaired" in comparison_text(found)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, float("nan"), 0.6])[::2] == [1.0, 1.0]


# Verdicts: what a gain is worth.


def made(
    name: str, rows: list[tuple[int, int]], *, nofact: int = 1, unparsed: int = 0, declined: int | None = 0
) -> JudgedRun:
    run = run_of(name, np.array(rows), nofact=nofact, unparsed=unparsed)
    return replace(run, answers={k: replace(a, declined=declined) for k, a in run.answers.items()})


BASE = [(4 + i % 3, 10) for i in range(30)]
BETTER = [(7 + i % 2, 10) for i in range(30)]


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (
            made("b", BETTER),
            [
                "b is more factual than a",
                "without a sign of fewer facts per response, more abstaining responses, more no-fact sentences or more "
                "unparsed sentences.",
            ],
        ),
        (made("b", [(ok - 1, n) for ok, n in BASE]), ["b is less factual than a"]),
        (made("b", [(4 + i * 2 % 3, 10) for i in range(30)]), ["No difference", "questions would be needed"]),
        (made("b", [(3, 4)] * 30), ["may be bought by saying less", "response (-6.000)", "fewer correct facts"]),
        (
            made("b", [(4 + i * 2 % 3, 8) for i in range(30)]),
            ["fewer facts per response (-2.000)", "does not give fewer correct facts"],
        ),
        (made("b", [(7, 8)] * 30), ["not bought by saying less, though it has fewer facts per response (-2.000)"]),
        (
            made("b", BETTER, nofact=5),
            [
                "more correct facts per response (+2.500), so the gain is not bought by saying less",
                "no-fact sentences (+",
            ],
        ),
        (
            made("b", BETTER, nofact=5, unparsed=3),
            ["not bought", "and it remains if unparsed"],
        ),
        (made("b", BETTER, declined=1), ["though it has more abstaining responses (+1.000)."]),
        (
            made("b", BETTER, declined=None),
            ["is more factual", "facts per response, more no-fact", "more abstaining responses could not be checked."],
        ),
        (
            made("b", [(3, 4)] * 30, declined=None),
            ["may be bought", "; whether it has more abstaining responses could not be checked."],
        ),
        (made("b", [(5, 7)] * 30, unparsed=3), ["more unparsed sentences", "is not certain if unparsed"]),
        (made("b", [(8, 9)] * 30, unparsed=1), ["more unparsed sentences", "remains if unparsed"]),
        (made("b", [(0, 0)] * 30), ["Nothing can be said"]),
        (made("b", BASE), ["b and a do not differ"]),
    ],
)
def test_verdict(run: JudgedRun, words: list[str]) -> None:
    (found,) = compare_all(check_alike([made("a", BASE), run]))
    assert all(word in found.verdict for word in words), found.verdict
    assert found.verdict.endswith(".")
    assert "\n" not in found.verdict


def cells(gains: list[int]) -> list[JudgedRun]:
    """Two cells of 30 questions a seed; gains: in correct facts of 10 a question, by seed."""
    found = []
    for name, gain in (("a", [0] * len(gains)), ("b", gains)):
        answers: dict[Key, Answer] = {
            (f"seed {seed}", f"q{i}", "1"): Answer(
                f"t{i}", Counts(f"t{i}", 1, ok + gain[seed], 10 - ok - gain[seed]), 0, seed
            )
            for seed in range(len(gains))
            for i, (ok, _) in enumerate(BASE)
        }
        found.append(JudgedRun(name, "task", "1", "judge", answers))
    return found


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        (
            [3, 0, 0],
            "these checkpoints and may not hold for the recipe, since over its 3 training seeds",
        ),
        ([2], "of one training seed, so this is about these checkpoints"),
        ([2, 3, 2], None),
        ([-3, 0, 0], "is less factual than a"),
    ],
)
def test_certain_within_its_seeds_is_not_certain_over_them(gains: list[int], words: str | None) -> None:
    (found,) = compare_all(check_alike(cells(gains)))
    expected = paired_difference({i: g / 10 for i, g in enumerate(gains)}, {i: 0.0 for i in range(len(gains))})
    assert found.p_holm < 0.05 and found.over_seeds is not None
    assert astuple(found.over_seeds) == pytest.approx(astuple(expected), nan_ok=True)
    assert ("training seed" in found.verdict) == (words is not None)
    assert (words or "without a sign of fewer") in found.verdict, found.verdict
    text = comparison_text([found])
    assert "how training seeds vary is not in them" in text and f"over {len(gains)} training seeds, paired" in text


def test_holm_over_the_runs_and_the_numbers_shown() -> None:
    found = compare_all([made("a", BASE), made("b", BETTER), made("c", BASE)])
    assert found[0].p_holm == pytest.approx(2 * found[0].p_value)
    assert found[1].p_value == 1.0
    assert found[0].score.difference == pytest.approx(
        factuality([Counts("", 1, ok, n - ok) for ok, n in BETTER])
        - factuality([Counts("", 1, ok, n - ok) for ok, n in BASE])
    )


# Real files.


def test_runs_from_lm_eval_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, correct in (("a", 4), ("b", 7)):
        lm_eval_files(tmp_path / name, {NEAR: questions(correct)})
    out = tmp_path / "out" / "c.json"
    assert main([str(tmp_path / "a"), str(tmp_path / "b"), "--detect", "0.05", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "is more factual than" in text
    assert "times as wide" in text
    data = json.loads(out.read_text())
    assert data["comparisons"][0]["score"]["difference"] == pytest.approx(0.3)
    assert data["comparisons"][0]["over_seeds"] is None
    assert "exact by construction" in data["about_judge"] and data["about_judge"] in text
    assert len(data["manifest"]["settings"]["files"]) == 2


def test_a_raw_score_is_called_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        lm_eval_files(tmp_path / name, {NEAR: questions(4)}, judge="lexical")
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "raw scores of judge lexical; no human labels were given, so its error is not corrected" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--seed", "-1", "--seed -1: must be 0 or above"),
        ("--detect", "0", "must be above 0"),
        ("--out", ".", "a folder is there; name a file"),
        ("--out", "file/c.json", "is a file, not a folder"),
    ],
)
def test_bad_options_are_refused_before_the_runs_are_read(
    tmp_path: Path, option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    given = str(tmp_path / value) if option == "--out" else value
    assert main(["no run", "nor here", option, given]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def rewrite(samples: Path, change: dict[int, dict[str, object]]) -> None:
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    rows = [row | {"doc_hash": f"hash {row['doc_id']}"} | change.get(row["doc_id"], {}) for row in rows]
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_questions_are_paired_by_their_hash(tmp_path: Path) -> None:
    given = questions(5)
    for name, order in (("a", 1), ("b", -1)):
        lm_eval_files(tmp_path / name, {NEAR: given[::order]})
        (samples,) = (tmp_path / name).glob("samples_*")
        rewrite(samples, {i: {"doc_hash": f"hash {len(given) - 1 - i if order < 0 else i}"} for i in range(len(given))})
    found = compare_pair(*check_alike([open_run(tmp_path / "a"), open_run(tmp_path / "b")]))
    assert (found.score.difference, found.score.low, found.score.high) == (0.0, 0.0, 0.0)


def test_abstaining_and_empty_responses_are_seen(tmp_path: Path) -> None:
    lm_eval_files(tmp_path, {NEAR: questions(5)})
    (samples,) = tmp_path.glob("samples_*")
    silent = annotation(Counts("topic 1", 1), "world")
    sorry = json.loads(annotation(Counts("topic 2", 1, nofact=1), "world")) | {"response": "I'm sorry."}
    sorry["sentences"] = [
        {"text": "I'm sorry.", "start": 0, "end": 10, "label": "nofact", "evidence": [], "detail": ""}
    ]
    rewrite(samples, {1: {"filtered_resps": [silent]}, 2: {"filtered_resps": [json.dumps(sorry)]}})
    for results in tmp_path.glob("results_*"):
        data = json.loads(results.read_text())
        del data["results"][NEAR]["correct,annotation"]  # that of the files before the change
        results.write_text(json.dumps(data))
    declined = {key[1]: answer.declined for key, answer in open_run(tmp_path).answers.items()}
    assert [n for n, count in sorted(declined.items()) if count] == ["hash 1", "hash 2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"judge": "other"}, "different judges"),
        ({"version": 2.0}, "different task versions"),
        ({"tasks": {NEAR: questions(5, topics=8)}}, "--common compares"),
        ({"tasks": {"gsm8k": {"acc": 0.5}}}, "was --log_samples given"),
        ({"tasks": {NEAR: questions(5), "world_bio": questions(5)}}, "name one with --task"),
    ],
)
def test_what_cannot_be_compared(
    tmp_path: Path, change: dict[str, object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lm_eval_files(tmp_path / "a", {NEAR: questions(4)})
    lm_eval_files(tmp_path / "b", **({"tasks": {NEAR: questions(5)}} | change))  # type: ignore[arg-type]
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_common_questions(tmp_path: Path) -> None:
    lm_eval_files(tmp_path / "a", {NEAR: questions(4)})
    lm_eval_files(tmp_path / "b", {NEAR: questions(5, topics=8)})
    runs = check_alike([open_run(tmp_path / "a"), open_run(tmp_path / "b")], common=True)
    assert compare_pair(*runs).questions == 8


def test_cells_pool_their_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full_store(tmp_path)
    base, ours = (open_cell(tmp_path, "table02_mask", {"setting": s}, NEAR) for s in ("base", "w/ mask"))
    found = compare_pair(base, ours)
    assert (found.questions, found.clusters) == (30, 10)  # three seeds about the same topics
    command = ["--results", str(tmp_path), "--experiment", "table02_mask", "--task", NEAR]
    assert main([*command, "--cell", "setting=base", "--cell", "setting=w/ mask", "--cell", "setting=w/o mask"]) == 0
    text = capsys.readouterr().out
    assert "after Holm over 2 runs" in text and text.count("factuality over 3 training seeds, paired: +0.") == 2
    assert main([*command, "--cell", "setting=base", "--cell", "setting=none"]) == 2
    assert (
        "fits no cell of table02_mask; there are setting=base; setting=w/o mask; setting=w/ mask"
        in capsys.readouterr().err
    )


def test_a_topic_in_two_worlds_is_two_clusters(tmp_path: Path) -> None:
    def scores(labels: dict[str, str], seed: int) -> dict[str, list[Counts]]:
        return {NEAR: [replace(q, topic=f"{q.topic} of world {seed}") for q in questions(4)]}

    StoreBuilder(tmp_path).experiment("worlds", {"m": ["a", "b"]}, scores, table={"kind": "own"})
    run = open_cell(tmp_path, "worlds", {"m": "a"})
    assert len({answer.cluster for answer in run.answers.values()}) == 30


def test_collected_results_compare_the_same(tmp_path: Path) -> None:
    collect = command("collect")

    full_store(tmp_path / "store")
    assert collect(["--results", str(tmp_path / "store"), "--out", str(tmp_path / "small")]) == 0
    found = [
        compare_pair(*(open_cell(tmp_path / root, "table02_mask", {"setting": s}, NEAR) for s in ("base", "w/ mask")))
        for root in ("store", "small")
    ]
    assert found[0].score == found[1].score
    assert found[0].p_value == found[1].p_value
    assert np.isnan(found[1].checks[1].run)  # responses are not collected, so abstention is not known
    assert verdict_on(found[1]).endswith("; whether it has more abstaining responses could not be checked.")
