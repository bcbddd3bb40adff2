"""The upstream prompt file: read byte for byte, never executed, refused when it is another one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factuality_harness.harness.engines.cache import cache_path
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.prompts.anah_v2 import COMMIT, FUNCTIONS, SHA256, load_prompts, parse_prompts
from tests.helpers import upstream_shape

TEXTS = {
    "question": 'Who {was} "she"?\n',
    "annotation": "She said \\n 'no'. {reference}",
    "reference": "甲<SEP>乙\n\n",
}


def executed(source: str) -> dict[str, Any]:
    """What running the file gives; for files that are trusted here."""
    space: dict[str, Any] = {}
    exec(compile(source, "anahv2_prompt.py", "exec"), space)
    return space


def assert_same(source: str, texts: dict[str, str]) -> None:
    functions, prompts = executed(source), parse_prompts(source)
    for function in FUNCTIONS:
        names = [n for n in TEXTS if n != "reference" or function != "fact_check_prompt"]
        fields = {name: texts[name] for name in names}
        for language in ("zh", "en"):
            assert prompts.render(function, language, **fields) == functions[function](**fields, language=language)


@given(st.fixed_dictionaries({name: st.text(max_size=20) for name in TEXTS}))
def test_rendering_equals_calling_the_functions(texts: dict[str, str]) -> None:
    assert_same(upstream_shape.SOURCE, texts)


@pytest.mark.skipif(
    not os.environ.get("HARNESS_TEST_ANAH_V2_PROMPTS"), reason="HARNESS_TEST_ANAH_V2_PROMPTS names no file"
)
def test_the_true_file_renders_all_six_texts() -> None:
    file = Path(os.environ["HARNESS_TEST_ANAH_V2_PROMPTS"])
    prompts = load_prompts(file)  # checks the pinned SHA-256
    assert len(prompts.templates) == 6
    assert_same(file.read_text(encoding="utf-8"), TEXTS)


def test_the_file_is_never_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tales = tmp_path / "tales"
    monkeypatch.setenv("TOLD_TALES", str(tales))
    load_prompts(upstream_shape.write(tmp_path), any_checksum=True)
    assert not tales.exists()
    executed(upstream_shape.SOURCE)
    assert tales.read_text() == "executed\n"


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    file = upstream_shape.write(tmp_path)
    with pytest.raises(HarnessError, match=f"anahv2_prompt.py: SHA-256 is [0-9a-f]{{64}}, not the pinned {SHA256}"):
        load_prompts(file)
    assert load_prompts(file, any_checksum=True) == parse_prompts(upstream_shape.SOURCE)


def test_the_file_may_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_ANAH_V2_PROMPTS", str(upstream_shape.write(tmp_path)))
    assert load_prompts(any_checksum=True) == parse_prompts(upstream_shape.SOURCE)
    monkeypatch.setenv("HARNESS_ANAH_V2_PROMPTS", str(tmp_path / "none.py"))
    with pytest.raises(HarnessError, match=r"none.py: no such file; expected a copy of https://.*anahv2_prompt.py"):
        load_prompts()


def test_a_file_in_the_cache_folder_is_checked_too() -> None:
    file = cache_path().with_name(f"anahv2_prompt-{COMMIT[:12]}.py")
    file.parent.mkdir(parents=True)
    file.write_text(upstream_shape.SOURCE, encoding="utf-8")
    with pytest.raises(HarnessError, match="not the pinned"):
        load_prompts()


def changed(old: str, new: str) -> str:
    assert old in upstream_shape.SOURCE
    return upstream_shape.SOURCE.replace(old, new)


@pytest.mark.parametrize(
    "place",
    [
        "{question.upper()}",
        "{os.environ}",
        "{__import__('os').getpid()}",
        "{question!r}",
        "{question:>10}",
        "{question + annotation}",
        "{tales}",
        "{language[0]}",
    ],
)
def test_an_f_string_with_more_than_a_parameter_is_refused(place: str) -> None:
    source = changed("**Asked:** {question}", f"**Asked:** {place}")
    with pytest.raises(HarnessError, match=r"fact_check_prompt.en_user_prompt: line .*nor a plain parameter"):
        parse_prompts(source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def broken(", "not Python source"),
        ("\0", "not Python source"),
        ("", "no function fact_check_prompt"),
        (changed("def hallucination_check_prompt", "def other"), "no function hallucination_check_prompt"),
        (changed("en_user_prompt = ", "uk_user_prompt = "), "fact_check_prompt has no en_user_prompt"),
        (changed('cn_user_prompt = f"""丙', 'cn_user_prompt = len(question) or f"""丙'), "nor a plain parameter"),
        (changed('cn_user_prompt = f"""丙', 'cn_user_prompt = b"x" or f"""丙'), "nor a plain parameter"),
    ],
)
def test_a_file_of_another_shape_is_refused(source: str, message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        parse_prompts(source)


def test_a_plain_string_is_read_too() -> None:
    source = changed(
        'cn_user_prompt = f"""丙：{reference}{annotation}{question}"""', 'cn_user_prompt = "丙 {reference}"'
    )
    assert_same(source, TEXTS)
