"""From questions to pairs: sampling, labelling and pairing, with resuming and bad input."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factuality_harness.harness.annotation import Annotation, Judgement, Label, Sentence, dump_annotations
from factuality_harness.harness.data import anah
from factuality_harness.harness.engines import ENGINES, AnswerCache, CachedEngine, Reply, Sampling
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import read_jsonl, write_jsonl
from factuality_harness.harness.io.samples import read_annotations
from factuality_harness.harness.questions import load_questions
from factuality_harness.training.mask_dpo.pairs import read_pairs
from factuality_harness.training.preferences import (
    PairRules,
    annotate_samples,
    draw,
    make_pairs,
    pair_question,
    read_samples,
    sample,
)
from factuality_harness.training.preferences.append_log import resume, settings_file
from factuality_harness.training.preferences.pairing import share
from tests.helpers.cli import command
from tests.helpers.judge_server import JudgeServer
from tests.helpers.paths import ROOT
from tests.helpers.rule_engine import RuleEngine

DOCUMENT = "Alice was born in Paris in 1901. She painted large murals of the northern harbour."
RIGHT, WRONG_YEAR, HOPE = "Alice was born in Paris in 1901.", "Alice was born in Paris in 1950.", "I hope this helps!"
DRAW = Sampling(max_tokens=32, temperature=0.8, top_k=40)


class Fake:
    """Answers from question, seed and document; says nothing to SILENT and refuses REFUSED."""

    settings: ClassVar[dict[str, Any]] = {}
    remote = False

    asked: list[tuple[str, int]] = []  # noqa: RUF012

    def __init__(self, target: str, *, delay: float = 0.0) -> None:
        self.identity = f"fake#{target}"
        self.delay = delay

    def check(self) -> None:
        """Nothing can be missing."""

    def stream(self, conversations, sampling):
        for i, conversation in reversed(list(enumerate(conversations))):
            time.sleep(self.delay)
            text = conversation[-1]["content"]
            Fake.asked.append((text, sampling.seed))
            if "REFUSED" in text:
                yield [(i, Reply(None, "too long"))]
            elif "SILENT" in text:
                yield [(i, Reply(" "))]
            else:
                yield [(i, Reply(f"{RIGHT if sampling.seed % 2 == 0 else WRONG_YEAR} Take {sampling.seed}."))]


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "fake", Fake)
    monkeypatch.setattr(Fake, "asked", [])


def questions(count: int = 3, *names: str) -> list[anah.Question]:
    names = names or tuple(f"Who is Alice, version {i}?" for i in range(count))
    return [anah.Question("Alice", name, DOCUMENT, "en") for name in names]


def annotation(labels: str, number: int = 0, question: str = "Q?", text: str = "", **extra: object) -> Annotation:
    """A response with a sentence a letter: o ok, c contradictory, u unverifiable, n nofact, x unparsed."""
    words = text.split() or [f"S{number}{letter}{i}." for i, letter in enumerate(labels)]
    names = {"o": Label.OK, "c": Label.CONTRADICTORY, "u": Label.UNVERIFIABLE, "n": Label.NOFACT, "x": Label.UNPARSED}
    sentences, start = [], 0
    for word in words:
        sentences.append(Sentence(word, start, start + len(word)))
        start += len(word) + 1
    judgements = tuple(Judgement(names[letter]) for letter in labels)
    return Annotation(
        question, " ".join(words), "en", "rules", "T", tuple(sentences), judgements, {"sample": number, **extra}
    )


def annotations_file(path: Path, annotations: list[Annotation]) -> Path:
    write_jsonl(path, (a.to_dict() for a in annotations))
    return path


def rows_of(path: Path) -> list[dict]:
    return [row for _, row in read_jsonl(path)]


def error_of(capsys: pytest.CaptureFixture[str], *argv) -> str:
    assert command(argv[0])(argv[1:]) == 2
    error = capsys.readouterr().err
    assert error.count("error: ") == 1 and "Traceback" not in error
    return error


# sample


def test_samples_are_grouped_numbered_and_drawn_with_their_own_seeds(tmp_path):
    out = tmp_path / "s.jsonl"
    counts = sample(questions(3), "fake:m", out, n=2, sampling=DRAW, progress=False)
    assert counts == {"asked": 6, "failed": 0, "empty": 0, "thinking_cut": 0, "already": 0}
    rows = rows_of(out)
    assert [(r["question"][-2], r["sample"]) for r in rows] == [(str(i), k) for i in range(3) for k in range(2)]
    assert rows[1] == {**questions(1)[0].to_dict(), "response": f"{WRONG_YEAR} Take 1.", "sample": 1}
    assert {seed for _, seed in Fake.asked} == {0, 1}


def test_the_document_is_in_the_prompt_and_not_in_the_row(tmp_path):
    document = "All about {question} and {braces}."
    asked = [anah.Question("T", "Who?", document, "en"), anah.Question("T", "谁？", "关于爱丽丝。", "zh")]
    sample(asked, "fake:m", tmp_path / "s.jsonl", n=1, sampling=DRAW, with_document=True, progress=False)
    prompts = [text for text, _ in Fake.asked]
    assert any(document in p and p.endswith("Question: Who?") for p in prompts)
    assert any("关于爱丽丝。" in p and p.endswith("问题：谁？") for p in prompts)
    assert [row["question"] for row in rows_of(tmp_path / "s.jsonl")] == ["Who?", "谁？"]


def test_in_memory_sampling_reports_refused_and_empty_answers(tmp_path, caplog):
    counts: Counter[str] = Counter()
    engine = CachedEngine(Fake("m"), AnswerCache(tmp_path / "a.sqlite"))
    asked = questions(0, "REFUSED?", "SILENT?", "Who?")
    drawn = list(draw(asked, engine, n=2, sampling=DRAW, counts=counts))
    assert [(s.question.question, s.number) for s in drawn] == [(q, k) for q in ("SILENT?", "Who?") for k in (0, 1)]
    assert counts == {"asked": 6, "failed": 2, "empty": 2, "thinking_cut": 0}
    assert "no answer to 'REFUSED?': too long" in caplog.text


def test_a_rerun_asks_only_for_what_the_file_does_not_hold(tmp_path, monkeypatch):
    out, asked = tmp_path / "s.jsonl", questions(0, "A?", "REFUSED?", "B?", "C?")
    sample(asked, "fake:m", out, n=2, sampling=DRAW, progress=False)
    whole = out.read_bytes()
    assert whole.count(b"\n") == 6
    cut = whole[: whole.rindex(b"\n", 0, len(whole) - 90) + 30]
    out.write_bytes(cut)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "another"))
    Fake.asked.clear()
    counts = sample(asked, "fake:m", out, n=2, sampling=DRAW, progress=False)
    assert out.read_bytes() == whole
    missing = 6 - cut.count(b"\n")
    assert (counts["already"], counts["asked"], counts["failed"]) == (6 - missing, missing + 2, 2)
    assert Counter(text for text, _ in Fake.asked)["REFUSED?"] == 2 and len(Fake.asked) == missing + 2


def test_the_same_question_in_two_languages_is_two_questions(tmp_path):
    asked = [anah.Question("T", "1901?", DOCUMENT, language) for language in ("en", "zh")]
    out = tmp_path / "s.jsonl"
    sample(asked, "fake:m", out, n=1, sampling=DRAW, progress=False)
    assert [row["language"] for row in rows_of(out)] == ["en", "zh"]
    out.write_text(out.read_text().splitlines()[0] + "\n")
    assert sample(asked, "fake:m", out, n=1, sampling=DRAW, progress=False)["asked"] == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"n": 3}, "n"),
        ({"sampling": Sampling(temperature=1.0)}, "sampling"),
        ({"engine_spec": "fake:other"}, "engine"),
        ({"with_document": True}, "with_document"),
        ({"questions": questions(2)}, "questions"),
    ],
)
def test_a_file_made_with_other_settings_is_refused(tmp_path, change, named):
    settings: Any = {"questions": questions(1), "engine_spec": "fake:m", "n": 1, "sampling": DRAW, "progress": False}
    sample(out=tmp_path / "s.jsonl", **settings)
    before = (tmp_path / "s.jsonl").read_bytes()
    with pytest.raises(HarnessError, match=rf"s\.jsonl was made with other settings \({named}\)"):
        sample(out=tmp_path / "s.jsonl", **(settings | change))
    assert (tmp_path / "s.jsonl").read_bytes() == before


def test_what_cannot_be_continued_or_written(tmp_path):
    out = tmp_path / "s.jsonl"
    assert resume(out, {"a": 1}) == 0
    out.write_text("{}\n")
    settings_file(out).write_text('{"a"')
    with pytest.raises(HarnessError, match=r"s\.jsonl\.settings\.json beside it cannot be read"):
        resume(out, {"a": 1})
    settings_file(out).unlink()
    with pytest.raises(HarnessError, match="cannot be read"):
        resume(out, {"a": 1})
    with pytest.raises(HarnessError, match=r"no folder and not \.gz"):
        resume(tmp_path, {})
    with pytest.raises(HarnessError, match=r"no folder and not \.gz"):
        resume(tmp_path / "s.jsonl.gz", {})
    with pytest.raises(HarnessError, match="cannot be written"):
        resume(out / "below" / "a file", {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n", "0"], "nothing to sample"),
        (["--temperature", "0"], "temperature 0 gives 2 times the same answer"),
        (["--top-p", "0"], "0 < top-p <= 1"),
        (["--max-tokens", "0"], "max-tokens >= 1"),
        (["--questions", "mini:dev"], "split 'dev' is not known"),
        (["--questions", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["--engine", "fake"], "engine 'fake' is not known"),
        (["--engine-args", '{"colour": 1}'], "colour"),
    ],
)
def test_bad_sampling_options_are_one_line(tmp_path, capsys, options, message):
    usual = {"--questions": "mini:train", "--engine": "fake:m", "--n": "2", "--out": tmp_path / "s.jsonl"}
    words = [word for pair in (usual | dict([options])).items() for word in pair]
    assert message in error_of(capsys, "sample", *words)
    assert not (tmp_path / "s.jsonl").exists()


@pytest.mark.parametrize("options", ["[1]", "{", "3"])
def test_engine_options_must_be_an_object(tmp_path, capsys, options):
    words = ["sample", "--questions", "mini:train", "--engine", "fake:m", "--out", "s", "--engine-args", options]
    assert "JSON" in error_of(capsys, *words)


def test_a_model_that_answers_nothing_is_an_error(tmp_path):
    with pytest.raises(HarnessError, match="answered none of 2 requests"):
        sample(questions(0, "REFUSED?"), "fake:m", tmp_path / "s.jsonl", n=2, sampling=DRAW, progress=False)


def test_one_question_on_two_topics_is_asked_for_both(tmp_path):
    (question,) = questions(1)
    both = [question, replace(question, topic="another")]
    for already in (0, 4):
        counts = sample(both, "fake:m", tmp_path / "s.jsonl", n=2, sampling=DRAW, progress=False)
        assert counts["already"] == already
    rows = [(row["topic"], row["sample"]) for _, row in read_jsonl(tmp_path / "s.jsonl")]
    assert rows == [(q.topic, k) for q in both for k in range(2)]


# annotate


def sampled(path: Path, count: int = 3, n: int = 2) -> Path:
    sample(questions(count), "fake:m", path, n=n, sampling=DRAW, progress=False)
    return path


def test_annotations_carry_labels_spans_and_the_sample(tmp_path):
    samples, out = sampled(tmp_path / "s.jsonl"), tmp_path / "a.jsonl"
    assert annotate_samples(samples, "lexical", out, progress=False) == 6
    found = list(read_annotations(out))
    assert [(a.question, a.response, a.extra) for a in found] == [
        (row["question"], row["response"], {"sample": row["sample"]}) for row in rows_of(samples)
    ]
    assert [a.judgements[0].label for a in found[:2]] == [Label.OK, Label.CONTRADICTORY]
    assert all(a.response[s.start : s.end] == s.text for a in found for s in a.sentences)
    assert {(a.topic, a.judge, a.language) for a in found} == {("Alice", "lexical", "en")}


def test_annotating_goes_on_after_a_cut_line(tmp_path):
    samples, out = sampled(tmp_path / "s.jsonl"), tmp_path / "a.jsonl"
    annotate_samples(samples, "lexical", out, progress=False)
    whole = out.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        out.write_bytes(whole[:length])
        new = annotate_samples(samples, "lexical", out, progress=False)
        assert (out.read_bytes(), new) == (whole, 6 - whole[:length].count(b"\n"))
    assert annotate_samples(samples, "lexical", out, progress=False) == 0


def test_more_samples_are_added_and_other_ones_refused(tmp_path):
    samples, out = sampled(tmp_path / "s.jsonl"), tmp_path / "a.jsonl"
    rows = rows_of(samples)
    write_jsonl(samples, rows[:4])
    annotate_samples(samples, "lexical", out, progress=False)
    write_jsonl(samples, rows)
    assert annotate_samples(samples, "lexical", out, progress=False) == 2
    write_jsonl(samples, [rows[0], {**rows[1], "response": "Another answer."}, *rows[2:]])
    with pytest.raises(HarnessError, match=r"a\.jsonl, row 2: does not belong to .*s\.jsonl"):
        annotate_samples(samples, "lexical", out, progress=False)
    write_jsonl(samples, rows[:5])
    with pytest.raises(HarnessError, match=r"a\.jsonl, row 6: does not belong"):
        annotate_samples(samples, "lexical", out, progress=False)
    with pytest.raises(HarnessError, match=r"other settings \(style\)"):
        annotate_samples(samples, "lexical", out, style="spacy", progress=False)


def test_options_that_change_no_label_may_change_between_runs(tmp_path):
    samples, out = sampled(tmp_path / "s.jsonl"), tmp_path / "a.jsonl"
    with JudgeServer() as server:
        spec = f"dialogue@openai:{server.url}#rules"
        annotate_samples(samples, spec, out, judge_args={"concurrency": 8, "window": 5}, progress=False)
        annotate_samples(samples, spec, out, judge_args={"concurrency": 2, "guided": True}, progress=False)
        for options in ({"guided": False}, {"extra_body": {"top_k": 1}}):  # extra_body goes into every request
            with pytest.raises(HarnessError, match=r"other settings \(judge_args\)"):
                annotate_samples(samples, spec, out, judge_args=options, progress=False)


def test_lm_eval_samples_are_samples_too(tmp_path):
    doc = questions(1)[0].to_dict()
    folder = tmp_path / "results"
    folder.mkdir()
    write_jsonl(folder / "samples_anah_x.jsonl", [{"doc": doc, "resps": [[RIGHT, WRONG_YEAR]], "filter": "none"}])
    assert [(item.response, k, item.document) for item, k in read_samples(folder)] == [
        (RIGHT, 0, DOCUMENT),
        (WRONG_YEAR, 1, DOCUMENT),
    ]
    annotate_samples(folder, "lexical", tmp_path / "a.jsonl", progress=False)
    (pair,), _ = make_pairs(read_annotations(tmp_path / "a.jsonl"), PairRules())
    assert (pair.chosen.text, pair.rejected.text) == (RIGHT, WRONG_YEAR)


GOOD = {**questions(1)[0].to_dict(), "response": RIGHT, "sample": 0}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({k: v for k, v in GOOD.items() if k != "document"}, "missing document"),
        (GOOD | {"document": ""}, "missing document"),
        (GOOD | {"response": None}, "missing response"),
        (GOOD | {"language": "fr"}, "language is 'fr'"),
        (GOOD | {"sample": "first"}, "sample is 'first'"),
        ({"doc": None, "resps": [["A."]]}, "`doc` is no object"),
        ({"doc": {"topic": "Alice"}, "resps": [["A."]]}, "missing question, document, language"),
    ],
)
def test_a_bad_sample_is_named_before_anything_is_judged(tmp_path, capsys, row, message):
    samples = tmp_path / "s.jsonl"
    write_jsonl(samples, [GOOD, row])
    error = error_of(capsys, "label", "--samples", samples, "--judge", "lexical", "--out", tmp_path / "a.jsonl")
    assert "s.jsonl, row 2: " in error and message in error
    assert not (tmp_path / "a.jsonl").exists()


def test_annotating_nothing_or_without_a_judge(tmp_path, capsys):
    samples, out = tmp_path / "s.jsonl", tmp_path / "a.jsonl"
    samples.write_text("")
    assert "holds no sample" in error_of(capsys, "label", "--samples", samples, "--judge", "lexical", "--out", out)
    write_jsonl(samples, [GOOD])
    assert "no judge is configured" in error_of(capsys, "label", "--samples", samples, "--out", out)
    wrong = error_of(capsys, "label", "--samples", samples, "--judge", "dialogue", "--out", out)
    assert "judge 'dialogue' needs a model" in wrong
    samples.write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD)[:40])
    assert "row 2: not valid JSON" in error_of(
        capsys, "label", "--samples", samples, "--judge", "lexical", "--out", out
    )


# pair


def shares(pairs) -> list[tuple[float, float]]:
    def of(side) -> float:
        counted = [label for label in side.labels if label not in (Label.NOFACT, Label.UNPARSED)]
        return counted.count(Label.OK) / len(counted)

    return [(of(p.chosen), of(p.rejected)) for p in pairs]


groups = st.lists(st.text("ocunx", max_size=5), min_size=1, max_size=7).map(
    lambda rows: [annotation(labels, number) for number, labels in enumerate(rows)]
)
rules = st.builds(
    PairRules,
    min_gap=st.sampled_from([0, 0.2, 0.25, 0.5, 1]),
    pairs_per_question=st.integers(1, 3),
    max_chars=st.none() | st.integers(4, 30),
    min_sentences=st.integers(1, 3),
    max_length_ratio=st.none() | st.sampled_from([1.0, 1.5, 2.0]),
    rank_by=st.sampled_from(["share", "correct"]),
    labels=st.sampled_from(["sentence", "response", "random"]),
    seed=st.integers(0, 3),
)


@given(groups, rules, st.randoms(use_true_random=False))
def test_pairs_keep_the_rules_whatever_the_order_of_the_samples(group, rules, rng):
    pairs, why = pair_question(group, rules)
    shuffled = rng.sample(group, len(group))
    assert pair_question(shuffled, rules) == (pairs, why)
    assert bool(pairs) != bool(why) and len(pairs) <= rules.pairs_per_question
    texts = [a.response for pair in pairs for a in pair]
    assert len(set(texts)) == len(texts)
    for won, lost in pairs:
        value = share if rules.rank_by == "share" else (lambda a: a.count(Label.OK))
        if rules.labels != "random":
            assert value(won) > value(lost) and value(won) >= value(lost) + rules.min_gap - 1e-9
        for a in (won, lost):
            assert a.count(Label.OK, Label.CONTRADICTORY, Label.UNVERIFIABLE) > 0
            assert len(a.sentences) >= rules.min_sentences and len(a.response) <= (rules.max_chars or 10**9)
        short, long = sorted((len(won.response), len(lost.response)))
        assert long <= (rules.max_length_ratio or 10**9) * short


@given(groups)
def test_without_limits_the_best_meets_the_worst(group):
    pairs, why = pair_question(group, PairRules())
    known = [share(a) for a in group if a.count(Label.OK, Label.CONTRADICTORY, Label.UNVERIFIABLE)]
    if pairs:
        assert [(share(w), share(lost)) for w, lost in pairs] == [(max(known), min(known))]
    else:
        assert len(set(known)) < 2 and why


def test_ties_go_to_more_checkable_sentences_then_to_the_lower_number():
    group = [annotation(labels, k) for k, labels in enumerate(["o", "oo", "oon", "c", "cc", "cu"])]
    ((won, lost),), _ = pair_question(group, PairRules())
    assert (won.extra["sample"], lost.extra["sample"]) == (1, 4)


def test_a_gap_is_compared_as_the_fraction_it_is():
    group = [annotation("ooocc", 0), annotation("ooccc", 1)]  # 0.6 - 0.4 is below 0.2 in floating point
    assert len(pair_question(group, PairRules(min_gap=0.2))[0]) == 1
    assert pair_question(group, PairRules(min_gap=0.21)) == ([], "no difference, or less than min_gap")


def test_where_lengths_forbid_the_worst_the_next_worst_is_taken():
    group = [
        annotation("oo", 0, text="Aaaa. Bbbb."),
        annotation("ccc", 1, text=f"{'C' * 80}. D. E."),
        annotation("co", 2, text="Ffff. Gggg."),
    ]
    ((won, lost),), _ = pair_question(group, PairRules(max_length_ratio=1.5))
    assert (won.extra["sample"], lost.extra["sample"]) == (0, 2)
    assert pair_question(group[:2], PairRules(max_length_ratio=1.5)) == ([], "length limits")


def test_several_pairs_a_question():
    group = [annotation(labels, k) for k, labels in enumerate(["oooo", "oooc", "oocc", "occc", "cccc"])]
    pairs, _ = pair_question(group, PairRules(pairs_per_question=9))
    assert [(w.extra["sample"], lost.extra["sample"]) for w, lost in pairs] == [(0, 4), (1, 3)]


def test_the_report_says_why_there_is_no_pair_and_what_was_left_out():
    found = [
        *[annotation(labels, k, "pair") for k, labels in enumerate(["oon", "occ", "nn", "x", ""])],
        annotation("oc", 0, "one"),
        *[annotation(labels, k, "no share") for k, labels in enumerate(["n", "x"])],
        *[annotation("oc", k, "tie") for k in range(2)],
        *[annotation("o" * 50, k, "long") for k in range(2)],
        *[annotation("oc", k, "twins", text="A. B.") for k in range(2)],
    ]
    pairs, report = make_pairs(found, PairRules(max_chars=100))
    assert [p.prompt for p in pairs] == [({"role": "user", "content": "pair"},)]
    assert report == {
        "questions": 6,
        "responses": 14,
        "pairs": 1,
        "judges": ["rules"],
        "questions_without_pair": {
            "single response": 2,
            "no response with a share": 1,
            "no difference, or less than min_gap": 1,
            "length limits": 1,
        },
        "responses_left_out": {"no checkable sentence": 5, "length limits": 2, "same text as another": 1},
        "chosen_share": 1.0,
        "chosen_chars": 17.0,
        "chosen_counting_sentences": 3,
        "rejected_share": 0.3333,
        "rejected_chars": 17.0,
        "rejected_counting_sentences": 2,
    }


@given(st.randoms(use_true_random=False))
def test_a_file_that_is_not_grouped_gives_the_same_pairs(rng):
    found = [
        annotation(labels, k, f"q{q}") for q in range(5) for k, labels in enumerate(["oc", "oo", "cc", "n"][: q + 1])
    ]
    pairs, report = make_pairs(found, PairRules())
    again, second = make_pairs(iter(rng.sample(found, len(found))), PairRules())
    assert (sorted(again, key=str), second["pairs"]) == (sorted(pairs, key=str), report["pairs"] == 4 and 4)


def test_a_grouped_file_is_not_held_in_memory(tmp_path, monkeypatch):
    """Both files are read side by side: a question is paired as soon as its last response is read."""
    from factuality_harness.training.preferences import pairing

    read = []
    real = pairing.read_annotations

    def watched(path):
        for one in real(path):
            read.append(one.question)
            yield one

    monkeypatch.setattr(pairing, "read_annotations", watched)
    rows = [annotation(labels, k, f"q{q}") for q in range(9) for k, labels in enumerate(["oc", "oo"])]
    files = [annotations_file(tmp_path / name, rows) for name in ("a.jsonl", "b.jsonl")]
    sources = [pairing.AnnotationFiles((file,)) for file in files]
    stream = iter(pairing.Pairing(sources[0], PairRules(), sources[1]))
    read.clear()
    next(stream)
    assert set(read) == {"q0"}


def test_the_chosen_side_from_another_file():
    plain = [annotation("oc", 0, "a"), annotation("cc", 1, "a"), annotation("cc", 0, "b"), annotation("oo", 0, "c")]
    others = [annotation("ooo", 7, "a"), annotation("n", 7, "b"), annotation("oo", 0, "c"), annotation("oo", 0, "z")]
    pairs, report = make_pairs(plain, PairRules(), others)
    assert [(p.chosen.text, p.rejected.text) for p in pairs] == [(others[0].response, plain[1].response)]
    assert (report["questions"], report["responses"], report["responses_chosen_from"]) == (3, 4, 4)
    assert report["questions_without_pair"] == {"nothing to choose from in chosen_from": 1, "single response": 1}
    with pytest.raises(HarnessError, match="no pair can be made"):  # never a response against itself
        make_pairs(plain[3:], PairRules(labels="random"), others[2:3])


def test_labels_of_the_whole_response():
    pairs, report = make_pairs([annotation("ocnx", 0), annotation("cccn", 1)], PairRules(labels="response"))
    assert set(pairs[0].chosen.labels) == {Label.OK} and set(pairs[0].rejected.labels) == {Label.CONTRADICTORY}
    assert (report["chosen_counting_sentences"], report["rejected_counting_sentences"]) == (4, 4)
    assert (report["chosen_share"], report["rejected_share"]) == (0.5, 0.0)


def test_random_pairs_and_labels_keep_the_rate_and_the_seed():
    rng = random.Random(0)
    found = [
        annotation("".join(rng.choice("oouncx") for _ in range(6)) + "o", k, f"q{q}")
        for q in range(200)
        for k in range(4)
    ]
    pairs, _ = make_pairs(found, PairRules(labels="random", pairs_per_question=2))
    assert (pairs, len(pairs)) == (make_pairs(found, PairRules(labels="random", pairs_per_question=2))[0], 400)
    assert pairs != make_pairs(found, PairRules(labels="random", pairs_per_question=2, seed=1))[0]
    wrong = (Label.CONTRADICTORY, Label.UNVERIFIABLE)
    judged = Counter(j.label for a in found for j in a.judgements)
    rate = sum(judged[w] for w in wrong) / sum(judged[w] for w in (*wrong, Label.OK))
    for name in ("chosen", "rejected"):  # no side is better than the other
        drawn = Counter(label for p in pairs for label in getattr(p, name).labels)
        total = drawn[Label.OK] + drawn[Label.CONTRADICTORY]
        assert drawn[Label.CONTRADICTORY] / total == pytest.approx(rate, abs=0.04)
    by_text = {a.response: a for a in found}
    for pair in pairs:
        for side in (pair.chosen, pair.rejected):
            for label, judgement in zip(side.labels, by_text[side.text].judgements, strict=True):
                if judgement.label in (Label.NOFACT, Label.UNPARSED):
                    assert label is judgement.label


def fact_annotation(number: int, supported: int, wrong: int, *, abstained: bool = False) -> Annotation:
    facts = [{"text": "f", "supported": True}] * supported + [{"text": "f", "supported": False}] * wrong
    return annotation("c" if wrong else "o", number, facts=[facts], abstained=abstained, skipped=False)


def test_ranking_by_factscore(tmp_path):
    # Shares of sentences: 0, 0, 1, 1. FActScores: 0.9, 0.5, 0.2 (one fact: penalty), none.
    found = [fact_annotation(0, 18, 2), fact_annotation(1, 10, 10), fact_annotation(2, 2, 0), fact_annotation(3, 0, 0)]
    ((won, lost),), _ = pair_question(found, PairRules(rank_by="factscore"))
    assert (won.extra["sample"], lost.extra["sample"]) == (0, 2)
    left_out: Counter[str] = Counter()
    pair_question(found, PairRules(rank_by="factscore"), left_out=left_out)
    assert left_out == {"no judged fact": 1}
    given = [annotation("oc", k, factscore=value) for k, value in enumerate([0.1, 0.7])]
    ((won, _),), _ = pair_question(given, PairRules(rank_by="factscore"))
    assert won.extra["sample"] == 1
    with pytest.raises(HarnessError, match="not made by a FActScore judge"):
        pair_question([annotation("oc"), annotation("oo", 1)], PairRules(rank_by="factscore"))
    # As lm_eval's FActScore tasks store them, with repeats and without sample numbers.
    samples = tmp_path / "samples_anah_factscore.jsonl"
    write_jsonl(samples, [{"doc": {}, "filtered_resps": [dump_annotations(found)], "filter": "annotation"}])
    out = tmp_path / "p.jsonl"
    assert command("pair")(["--annotations", str(samples), "--rank-by", "factscore", "--out", str(out)]) == 0
    assert [p.chosen.text for p in read_pairs(out)] == [found[0].response]


def test_samples_labelled_fact_by_fact_are_ranked_by_factscore(tmp_path):
    """One topic with two documents: each sample's facts are checked against its own."""
    samples, out, pairs = tmp_path / "s.jsonl", tmp_path / "a.jsonl", tmp_path / "p.jsonl"
    asked = {"topic": "Alice", "language": "en", "question": "Who is Alice?"}
    answers = "Alice was born in Paris, Alice lived in Rome and Alice died in Oslo.", "Alice was born in Paris."
    documents = "Alice was born in Paris and lived in Rome.", "Alice was born in Berlin."
    write_jsonl(
        samples,
        [
            {
                **asked,
                "question": f"{asked['question']}{' Really?' * number}",
                "document": document,
                "sample": k,
                "response": answer,
            }
            for number, document in enumerate(documents)
            for k, answer in enumerate(answers)
        ],
    )
    rules = RuleEngine()

    def answer(messages):
        return str(rules.answer(messages).text)

    with JudgeServer(answer) as server:
        judge = ["--judge", f"factscore@openai:{server.url}#rules"]
        assert command("label")(["--samples", str(samples), *judge, "--out", str(out)]) == 0
        assert command("label")(["--samples", str(samples), *judge, "--out", str(out)]) == 0  # nothing left
    found = list(read_annotations(out))
    verdicts = [[f["supported"] for facts in a.extra["facts"] for f in facts] for a in found]
    assert verdicts == [[True, True, False], [True], [False, False, False], [False]]
    assert {a.topic for a in found} == {"Alice"}
    assert command("pair")(["--annotations", str(out), "--rank-by", "factscore", "--out", str(pairs)]) == 0
    (pair,) = read_pairs(pairs)  # the second question's answers are equally wrong
    assert pair.chosen.text == answers[0]  # one fact of one is less than two of three, by the penalty


