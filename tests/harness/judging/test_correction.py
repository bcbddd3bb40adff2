"""Correction for the judge: coverage by simulation, published formulas, the command on real files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from factuality_harness.harness.annotation import Annotation, Judgement, Label, Sentence, dump_annotations
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.judging.correction import (
    correct,
    read_card,
    read_labels,
    run_judge_args,
    topic_sums,
)
from factuality_harness.harness.judging.estimators import JudgeCard, TopicSums, prediction_powered, rogan_gladen
from factuality_harness.harness.metrics import Counts, cluster_bootstrap, factuality
from tests.helpers.cli import command

main = command("correct")
RUNS = 1_000
TRUTH, SENSITIVITY, SPECIFICITY = 0.55, 0.9, 0.75
SILENT = 0.03, 0.12  # share of supported and of unsupported sentences on which the judge gives no verdict


def simulate(
    rng: np.random.Generator, topics: int, exact: tuple[float, float] | None = None, truth: float = TRUTH
) -> np.ndarray:
    """A run's sentences: (topic, human ok, judge ok, judge has a verdict) a row.

    Topics differ in how true the answers are and in how well the judge does; the means are the constants above. exact:
    sensitivity and specificity of a judge that always gives a verdict, instead of those.
    """
    sizes = rng.integers(3, 16, topics)
    share = rng.beta(8 * truth, 8 * (1 - truth), topics)
    means = exact or (SENSITIVITY, SPECIFICITY)
    sensitivity, specificity = (rng.beta(20 * mean, 20 * (1 - mean), topics) for mean in means)
    topic = np.repeat(np.arange(topics), sizes)
    human = rng.random(len(topic)) < share[topic]
    right = rng.random(len(topic)) < np.where(human, sensitivity[topic], specificity[topic])
    verdict = rng.random(len(topic)) >= np.where(human, *SILENT) * (exact is None)
    return np.stack([topic, human, human == right, verdict], axis=1).astype(int)


def per_topic(topics: int, topic: np.ndarray, *columns: np.ndarray) -> list[np.ndarray]:
    return [np.bincount(topic, weights=c, minlength=topics).astype(int) for c in columns]


def counts_of(rows: np.ndarray, topics: int) -> list[Counts]:
    topic, _, judge, verdict = rows.T
    ok, wrong, none = per_topic(topics, topic, judge & verdict, (1 - judge) & verdict, 1 - verdict)
    return [Counts(f"t{g}", 1, ok=ok[g], contradictory=wrong[g], unparsed=none[g]) for g in range(topics)]


def card_of(rows: np.ndarray, topics: int) -> JudgeCard:
    topic, human, judge, verdict = rows.T
    cells = [(human, judge, verdict), (human, 1 - judge, verdict), (1 - human, 1 - judge, verdict)]
    cells += [(1 - human, judge, verdict), (human, 1, 1 - verdict), (1 - human, 1, 1 - verdict)]
    table = np.array(per_topic(topics, topic, *(a & b & c for a, b, c in cells))).T
    return JudgeCard("rule", "simulated", "sentence", table)


def sums_of(rows: np.ndarray, topics: int, labelled: np.ndarray) -> list[TopicSums]:
    topic, human, judge, verdict = rows.T
    known, rest, ok = labelled.astype(int), 1 - labelled.astype(int), judge & verdict
    differ = (1 - verdict) | (human != judge)
    columns = [known, known & human, known, known & ok, known & verdict, known & differ]
    columns += [rest, rest & ok, rest & verdict]
    table = np.array(per_topic(topics, topic, *columns)).T.tolist()
    return [TopicSums(f"t{g}", *row) for g, row in enumerate(table)]


def covers(interval: tuple[float, float], truth: float = TRUTH) -> bool:
    return interval[0] <= truth <= interval[1]


def raw_interval(counts: list[Counts]) -> tuple[float, float]:
    columns = [c.topic for c in counts], [c.ok for c in counts], [c.checkable for c in counts]
    return cluster_bootstrap(*columns, resamples=200)


@pytest.mark.slow
def test_card_covers_and_raw_does_not() -> None:
    rng = np.random.default_rng(1)
    corrected, raw = [], []
    for _ in range(RUNS):
        counts = counts_of(simulate(rng, 60), 60)
        estimate = rogan_gladen(counts, card_of(simulate(rng, 50), 50))
        corrected.append(covers((estimate.low, estimate.high)))
        raw.append(covers(raw_interval(counts)))
    print(f"\nRogan-Gladen covers in {np.mean(corrected):.3f}, raw in {np.mean(raw):.3f} of {RUNS} runs")
    assert 0.93 <= np.mean(corrected) <= 0.985
    assert np.mean(raw) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("whole_topics", [False, True])
def test_labels_cover_and_raw_does_not(whole_topics: bool) -> None:
    rng = np.random.default_rng(2)
    topics, corrected, raw, widths = 100, [], [], []
    for _ in range(RUNS):
        rows = simulate(rng, topics)
        by_topic = rng.permutation(topics)[rows[:, 0]] < 25
        labelled = by_topic if whole_topics else rng.permutation(len(rows)) < 250
        sums = sums_of(rows, topics, labelled)
        estimate, only = prediction_powered(sums), prediction_powered(sums, power=0.0)
        corrected.append(covers((estimate.low, estimate.high)))
        widths.append((estimate.high - estimate.low) / (only.high - only.low))
        raw.append(covers(raw_interval(counts_of(rows, topics))))
    print(
        f"\nPPI ({'topics' if whole_topics else 'sentences'}) covers in {np.mean(corrected):.3f}, raw in "
        f"{np.mean(raw):.3f} of {RUNS} runs; interval {np.mean(widths):.3f} of the labels' own"
    )
    assert 0.93 <= np.mean(corrected) <= 0.985
    assert np.mean(raw) < 0.5
    assert np.mean(widths) < 0.95  # the judge helps


@pytest.mark.slow
@pytest.mark.parametrize("labelled", [6, 15, 30])
@pytest.mark.parametrize("truth", [0.3, 0.6, 0.9, 0.95])
def test_few_labelled_topics_cover_at_every_truth(truth: float, labelled: int) -> None:
    """Near 1 the interval of a share is not symmetric, and with 15 topics a power taken from them costs a degree."""
    rng = np.random.default_rng(3)
    corrected, only, raw, widths = [], [], [], []
    for _ in range(RUNS):
        rows = simulate(rng, 60, (0.8, 0.85), truth)
        sums = sums_of(rows, 60, rng.permutation(60)[rows[:, 0]] < labelled)
        estimate, alone = prediction_powered(sums), prediction_powered(sums, power=0.0)
        corrected.append(covers((estimate.low, estimate.high), truth))
        only.append(covers((alone.low, alone.high), truth))
        widths.append(estimate.high - estimate.low)
        raw.append(covers(raw_interval(counts_of(rows, 60)), truth))
    print(
        f"\ntruth {truth}, {labelled} of 60 topics: PPI covers in {np.mean(corrected):.3f} (width "
        f"{np.mean(widths):.3f}), labels alone {np.mean(only):.3f}, raw {np.mean(raw):.3f}"
    )
    assert 0.93 <= np.mean(corrected) <= 0.995
    assert np.mean(only) >= 0.93
    assert np.mean(raw) < 0.8


@pytest.mark.slow
@pytest.mark.parametrize("truth", [0.3, 0.9, 0.95])
def test_a_card_covers_at_every_truth(truth: float) -> None:
    rng = np.random.default_rng(4)
    corrected = []
    for _ in range(RUNS):
        estimate = rogan_gladen(
            counts_of(simulate(rng, 60, (0.8, 0.85), truth), 60), card_of(simulate(rng, 50, (0.8, 0.85)), 50)
        )
        corrected.append(covers((estimate.low, estimate.high), truth))
    print(f"\ntruth {truth}: Rogan-Gladen covers in {np.mean(corrected):.3f}")
    assert np.mean(corrected) >= 0.93


def test_covers_with_a_small_card_and_a_near_perfect_judge() -> None:
    """Few labels and often no error among them: the judge must not be taken for perfect."""
    rng = np.random.default_rng(8)
    by_card, by_labels = [], []
    for _ in range(600):
        runs = [simulate(rng, 25, exact=(0.97, 0.97)) for _ in range(2)]
        estimate = rogan_gladen(counts_of(runs[0], 25), card_of(runs[1][runs[1][:, 0] < 8], 8))
        by_card.append(covers((estimate.low, estimate.high)))
        estimate = prediction_powered(sums_of(runs[0], 25, rng.permutation(len(runs[0])) < 40))
        by_labels.append(covers((estimate.low, estimate.high)))
    print(f"\nsmall: card {np.mean(by_card):.3f}, labels {np.mean(by_labels):.3f}")
    assert min(np.mean(by_card), np.mean(by_labels)) >= 0.93


# Against the formulas as published.


def test_rogan_gladen_is_the_published_formula() -> None:
    # p = 0.6, sensitivity 0.9, specificity 0.8: (0.6 + 0.8 - 1) / (0.9 + 0.8 - 1)
    topics = np.array([[9, 1, 8, 2, 0, 0], [18, 2, 16, 4, 0, 0], [45, 5, 40, 10, 0, 0]])
    rows = [Counts(f"t{i}", 1, 6, 4) for i in range(20)]
    found = rogan_gladen(rows, JudgeCard("j", "d", "sentence", topics))
    assert found.value == pytest.approx(0.4 / 0.7)
    assert found.low < found.value < found.high
    # Half of the supported units without a verdict on the card: there were twice as many.
    topics[:, 4] = topics[:, 0] + topics[:, 1]
    odds = 2 * (4 / 7) / (3 / 7)
    assert rogan_gladen(rows, JudgeCard("j", "d", "sentence", topics)).value == pytest.approx(odds / (1 + odds))


def test_a_perfect_judge_changes_nothing_but_the_certainty() -> None:
    rows = [Counts(f"t{i}", 1, 5 + i % 3, 4) for i in range(30)]
    widths = []
    for n in (20, 2_000):
        card = JudgeCard("j", "d", "sentence", np.array([[n // 10, 0, n // 10, 0, 0, 0]] * 10))
        found = rogan_gladen(rows, card)
        assert found.value == pytest.approx(factuality(rows))
        widths.append(found.high - found.low)
    assert widths[0] > 1.4 * widths[1]  # 20 labels without an error are no proof


def test_more_than_the_card_allows_is_cut() -> None:
    card = JudgeCard("j", "d", "sentence", np.array([[80, 20, 90, 10, 0, 0]] * 5))
    found = rogan_gladen([Counts(f"t{i}", 1, 19, 1) for i in range(9)], card)
    assert (found.value, found.clipped) == (1.0, True)
    assert found.low < 1.0


def test_a_card_that_does_not_fit_is_said(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = card_file(tmp_path, topics=[[f"c{i}", 5, 5, 9, 1, 0, 0] for i in range(10)])
    assert main([str(run), "--card", str(card)]) == 0
    assert "0.6667 is outside 0.1000 to 0.5000" in capsys.readouterr().out


def test_a_coin_corrects_nothing() -> None:
    card = JudgeCard("j", "d", "sentence", np.array([[50, 50, 50, 50, 0, 0]] * 5))
    with pytest.raises(HarnessError, match=r"sensitivity 0\.500 \+ specificity 0\.500 <= 1"):
        rogan_gladen([Counts("t", 1, 1, 1)], card)


def test_agrees_with_ppi_python_where_sentences_are_topics() -> None:
    """Numbers of ppi_python 0.2.3 (`ppi_mean_pointestimate`, `ppi_mean_ci`, alpha 0.05) for this very sample."""
    rng = np.random.default_rng(7)
    n, rest = 120, 900
    y = rng.random(n) < 0.6
    f = np.where(rng.random(n) < 0.8, y, ~y)
    y_rest = rng.random(rest) < 0.6
    f_rest = np.where(rng.random(rest) < 0.8, y_rest, ~y_rest)
    sums = [TopicSums(f"a{i}", 1, int(a), 1, int(b), 1, int(a != b)) for i, (a, b) in enumerate(zip(y, f, strict=True))]
    sums += [TopicSums(f"b{i}", rest=1, rest_ok=int(b), rest_checkable=1) for i, b in enumerate(f_rest)]
    plain = prediction_powered(sums, power=1.0)
    assert plain.value == pytest.approx(0.645, abs=1e-12)
    assert (plain.low, plain.high) == pytest.approx(on_log_odds(0.645, 0.55225109, 0.73774891), abs=2e-3)
    tuned = prediction_powered(sums)  # the package pools a variance that is taken apart here
    assert tuned.value == pytest.approx(0.62485084, abs=2e-3)
    assert (tuned.low, tuned.high) == pytest.approx(on_log_odds(0.62485084, 0.54846194, 0.70123974), abs=3e-3)


def on_log_odds(value: float, low: float, high: float) -> tuple[float, float]:
    """An interval of the plain scale carried over by the delta method."""
    half = (high - low) / 2 / (value * (1 - value))
    return expit(logit(value) - half), expit(logit(value) + half)


@pytest.mark.parametrize("truth", [0.6, 0.95])
def test_with_many_labels_it_is_the_textbook_interval(truth: float) -> None:
    rng = np.random.default_rng(9)
    y, y_rest = rng.random(8_000) < truth, rng.random(40_000) < truth
    f, f_rest = (np.where(rng.random(len(x)) < 0.85, x, ~x) for x in (y, y_rest))
    sums = [TopicSums(f"a{i}", 1, int(a), 1, int(b), 1, int(a != b)) for i, (a, b) in enumerate(zip(y, f, strict=True))]
    sums += [TopicSums(f"b{i}", rest=1, rest_ok=int(b), rest_checkable=1) for i, b in enumerate(f_rest)]
    found = prediction_powered(sums)
    power = np.cov(y, f)[0, 1] / np.var(f) / (1 + len(f) / len(f_rest))  # PPI++, equation 7
    value = y.mean() + power * (f_rest.mean() - f.mean())
    half = 1.96 * math.sqrt(np.var(y - power * f) / len(y) + power**2 * np.var(f_rest) / len(f_rest))
    assert (found.value, found.low, found.high) == pytest.approx((value, value - half, value + half), abs=4e-4)


def test_an_end_of_the_range_and_two_topics() -> None:
    right = prediction_powered([TopicSums(f"t{i}", 5, 5, 5, 5, 5, 0, 10, 10, 10) for i in range(4)])
    assert (right.value, right.high) == (1.0, 1.0)
    assert 0.3 < right.low < 0.95
    two = [TopicSums("a", 9, 6, 9, 5, 9, 1, 9, 4, 9), TopicSums("b", 9, 3, 9, 4, 9, 1, 9, 5, 9)]
    assert prediction_powered(two) == prediction_powered(two, power=0.0)


@given(st.integers(0, 2**32 - 1))
def test_all_sentences_labelled_leaves_the_judge_out(seed: int) -> None:
    rows = simulate(np.random.default_rng(seed), 12)
    found = prediction_powered(sums_of(rows, 12, np.ones(len(rows), dtype=bool)))
    assert found.value == pytest.approx(rows[:, 1].mean())


# Files.


def answer(topic: int, labels: list[str], judge: str = "rule") -> Annotation:
    text = " ".join(f"Fact {i} of {topic}." for i in range(len(labels)))
    sentences, done = [], 0
    for i in range(len(labels)):
        piece = f"Fact {i} of {topic}."
        sentences.append(Sentence(piece, done, done + len(piece)))
        done += len(piece) + 1
    judgements = tuple(Judgement(Label(label)) for label in labels)
    return Annotation(f"Question {topic}?", text, "en", judge, f"topic {topic}", tuple(sentences), judgements)


RUN = [answer(i, ["ok", "ok", "contradictory", "nofact", "unparsed"][: 3 + i % 3]) for i in range(12)]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rows = [{"doc_id": i, "filter": "annotation", "filtered_resps": [dump_annotations([a])]} for i, a in enumerate(RUN)]
    (tmp_path / "run").mkdir()
    write(tmp_path / "run" / "samples_task_2026-01-02T03-04-05.678901.jsonl", rows)
    return tmp_path / "run"


def card_file(folder: Path, **changes: object) -> Path:
    data = {
        "judge": "rule",
        "dataset": "human",
        "unit": "sentence",
        "confusion": {"ok": {"ok": 90}, "contradictory": {"contradictory": 80}, "nofact": {"ok": 3, "nofact": 9}},
        "topics": [[f"c{i}", 9, 1, 8, 2, 0, 1] for i in range(10)],
    }
    (folder / "card.json").write_text(json.dumps(data | changes))
    return folder / "card.json"


def test_without_human_labels_the_command_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run)]) == 0
    out = capsys.readouterr().out
    assert "corrected     not known: no human labels" in out
    assert "NO HUMAN LABELS" in out
    assert "4 sentences unparsed" in out


def test_with_a_card(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "corrected.json"
    assert main([str(run), "--card", str(card_file(tmp_path)), "--out", str(out)]) == 0
    data = json.loads(out.read_text())
    expected = rogan_gladen(correct_counts(), read_card(tmp_path / "card.json"))
    assert data["corrected"] == pytest.approx({"value": expected.value, "low": expected.low, "high": expected.high})
    assert data["raw"]["value"] == pytest.approx(2 / 3)
    assert data["human_labels"] == {"run": 0, "card": 210}
    assert len(data["manifest"]["inputs"]) == 2
    assert "3 of 173 verdicts fell on units in which humans see no fact" in capsys.readouterr().out


def correct_counts() -> list[Counts]:
    return [Counts(a.topic, 1, a.count(Label.OK), a.count(Label.CONTRADICTORY)) for a in RUN]


def human_rows(annotations: list[Annotation], labels: list[list[str]]) -> list[dict[str, object]]:
    return [
        {"question": a.question, "sentence": s.text, "label": label}
        for a, of_answer in zip(annotations, labels, strict=True)
        for s, label in zip(a.sentences, of_answer, strict=False)
    ]


def test_labels_in_every_form_give_the_same(run: Path, tmp_path: Path) -> None:
    labels = [["ok", "contradictory", "ok"], ["ok", "ok", "unverifiable"], ["S", "NS", "IR"], ["ok", "ok", "nofact"]]
    rows = human_rows(RUN[:4], labels)
    plain = write(tmp_path / "plain.jsonl", rows)
    spans = write(
        tmp_path / "spans.jsonl",
        [
            {"question": a.question, "response": a.response, "span": [s.start, s.end], "label": label}
            for a, of_answer in zip(RUN, labels, strict=False)
            for s, label in zip(a.sentences, of_answer, strict=False)
        ],
    )
    harness = {"S": "ok", "NS": "contradictory", "IR": "unverifiable"}
    whole = [
        replace(
            a,
            judge="human",
            judgements=tuple(
                Judgement(Label(harness.get(x, x))) for x in (*of_answer, *["unparsed"] * (len(a.sentences) - 3))
            ),
        )
        for a, of_answer in zip(RUN[:4], labels, strict=True)
    ]
    annotations = write(tmp_path / "annotations.jsonl", [a.to_dict() for a in whole])
    sums = [topic_sums(RUN, read_labels(path, RUN)[0]) for path in (plain, spans, annotations)]
    assert sums[0] == sums[1] == sums[2]
    assert sum(s.labelled for s in sums[0]) == 12
    assert sum(s.disagree for s in sums[0]) == 4
    assert read_labels(annotations, RUN)[1] == 3  # not decided by the human
    data = correct(RUN, labels=read_labels(plain, RUN))
    assert data["corrected"]["low"] < data["corrected"]["value"] < data["corrected"]["high"]
    assert data["human_labels"]["run"] == 12
    assert main([str(run), "--labels", str(plain)]) == 0


def test_the_same_sentence_twice_takes_two_labels(tmp_path: Path) -> None:
    twice = [RUN[0], RUN[0]]
    rows = human_rows(twice, [["ok"], ["ok"]])
    assert set(read_labels(write(tmp_path / "l.jsonl", rows), twice)[0]) == {(0, 0), (1, 0)}
    with pytest.raises(HarnessError, match=r"l\.jsonl, row 3: .*has its label already"):
        read_labels(write(tmp_path / "l.jsonl", [*rows, rows[0]]), twice)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "Question 1?", "sentence": "Not there.", "label": "ok"}, "is not among the run's sentences"),
        ({"question": "Question 1?", "sentence": "Fact 0 of 1.", "label": "good"}, "label 'good' is none of: ok"),
        ({"question": "Question 1?", "label": "ok"}, "needs question, label, and sentence or response with span"),
        (RUN[0].to_dict(), "the run's own judge"),
        ({"question": "Question 1?", "sentence": "Fact 0 of 1.", "label": "ok", "judge": ["x"]}, "judge must be text"),
        ({"question": "Question 1?", "response": "Fact 0 of 1.", "span": [], "label": "ok"}, "with span [start, end]"),
        ({"question": "Question 1?", "sentence": 7, "label": "ok"}, "needs question, label, and sentence"),
        ({"question": "Question 1?", "sentence": "Fact 0 of 1.", "label": "ok"}, "human labels for 1 topics"),
    ],
)
def test_bad_labels(
    row: dict[str, object], message: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run), "--labels", str(write(tmp_path / "labels.jsonl", [row]))]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"judge": "other"}, "the card is of judge other, the run's is rule"),
        ({"topics": [["c", 9, 1, 0, 0, 0, 0]]}, "on 10 supported and 0 unsupported units"),
        ({"topics": [["c", 1, 2]]}, "not a judge's card"),
        ({"confusion": None}, "not a judge's card"),
    ],
)
def test_bad_cards(
    changes: dict[str, object], message: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = str(card_file(tmp_path, **changes))
    assert main([str(run), "--card", card]) == 2
    assert message in capsys.readouterr().err
    if "judge" in changes:
        assert main([str(run), "--card", card, "--other-judge"]) == 0
        assert "another judge, other" in capsys.readouterr().out


def results_beside(run: Path, **metadata: object) -> None:
    data = {"configs": {"task": {"metadata": {"judge": "rule", **metadata}}}}
    (run / "results_2026-01-02T03-04-05.678901.json").write_text(json.dumps(data))


def test_the_options_of_the_cards_judge_are_compared(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = str(card_file(tmp_path, judge_args={"guided": True}))
    command = [str(run), "--card", card]
    assert main(command) == 0
    assert "the run does not say with which options its judge ran" in capsys.readouterr().out
    results_beside(run, judge_args={"guided": True})
    assert main(command) == 0
    assert "options" not in capsys.readouterr().out
    results_beside(run)
    assert main(command) == 2
    assert 'the card was measured with options {"guided": true}, the run with {}' in capsys.readouterr().err
    assert main([*command, "--other-judge"]) == 0
    assert 'measured with options {"guided": true}' in capsys.readouterr().out
    card_file(tmp_path)
    assert main(command) == 0
    assert "the card does not say" in capsys.readouterr().out


def test_the_options_beside_annotations_are_found(tmp_path: Path) -> None:
    path = write(tmp_path / "annotations.jsonl", [a.to_dict() for a in RUN])
    assert run_judge_args(path) is None
    path.with_name("annotations.jsonl.settings.json").write_text('{"judge": "rule", "judge_args": {"guided": true}}')
    assert run_judge_args(path) == {"guided": True}


def test_one_topic_is_no_interval_and_a_folder_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path / "a.jsonl", [RUN[0].to_dict()]))
    assert main([path, "--out", str(tmp_path / "o.json")]) == 0
    assert "raw           0.6667 [n/a: one topic]" in capsys.readouterr().out
    assert json.loads((tmp_path / "o.json").read_text())["raw"] == {
        "value": pytest.approx(2 / 3),
        "low": None,
        "high": None,
    }
    assert main([path, "--out", str(tmp_path)]) == 2
    assert "is a folder; name a file" in capsys.readouterr().err


def test_several_tasks_need_a_name(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file,) = run.iterdir()
    (run / file.name.replace("task", "task_b")).write_bytes(file.read_bytes())
    assert main([str(run)]) == 2
    assert "--task" in capsys.readouterr().err
    assert main([str(run), "--task", "task"]) == 0
