"""Manifests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from factuality_harness.harness.io.manifest import manifest, write_manifest


def test_manifest_names_what_the_numbers_depend_on(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("{}\n")
    write_manifest(tmp_path / "m.json", manifest(inputs=[data], command="run me", seed=3))
    record = json.loads((tmp_path / "m.json").read_text())
    assert record["command"] == "run me"
    assert record["inputs"] == {"data.jsonl": hashlib.sha256(b"{}\n").hexdigest()}
    assert record["settings"] == {"seed": 3}
    assert record["packages"]["lm_eval"]
    assert str(tmp_path) not in json.dumps(record)