def test_the_pair_command_writes_pairs_report_and_manifest(tmp_path, capsys):
    first = annotations_file(tmp_path / "a.jsonl", [annotation("oc", 0), annotation("on", 0, "only here")])
    second = annotations_file(tmp_path / "b.jsonl", [annotation("cc", 0)])
    out = tmp_path / "new" / "p.jsonl"
    assert command("pair")(["--annotations", str(first), "--annotations", str(second), "--out", str(out)]) == 0
    (pair,) = read_pairs(out)
    assert (pair.chosen.labels, pair.rejected.labels) == (
        (Label.OK, Label.CONTRADICTORY),
        (Label.CONTRADICTORY, Label.CONTRADICTORY),
    )
    report = json.loads(Path(f"{out}.report.json").read_text())
    assert report == json.loads(capsys.readouterr().out) and report["pairs"] == 1
    manifest = json.loads(Path(f"{out}.manifest.json").read_text())
    assert set(manifest["inputs"]) == {"a.jsonl", "b.jsonl"} and manifest["settings"]["rules"]["rank_by"] == "share"


def test_bad_input_to_pairing_is_one_line_and_leaves_old_pairs_alone(tmp_path, capsys):
    out = tmp_path / "p.jsonl"
    out.write_text("old\n")
    tie = annotations_file(tmp_path / "tie.jsonl", [annotation("oc", 0), annotation("oc", 1)])
    error = error_of(capsys, "pair", "--annotations", tie, "--out", out)
    assert "tie.jsonl: no pair can be made" in error
    assert '"questions_without_pair": {"no difference, or less than min_gap": 1}' in error
    (tmp_path / "empty.jsonl").write_text("")
    assert "holds no annotation" in error_of(capsys, "pair", "--annotations", tmp_path / "empty.jsonl", "--out", out)
    with_empty = error_of(capsys, "pair", "--annotations", tie, "--chosen-from", tmp_path / "empty.jsonl", "--out", out)
    assert "empty.jsonl: holds no annotation" in with_empty
    bad = tmp_path / "bad.jsonl"
    write_jsonl(bad, [annotation("o").to_dict(), {"question": "Q?", "response": "A."}])
    assert "bad.jsonl, row 2: not an annotation" in error_of(capsys, "pair", "--annotations", bad, "--out", out)
    write_jsonl(bad, [annotation("o").to_dict() | {"extra": {"sample": "one"}}])
    assert "extra.sample is 'one'" in error_of(capsys, "pair", "--annotations", bad, "--out", out)
    assert "name another --out" in error_of(capsys, "pair", "--annotations", tie, "--out", tie)
    assert "name another --out" in error_of(capsys, "pair", "--annotations", tie, "--out", tmp_path / "p.jsonl.gz")
    assert out.read_text() == "old\n" and tie.read_text().count("\n") == 2


