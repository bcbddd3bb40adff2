"""Judge specs: what is opened, and what a misspelt one says."""

from __future__ import annotations

import inspect

import pytest

from factuality_harness.harness.annotators.dialogue import DialogueAnnotator
from factuality_harness.harness.annotators.lexical import LexicalAnnotator
from factuality_harness.harness.annotators.spec import JUDGES, JudgeSpec
from factuality_harness.harness.engines import open_engine
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.factscore.annotator import FactVerifier


def test_the_registry_says_which_judges_there_are_and_what_they_need() -> None:
    assert set(JUDGES) == {"anah_v2", "dialogue", "factscore", "factscore_sheet", "lexical", "sheet", "world"}
    for name, judge in JUDGES.items():
        parameters = inspect.signature(judge.load()).parameters
        assert ("engine" in parameters) == judge.needs_engine, name


@pytest.mark.parametrize(
    ("text", "spec", "recorded"),
    [
        ("lexical", JudgeSpec("lexical"), "lexical"),
        (
            "dialogue@openai:http://h:8000/v1#org/m",
            JudgeSpec("dialogue", "openai", "http://h:8000/v1#org/m", "org/m"),
            "dialogue@openai#org/m",
        ),
        ("dialogue@openai:http://h/v1", JudgeSpec("dialogue", "openai", "http://h/v1"), "dialogue@openai"),
        ("factscore@vllm:org/m", JudgeSpec("factscore", "vllm", "org/m", "org/m"), "factscore@vllm#org/m"),
        ("anah_v2@hf:out/a#b", JudgeSpec("anah_v2", "hf", "out/a#b", "out/a#b"), "anah_v2@hf#out/a#b"),
    ],
)
def test_a_spec_in_parts(text: str, spec: JudgeSpec, recorded: str) -> None:
    assert JudgeSpec.parse(text) == JudgeSpec.from_results(text) == spec
    assert (str(spec), spec.recorded) == (text, recorded)
    of_results = JudgeSpec.from_results(recorded)
    assert str(of_results) == of_results.recorded == recorded
    assert (of_results.name, of_results.engine, of_results.model) == (spec.name, spec.engine, spec.model)


@pytest.mark.parametrize("text", ["", "rule", "a human", "dialogue@hf#a and dialogue@hf#b", "dialogue@served:there"])
def test_other_names_in_results_stay_as_they_are(text: str) -> None:
    assert JudgeSpec.from_results(text).recorded == text


def test_open() -> None:
    assert isinstance(JudgeSpec("lexical").open(), LexicalAnnotator)
    spec = JudgeSpec.parse("dialogue@openai:http://127.0.0.1:9/v1#m")
    options = {"concurrency": 3, "max_tokens": 7, "window": 5}
    judge = spec.open(options)
    assert options == {"concurrency": 3, "max_tokens": 7, "window": 5}
    assert isinstance(judge, DialogueAnnotator)
    assert judge.spec == "dialogue@openai#m"
    assert judge.window == 5
    assert judge.engine.engine.options.concurrency == 3  # type: ignore[attr-defined]


def test_factscores_verifier_is_a_judge_of_facts_only() -> None:
    spec = JudgeSpec.parse("factscore@openai:http://127.0.0.1:9/v1#m")
    judge = spec.open({"reading": "reference", "concurrency": 2}, facts=True)
    assert isinstance(judge, FactVerifier)
    assert (judge.spec, judge.verifier.options.reading) == ("factscore@openai#m", "reference")
    with pytest.raises(HarnessError, match=r"does not label the sentences.*score-facts"):
        spec.open()


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
        JudgeSpec.parse(spec).open()


@pytest.mark.parametrize(
    ("spec", "option", "message"),
    [
        ("lexical", "concurrency", "has no option concurrency"),
        ("dialogue@openai:http://h/v1#m", "retires", "retires"),
        ("dialogue@hf:m", "concurrency", "concurrency"),
        ("factscore@hf:m", "guided", "guided"),
    ],
)
def test_an_unknown_option_is_named(spec: str, option: str, message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        JudgeSpec.parse(spec).open({option: 1}, facts=True)


def test_options_that_are_no_object_are_refused() -> None:
    with pytest.raises(HarnessError, match=r"judge_args must be an object of options, not list: \['a'\]"):
        JudgeSpec("lexical").open(["a"])  # type: ignore[arg-type]  # what --metadata may hold


@pytest.mark.parametrize(
    "url", ["http://me:sesame@host/v1#m", "http://sesame@host/v1#m", "http://host/v1?key=sesame#m"]
)
def test_a_url_with_credentials_is_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(HarnessError, match="OPENAI_API_KEY") as caught:
        open_engine(f"openai:{url}")
    assert "sesame" not in str(caught.value)


def test_which_judge_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(JudgeSpec.configured(default="lexical")) == "lexical"
    monkeypatch.setenv("HARNESS_JUDGE", "dialogue@hf:a")
    assert str(JudgeSpec.configured(default="lexical")) == "dialogue@hf:a"
    assert str(JudgeSpec.configured("dialogue@hf:b", default="lexical")) == "dialogue@hf:b"


def test_no_judge_is_an_error_that_lists_the_choices() -> None:
    with pytest.raises(HarnessError, match=r"no judge is configured.*HARNESS_JUDGE.*lexical.*dialogue@.*anah_v2@"):
        JudgeSpec.configured()
    with pytest.raises(HarnessError, match="must be a string, not list"):
        JudgeSpec.configured(["lexical"])
