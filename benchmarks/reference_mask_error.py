"""Error of the reference implementation's masks: how far they lie from the exact ones.

    python -m benchmarks.reference_mask_error --tokenizer DIR --biographies FOLDER --out FILE.csv
    python -m benchmarks.reference_mask_error --tokenizer DIR --pairs FILE

It tokenizes every sentence alone and looks for its tokens where the lengths so far add up to, so its borders drift
with white space and merged tokens. Token id 0 is always masked out there, since 0 is also its ignore value. Where a
sentence to mask runs past the end of the conversation, it gives up and masks nothing, on both sides of the pair.

Compared are the tokens after the prompt, what the template writes after the response included: both train on that.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from factuality_harness.harness.annotation import COUNTING, Label
from factuality_harness.harness.commands import entry
from factuality_harness.harness.data.biographies import LabelledBiography, load_labelled
from factuality_harness.harness.engines import Message
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.io.write import write_csv
from factuality_harness.training.checkpoints import load_tokenizer
from factuality_harness.training.mask_dpo.masks import Encoded, encode, render, template_frame, token_mask
from factuality_harness.training.mask_dpo.pairs import LabelledResponse, Pair, locate, read_pairs

# FActScore's answers and the side of a pair they are measured on: the more factual system is the chosen one.
BIOGRAPHIES = {"ChatGPT": "chosen", "InstructGPT": "rejected"}


@dataclass(frozen=True, slots=True)
class MaskError:
    """One response: tokens, those whose mask differs, those that must not count, those of them that do anyway; whether
    the reference fell back to no mask; surplus: lengths of the sentences alone minus tokens of the whole response."""

    tokens: int
    different: int
    masked: int
    still_trained: int
    fell_back: bool
    surplus: int


def sentence_lengths(response: LabelledResponse, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens of every sentence when it is tokenized alone."""
    texts = [s.text for s in response.sentences]
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]


def length_sum_mask(
    labels: Sequence[Label], lengths: Sequence[int], ids: Sequence[int], counting: frozenset[Label]
) -> list[int] | None:
    """The reference's mask over all tokens `ids` after the prompt; None where it falls back to no mask."""
    mask, place = [1] * len(ids), 0
    for label, length in zip(labels, lengths, strict=True):
        if label not in counting:
            if place + length > len(ids):
                return None
            mask[place : place + length] = [0] * length
        place += length
    return _without_zero(mask, ids)


def _without_zero(mask: Sequence[int], ids: Sequence[int]) -> list[int]:
    return [int(bit and token != 0) for bit, token in zip(mask, ids, strict=True)]


@dataclass(frozen=True, slots=True)
class _Side:
    """Both masks of one response over the tokens after the prompt; found: None where the reference falls back."""

    ids: list[int]
    exact: list[int]
    found: list[int] | None
    surplus: int

    def error(self, fell_back: bool) -> MaskError:
        found = self.found if self.found is not None and not fell_back else _without_zero([1] * len(self.ids), self.ids)
        return MaskError(
            tokens=len(self.ids),
            different=sum(a != b for a, b in zip(self.exact, found, strict=True)),
            masked=self.exact.count(0),
            still_trained=sum(b and not a for a, b in zip(self.exact, found, strict=True)),
            fell_back=fell_back,
            surplus=self.surplus,
        )


def _side(
    prompt: Iterable[Message],
    response: LabelledResponse,
    tokenizer: PreTrainedTokenizerBase,
    counting: frozenset[Label],
    gaps_count: bool,
) -> _Side:
    messages = tuple(prompt)
    frame = template_frame(tokenizer, messages)
    (encoded,) = encode(tokenizer, [render(tokenizer, messages, response.text, frame)])
    # The reference takes the prompt for as long as it is when tokenized alone.
    begin = len(tokenizer(frame.opened, add_special_tokens=False, verbose=False)["input_ids"])
    lengths = sentence_lengths(response, tokenizer)
    found = length_sum_mask(response.labels, lengths, encoded.ids[begin:], counting)
    exact = list(token_mask(encoded, response, counting).mask)
    if gaps_count:
        for i in _gaps(encoded, response):
            exact[i] = 1
    exact += [1] * (len(encoded.ids) - len(exact))
    return _Side(encoded.ids[begin:], exact[begin:], found, sum(lengths) - (encoded.body_end - encoded.first))


def _gaps(encoded: Encoded, response: LabelledResponse) -> list[int]:
    """Tokens of the response that hold white space between sentences and nothing else."""
    text, offset = encoded.rendered.text, encoded.rendered.offset
    inside = {i for s in response.sentences for i in range(s.start + offset, s.end + offset)}
    return [
        i
        for i, (start, end) in enumerate(encoded.offsets[encoded.first : encoded.body_end], encoded.first)
        if not text[start:end].strip() and inside.isdisjoint(range(start, end))
    ]


def response_error(
    prompt: Iterable[Message],
    response: LabelledResponse,
    tokenizer: PreTrainedTokenizerBase,
    counting: frozenset[Label],
    *,
    gaps_count: bool = False,
) -> MaskError:
    """Compare both masks of one response on its own. gaps_count: white space between sentences is to be trained on
    whatever the sentence before it, instead of by the exact masks' rule."""
    side = _side(prompt, response, tokenizer, counting, gaps_count)
    return side.error(side.found is None)


