"""A model for vLLM whose tokenizer loses what it reads is refused before its weights are loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import normalizers

from factuality_harness.harness.engines.local import VLLMEngine
from factuality_harness.harness.errors import HarnessError
from tests.helpers.tiny import save_tiny, tiny_tokenizer

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]


def test_a_tokenizer_that_drops_spaces_is_refused(tmp_path: Path) -> None:
    fine = save_tiny(tmp_path / "fine")
    VLLMEngine(str(fine)).check()
    lossy = save_tiny(tmp_path / "lossy")
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace(" ", "")
    tokenizer.save_pretrained(lossy)
    for engine in (VLLMEngine(str(lossy)), VLLMEngine(str(fine), tokenizer=str(lossy))):
        with pytest.raises(HarnessError, match="its tokenizer loses white space"):
            engine.check()
