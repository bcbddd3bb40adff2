"""The trainer against TRL's own, against sums by hand, over processes, and after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from torch.nn.functional import log_softmax, logsigmoid
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer, ModelConfig

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.arguments import PairArguments
from factuality_harness.training.mask_dpo.batches import to_dataset
from factuality_harness.training.mask_dpo.config import MaskDPOConfig
from factuality_harness.training.mask_dpo.masks import mask_pair
from factuality_harness.training.mask_dpo.train import parse, train
from factuality_harness.training.mask_dpo.trainer import MaskDPOTrainer
from tests.helpers import cli
from tests.helpers.paths import ROOT
from tests.helpers.tiny import save_pairs, save_tiny, tiny_model, tiny_pairs, tiny_tokenizer

BASE: dict[str, Any] = {
    "use_cpu": True,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "logging_steps": 1,
}


def config(out: Path, **changes) -> MaskDPOConfig:
    settings = BASE | {
        "per_device_train_batch_size": 4,
        "num_train_epochs": 1,
        "learning_rate": 1e-3,
        "max_length": 256,
    }
    return MaskDPOConfig(output_dir=str(out), **(settings | changes))


def run(tmp_path: Path, name: str, pairs: int = 16, **changes):
    """Train the tiny model; returns trainer and output folder."""
    folder = tmp_path / "tiny" if (tmp_path / "tiny").exists() else save_tiny(tmp_path / "tiny")
    file = save_pairs(tmp_path / f"{pairs}.jsonl", pairs)
    out = tmp_path / name
    model = ModelConfig(model_name_or_path=str(folder))
    for key in [k for k in changes if hasattr(model, k)]:
        setattr(model, key, changes.pop(key))
    return train(PairArguments(pairs=str(file)), config(out, **changes), model), out


def tiny_dataset(pairs: int):
    """Rows of tiny pairs, and the tokenizer that made them."""
    tokenizer = tiny_tokenizer()
    return to_dataset([mask_pair(pair, tokenizer) for pair in tiny_pairs(pairs)]), tokenizer


def losses(out: Path) -> list[float]:
    rows = [json.loads(line) for line in (out / "loss_curve.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def first_batch(trainer) -> dict[str, torch.Tensor]:
    return next(iter(trainer.get_train_dataloader()))


def gradients(trainer, batch) -> tuple[float, dict[str, torch.Tensor]]:
    trainer.model.train()
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in trainer.model.named_parameters()}


@pytest.mark.parametrize(
    ("ours", "theirs", "smoothing"),
    [("sigmoid", "sigmoid", 0.0), ("hinge", "hinge", 0.0), ("robust", "robust", 0.2), ("nca_pair", "nca_pair", 0.0)],
)
def test_with_every_token_counting_it_is_trls_dpo(tmp_path, ours, theirs, smoothing):
    pairs = tiny_pairs(4)
    folder = save_tiny(tmp_path / "tiny")
    tokenizer = tiny_tokenizer()
    rows = Dataset.from_list(
        [
            {
                "prompt": list(p.prompt),
                "chosen": [{"role": "assistant", "content": p.chosen.text}],
                "rejected": [{"role": "assistant", "content": p.rejected.text}],
            }
            for p in pairs
        ]
    )
    settings: dict[str, Any] = {k: v for k, v in BASE.items() if k != "logging_steps"} | {"label_smoothing": smoothing}
    settings |= {"per_device_train_batch_size": 4, "gradient_checkpointing": False, "max_length": 256}
    reference = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder),
        ref_model=tiny_model(seed=5),
        args=DPOConfig(output_dir=str(tmp_path / "trl"), loss_type=[theirs], bf16=False, **settings),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    batch = first_batch(reference)
    expected, wanted = gradients(reference, batch)

    masked = [m for p in pairs if (m := mask_pair(p, tokenizer, masking="none"))]
    trainer = MaskDPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder),
        ref_model=tiny_model(seed=5),
        args=config(
            tmp_path / "ours",
            preference_loss=ours,
            masking="none",
            label_smoothing=smoothing,
            reference_cache=str(tmp_path / "cache"),
        ),
        train_dataset=to_dataset(masked),
        processing_class=tokenizer,
    )
    found, got = gradients(trainer, first_batch(trainer))
    assert found == pytest.approx(expected, abs=1e-6)
    for name, gradient in wanted.items():
        assert torch.allclose(got[name], gradient, atol=1e-6), name


def test_the_masked_loss_is_the_papers(tmp_path):
    trainer, out = run(tmp_path, "one", pairs=4, learning_rate=0.0, max_steps=1)
    model, reference = tiny_model(), tiny_model(seed=5)
    trainer.model.load_state_dict(model.state_dict())
    tokenizer, total = tiny_tokenizer(), 0.0
    pairs = [m for p in tiny_pairs(4) if (m := mask_pair(p, tokenizer))]

    def counted(of, response):
        ids = torch.tensor([response.input_ids])
        logps = log_softmax(of(ids).logits[0, :-1], -1).gather(-1, ids[0, 1:, None])[:, 0]
        return (logps * torch.tensor(response.mask[1:])).sum()

    other = MaskDPOTrainer(
        model=model,
        ref_model=reference,
        args=config(tmp_path / "two", reference_cache=str(tmp_path / "cache")),
        train_dataset=to_dataset(pairs),
        processing_class=tokenizer,
    )
    with torch.no_grad():
        for pair in pairs:
            margin = counted(model, pair.chosen) - counted(reference, pair.chosen)
            margin -= counted(model, pair.rejected) - counted(reference, pair.rejected)
            total -= logsigmoid(0.1 * margin).item()
        assert other.compute_loss(model.train(), first_batch(other)).item() == pytest.approx(total / 4, abs=1e-6)
    # A policy that is its own reference has margin 0.
    assert losses(out) == [pytest.approx(0.6931, abs=1e-4)]


@pytest.mark.parametrize("change", [{"forward_groups": 1}, {"gradient_checkpointing": True}])
def test_the_savings_do_not_change_the_losses(tmp_path, change):
    _, plain = run(tmp_path, "plain")
    _, other = run(tmp_path, "other", **change)
    assert losses(other) == pytest.approx(losses(plain), abs=1e-5)


def test_gradient_accumulation_is_the_larger_batch(tmp_path):
    _, plain = run(tmp_path, "plain", logging_steps=1)
    _, small = run(tmp_path, "small", per_device_train_batch_size=2, gradient_accumulation_steps=2)
    assert losses(small) == pytest.approx(losses(plain), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["dpop", "tdpo", "ipo", "kto_pair", "sppo_hard"])
def test_every_loss_trains(tmp_path, loss):
    trainer, out = run(tmp_path, loss, preference_loss=loss, masking="none", num_train_epochs=4)
    found = losses(out)
    assert len(found) == 16 and sum(found[-4:]) < sum(found[:4])
    before = tiny_model().state_dict()
    assert any(not torch.equal(p, before[n]) for n, p in trainer.model.state_dict().items())


@pytest.mark.slow
def test_sepo_learns_from_the_tokens_its_oracle_picks(tmp_path):
    _, oracle = run(tmp_path, "oracle", masking="none", num_train_epochs=3)
    _, out = run(tmp_path, "sepo", preference_loss="sepo", masking="none", sepo_oracle=str(oracle), num_train_epochs=3)
    found = losses(out)
    assert sum(found[-4:]) < sum(found[:4])
    kept = json.loads((out / "manifest.json").read_text())["settings"]["sepo_train"]
    assert "share" in json.dumps(kept) or kept


@pytest.mark.slow
def test_reference_values_are_computed_once(tmp_path, monkeypatch):
    calls = []
    original = MaskDPOTrainer._reference_logps

    def counted(self, *a):
        calls.append(1)
        return original(self, *a)

    monkeypatch.setattr(MaskDPOTrainer, "_reference_logps", counted)
    run(tmp_path, "a", learning_rate=1e-3)
    run(tmp_path, "b", learning_rate=1e-4)
    assert calls == [1]
    run(tmp_path, "c", masking="none")
    assert calls == [1, 1]


def test_lora_trains_an_adapter_against_its_own_base(tmp_path):
    _, out = run(tmp_path, "lora", use_peft=True, lora_target_modules=["q_proj", "v_proj"], merge_adapter=True)
    assert (out / "adapter" / "adapter_model.safetensors").is_file()
    assert losses(out)[0] == pytest.approx(0.6931, abs=1e-4)
    merged, base = AutoModelForCausalLM.from_pretrained(out), tiny_model()
    changed = {n.split(".")[-2] for n, p in merged.state_dict().items() if not torch.equal(p, base.state_dict()[n])}
    assert changed == {"q_proj", "v_proj"}


def test_yaml_and_command_line(tmp_path, capsys):
    folder, file = save_tiny(tmp_path / "tiny"), save_pairs(tmp_path / "p.jsonl", 4)
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"model_name_or_path: {folder}\npairs: {file}\noutput_dir: {tmp_path / 'out'}\nuse_cpu: true\nreport_to: none\n"
        "learning_rate: 1.0e-3\nmax_steps: 1\nsave_strategy: 'no'\ndisable_tqdm: true\n"
    )
    pairs, settings, _ = parse(["--config", str(recipe), "--learning_rate", "5e-4"])
    assert pairs.pairs == str(file) and settings.learning_rate == 5e-4 and settings.masking == "sentences"
    main = cli.command("train mask_dpo")
    assert main(["--config", recipe]) == 0
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["settings"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "RECIPE"], "RECIPE: unknown setting lerning_rate; is learning_rate meant?"),
        (["--learning_rate", "fast"], "invalid float value: 'fast'"),
        (["--masking", "words"], "argument --masking: invalid choice: 'words'"),
        (["--colour", "red"], "'--colour', 'red'"),
        (["--config"], "argument --config: expected one argument"),
        (
            ["--config", "wrld/dpo.yaml"],
            "wrld/dpo.yaml: no such recipe file; shipped recipes are ",
        ),
    ],
)
@pytest.mark.parametrize("trainer", ["mask_dpo", "sft"])
def test_words_that_do_not_fit_are_one_line(tmp_path, capsys, trainer, words, message):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("lerning_rate: 1.0e-3\n")
    if trainer == "sft":
        message = message.replace("argument --masking: invalid choice: 'words'", "'--masking', 'words'")
    assert cli.command(f"train {trainer}")([recipe if word == "RECIPE" else word for word in words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert message.replace("RECIPE", str(recipe)) in said


@pytest.mark.parametrize(("trainer", "ours"), [("mask_dpo", "--masking"), ("sft", "--end_of_turn")])
def test_help_lists_the_settings_of_trl_and_ours(capsys, trainer, ours):
    with pytest.raises(SystemExit) as ended:
        cli.command(f"train {trainer}")(["--help"])
    assert not ended.value.code
    said = capsys.readouterr().out
    assert f"usage: factuality train {trainer} " in said
    assert all(option in said for option in ("--config CONFIG", "--lora_r ", "--learning_rate ", "--pairs ", ours))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preference_loss": "dop"}, "dop"),
        ({"masking": "words"}, "words"),
        ({"preference_loss": "sepo"}, "sepo_oracle"),
        ({"beta": 0.0}, "beta"),
        ({"loss_type": ["ipo"]}, "loss_type"),
    ],
)
def test_bad_settings(tmp_path, change, message):
    with pytest.raises((HarnessError, ValueError), match=message):
        config(tmp_path, **change)


def test_bad_files(tmp_path):
    folder, file = save_tiny(tmp_path / "tiny"), save_pairs(tmp_path / "p.jsonl", 2)
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    (tmp_path / "hollow").mkdir()
    for pairs, model, message in (
        (file, tmp_path / "hollow", "hollow"),
        (file, tmp_path / "absent", "absent"),
        (empty, folder, "holds no pair"),
        (tmp_path / "none.jsonl", folder, "no such file"),
    ):
        with pytest.raises(HarnessError, match=message):
            train(PairArguments(pairs=str(pairs)), config(tmp_path / "o"), ModelConfig(model_name_or_path=str(model)))
    with pytest.raises(HarnessError, match="checkpoint"):
        train(
            PairArguments(pairs=str(file)),
            config(tmp_path / "o", resume_from_checkpoint=str(tmp_path / "hollow")),
            ModelConfig(model_name_or_path=str(folder)),
        )


def command(tmp_path: Path, name: str, *more: str) -> list[str]:
    arguments = [
        "-m",
        "factuality_harness.training.mask_dpo",
        "--model_name_or_path",
        str(tmp_path / "tiny"),
        "--use_cpu",
        "true",
    ]
    arguments += ["--pairs", str(tmp_path / "p.jsonl"), "--output_dir", str(tmp_path / name), "--report_to", "none"]
    arguments += ["--learning_rate", "1e-3", "--logging_steps", "1", "--max_length", "256", "--disable_tqdm", "true"]
    return [*arguments, *more]


def environment(**more: str) -> dict[str, str]:
    root = str(ROOT)
    return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", **more}


@pytest.mark.slow
def test_killed_and_resumed_ends_as_if_unbroken(tmp_path):
    save_tiny(tmp_path / "tiny")
    save_pairs(tmp_path / "p.jsonl", 48)
    saving = ["--save_strategy", "steps", "--save_steps", "5", "--num_train_epochs", "10"]
    saving += ["--per_device_train_batch_size", "4", "--resume_from_checkpoint", "true"]

    def start(name):
        return subprocess.Popen([sys.executable, *command(tmp_path, name, *saving)], env=environment())

    broken = start("broken")
    deadline = time.time() + 200
    while not list((tmp_path / "broken").glob("checkpoint-*/trainer_state.json")) and time.time() < deadline:
        time.sleep(0.02)
    broken.send_signal(signal.SIGKILL)
    broken.wait()
    assert not (tmp_path / "broken" / "manifest.json").exists(), "finished before the kill; make the run longer"
    assert start("broken").wait() == 0
    assert start("whole").wait() == 0
    manifest = json.loads((tmp_path / "broken" / "manifest.json").read_text())
    assert "checkpoint-" in json.dumps(manifest["settings"]["resumed_from"])
    weights = [load_file(tmp_path / n / "model.safetensors") for n in ("broken", "whole")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["mask_dpo", "sft"])
def test_launchers_start_the_trainers_as_modules(tmp_path, trainer):
    line = [sys.executable, "-m", f"factuality_harness.training.{trainer}"]
    done = subprocess.run([*line, "--help"], env=environment(), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "--lora_r " in done.stdout
    done = subprocess.run([*line, "--pears", "p"], env=environment(), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("error: configuration: ")


def two_processes(tmp_path: Path, name: str, *more: str, **env: str) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29617"]
    done = subprocess.run(
        [*torchrun, *command(tmp_path, name, "--save_strategy", "no", *more)],
        env=environment(ACCELERATE_USE_CPU="true", **env),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / name / "manifest.json").read_text())["settings"]["processes"] == 2


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tmp_path):
    save_tiny(tmp_path / "tiny")
    save_pairs(tmp_path / "p.jsonl", 16)
    one = command(tmp_path, "one", "--save_strategy", "no", "--per_device_train_batch_size", "4")
    subprocess.run([sys.executable, *one], env=environment(), check=True)
    two_processes(tmp_path, "two", "--per_device_train_batch_size", "2")
    assert len(losses(tmp_path / "two")) == 12
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)
