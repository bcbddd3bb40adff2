"""Keys of cached values: everything that decides them, taken of files, and of tensors only where those are whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GraniteConfig, GraniteForCausalLM
from trl import ModelConfig

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.checkpoints import load_model
from factuality_harness.training.mask_dpo import token_scores
from factuality_harness.training.mask_dpo.reference import files_digest, load_columns, model_key, save_columns
from factuality_harness.training.mask_dpo.trainer import MaskDPOTrainer
from tests.helpers import cli
from tests.helpers.tiny import save_tiny, tiny_model
from tests.training.mask_dpo.test_trainer import config, losses, run, tiny_dataset


def opened(folder: Path, **options: Any) -> str:
    return model_key(AutoModelForCausalLM.from_pretrained(folder, **options), str(folder))


def changed_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def changed_weights(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] += 0.5
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    "change",
    [
        changed_weights,
        lambda folder: changed_config(folder, rope_parameters={"rope_type": "default", "rope_theta": 5e5}),
        lambda folder: changed_config(folder, rms_norm_eps=1e-2),
    ],
    ids=["weights", "rope", "norm"],
)
def test_files_decide_the_key(tmp_path: Path, change: Callable[[Path], None]) -> None:
    folder = save_tiny(tmp_path / "m")
    before = opened(folder)
    assert opened(folder) == before
    change(folder)
    assert opened(folder) != before


def test_type_and_attention_as_loaded_decide_the_key(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "m")
    found = [
        opened(folder),
        opened(folder, dtype=torch.bfloat16),
        opened(folder, attn_implementation="eager"),
        opened(folder, rms_norm_eps=1e-2),
    ]
    assert len({*found}) == 4


def test_what_training_leaves_beside_the_weights_does_not(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "m")
    before = files_digest(folder)
    for name in ("training_args.bin", "optimizer.bin", "README.md", "loss_curve.jsonl"):
        (folder / name).write_text("x")
    assert files_digest(folder) == before


def test_settings_of_a_model_without_weights_of_their_own() -> None:
    size: Any = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    keys = set()
    for scaling in (1.0, 4.0):
        torch.manual_seed(0)
        shape = GraniteConfig(vocab_size=64, num_key_value_heads=2, logits_scaling=scaling, **size)
        keys.add(model_key(GraniteForCausalLM(shape)))
    assert len(keys) == 2


def emptied(model: torch.nn.Module) -> Any:
    """As ZeRO-3 leaves a model: every parameter without elements."""
    for parameter in model.parameters():
        parameter.data = torch.empty(0)
    return model


def test_a_partitioned_model_is_told_by_its_files(tmp_path: Path) -> None:
    folders = [save_tiny(tmp_path / str(seed), seed) for seed in (0, 1)]
    keys = [model_key(emptied(AutoModelForCausalLM.from_pretrained(folder)), str(folder)) for folder in folders]
    assert len({*keys}) == 2
    assert keys == [opened(folder) for folder in folders]
    with pytest.raises(HarnessError, match=r"lies in pieces .* name that as model_name_or_path"):
        model_key(emptied(tiny_model()))


def adapter(base: Path, folder: Path, seed: int, **options: Any) -> Path:
    """A LoRA adapter that changes what its base says."""
    torch.manual_seed(seed)
    shape = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", **options)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), shape)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "lora_B" in name:
                tensor.normal_(0, 0.3)
    model.save_pretrained(str(folder))
    return folder


def test_adapters_of_the_reference_do_not_share_its_values(tmp_path: Path) -> None:
    """At learning rate 0 the policy is its own reference, whatever lies in the cache: rewards are 0."""
    base = save_tiny(tmp_path / "base")
    folders = [adapter(base, tmp_path / str(seed), seed) for seed in (1, 2)]
    dataset, tokenizer = tiny_dataset(4)
    for folder in folders:
        model: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder, is_trainable=True)
        settings = config(tmp_path / "out", learning_rate=0.0, max_steps=1, reference_cache=str(tmp_path / "cache"))
        trainer = MaskDPOTrainer(model=model, args=settings, train_dataset=dataset, processing_class=tokenizer)
        trainer.train()
        log = trainer.state.log_history[0]
        assert log["loss"] == pytest.approx(0.6931, abs=1e-4)
        assert log["rewards/chosen"] == pytest.approx(0, abs=1e-5)


def test_an_adapter_folder_is_trained_on_and_told_from_others(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    first, second = (adapter(base, tmp_path / str(scale), 1, lora_alpha=scale) for scale in (8, 16))
    models = [load_model(str(folder), ModelConfig()) for folder in (base, first, second)]
    ids = torch.tensor([[5, 9, 70, 33]])
    with torch.no_grad():
        plain, one, two = (model(ids).logits for model in models)
    assert not torch.allclose(plain, one, atol=1e-3) and not torch.allclose(one, two, atol=1e-3)
    keys = {model_key(m, str(f)) for m, f in zip(models, (base, first, second), strict=True)}
    assert len(keys) == 3
    changed_weights(base)  # the base is a part of both
    assert model_key(models[1], str(first)) not in keys
    bare = json.loads((first / "adapter_config.json").read_text()) | {"base_model_name_or_path": ""}
    (first / "adapter_config.json").write_text(json.dumps(bare))
    with pytest.raises(HarnessError, match="name the adapter's base there"):
        load_model(str(first), ModelConfig())


def test_one_writer_of_an_entry_does_not_disturb_another(tmp_path: Path) -> None:
    save_columns(tmp_path, "key", {"a": [1.0, 2.0]})
    assert load_columns(tmp_path, "key", 2) == {"a": [1.0, 2.0]}
    assert [path.name for path in tmp_path.iterdir()] == ["key.jsonl"]


def test_sepo_under_zero3_reads_the_scores_that_its_message_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """DeepSpeed does not run here: what transformers says of it is set, and the message followed to the letter."""
    _, oracle = run(tmp_path, "oracle", 4, masking="none", learning_rate=1e-2)
    cache = str(tmp_path / "cache")
    settings = {
        "preference_loss": "sepo",
        "masking": "none",
        "sepo_oracle": str(oracle),
        "reference_cache": cache,
        "num_train_epochs": 1,
    }
    monkeypatch.setattr(token_scores, "is_deepspeed_zero3_enabled", lambda: True)
    with pytest.raises(HarnessError, match="factuality train token_scores --config RECIPE"):
        run(tmp_path, "early", 4, **settings)
    monkeypatch.setattr(token_scores, "is_deepspeed_zero3_enabled", lambda: False)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        json.dumps(
            settings
            | {"model_name_or_path": str(tmp_path / "tiny"), "pairs": str(tmp_path / "4.jsonl"), "use_cpu": True}
            | {"output_dir": str(tmp_path / "sepo"), "max_length": 256, "disable_tqdm": True, "report_to": "none"}
        )
    )
    scores = tmp_path / "scores.jsonl"
    for where in ([], ["--sepo_scores", str(scores)]):
        assert cli.command("train token_scores")(["--config", str(recipe), *where]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"train": 4}
    monkeypatch.setattr(token_scores, "is_deepspeed_zero3_enabled", lambda: True)
    _, cached = run(tmp_path, "cached", 4, **settings)
    _, read = run(tmp_path, "read", 4, sepo_scores=str(scores), **settings)
    assert losses(cached) == losses(read)
    with pytest.raises(HarnessError, match="token scores of another oracle; remove it"):
        run(tmp_path, "other", 4, sepo_scores=str(scores), **settings | {"sepo_oracle": str(tmp_path / "tiny")})
    with pytest.raises(HarnessError, match="token scores of another pairs and masks"):
        run(tmp_path, "masked", 4, sepo_scores=str(scores), **settings | {"masking": "sentences"})
    assert cli.command("train token_scores")(["--config", str(recipe), "--preference_loss", "sigmoid"]) == 2
