"""Fixtures shared by all tests. Models and data come from the machine; what is absent skips with its reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.helpers.paths import ROOT

# The same examples every time, and no verdict on a busy machine's timings.
settings.register_profile("harness", derandomize=True, deadline=None)
settings.load_profile("harness")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's answer cache, judge or keys."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    for name in ("HARNESS_JUDGE", "HARNESS_ANAH_DATA", "HARNESS_ANAH_V2_PROMPTS", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Published numbers, golden outputs and human labels: $HARNESS_SHARED_DATA, else ../shared/data."""
    folder = Path(os.environ.get("HARNESS_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder} (set HARNESS_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """Folder of SmolLM2-135M-Instruct; made once under models/ (which the demo uses too)."""
    from factuality_harness.harness.errors import HarnessError
    from factuality_harness.harness.io.models import fetch

    try:
        return fetch("smollm2-135m", ROOT / "models" / "smollm2-135m")
    except HarnessError as error:
        pytest.skip(f"SmolLM2 cannot be had: {error}")