@pytest.mark.parametrize(
    "options",
    [
        {"min_gap": -1},
        {"min_gap": float("nan")},
        {"pairs_per_question": 0},
        {"max_length_ratio": 0.5},
        {"labels": "all"},
    ],
)
def test_rules_that_make_no_sense(options):
    with pytest.raises(HarnessError):
        PairRules(**options)


# The three steps, and real kills


def test_from_the_small_corpus_to_pairs(tmp_path, monkeypatch):
    """Real text: the better answer is the document's own sentences, the worse one has its figures changed."""
    documents = {q.question: q.document for q in load_questions("mini:train")}

    def stream(self, conversations, sampling):
        for i, conversation in enumerate(conversations):
            text = documents[conversation[-1]["content"]][:300]
            if sampling.seed:
                text = "".join(str((int(c) + 5) % 10) if c.isdecimal() else c for c in text)
            yield [(i, Reply(text))]

    monkeypatch.setattr(Fake, "stream", stream)
    samples, labels, pairs = (tmp_path / f"{name}.jsonl" for name in ("samples", "annotations", "pairs"))
    steps = [
        ["sample", "--questions", "mini:train", "--engine", "fake:m", "--n", "2", "--out", samples],
        ["label", samples, "--judge", "lexical", "--out", labels],
        ["pair", "--annotations", labels, "--out", pairs],
    ]
    for name, *words in steps:
        assert command(name)(words) == 0
    found = list(read_pairs(pairs))
    assert len(found) > len(documents) / 2
    assert all(p.chosen.text in documents[p.prompt[0]["content"]] for p in found)
    assert all(chosen > rejected for chosen, rejected in shares(found))


SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = [{root!r}, {here!r}]
import test_preferences as t
from factuality_harness.harness.annotators import lexical
from factuality_harness.harness.annotators.spec import JUDGES, RegisteredJudge
from factuality_harness.training.preferences import sampling

class Slow(lexical.LexicalAnnotator):
    window = 1
    def judge(self, claims, progress=None):
        t.time.sleep(0.02)
        return super().judge(claims, progress)

t.ENGINES["fake"] = t.Fake
sampling.QUESTIONS_IN_FLIGHT = 1
JUDGES["lexical"] = RegisteredJudge("__main__:Slow", False)
step, folder = sys.argv[1], Path(sys.argv[2])
if step == "sample":
    args = dict(n=2, sampling=t.DRAW, engine_args={{"delay": 0.01}}, progress=False)
    t.sample(t.questions(60), "fake:m", folder / "s.jsonl", **args)
else:
    t.annotate_samples(folder / "s.jsonl", "lexical", folder / "a.jsonl", progress=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("step", "name"), [("sample", "s.jsonl"), ("annotate", "a.jsonl")])
def test_killed_and_started_again(tmp_path, monkeypatch, step, name):
    whole = tmp_path / "whole"
    whole.mkdir()
    sampled(whole / "s.jsonl", 60)
    annotate_samples(whole / "s.jsonl", "lexical", whole / "a.jsonl", progress=False)
    folder = tmp_path / "killed"
    folder.mkdir()
    if step == "annotate":
        (folder / "s.jsonl").write_bytes((whole / "s.jsonl").read_bytes())
    out = folder / name
    script = SCRIPT.format(root=str(ROOT), here=str(Path(__file__).parent))
    environment = os.environ | {"HARNESS_CACHE": str(tmp_path / "theirs")}
    process = subprocess.Popen([sys.executable, "-c", script, step, str(folder)], env=environment, cwd=ROOT)
    try:
        end = time.monotonic() + 120
        while not out.exists() or out.read_bytes().count(b"\n") < 7:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = out.read_bytes().count(b"\n")
    assert 7 <= kept < 120
    if step == "sample":
        Fake.asked.clear()
        monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "mine"))
        counts = sample(questions(60), "fake:m", out, n=2, sampling=DRAW, progress=False)
        assert (counts["already"], len(Fake.asked)) == (kept, 120 - kept)
    else:
        assert annotate_samples(folder / "s.jsonl", "lexical", out, progress=False) == 120 - kept
    assert out.read_bytes() == (whole / name).read_bytes()
