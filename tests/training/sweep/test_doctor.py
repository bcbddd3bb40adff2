"""The doctor: each thing that a run needs is told when it is missing, and only then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from factuality_harness.training.sweep import needs as checks
from factuality_harness.training.sweep.needs import GIB, Finding, Machine
from factuality_harness.training.sweep.plan import Stage
from tests.helpers import experiments
from tests.helpers.cli import command
from tests.helpers.judge_server import JudgeServer
from tests.helpers.tiny import save_tiny

ZERO3 = "accelerate launch --config_file training/recipes/accelerate/zero3.yaml"
CARDS = (("card", 80 * GIB),) * 4


def stage(kind: str, launch: str = "", **settings: Any) -> Stage:
    return Stage(kind, f"{kind}-1", settings, {"model": "model:meta-llama/Llama-3.1-8B-Instruct"}, launch)


def missing(found: Any) -> list[str]:
    return [f"{f.what}: {f.detail}" for f in found if f.state == "missing"]


TRAIN = stage("train", ZERO3, arguments={})
SCORE = stage("score", engine="vllm", model_args={"tensor_parallel_size": 2})


@pytest.mark.parametrize(
    ("stages", "machine", "told"),
    [
        ([TRAIN], Machine(CARDS, 256 * GIB), []),
        ([TRAIN], Machine(CARDS[:1], 256 * GIB), ["GPUs: 4 for train stages, 1 here: card (80 GiB)"]),
        (
            [TRAIN],
            Machine((("card", 24 * GIB),) * 4, 256 * GIB),
            ["GPU memory: train of meta-llama/Llama-3.1-8B-Instruct"],
        ),
        ([SCORE], Machine((), 256 * GIB), ["GPUs: 2 for score stages, 0 here"]),
        ([SCORE], Machine((), 256 * GIB, vllm_on_cpu=True), []),
        ([stage("annotate", judge="dialogue@openai:http://h/v1#m")], Machine((), GIB), []),
    ],
)
def test_gpus_and_their_memory(stages: list[Stage], machine: Machine, told: list[str]) -> None:
    found = missing(checks.hardware(stages, machine, elsewhere=False))
    assert len(found) == len(told) and all(map(str.startswith, found, told)), found
    assert missing(checks.hardware(stages, machine, elsewhere=True)) == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("python", []),
        (ZERO3, []),
        ("no-such-launcher -n 4", ["launcher: no-such-launcher is not on PATH (no-such-launcher -n 4)"]),
        ("accelerate launch --config_file nowhere.yaml", ["launcher: nowhere.yaml: no such recipe file"]),
    ],
)
def test_launchers(line: str, told: list[str]) -> None:
    found = missing(checks.launchers([stage("train", line, arguments={})]))
    assert len(found) == len(told) and all(map(str.startswith, found, told)), found


def test_packages_that_the_stages_import() -> None:
    assert checks.extras_needed([TRAIN, SCORE]) == ["sweep", "train", "vllm", "deepspeed"]
    assert checks.extras_needed([stage("annotate", judge="lexical")]) == ["sweep", "train"]
    found = {f.what: f for f in checks.packages(["train", "vllm", "deepspeed"])}
    assert found["packages"].state == found["packages of [train]"].state == "ok"
    assert "torch 2." in found["packages"].detail
    for extra in ("vllm", "deepspeed"):
        told = found[f"packages of [{extra}]"]
        if told.state == "missing":
            assert told.detail == f"{extra} is not installed: pip install 'factuality-harness[{extra}]'"


def test_judges_are_asked_and_prompts_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setenv("HARNESS_ANAH_V2_PROMPTS", str(tmp_path / "prompts.py"))
    with JudgeServer() as server:
        spec = f"dialogue@openai:{server.url}#rules"
        assert missing(checks.judges([stage("score", judge=spec)])) == []
        assert server.trials
    (gone,) = missing(checks.judges([stage("score", judge=spec, judge_args={"retries": 0})]))
    assert gone.startswith(f"judge {spec}: ")
    (unknown,) = missing(checks.judges([stage("score", judge="anah_v2@vllm:m")]))
    assert "prompts.py: no such file" in unknown


def test_data_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    (tmp_path / "here.jsonl").touch()
    stages = [
        stage("score", metadata={"data": str(tmp_path / "here.jsonl"), "knowledge": str(tmp_path / "gone.db")}),
        stage("score", arguments={"confirm_run_unsafe_code": True}),
    ]
    found = missing(checks.data(stages))
    assert [line.split(":")[0] for line in found] == ["data", "variable"]
    assert "gone.db: no such file" in found[0] and found[1].startswith("variable: HF_ALLOW_CODE_EVAL")


def test_disk_where_the_store_will_lie(tmp_path: Path) -> None:
    assert checks.disk(tmp_path / "not" / "yet", 1.0).state == "ok"
    assert checks.disk(tmp_path / "not" / "yet", 1e18).state == "missing"


def test_folders_and_names_of_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    folder = str(save_tiny(tmp_path / "tiny"))
    gone, annotator = missing(checks.checkpoints([folder, "./nowhere", "out/models/anah-v2"]))
    assert gone == "model: ./nowhere: no such checkpoint folder"
    assert annotator.endswith("no such checkpoint folder; `factuality model llamafy` writes it as a plain Llama")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("doctor")([]) == 0
    assert "ok      packages of [train]: peft" in capsys.readouterr().out
    here = experiments.experiment(tmp_path)
    assert command("doctor")([str(here), "--store", str(tmp_path / "s")]) == 0
    text = yaml.safe_load(here.read_text()) | {"launch": {"train": "no-such-launcher"}}
    here.write_text(yaml.safe_dump(text))
    for line in ("doctor", "sweep run"):
        more = ["--dry-run"] if line != "doctor" else []
        assert command(line)([str(here), "--store", str(tmp_path / "s"), *more]) == 2
        said = capsys.readouterr()
        assert "missing launcher: no-such-launcher is not on PATH" in said.out
        assert said.err == "error: 1 of the things this needs is missing; see above\n"
    assert not (tmp_path / "s").exists()


def test_a_finding_is_a_line() -> None:
    assert str(Finding("missing", "GPUs", "4 for train stages, 0 here")) == "missing GPUs: 4 for train stages, 0 here"
