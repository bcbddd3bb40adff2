"""Every recipe: parsed by the trainers' own parsers, its model built on the meta device, its memory estimated."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.mask_dpo import train as mask_dpo
from factuality_harness.training.mask_dpo.config import MaskDPOConfig
from factuality_harness.training.memory import SIZES, estimate, parse_recipe
from tests.helpers.cli import command
from tests.helpers.paths import ROOT

RECIPES = ROOT / "training" / "recipes"
TRAINING = sorted(p for p in RECIPES.glob("*/*.yaml") if p.parent.name != "accelerate" and p.name[0] != "_")
LARGE = [p for p in TRAINING if p.parent.name in ("llama31-8b", "internlm2-7b")]


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def test_all_recipes_are_there():
    assert {p.parent.name for p in TRAINING} == {"llama31-8b", "internlm2-7b", "smollm2-135m", "world"}
    methods = {"mask_dpo", "dpo", "dpop", "tdpo", "sepo"}
    for folder in ("llama31-8b", "internlm2-7b", "world"):
        assert methods <= {p.stem for p in TRAINING if p.parent.name == folder}
    assert {"sft", "mask_dpo_after_sft", "facttune", "flame_dpo", "mask_dpo_lora"} <= {p.stem for p in TRAINING}
    assert all((p.parent / "README.md").is_file() for p in TRAINING)


@pytest.mark.parametrize("path", TRAINING, ids=name)
def test_a_recipe_is_parsed(path):
    config, model_args = parse_recipe(path)
    assert config.output_dir == f"out/{'world-0' if path.parent.name == 'world' else path.parent.name}/" + {
        "facttune": "facttune",
        "flame_dpo": "flame",
    }.get(path.stem, path.stem)
    assert model_args.model_name_or_path
    if isinstance(config, MaskDPOConfig):
        assert config.masking == {"mask_dpo_facts": "facts"}.get(
            path.stem, "sentences" if path.stem.startswith("mask_dpo") else "none"
        )
        assert config.beta == 0.1


@pytest.mark.parametrize("path", [p for p in LARGE if p.stem == "mask_dpo"], ids=name)
def test_the_papers_settings(path):
    config, _ = parse_recipe(path)
    assert (config.learning_rate, config.num_train_epochs, config.per_device_train_batch_size) == (5e-7, 3, 8)
    assert (config.max_length, config.max_grad_norm, config.lr_scheduler_type) == (1024, 1.0, "cosine")
    assert (config.warmup_steps, config.weight_decay, config.label_smoothing) == (0.03, 0.0, 0.0)
    assert config.get_warmup_steps(1000) == 30


@pytest.mark.parametrize("path", LARGE, ids=name)
def test_models_fit_on_80_gib(path):
    config, model_args = parse_recipe(path)
    lora = path.stem.endswith("lora")
    memory = estimate(config, model_args, processes=1 if lora else 4)
    print(f"{name(path)}: {memory.total:.1f} GiB a GPU")
    assert memory.parameters == pytest.approx(8.03 if path.parent.name == "llama31-8b" else 7.74, abs=0.01)
    assert (memory.trainable < memory.parameters / 20) == lora
    assert 20 < memory.total < 80
    assert (memory.reference > 0) == (path.stem == "tdpo")


def test_shipped_recipes_are_known_by_name_in_any_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command("memory")(["--config", "llama31-8b/mask_dpo.yaml", "--processes", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[:2] == ["mask_dpo", "8.03"]
    _, config, _ = mask_dpo.parse(["--config", "world/dpop.yaml", "--beta", "0.2"])
    assert (config.preference_loss, config.learning_rate, config.beta) == ("dpop", 4e-4, 0.2)


def test_more_gpus_need_less_each():
    parsed = parse_recipe(RECIPES / "llama31-8b" / "mask_dpo.yaml")
    one, four = (estimate(*parsed, processes=n) for n in (1, 4))
    assert one.optimizer == pytest.approx(4 * four.optimizer) and one.activations == four.activations
    assert one.weights == pytest.approx(2 * 8.03e9 / 2**30, rel=1e-3)


@pytest.mark.slow
def test_the_command_prints_a_table(capsys):
    main = command("memory")
    assert main(["--config", *LARGE, RECIPES / "llama31-8b" / "_common.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(LARGE) and lines[1].split()[-1] == "total"
    assert main(["--config", "absent.yaml"]) == 2
    assert "absent.yaml: no such recipe file; shipped recipes are internlm2-7b/dpo.yaml, " in capsys.readouterr().err


def test_what_is_no_recipe(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("- a\n")
    with pytest.raises(HarnessError, match="the recipe is no mapping of settings"):
        parse_recipe(path)
    path.write_text("masking: none\nmodel_name_or_path: absent\noutput_dir: x\n")
    with pytest.raises(HarnessError, match="absent"):
        estimate(*parse_recipe(path))


@pytest.mark.parametrize(
    ("file", "kind", "processes"), [("zero3", "DEEPSPEED", 4), ("fsdp", "FSDP", 4), ("one_gpu", "NO", 1)]
)
def test_accelerate_reads_its_configurations(file, kind, processes):
    config = load_config_from_file(str(RECIPES / "accelerate" / f"{file}.yaml"))
    assert str(config.distributed_type).rsplit(".", 1)[-1] == kind and config.num_processes == processes


def test_sizes_are_of_the_recipes():
    assert {parse_recipe(p)[1].model_name_or_path for p in LARGE} == set(SIZES)
