"""A Llama made of an InternLM2, in vLLM: the tokens that transformers gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.vllm_server import ENVIRONMENT
from factuality_harness.harness.internlm2.llamafy import llamafy
from tests.helpers.internlm2 import save_internlm2

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]
PROMPTS = ("Who was Ada Lovelace?", "居里夫人是谁？")
NEW = 12
# In a process of its own, which gives its memory back.
SCRIPT = """
import json, sys
from vllm import LLM, SamplingParams
llm = LLM(sys.argv[1], dtype="float32", enforce_eager=True, max_model_len=64)
asked = [[{"role": "user", "content": text}] for text in json.loads(sys.argv[2])]
answers = llm.chat(asked, SamplingParams(temperature=0, max_tokens=int(sys.argv[3]), ignore_eos=True))
print("FOUND", json.dumps([[a.prompt_token_ids, list(a.outputs[0].token_ids)] for a in answers]))
"""


def test_vllm_reads_and_answers_as_transformers_does(tmp_path: Path) -> None:
    source = save_internlm2(tmp_path / "internlm2", hidden_size=256, num_attention_heads=8, files=2)
    folder = llamafy(source, tmp_path / "llama")
    words = [sys.executable, "-c", SCRIPT, str(folder), json.dumps(PROMPTS), str(NEW)]
    done = subprocess.run(words, env=os.environ | ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.rpartition("FOUND ")[2].splitlines()[0])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    for text, (prompt, answer) in zip(PROMPTS, found, strict=True):
        asked = [{"role": "user", "content": text}]
        chat = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        assert prompt == tokenizer(chat, add_special_tokens=False)["input_ids"]
        ids = torch.tensor([prompt])
        wanted = model.generate(ids, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False)[0, len(prompt) :]
        assert answer == wanted.tolist()
