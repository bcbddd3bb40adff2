"""InternLM2 as a Llama: logits, tokens, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sentencepiece
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.internlm2 import weights as weights_module
from factuality_harness.harness.internlm2.llamafy import llamafy
from tests.harness.internlm2.published import CASES, GOLDEN, LENGTHS, prompt, shown
from tests.helpers.cli import command
from tests.helpers.internlm2 import ADDED, save_internlm2, texts


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_the_published_code(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_module, "SHARD_BYTES", 100_000)
    kind, files = ("bin", 3) if name == "dynamic" else ("safetensors", 1 + len(name) % 2)
    source = save_internlm2(tmp_path / "source", kind=kind, files=files, **CASES[name])
    folder = llamafy(source, tmp_path / "llama")
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    assert type(model).__name__ == "LlamaForCausalLM"
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    golden = json.loads(GOLDEN.read_text())
    for length in LENGTHS:
        with torch.no_grad():
            logits = model(prompt(length), use_cache=False).logits[0]
        wanted = torch.tensor(golden[f"{name}, {length} tokens"])
        assert torch.allclose(torch.tensor(shown(logits)), wanted, atol=1e-5, rtol=1e-5)


PREFIX = {"add_dummy_prefix": True}
SPECS = {
    "spaces kept": {},
    "a space before": PREFIX,
    "normalised": PREFIX | {"normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True},
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_tokens_are_sentencepieces(spec: dict, tmp_path: Path) -> None:
    source = save_internlm2(tmp_path / "source", tokenizer=spec)
    tokenizer = AutoTokenizer.from_pretrained(llamafy(source, tmp_path / "llama"))
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(source / "tokenizer.model"))
    corpus = texts()
    corpus += [f"  {a}\n\n{b} 😀\t" for a, b in zip(corpus[::2], corpus[1::2], strict=False)]
    assert len(corpus) >= 500
    ids = tokenizer(corpus, add_special_tokens=False)["input_ids"]
    assert ids == pieces.encode(corpus)
    assert tokenizer.batch_decode(ids) == pieces.decode(ids)


def test_special_tokens_template_and_stops(tmp_path: Path) -> None:
    folder = llamafy(save_internlm2(tmp_path / "source"), tmp_path / "llama")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    numbers = tokenizer.convert_tokens_to_ids(list(ADDED))
    assert numbers == list(range(numbers[0], numbers[0] + 6))
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who was 居里夫人?"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<s><|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWho was 居里夫人?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids[:2] == [1, numbers[-1]] and tokenizer.decode(ids) == text
    assert tokenizer("Ada")["input_ids"][0] == 1
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [2, numbers[-2]]
    record = json.loads((folder / "llamafy.manifest.json").read_text())
    assert record["settings"]["config"]["model_type"] == "internlm2"


def _change(name: str, **more: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | more))

    return change


def _unlink(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


REFUSED = {
    "another model": (_change("config.json", model_type="qwen2"), "model_type is 'qwen2', not internlm2"),
    "a Llama": (_change("config.json", model_type="llama"), "needs no conversion"),
    "a reward model": (_change("config.json", architectures=["InternLM2ForRewardModel"]), "no causal language model"),
    "quantized": (_change("config.json", quantization_config={"bits": 4}), "quantized"),
    "a field missing": (_change("config.json", hidden_size=None), "config.json: hidden_size is None"),
    "odd heads": (_change("config.json", num_key_value_heads=3), "do not divide"),
    "another rope": (_change("config.json", rope_scaling={"type": "yarn", "factor": 2}), "rope_scaling"),
    "a layer more": (_change("config.json", num_hidden_layers=3), "7 tensors are missing: model.layers.2"),
    "a layer less": (_change("config.json", num_hidden_layers=1), "tensors are not of an InternLM2: model.layers.1"),
    "another width": (
        _change("config.json", intermediate_size=95),
        r"another shape: .*\(96, 64\), not \(95, 64\)",
    ),
    "a small vocabulary": (_change("config.json", vocab_size=1000), "2000 tokens, the model only 1000"),
    "no tokenizer": (_unlink("tokenizer.model"), "tokenizer.model: cannot be read"),
    "no weights": (_unlink("model.safetensors"), "no weights in it"),
    "no config": (_unlink("config.json"), "not a checkpoint folder"),
    "cut weights": (lambda f: (f / "model.safetensors").write_bytes(b"\x99" * 64), "cannot be read as weights"),
    "no sentencepiece": (lambda f: (f / "tokenizer.model").write_bytes(b"{}"), "cannot be read as a sentencepiece"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_internlm2(tmp_path_factory.mktemp("internlm2") / "source")


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_no_internlm2_is_one_line_and_leaves_nothing(fault: str, whole: Path, tmp_path: Path) -> None:
    change, message = REFUSED[fault]
    source = tmp_path / "source"
    source.mkdir()
    for file in whole.iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    change(source)
    with pytest.raises(HarnessError, match=message) as error:
        llamafy(source, tmp_path / "llama")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_folder_that_exists_is_kept(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "llama").mkdir()
    with pytest.raises(HarnessError, match="is there already"):
        llamafy(whole, tmp_path / "llama")


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    source = save_internlm2(tmp_path / "source", files=3)
    (source / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(HarnessError, match=r"names model-00002-of-00003.safetensors, which is not there \(1 of 3"):
        llamafy(source, tmp_path / "llama")


def test_the_command(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = command("model llamafy")
    assert run([whole, "--out", tmp_path / "llama"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "llama")
    assert run([tmp_path / "llama", "--out", tmp_path / "again"]) == 2
