"""The replay model: which files it reads, which answers it gives, what it counts as missing."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.samples import stored_responses
from factuality_harness.harness.lm_eval_plugin.replay import ReplayLM


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


def request(repeats: int = 1, **doc: str) -> Instance:
    return Instance("generate_until", doc, ("the prompt, which is not looked at", {}), 0, ("task", 0, repeats))


def test_plain_rows(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", {"question": " Q? ", "response": "A."}, {"question": "问？", "response": ""})
    assert stored_responses(file) == {("", "Q?"): ["A."], ("", "问？"): [""]}


def test_rows_of_an_lm_eval_samples_file(tmp_path: Path) -> None:
    file = write(
        tmp_path / "samples_t.jsonl",
        {"doc_id": 0, "doc": {"question": "Q?", "topic": "T"}, "resps": [["one", "two"]], "filtered_resps": ["{}"]},
        {"doc_id": 1, "doc": {"question": "R?"}, "resps": ["three"]},
    )
    assert stored_responses(file) == {("T", "Q?"): ["one", "two"], ("", "R?"): ["three"]}


def test_rows_of_factscore(tmp_path: Path) -> None:
    assert stored_responses(write(tmp_path / "a.jsonl", {"topic": "T", "output": "A bio."})) == {("T", ""): ["A bio."]}


def test_a_folder_of_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", {"question": "Q?", "response": "second"})
    write(tmp_path / "a.jsonl", {"question": "Q?", "response": "first"})
    (tmp_path / "results.json").write_text("{}")
    assert stored_responses(tmp_path) == {("", "Q?"): ["first", "second"]}
    (tmp_path / "empty").mkdir()
    with pytest.raises(HarnessError, match=r"holds no \.jsonl or"):
        stored_responses(tmp_path / "empty")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"question": "Q?", "response": "A."}\n{"question": "R?", "resp', "row 2: .*cut off"),
        ('{"question": "Q?", "response": "A."}\n{"prompt": "R?", "response": "B."}\n', "row 2: neither an lm_eval"),
        ('{"doc": "R?", "resps": [["a"]]}\n', "row 1: neither an lm_eval"),
        ('{"question": "Q?"}\n', "row 1: the response to 'Q[?]' is not text"),
        ('{"question": "Q?", "response": null}\n', "row 1: the response to 'Q[?]' is not text"),
        ('{"question": "Q?", "response": 3}\n', "row 1: the response to 'Q[?]' is not text"),
        ('{"doc": {"question": "Q?"}, "resps": [[["a", 1]]]}\n', "row 1: the response to 'Q[?]' is not text"),
        ('{"doc": {"question": "Q?"}, "resps": "a"}\n', "row 1: neither an lm_eval"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(HarnessError, match=f"bad.jsonl, {message}"):
        stored_responses(file)


def test_answers_go_to_their_questions_whatever_the_order(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.jsonl",
        {"question": "Q?", "response": "q1"},
        {"question": "R?", "response": "r"},
        {"question": "Q?", "response": "q2"},
    )
    model = ReplayLM(str(file))
    asked = [request(question=" R?"), request(2, question="Q?"), request(2, question="Q?")]
    assert model.generate_until(asked) == ["r", "q1", "q2"]
    assert model.generate_until(asked[:1]) == ["r"]


def test_biographies_are_found_by_topic(tmp_path: Path) -> None:
    model = ReplayLM(str(write(tmp_path / "a.jsonl", {"topic": "Ada", "output": "A bio."})))
    assert model.generate_until([request(question="Question: Tell me a bio of Ada.", topic="Ada")]) == ["A bio."]


def test_missing_answers_are_counted_and_shown(tmp_path: Path) -> None:
    model = ReplayLM(str(write(tmp_path / "a.jsonl", {"question": "Q?", "response": "q1"})))
    asked = [request(2, question=q) for q in ("Q?", "Q?", "R?", "S?", "T?")]
    with pytest.raises(
        HarnessError, match=r"a\.jsonl: 4 of 5 requested answers are not stored.*'Q\?'; 'R\?'; 'S\?'\. "
    ):
        model.generate_until(asked)


def test_requests_that_only_fill_up_a_process_get_any_answer(tmp_path: Path) -> None:
    """lm_eval asks the last question again where one process has fewer questions than another."""
    model = ReplayLM(str(write(tmp_path / "a.jsonl", {"question": "Q?", "response": "q1"})))
    assert model.generate_until([request(question="Q?")] * 3) == ["q1"] * 3


def test_answers_nobody_asks_for_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"question": q, "response": "a"} for q in ("Q?", "Unknown?", "Other?")]
    model = ReplayLM(str(write(tmp_path / "a.jsonl", *rows)))
    with caplog.at_level(logging.INFO, logger="factuality_harness.harness"):
        assert model.generate_until([request(question="Q?")]) == ["a"]
    assert "answers to 2 questions that this task does not ask are not used" in caplog.text


def test_how_lm_eval_makes_it(tmp_path: Path) -> None:
    import lm_eval.tasks  # noqa: F401  (what registers our model, and what every run of lm_eval imports)
    from lm_eval.api.registry import get_model

    file = write(tmp_path / "a.jsonl", {"question": "Q?", "response": "a"})
    assert get_model("replay") is ReplayLM
    from_text = ReplayLM.create_from_arg_string(f"responses={file}", {"batch_size": 1, "device": None})
    from_dict = ReplayLM.create_from_arg_obj({"responses": str(file)}, {"batch_size": 1})
    for model in (from_text, from_dict):
        assert model.generate_until([request(question="Q?")]) == ["a"]
    with pytest.raises(HarnessError, match="--model_args responses=FILE"):
        ReplayLM.create_from_arg_string("")


def test_likelihoods_are_refused(tmp_path: Path) -> None:
    model = ReplayLM(str(write(tmp_path / "a.jsonl", {"question": "Q?", "response": "a"})))
    for ask in (model.loglikelihood, model.loglikelihood_rolling):
        with pytest.raises(HarnessError, match="no likelihoods"):
            ask([])
