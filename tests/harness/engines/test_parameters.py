"""What servers refuse, in their own words, and what is sent afterwards."""

from __future__ import annotations

import json

import pytest

from factuality_harness.harness.engines import Sampling
from factuality_harness.harness.engines.parameters import STRAYS, Parameters

GREEDY = Sampling(max_tokens=9)
DRAWN = Sampling(max_tokens=9, temperature=0.8, top_p=0.9, top_k=40, seed=3)
LABEL = Sampling(max_tokens=9, choices=("a", "b"))
LABEL_FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "label",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"label": {"type": "string", "enum": ["a", "b"]}},
            "required": ["label"],
            "additionalProperties": False,
        },
    },
}

REFUSALS = [
    (
        GREEDY,
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        {"temperature": 0.0, "max_completion_tokens": 9},
    ),
    (
        GREEDY,
        "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.",
        {"max_tokens": 9, "temperature": 1},
    ),
    (
        DRAWN,
        "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
        {"temperature": 0.8, "max_tokens": 9, "top_k": 40, "seed": 3},
    ),
    (
        DRAWN,
        '{"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}',
        {"temperature": 0.8, "max_tokens": 9, "top_p": 0.9, "top_k": 40},
    ),
    (
        GREEDY,  # LiteLLM's own words, from here on
        "litellm.UnsupportedParamsError: O-series models don't support temperature=0. Only temperature=1 is supported.",
        {"max_tokens": 9, "temperature": 1},
    ),
    (
        GREEDY,
        "gpt-5 doesn't support temperature=0 while reasoning is active. Only temperature=1 is supported unless "
        "reasoning_effort resolves to 'none', either set explicitly on the request or declared as the model's default. "
        "To drop unsupported params set `litellm.drop_params = True`",
        {"max_tokens": 9, "temperature": 1},
    ),
    (
        DRAWN,
        "anthropic does not support parameters: ['seed'], for model=claude-sonnet-4-5. To drop these, set "
        "`litellm.drop_params=True`. If you want to use these params dynamically send allowed_openai_params=['seed']",
        {"temperature": 0.8, "max_tokens": 9, "top_p": 0.9, "top_k": 40},
    ),
    (
        LABEL,
        "ollama does not support parameters: ['structured_outputs'], for model=llama",
        {"temperature": 0.0, "max_tokens": 9, "response_format": LABEL_FORMAT},
    ),
    (
        DRAWN,
        "Unrecognized request argument supplied: top_k",
        {"temperature": 0.8, "max_tokens": 9, "top_p": 0.9, "seed": 3},
    ),
]


@pytest.mark.parametrize(("sampling", "words", "then"), REFUSALS)
def test_a_refused_parameter_is_renamed_or_left_out(sampling: Sampling, words: str, then: dict[str, object]) -> None:
    parameters = Parameters({})
    assert parameters.learn(parameters.body(sampling), words)
    assert parameters.body(sampling) == then
    assert len(parameters.learned) == 1


def test_constrained_answers_have_two_forms_and_then_none() -> None:
    parameters = Parameters({})
    assert parameters.body(LABEL)["structured_outputs"] == {"choice": ["a", "b"]}
    assert parameters.learn(parameters.body(LABEL), "Unrecognized request argument supplied: structured_outputs")
    schema = parameters.body(LABEL)["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["label"]["enum"] == ["a", "b"]
    assert parameters.learn(parameters.body(LABEL), "'response_format' of type 'json_schema' is not supported")
    assert parameters.body(LABEL) == {"temperature": 0.0, "max_tokens": 9}


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 2048 tokens. However, you requested 2100 tokens (max_tokens).",
        "messages: text content blocks must be non-empty",
        "The prompt was flagged by the content policy",
        "Invalid value: extra_field is not permitted",
    ],
)
def test_a_refusal_of_something_else_changes_nothing(words: str) -> None:
    parameters = Parameters({})
    assert not parameters.learn(parameters.body(GREEDY), words)
    assert parameters.learned == []


def test_what_the_user_asked_for_is_never_left_out() -> None:
    parameters = Parameters({"temperature": 0.2, "max_completion_tokens": 50})
    body = parameters.body(GREEDY)
    assert body == {"temperature": 0.2, "max_completion_tokens": 50}
    assert not parameters.learn(body, "Unsupported parameter: temperature")


def test_neither_name_of_the_limit_is_an_end_and_no_circle() -> None:
    parameters = Parameters({})
    assert parameters.learn(parameters.body(GREEDY), "Unsupported parameter: max_tokens")
    assert not parameters.learn(parameters.body(GREEDY), "Unsupported parameter: max_completion_tokens")


def test_requests_sent_in_the_old_form_meanwhile_are_asked_again() -> None:
    parameters = Parameters({})
    old = parameters.body(DRAWN)
    assert parameters.learn(old, "Unrecognized request argument supplied: seed")
    assert parameters.learn(old, "Unrecognized request argument supplied: seed")
    assert len(parameters.learned) == 1


