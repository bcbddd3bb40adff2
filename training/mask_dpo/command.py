"""Token masks as a file, to look at or to train with elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from tqdm import tqdm

from factuality_harness.harness.commands import Out
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import write_jsonl
from factuality_harness.harness.io.write import json_text
from factuality_harness.training.checkpoints import load_tokenizer
from factuality_harness.training.mask_dpo.masks import MaskSummary, kept_masks
from factuality_harness.training.mask_dpo.pairs import read_pairs


def write_masks(
    *,
    pairs: Path,
    tokenizer: str,
    out: Out,
    masking: Literal["sentences", "facts", "none"] = "sentences",
    end_of_turn: Annotated[bool, Parameter(negative="--no-end-of-turn")] = True,
    max_length: int | None = None,
) -> None:
    """Token masks of preference pairs, a JSON row per pair that can be trained on; prints what became of all pairs.

    Parameters
    ----------
    pairs
        Preference pairs in the official format.
    tokenizer
        Folder or hub name of a tokenizer with a chat template.
    masking
        Which sentences count: of Mask-DPO, the same without those that state no fact, or everything as in DPO.
    end_of_turn
        Whether end-of-turn tokens count.
    max_length
        Cut longer conversations from the end, to so many tokens.
    """
    summary, opened = MaskSummary(), load_tokenizer(tokenizer)

    def rows() -> Iterator[dict[str, Any]]:
        read = tqdm(read_pairs(pairs), desc="masks", unit="pair")
        options = {"masking": masking, "end_of_turn": end_of_turn, "max_length": max_length}
        yield from map(asdict, kept_masks(read, opened, summary, **options))
        if not summary.pairs:
            raise HarnessError(f"{pairs}: holds no pair; make some with `factuality pair`")

    write_jsonl(out, rows())
    print(json_text(summary.to_dict(), indent=2))
