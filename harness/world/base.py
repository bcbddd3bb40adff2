"""The base model of a world: a tiny Llama that remembers its documents, saved as an ordinary Hugging Face folder.

    factuality world base --out DIR [--seed 0] [--variant B]

DIR then holds model, tokenizer with chat template, `world.json` (the world's configuration) and a manifest. About 0.6 M
parameters, some 3 minutes on one core.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, get_cosine_schedule_with_warmup

from factuality_harness.harness.commands import Out, Seed
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.io.write import write_json
from factuality_harness.harness.world.generate import BaseConfig, World, WorldConfig, corpus, phrases
from factuality_harness.harness.world.muon import Muon

PAD, USER, ASSISTANT, END = "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def world_tokenizer(world: World) -> PreTrainedTokenizerFast:
    """Tokenizer with one token per phrase; bytes carry everything else, so any text is tokenized with offsets."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (PAD, USER, ASSISTANT, END)])
    tokenizer.add_tokens([AddedToken(p, normalized=False) for p in phrases(world)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, clean_up_tokenization_spaces=False
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.padding_side = "left"
    return fast


def _token_rows(world: World, tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[list[int]]:
    vocabulary = tokenizer.get_vocab()
    user, assistant, end = (vocabulary[t] for t in (USER, ASSISTANT, END))
    for question, answer in corpus(world, random.Random(f"corpus {seed}")):
        text = [vocabulary[p] for p in answer]
        if question:
            yield [user, *(vocabulary[p] for p in question), end, assistant, *text, end]
        else:
            yield [*text, end]


def train_base(world: World, config: BaseConfig, *, progress: bool = True) -> tuple[LlamaForCausalLM, float]:
    """Train a base model on freshly drawn text; returns it with the mean loss (nats per token) of the last 50 steps."""
    draw = world.config.seed + 10_000 * config.init
    torch.manual_seed(draw)
    tokenizer = world_tokenizer(world)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.width,
            intermediate_size=config.feed_forward,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )
    model.train()
    # Muon learns these facts in half of AdamW's steps (small batches: many steps are what counts).
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers = [
        Muon(matrices, lr=config.matrix_rate),
        torch.optim.AdamW(others, lr=config.rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    warm_up = max(1, config.steps // 20)
    schedules = [get_cosine_schedule_with_warmup(o, warm_up, config.steps) for o in optimizers]
    rows = _token_rows(world, tokenizer, draw)
    losses: list[float] = []
    with tqdm(total=config.steps, desc="base model", unit="step", disable=not progress) as bar:
        for _ in range(config.steps):
            # Questions and documents differ in length: two forward passes, hardly any padding.
            batch = sorted(itertools.islice(rows, config.batch), key=len)
            half = next((i for i, row in enumerate(batch) if len(row) > 45), len(batch))
            tokens = sum(map(len, batch)) - len(batch)
            total = 0.0
            for part in (batch[:half], batch[half:]):
                if part:
                    ids, labels = _padded(part)
                    hidden = model.model(ids).last_hidden_state[:, :-1]
                    kept = labels[:, 1:] != -100
                    loss = cross_entropy(model.lm_head(hidden[kept]), labels[:, 1:][kept], reduction="sum") / tokens
                    loss.backward()
                    total += loss.item()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            losses.append(total)
            bar.update()
            bar.set_postfix_str(f"loss {total:.3f}", refresh=False)
    model.eval()
    return model, sum(losses[-50:]) / len(losses[-50:])


def _padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    # Right padding under a causal mask: no attention mask is needed.
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(r) for r in rows], batch_first=True, padding_value=0)
    labels = torch.nn.utils.rnn.pad_sequence([torch.tensor(r) for r in rows], batch_first=True, padding_value=-100)
    return ids, labels


def build_base(out: str | Path, world_config: WorldConfig, config: BaseConfig | None = None) -> Path:
    """Train and save the base model of a world in the folder `out`; a folder that already holds exactly this one is
    kept. Raises HarnessError when it holds something else."""
    out, config = Path(out), config or BaseConfig()
    wanted = json.loads(json.dumps({"world": asdict(world_config), "base": asdict(config)}))
    record = out / "world.json"
    if record.exists():
        if json.loads(record.read_text(encoding="utf-8")) != wanted:
            raise HarnessError(f"{out} holds the base of another world; remove it or choose another folder")
        return out
    world = World(world_config)
    model, loss = train_base(world, config)
    out.mkdir(parents=True, exist_ok=True)
    world_tokenizer(world).save_pretrained(out)
    model.save_pretrained(out)
    write_manifest(out / "manifest.json", manifest(**wanted, last_loss=round(loss, 4)))
    write_json(record, wanted)  # last: its presence says complete
    return out


def make_base(
    *,
    variant: Literal["A", "B"] = "B",
    steps: int = BaseConfig().steps,
    threads: int = 1,
    seed: Seed = 0,
    out: Out,
) -> None:
    """A fact world and its base model, as an ordinary Hugging Face folder.

    Parameters
    ----------
    variant
        B: whom to trust differs between clusters. A: one habit to learn.
    steps
        Of training.
    threads
        CPU threads; the matrices are too small for more than one.
    seed
        Of the world and of the model.
    out
        Folder of the model, with `world.json` beside it.
    """
    torch.set_num_threads(threads)
    world = WorldConfig.variant_a(seed) if variant == "A" else WorldConfig(seed=seed)
    print(build_base(out, world, replace(BaseConfig(), steps=steps)))
