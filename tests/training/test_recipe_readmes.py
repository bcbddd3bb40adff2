"""The commands in the recipes' READMEs fit together: trained on one part of the questions, scored on the other."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.paths import ROOT

READMES = sorted((ROOT / "training" / "recipes").glob("*/README.md"))
FAMILIES = {"anah": ("lexical", "anah_v2", "dialogue", "sheet"), "factscore": ("factscore", "factscore_sheet")}


def commands(text: str) -> list[list[str]]:
    """Command lines of the page's blocks as bash would hand them over, variables filled in."""
    found = []
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        block = re.sub(r"^#.*$", "", block, flags=re.MULTILINE).replace("\\\n", " ")
        known: dict[str, str] = {}
        held = ""
        for line in block.splitlines():
            held += f"\n{line}"
            for name, value in re.findall(r"\b([A-Z])=([^; ]+)", line):
                known[name] = value
            for name, value in known.items():
                held = held.replace(f"${name}", value)
            try:
                found += [shlex.split(held)]
            except ValueError:  # a quotation is still open
                continue
            held = ""
    return [words for words in found if words]


def faults(text: str) -> list[str]:
    """What is wrong with how a page trains and scores."""
    wrong, asked = [], None
    for words in commands(text):
        options: dict[str, Any] = dict(zip(words, [*words[1:], ""], strict=True))
        if words[:2] == ["factuality", "sample"]:
            asked = options["--questions"]
            if ":" not in asked and options.get("--split") != "train" and "world-0" not in asked:
                wrong.append(f"samples all of {asked}, the held-out questions too")
        if words[0] != "lm_eval":
            continue
        metadata = json.loads(options.get("--metadata", "{}"))
        tasks = options["--tasks"].split(",")
        family = "factscore" if "factscore" in tasks[0] else "anah"
        if any(("factscore" in task) != (family == "factscore") for task in tasks):
            wrong.append(f"{','.join(tasks)} under one judge")
        if judge := metadata.get("judge"):
            if judge.partition("@")[0] not in FAMILIES[family]:
                wrong.append(f"{judge} judges {','.join(tasks)}")
            if options["--model"] == "vllm":
                wrong.append("generator and judge share a GPU")
        if tasks == ["anah_factuality"] and metadata.get("data") != asked:
            wrong.append(f"scored on questions of {metadata.get('data')}, trained on those of {asked}")
        if options["--model"] == "vllm" and "max_model_len" not in options["--model_args"]:
            wrong.append("no max_model_len")
    return wrong


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.parent.name)
def test_a_readme_scores_what_it_did_not_train_on(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == []


def test_faults_are_seen() -> None:
    """What the Llama recipe once said."""
    text = """```bash
D=out
factuality sample --questions TRAIN.jsonl --engine vllm:m --out $D/samples.jsonl
lm_eval --model vllm --model_args pretrained=$D/mask_dpo --tasks anah_factuality,factscore_bio \\
  --metadata '{"judge": "anah_v2@vllm:m"}'
lm_eval --model vllm --model_args pretrained=$D/mask_dpo,max_model_len=4096 --tasks anah_factuality
```"""
    assert faults(text) == [
        "samples all of TRAIN.jsonl, the held-out questions too",
        "anah_factuality,factscore_bio under one judge",
        "generator and judge share a GPU",
        "no max_model_len",
        "scored on questions of None, trained on those of TRAIN.jsonl",
    ]
