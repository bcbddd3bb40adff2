"""How far the reference implementation's masks lie from the exact ones.

It tokenizes every sentence alone and adds the lengths up, so its borders drift with white space and merged tokens.
Token id 0 is always masked out there (0 is also its ignore value). Where it gives up and masks nothing at all is not
emulated: these figures are a lower bound on its drift.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from harness.annotation import Label
from harness.engines import Message
from training.masks import mask_response
from training.pairs import LabelledResponse


@dataclass(frozen=True, slots=True)
class Drift:
    """One response: tokens, those whose mask differs, those that must not count, those of them that do anyway; surplus:
    lengths of the sentences alone minus tokens of the whole."""

    tokens: int
    different: int
    masked: int
    still_trained: int
    surplus: int


def length_sum_mask(
    response: LabelledResponse, ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, counting: frozenset[Label]
) -> tuple[list[int], int]:
    """The reference's mask over the response's token `ids`, and by how much the sentences' lengths exceed them."""
    mask, place = [1] * len(ids), 0
    for sentence, label in zip(response.sentences, response.labels, strict=True):
        length = len(tokenizer(sentence.text, add_special_tokens=False)["input_ids"])
        if label not in counting:
            mask[place : place + length] = [0] * len(mask[place : place + length])
        place += length
    return [int(bit and token != 0) for bit, token in zip(mask, ids, strict=True)], place - len(ids)


def drift(
    prompt: Iterable[Message],
    response: LabelledResponse,
    tokenizer: PreTrainedTokenizerBase,
    counting: frozenset[Label],
) -> Drift:
    """Compare both masks on the response's own tokens, the end of turn left out."""
    exact = mask_response(prompt, response, tokenizer, counting, end_of_turn=False)
    start = exact.response_start
    # The end-of-turn token is the last one and belongs to no sentence.
    special = set(tokenizer.all_special_ids)
    end = len(exact.input_ids) - (exact.input_ids[-1] in special)
    ids, wanted = exact.input_ids[start:end], exact.mask[start:end]
    found, surplus = length_sum_mask(response, ids, tokenizer, counting)
    return Drift(
        tokens=len(ids),
        different=sum(a != b for a, b in zip(wanted, found, strict=True)),
        masked=sum(not a for a in wanted),
        still_trained=sum(b and not a for a, b in zip(wanted, found, strict=True)),
        surplus=surplus,
    )


def summarise(rows: Sequence[Drift]) -> dict[str, float]:
    """The figures of the table: shares of tokens, mean and maximum over responses, responses whose lengths do not add
    up."""
    tokens = sum(r.tokens for r in rows)
    masked = sum(r.masked for r in rows)
    shares = [r.different / r.tokens for r in rows if r.tokens]
    return {
        "responses": len(rows),
        "tokens": tokens,
        "wrong_mask": round(sum(r.different for r in rows) / tokens, 4),
        "wrong_mask_mean": round(float(np.mean(shares)), 4),
        "wrong_mask_max": round(max(shares), 4),
        "still_trained": round(sum(r.still_trained for r in rows) / masked, 4) if masked else 0.0,
        "lengths_do_not_add_up": sum(r.surplus != 0 for r in rows),
    }