def pair_errors(pair: Pair, tokenizer: PreTrainedTokenizerBase) -> tuple[MaskError, MaskError]:
    """Chosen and rejected side; when one falls back, the reference drops the masks of both."""
    sides = [
        _side(pair.prompt, response, tokenizer, COUNTING[side], gaps_count=False)
        for side, response in (("chosen", pair.chosen), ("rejected", pair.rejected))
    ]
    fell_back = any(side.found is None for side in sides)
    chosen, rejected = (side.error(fell_back) for side in sides)
    return chosen, rejected


def summarise_errors(rows: Sequence[MaskError]) -> dict[str, float]:
    """The figures of the table: shares of tokens, mean and maximum over responses, responses that fall back, and those
    whose lengths do not add up."""
    tokens = sum(r.tokens for r in rows)
    masked = sum(r.masked for r in rows)
    shares = [r.different / r.tokens for r in rows]
    return {
        "responses": len(rows),
        "tokens": tokens,
        "wrong_mask": round(sum(r.different for r in rows) / tokens, 4),
        "wrong_mask_mean": round(float(np.mean(shares)), 4),
        "wrong_mask_max": round(max(shares), 4),
        "still_trained": round(sum(r.still_trained for r in rows) / masked, 4) if masked else 0.0,
        "fell_back": sum(r.fell_back for r in rows),
        "lengths_do_not_add_up": sum(r.surplus != 0 for r in rows),
    }


def labelled_response(row: LabelledBiography) -> LabelledResponse | None:
    """A biography with one label per sentence, wrong if it has an NS fact; None without labels.

    Raises HarnessError when the sentences are not its text.
    """
    if not row.sentences:
        return None
    labels = tuple(
        Label.CONTRADICTORY if any(f.label == "NS" for f in s.human_facts or ()) else Label.OK for s in row.sentences
    )
    return LabelledResponse(row.output, locate(row.output, [s.text for s in row.sentences]), labels)


def biographies_table(folder: Path, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, str | float]]:
    """Errors on the human-labelled biographies, a row for each system as in a pair (`BIOGRAPHIES`), both together by
    either rule for white space between sentences, and each system on the other side.

    Raises HarnessError naming a file that is missing, and a row whose sentences are not its text.
    """
    answers = {system: _read(folder / f"{system}.jsonl") for system in BIOGRAPHIES}

    def measure(system: str, side: str, gaps_count: bool = False) -> list[MaskError]:
        errors = []
        for question, response in answers[system]:
            prompt: list[Message] = [{"role": "user", "content": question}]
            errors.append(response_error(prompt, response, tokenizer, COUNTING[side], gaps_count=gaps_count))
        return errors

    def row(system: str, side: str, white_space: str, errors: Sequence[MaskError]) -> dict[str, str | float]:
        return {"answers": system, "side": side, "white_space_between": white_space, **summarise_errors(errors)}

    table, by_rule, always = [], list[MaskError](), list[MaskError]()
    for system, side in BIOGRAPHIES.items():
        errors = measure(system, side)
        table.append(row(system, side, "sentence before", errors))
        by_rule += errors
        always += measure(system, side, gaps_count=True)
    both = "/".join(BIOGRAPHIES.values())
    table.append(row("both", both, "sentence before", by_rule))
    table.append(row("both", both, "always trained", always))
    for system, side in BIOGRAPHIES.items():
        other = "rejected" if side == "chosen" else "chosen"
        table.append(row(system, other, "sentence before", measure(system, other)))
    return table


def _read(path: Path) -> list[tuple[str, LabelledResponse]]:
    found = []
    for row in load_labelled(path).rows:
        try:
            response = labelled_response(row)
        except HarnessError as error:
            raise HarnessError(f"{path}, {row.topic}: {error}. Fix or remove the row.") from error
        if response is not None:
            found.append((row.question, response))
    if not found:
        raise HarnessError(f"{path}: holds no labelled answer")
    return found


def reference_mask_error(
    *, tokenizer: str, biographies: Path | None = None, pairs: Path | None = None, out: Path | None = None
) -> None:
    """Error of the reference implementation's masks on labelled biographies (a table) or on preference pairs.

    Parameters
    ----------
    tokenizer
        Folder or hub name of a tokenizer with a chat template.
    biographies
        Folder of FActScore's labelled biographies.
    pairs
        Preference pairs in the official format.
    out
        CSV table of the biographies.
    """
    opened = load_tokenizer(tokenizer)
    if pairs is not None:
        errors = [error for pair in read_pairs(pairs) for error in pair_errors(pair, opened)]
        if not errors:
            raise HarnessError(f"{pairs}: holds no pair")
        print(json.dumps(summarise_errors(errors), indent=2))
    elif biographies is not None and out is not None:
        line = f"python -m benchmarks.reference_mask_error --tokenizer {tokenizer} --biographies FOLDER --out {out}"
        inputs = [biographies / f"{system}.jsonl" for system in BIOGRAPHIES]
        table = biographies_table(biographies, opened)
        write_csv(out, table)
        record = manifest(inputs=inputs, command=line, tokenizer=Path(tokenizer).name)
        write_manifest(out.with_suffix(".manifest.json"), record)
        for row in table:
            print(row)
    else:
        raise HarnessError("give --pairs FILE, or --biographies FOLDER and --out FILE.csv")


if __name__ == "__main__":
    sys.exit(entry(reference_mask_error))
