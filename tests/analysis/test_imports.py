"""analysis reads result files: no module of it loads what opens models."""

from __future__ import annotations

import subprocess
import sys

from tests.helpers.paths import ROOT

MODELS = ("torch", "transformers", "openai", "factuality_harness.harness.embeddings.models")


def test_no_module_of_analysis_opens_models() -> None:
    files = sorted((ROOT / "analysis").rglob("*.py"))
    names = [".".join(("factuality_harness", *file.relative_to(ROOT).with_suffix("").parts)) for file in files]
    assert len(names) > 30
    code = (
        f"import importlib, sys\nfor name in {names}: importlib.import_module(name.removesuffix('.__init__'))\n"
        f"print([name for name in {MODELS} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
