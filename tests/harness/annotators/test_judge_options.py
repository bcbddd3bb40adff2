"""The same judge options in every command, and one line for those that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.cli import command
from tests.helpers.rule_judge import EN_DOCUMENT

COMMANDS = {
    "annotate": ["RESPONSES", "--questions", "mini:all", "--out", "OUT"],
    "judge-card": ["--labels", "RESPONSES", "--out", "OUT"],
    "score-facts": ["--responses", "RESPONSES", "--knowledge", "RESPONSES", "--out", "OUT"],
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("judge", "options", "message"),
    [
        ("lexical", '["a"]', """'["a"]' is no JSON object of options"""),
        ("lexical", "{", "'{' is not JSON"),
        ("lexical", '{"concurrency": 2}', "judge 'lexical' has no option concurrency"),
        ("nobody", "{}", "judge 'nobody' is not known; one of: lexical"),
    ],
)
def test_bad_options_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, judge: str, options: str, message: str
) -> None:
    responses = tmp_path / "r.jsonl"
    responses.write_text(f'{{"question": "Q?", "response": "A.", "title": "T", "text": "{EN_DOCUMENT}"}}\n')
    places = {"RESPONSES": str(responses), "OUT": str(tmp_path / "out")}
    words = [places.get(word, word) for word in COMMANDS[name]]
    assert command(name)([*words, "--judge", judge, "--judge-args", options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