def test_a_temperature_that_is_refused_at_1_too_is_left_out() -> None:
    parameters = Parameters({})
    assert parameters.learn(parameters.body(GREEDY), "Unsupported parameter: temperature")
    assert parameters.learn(parameters.body(GREEDY), "Unsupported parameter: temperature")
    assert parameters.body(GREEDY) == {"max_tokens": 9}
    assert not parameters.learn(parameters.body(GREEDY), "Unsupported parameter: temperature")


@pytest.mark.parametrize(
    ("answer", "held"),
    [
        ("a", True),
        (" b\n", True),
        ('{"label": "a"}', True),
        ("<think>Is it b?</think>a", True),
        ("The answer is a.", False),
        ('{"label": "c"}', False),
        ('["a"]', False),
        ("", False),
    ],
)
def test_a_constraint_without_effect_is_given_another_form(answer: str, held: bool) -> None:
    parameters = Parameters({})
    sent = parameters.body(LABEL)
    assert parameters.ignored(sent, LABEL, answer) is not held
    assert ("response_format" in parameters.body(LABEL)) is not held
    if not held:
        assert parameters.ignored(sent, LABEL, answer), "a request on its way meanwhile is asked again too"
        assert parameters.learned == ["with response_format instead of structured_outputs"]
        assert parameters.ignored(parameters.body(LABEL), LABEL, answer)
        assert not parameters.ignored(parameters.body(LABEL), LABEL, answer)


HELD, STRAY, CUT = "a", "The answer is a.", "The answer is that"


@pytest.mark.parametrize(
    ("answers", "changed_by"),
    [
        ([STRAY], 1),  # nothing speaks for the form yet
        ([HELD, STRAY, HELD, STRAY], None),
        ([HELD, *[STRAY] * (STRAYS - 1), HELD, *[STRAY] * (STRAYS - 1)], None),
        ([HELD, *[STRAY] * STRAYS], 1 + STRAYS),
        ([HELD, STRAY, HELD, *[STRAY] * STRAYS], 3 + STRAYS),
        ([CUT], 1),  # no beginning of a label, so not held either
        (["<think>Well, is it a? Or", STRAY], 2),
        (["{", STRAY], 2),
        ([HELD, *[CUT] * STRAYS], 1 + STRAYS),
    ],
)
def test_a_form_that_has_held_an_answer_outlives_strays(answers: list[str], changed_by: int | None) -> None:
    parameters = Parameters({})
    sent = parameters.body(LABEL)
    changed = []
    for number, answer in enumerate(answers, 1):
        cut = answer not in (HELD, STRAY)
        if parameters.ignored(sent, LABEL, answer, cut=cut):
            changed.append(number)
    assert changed == ([] if changed_by is None else [changed_by])
    assert ("structured_outputs" in parameters.body(LABEL)) is (changed_by is None)


def test_each_form_has_its_own_record() -> None:
    parameters = Parameters({})
    first = parameters.body(LABEL)
    assert not parameters.ignored(first, LABEL, HELD)
    assert [parameters.ignored(first, LABEL, STRAY) for _ in range(STRAYS)] == [*[False] * (STRAYS - 1), True]
    second = parameters.body(LABEL)
    assert "response_format" in second
    assert parameters.ignored(first, LABEL, STRAY), "on its way meanwhile"
    assert parameters.ignored(second, LABEL, STRAY), "which has held nothing"
    assert not {"response_format", "structured_outputs"} & parameters.body(LABEL).keys()


def test_a_users_own_constraint_is_left_alone() -> None:
    parameters = Parameters({"structured_outputs": {"regex": "a|b"}})
    assert not parameters.ignored(parameters.body(LABEL), LABEL, "no label")


def test_a_schema_has_the_same_two_forms() -> None:
    schema = {"type": "object", "properties": {"2": {"type": "string"}, "1": {"type": "string"}}}
    held = Sampling(max_tokens=9, schema=json.dumps(schema))
    parameters = Parameters({})
    assert parameters.body(held)["structured_outputs"] == {"json": schema}
    assert parameters.learn(parameters.body(held), "Unrecognized request argument supplied: structured_outputs")
    assert parameters.constrained
    assert parameters.body(held)["response_format"]["json_schema"]["schema"] == schema
    assert [*parameters.body(held)["response_format"]["json_schema"]["schema"]["properties"]] == ["2", "1"]
    assert parameters.learn(parameters.body(held), "'response_format' of type 'json_schema' is not supported")
    assert parameters.body(held) == {"temperature": 0.0, "max_tokens": 9}
    assert not parameters.constrained


@pytest.mark.parametrize(
    ("answer", "held"),
    [('{"1": "a"}', True), ('<think>x</think>{"1": 2, "2": 3}', True), ('{"2": "a"}', False), ("1. a", False)],
)
def test_a_schema_without_effect_is_given_another_form(answer: str, held: bool) -> None:
    parameters = Parameters({})
    sampling = Sampling(schema='{"type": "object", "required": ["1"]}')
    assert parameters.ignored(parameters.body(sampling), sampling, answer) is not held
    assert ("response_format" in parameters.body(sampling)) is not held
