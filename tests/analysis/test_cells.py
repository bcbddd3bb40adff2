from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factuality_harness.analysis.cells import parse_labels, shown
from factuality_harness.harness.errors import HarnessError

LABEL = st.from_regex(r"[a-z_]+", fullmatch=True)
VALUE = st.from_regex(r"(w/ |1/)?[a-z0-9]+(, [a-z]+)*", fullmatch=True)


@given(st.dictionaries(LABEL, VALUE, min_size=1))
def test_labels_are_read_as_they_are_shown(labels: dict[str, str]) -> None:
    assert parse_labels(shown(labels), "--cell") == labels
    assert parse_labels([f"{label}={value}" for label, value in labels.items()], "--cell") == labels


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("method", "write LABEL=VALUE"),
        ("=base", "write LABEL=VALUE"),
        (["method=a", ""], "write LABEL=VALUE"),
        ("method=a,method=b", "label method is given twice, 'a' and 'b'"),
    ],
)
def test_what_is_no_label(texts: str | list[str], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        parse_labels(texts, "--cell")
