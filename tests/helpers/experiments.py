"""Experiment files for tests: a fact world so small that its base model learns it in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

RECIPE = "training/recipes/world/mask_dpo.yaml"
TINY: dict[str, Any] = {
    "world": {"clusters": 4, "topics": [3, 1, 1], "bio_clusters": 1, "bio_topics": 1},
    "base": {"steps": 150, "width": 64, "heads": 2, "feed_forward": 128},
    "questions": {"part": "train", "side": "all"},
    "sample": {"engine": "hf", "n": 4, "temperature": 1.0, "top_k": 40, "max_tokens": 64},
    "judge": "world",
    "score": {"tasks": ["world_factuality"], "batch_size": 64, "arguments": {"device": "cpu"}},
}
TRAINED = [{"recipe": RECIPE, "arguments": {"max_steps": 4}}]


def experiment(folder: Path, name: str = "tiny", **changes: object) -> Path:
    """Write an experiment of two cells, base and Mask-DPO; changes: other top-level keys."""
    data = {
        "threads": 1,
        "table": {"number": 2, "columns": {"anah_v2_score": "world_factuality"}},
        "defaults": TINY,
        "grid": {"setting": {"base": {"train": []}, "w/ mask": {"train": TRAINED}}},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(data | changes), encoding="utf-8")
    return path
