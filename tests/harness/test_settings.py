"""Options that are none: one plain line that names the option, the value, and what it must be."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from factuality_harness.harness.annotators.anah_v2 import AnahV2Options
from factuality_harness.harness.annotators.dialogue import DialogueOptions
from factuality_harness.harness.annotators.sheet import SheetJudgeOptions
from factuality_harness.harness.dry_run import Price
from factuality_harness.harness.engines.batch_places import BatchOptions
from factuality_harness.harness.engines.local import TransformersOptions
from factuality_harness.harness.engines.openai import OpenAIOptions
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.factscore.facts import ExtractorOptions
from factuality_harness.harness.factscore.sheet import FactSheetOptions
from factuality_harness.harness.factscore.verify import VerifierOptions
from factuality_harness.harness.lm_eval_plugin.dry_run import DryRunOptions
from factuality_harness.harness.settings import Settings, read_settings

KINDS = [
    AnahV2Options,
    BatchOptions,
    DialogueOptions,
    DryRunOptions,
    ExtractorOptions,
    FactSheetOptions,
    OpenAIOptions,
    Price,
    SheetJudgeOptions,
    TransformersOptions,
    VerifierOptions,
]
VALUES = ["x", "8", "", -1, 0, 1.5, 10**30, math.nan, math.inf, True, None, [], {}, {"a": math.nan}, object()]
WANTED = re.compile(
    r"where: (\w+) is .*; it must be ((a whole number|a number|text|true or false|an object|null|one of '\w+', '\w+'"
    r"(, '\w+')*)( above 0| of at least \d+| from \d+ to \d+)?( or (?=\w)|$))+"
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_option_says_plainly_what_it_must_be(kind: type[Settings]) -> None:
    needed = {"prompt": 1.0, "completion": 1.0} if kind is Price else {}
    for option in kind.model_fields:
        refused = 0
        for value in VALUES:
            try:
                read_settings(kind, {**needed, option: value}, "where")
            except HarnessError as error:
                refused += 1
                found = WANTED.fullmatch(str(error))
                assert found, error
                assert found[1] == option
        assert refused > len(VALUES) / 2, option


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        (OpenAIOptions, {"timeout": "60"}, "where: timeout is '60'; it must be a number above 0"),
        (OpenAIOptions, {"concurrency": 0}, "where: concurrency is 0; it must be a whole number from 1 to 4096"),
        (OpenAIOptions, {"reasoning_effort": 3}, "where: reasoning_effort is 3; it must be text or null"),
        (SheetJudgeOptions, {"window": 0}, "where: window is 0; it must be a whole number above 0"),
        (VerifierOptions, {"reading": "x"}, "where: reading is 'x'; it must be one of 'stated', 'reference'"),
        (Price, {"prompt": 1}, "where: completion is missing; it must be a number of at least 0"),
        (DialogueOptions, {"guide": True}, "where: no option 'guide'; did you mean 'guided'?"),
    ],
)
def test_the_words(kind: type[Settings], given: dict[str, Any], words: str) -> None:
    with pytest.raises(HarnessError) as caught:
        read_settings(kind, given, "where")
    assert str(caught.value) == words


def test_whole_numbers_are_numbers() -> None:
    assert read_settings(OpenAIOptions, {"timeout": 5, "patience": 1}, "where").timeout == 5.0
