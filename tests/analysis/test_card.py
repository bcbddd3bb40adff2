"""Model cards: what a training writes, what scores add, and what a push says when it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from datasets import Dataset
from huggingface_hub import HfApi

from factuality_harness.harness.io.card import CardScore, method_name, model_card
from factuality_harness.training import sft
from factuality_harness.training.mask_dpo.train import parse, train
from tests.helpers.cli import command
from tests.helpers.stores import lm_eval_files, questions
from tests.helpers.tiny import save_pairs, save_tiny

FEW = ["--use_cpu", "true", "--report_to", "none", "--max_steps", "1", "--max_length", "256", "--disable_tqdm", "true"]


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ({"trainer": "mask_dpo", "preference_loss": "sigmoid", "masking": "sentences"}, "Mask-DPO (arXiv 2503.02846)"),
        ({"trainer": "mask_dpo", "preference_loss": "sigmoid", "masking": "none"}, "DPO"),
        ({"preference_loss": "dpop", "masking": "facts"}, "DPOP (arXiv 2402.13228), masked by sentence"),
        ({"trainer": "mask_dpo", "preference_loss": "ipo", "masking": "none"}, "ipo preference loss"),
        ({"trainer": "sft"}, "Supervised fine-tuning on the chosen responses"),
    ],
)  # fmt: skip
def test_methods_are_called_by_their_names(method: dict[str, str], name: str) -> None:
    assert method_name(method) == name


def test_the_head_is_what_the_hub_reads() -> None:
    about = {"model": "owner/base", "data": {"pairs": "hf:owner/pairs@train", "judges": ["world"]}}
    score = CardScore("anah_factuality", "2.0", "factuality", 0.775, "anah_v2@vllm:m", 0.74, 0.81, "topics")
    text = model_card("name", about | {"method": {"trainer": "sft"}}, [score])
    head = yaml.safe_load(text.split("---\n")[1])
    assert (head["base_model"], head["datasets"]) == ("owner/base", ["owner/pairs"])
    assert "| anah_factuality 2.0 | factuality | 0.775 | 0.74 to 0.81 (over topics) | `anah_v2@vllm:m` |" in text


def test_a_training_writes_its_card_and_the_command_adds_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = save_tiny(tmp_path / "tiny"), tmp_path / "out"
    pairs = tmp_path / "p.parquet"
    jsonl = save_pairs(tmp_path / "p.jsonl", 4)
    Dataset.from_list([json.loads(line) for line in jsonl.read_text().splitlines()]).to_parquet(pairs)
    Path(f"{pairs}.report.json").write_text('{"judges": ["anah_v2@vllm:m"]}')
    more = ["--model_name_or_path", str(model), "--pairs", str(pairs), "--output_dir", str(out), *FEW]
    train(*parse(["--save_strategy", "steps", "--save_steps", "1", *more]))
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n") and "# out\n" in card
    assert f"Mask-DPO (arXiv 2503.02846), from `{model}`." in card and "trained with DPO" not in card
    assert "- Sentences labelled by: `anah_v2@vllm:m`" in card and "- Trained on: 4 of 4 pairs" in card
    assert "None yet: `factuality model card CHECKPOINT" in card
    lm_eval_files(
        tmp_path / "lm", {"anah_factuality": questions(6), "gsm8k": {"exact_match": 0.5}}, judge="dialogue@hf:j"
    )
    assert command("model card")([str(out), "--results", str(tmp_path / "lm"), "--name", "mine"]) == 0
    card = (out / "README.md").read_text()
    (row,) = [line for line in card.splitlines() if line.startswith("| anah_factuality 1.0 | factuality |")]
    assert " to " in row and "(over topics) | `dialogue@hf" in row and "# mine\n" in card
    assert "| exact_match | 0.5 | none |" in card
    monkeypatch.setattr(HfApi, "create_repo", lambda *a, **k: (_ for _ in ()).throw(OSError("no route to the hub")))
    assert command("model card")([str(out), "--push", "owner/name"]) == 2
    assert (
        "owner/name: cannot be pushed (OSError: no route to the hub); `hf auth login` first" in capsys.readouterr().err
    )


def test_what_goes_to_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"settings": {"model": "b", "method": {"trainer": "sft"}}}))
    sent = []
    monkeypatch.setattr(HfApi, "create_repo", lambda self, name, **k: f"https://hub/{name}")
    monkeypatch.setattr(HfApi, "upload_folder", lambda self, **k: sent.append(k))
    assert command("model card")([str(tmp_path), "--push", "owner/name"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "https://hub/owner/name"
    assert sent[0]["repo_id"] == "owner/name" and "checkpoint-*/**" in sent[0]["ignore_patterns"]
    assert "# name\n" in (tmp_path / "README.md").read_text()


def test_sft_writes_its_own_card(tmp_path: Path) -> None:
    model, pairs, out = save_tiny(tmp_path / "tiny"), save_pairs(tmp_path / "p.jsonl", 4), tmp_path / "out"
    sft.train(*sft.parse(["--model_name_or_path", str(model), "--pairs", str(pairs), "--output_dir", str(out), *FEW]))
    assert "Supervised fine-tuning on the chosen responses, from" in (out / "README.md").read_text()


def test_folders_that_are_no_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("model card")([str(tmp_path)]) == 2
    assert "no manifest.json; name the output_dir of a training" in capsys.readouterr().err
