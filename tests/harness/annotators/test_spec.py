"""Judge specs: what is opened, and what a misspelt one says."""

from __future__ import annotations

import pytest

from factuality_harness.harness.annotators.dialogue import DialogueAnnotator
from factuality_harness.harness.annotators.lexical import LexicalAnnotator
from factuality_harness.harness.annotators.spec import annotator_names, judge_spec, open_annotator
from factuality_harness.harness.engines import open_engine
from factuality_harness.harness.errors import HarnessError


def test_names() -> None:
    assert {"anah_v2", "dialogue", "lexical"} <= set(annotator_names())
    assert "base" not in annotator_names()


def test_open() -> None:
    assert isinstance(open_annotator("lexical"), LexicalAnnotator)
    judge = open_annotator("dialogue@openai:http://127.0.0.1:9/v1#m", {"concurrency": 3, "max_tokens": 7, "window": 5})
    assert isinstance(judge, DialogueAnnotator)
    assert judge.spec == "dialogue@openai#m"
    assert judge.window == 5
    assert judge.engine.engine.concurrency == 3  # type: ignore[attr-defined]


def test_the_options_given_are_not_changed() -> None:
    options = {"concurrency": 3, "window": 5}
    open_annotator("dialogue@openai:http://127.0.0.1:9/v1#m", options)
    assert options == {"concurrency": 3, "window": 5}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lexcial", "'lexcial' is not known; one of: lexical"),
        ("", "is not known; one of: lexical"),
        ("base", "not known"),
        ("os", "not known"),
        ("dialog@openai:http://h/v1#m", "not known; one of: .*dialogue@openai"),
        ("dialogue", "needs a model: dialogue@openai:"),
        ("dialogue@", "needs a model: dialogue@openai:"),
        ("lexical@hf:m", "needs no engine; write just 'lexical'"),
        ("dialogue@opnai:http://h/v1#m", "engine 'opnai:.*openai:http://HOST"),
        ("dialogue@openai", "engine 'openai' is not known"),
        ("dialogue@openai:", "engine 'openai:' is not known"),
        ("dialogue@openai:localhost:8000#m", "'localhost:8000' is not a server URL"),
        ("dialogue@openai:ftp://host/v1#m", "not a server URL"),
        ("anah_v2", "needs a model: anah_v2@openai:"),
    ],
)
def test_a_misspelt_spec_says_how_it_is_written(spec: str, message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        open_annotator(spec)


@pytest.mark.parametrize(
    ("spec", "option", "message"),
    [
        ("lexical", "concurrency", "has no option concurrency"),
        ("dialogue@openai:http://h/v1#m", "retires", "retires"),
        ("dialogue@hf:m", "concurrency", "concurrency"),
    ],
)
def test_an_unknown_option_is_named(spec: str, option: str, message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        open_annotator(spec, {option: 1})


@pytest.mark.parametrize(
    "url", ["http://me:sesame@host/v1#m", "http://sesame@host/v1#m", "http://host/v1?key=sesame#m"]
)
def test_a_url_with_credentials_is_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(HarnessError, match="OPENAI_API_KEY") as caught:
        open_engine(f"openai:{url}")
    assert "sesame" not in str(caught.value)


def test_which_judge_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge_spec(default="lexical") == "lexical"
    monkeypatch.setenv("HARNESS_JUDGE", "dialogue@hf:a")
    assert judge_spec(default="lexical") == "dialogue@hf:a"
    assert judge_spec("dialogue@hf:b", default="lexical") == "dialogue@hf:b"


def test_no_judge_is_an_error_that_lists_the_choices() -> None:
    with pytest.raises(HarnessError, match=r"no judge is configured.*HARNESS_JUDGE.*lexical.*dialogue@.*anah_v2@"):
        judge_spec()
    with pytest.raises(HarnessError, match="must be a string, not list"):
        judge_spec(["lexical"])
