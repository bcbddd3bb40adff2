"""SePO's token scores in a file of their own, so that training which holds no model whole can read them.

    factuality train token_scores --config RECIPE [--sepo_scores FILE.jsonl]

Reads the recipe of the training run and writes what the oracle says of every token, to `sepo_scores` or the cache. The
first row says what the scores are of; scores of other models, pairs or masks are refused. The trainer does the same
on its way where it can; under ZeRO-3, where no process holds a model whole, this comes first, on one GPU.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel
from transformers.integrations import is_deepspeed_zero3_enabled
from trl import ModelConfig

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import read_jsonl, write_jsonl
from factuality_harness.harness.io.models import check_model_folder
from factuality_harness.training.arguments import Words, parse_arguments
from factuality_harness.training.checkpoints import load_model, load_tokenizer, main_process, tell
from factuality_harness.training.mask_dpo.batches import masked_datasets
from factuality_harness.training.mask_dpo.config import MaskDPOConfig
from factuality_harness.training.mask_dpo.reference import (
    cache_folder,
    content_key,
    dataset_digest,
    files_digest,
    model_key,
)
from factuality_harness.training.mask_dpo.sepo import Scores, select_tokens, token_rewards


def key_tokens(
    datasets: Mapping[str, Dataset], model: PreTrainedModel, config: MaskDPOConfig, model_args: ModelConfig, given: bool
) -> tuple[dict[str, Dataset], dict[str, Any]]:
    """Datasets whose masks hold SePO's key tokens only, and how many those are, for the manifest.

    model: what training starts from; given: it was made in memory, not loaded from `model_args`. Raises HarnessError as
    `token_scores`.
    """
    selected, counts = {}, {}
    for name, scores in token_scores(datasets, model, config, model_args, given).items():
        selected[name], selection = select_tokens(
            datasets[name], scores, config.sepo_chosen_share, config.sepo_rejected_share
        )
        counts[f"sepo_{name}"] = asdict(selection)
        tell(f"{name}: {selection}")
    return selected, counts


def token_scores(
    datasets: Mapping[str, Dataset], model: PreTrainedModel, config: MaskDPOConfig, model_args: ModelConfig, given: bool
) -> dict[str, tuple[Scores, Scores]]:
    """Scores of every dataset, from their files, or computed and written there.

    Raises HarnessError for an oracle that is no local checkpoint, for a file that is of other models, pairs or masks,
    and where there is no file and the models lie in pieces (ZeRO-3).
    """
    oracle = check_model_folder(config.sepo_oracle)
    if not Path(oracle).is_dir():
        raise HarnessError(f"sepo_oracle {oracle}: name a local checkpoint folder")
    found = {}
    with config.main_process_first(desc="SePO's token scores"):
        source = (None, None) if given else (model_args.model_name_or_path, model_args.model_revision)
        models = {"oracle": files_digest(oracle), "reference": model_key(model, *source)}
        for name, dataset in datasets.items():
            made_from = models | {"pairs and masks": dataset_digest(dataset)}
            path = _path(name, made_from, config)
            if not path.exists():
                if is_deepspeed_zero3_enabled():
                    raise HarnessError(
                        f"{path}: no token scores there, and under ZeRO-3 no process holds a model whole. Write them "
                        "on one GPU first, with the settings of this run: factuality train token_scores --config RECIPE"
                    )
                opened = (lambda: load_model(oracle, model_args, config.trust_remote_code)), (lambda: model)
                progress = main_process() and not config.disable_tqdm
                scores = token_rewards(dataset, opened, config.device, config.per_device_train_batch_size, progress)
                write_scores(path, made_from, scores)
            found[name] = read_scores(path, made_from)
    return found


def _path(name: str, made_from: Mapping[str, str], config: MaskDPOConfig) -> Path:
    if not config.sepo_scores:
        return cache_folder(config.reference_cache) / f"{content_key('sepo', made_from)}.jsonl"
    path = Path(config.sepo_scores).expanduser()
    return path if name == "train" else path.with_name(f"{path.stem}.{name}{path.suffix}")


def write_scores(path: Path, made_from: Mapping[str, str], scores: tuple[Scores, Scores]) -> None:
    """A row that says what they are of, then one for each pair."""
    rows = [{"chosen": chosen, "rejected": rejected} for chosen, rejected in zip(*scores, strict=True)]
    write_jsonl(path, [{"made_from": dict(made_from)}, *rows])


def read_scores(path: Path, made_from: Mapping[str, str]) -> tuple[Scores, Scores]:
    """Inverse of `write_scores`. Raises HarnessError for a file that is none, and for one of other models or pairs."""
    rows = [row for _, row in read_jsonl(path)]
    if not rows or not isinstance(rows[0].get("made_from"), dict):
        raise HarnessError(f"{path}: no file of token scores; write one with `factuality train token_scores`")
    if other := [what for what, key in made_from.items() if rows[0]["made_from"].get(what) != key]:
        raise HarnessError(
            f"{path}: token scores of another {', '.join(other)}; remove it, and run `factuality train token_scores` "
            "with the settings of this run"
        )
    return [row["chosen"] for row in rows[1:]], [row["rejected"] for row in rows[1:]]


def main(*arguments: Words) -> None:
    """SePO's token scores for a training run: `--config RECIPE`, and any setting after it, as for `train mask_dpo`.

    Where they are there already, for these models and pairs, nothing is computed.
    """
    script_args, config, model_args = parse_arguments(MaskDPOConfig, "factuality train token_scores", arguments)
    if config.preference_loss != "sepo":
        raise HarnessError(f"preference_loss is {config.preference_loss}: only sepo reads token scores")
    datasets, _ = masked_datasets(
        script_args,
        load_tokenizer(model_args.model_name_or_path, config.trust_remote_code),
        masking=config.masking,
        end_of_turn=config.end_of_turn,
        max_length=config.max_length,
        progress=not config.disable_tqdm,
    )
    model = load_model(model_args.model_name_or_path, model_args, config.trust_remote_code)
    found = token_scores(datasets, model, config, model_args, given=False)
    print(json.dumps({name: len(chosen) for name, (chosen, _) in found.items()}))
