"""Token masks from labelled sentences, exact to the character.

    python -m training.masks --tokenizer DIR --pairs FILE --out FILE [--drift]

A token of the response counts when the characters it covers, white space aside, lie in one counting sentence and in no
other. A token of white space alone belongs to the sentence before it (at the very start, to the first). Correct
sentences (ok) count in the chosen response, wrong ones (contradictory, unverifiable) in the rejected one; sentences
without a fact count in the chosen response only, unparsed ones in neither. The template's end of turn counts on both
sides unless switched off. What cannot be aligned is an error naming the row, never a guess.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from harness.annotation import Label
from harness.engines import Message
from harness.errors import HarnessError, command
from harness.jsonl import write_jsonl
from training.pairs import LabelledResponse, Pair, read_pairs

_WRONG = frozenset({Label.CONTRADICTORY, Label.UNVERIFIABLE})
COUNTING = {"chosen": frozenset({Label.OK, Label.NOFACT}), "rejected": _WRONG}
# Labels of the sentences that count, by masking and side; None: everything does.
MASKINGS: dict[str, dict[str, frozenset[Label]] | None] = {
    "sentences": COUNTING,
    "facts": {"chosen": frozenset({Label.OK}), "rejected": _WRONG},
    "none": None,
}
_SENTINEL = "sentinel0response0of0the0template"


@dataclass(frozen=True, slots=True)
class MaskedResponse:
    """Token ids of the rendered conversation up to the end of turn; `mask` is 1 where a token counts (same length).

    response_start: index of the response's first token; the mask is 0 before it.
    """

    input_ids: tuple[int, ...]
    mask: tuple[int, ...]
    response_start: int


@dataclass(frozen=True, slots=True)
class MaskedPair:
    """Both sides of a pair; each has at least one counting token."""

    chosen: MaskedResponse
    rejected: MaskedResponse


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as the chat template writes it; `text[start:end]` is the response, white space at its ends
    possibly stripped; `offset` is what to add to a place in the original response to find it in `text`."""

    text: str
    start: int
    end: int
    offset: int


def check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise HarnessError for a tokenizer without character offsets or without a chat template."""
    if not tokenizer.is_fast:
        raise HarnessError(
            f"{tokenizer.name_or_path}: this tokenizer gives no character offsets, so masks cannot be exact. Use its "
            "fast version (a folder with tokenizer.json)."
        )
    if tokenizer.chat_template is None:
        raise HarnessError(f"{tokenizer.name_or_path}: no chat template; set tokenizer.chat_template and save it")


def render(tokenizer: PreTrainedTokenizerBase, prompt: Iterable[Message], response: str) -> Rendered:
    """Render prompt and response, and find the response in the result.

    Raises HarnessError when the template changes more of the response than white space at its ends, or writes the
    prompt differently before an answer than it does for generation.
    """
    messages = [dict(m) for m in prompt]

    def text_of(content: str) -> str:
        answer = {"role": "assistant", "content": content}
        return str(tokenizer.apply_chat_template([*messages, answer], tokenize=False))

    frame = text_of(_SENTINEL)
    if frame.count(_SENTINEL) != 1:
        raise HarnessError("the chat template does not write the response exactly once")
    before, after = frame.split(_SENTINEL)
    opened = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    if not before.startswith(opened):
        raise HarnessError("the chat template writes the prompt differently when an answer follows than for generation")
    text = text_of(response)
    end = len(text) - len(after)
    body = text[len(before) : end]
    kept = response.strip()
    if not text.startswith(before) or not text.endswith(after) or body.strip() != kept or body not in response:
        raise HarnessError(
            "the chat template rewrites the response, so its sentences have no exact place. Use a template that writes "
            "it as it is."
        )
    return Rendered(text, len(before), end, len(before) - response.index(body))


def mask_response(
    prompt: Iterable[Message],
    response: LabelledResponse,
    tokenizer: PreTrainedTokenizerBase,
    counting: frozenset[Label] | None,
    *,
    end_of_turn: bool = True,
) -> MaskedResponse:
    """Tokens and mask of one side. counting: labels of the sentences that count; None: the whole response counts.

    Raises HarnessError when the template or the tokenizer leaves no exact alignment.
    """
    rendered = render(tokenizer, prompt, response.text)
    encoded = tokenizer(rendered.text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    owners = _owners(rendered, response)
    first = next((i for i, (_, end) in enumerate(offsets) if end > rendered.start), len(ids))
    last = _end_of_turn(tokenizer, rendered, ids, offsets, first)
    mask = [0] * first
    previous = next((o for o in owners[rendered.start : rendered.end] if o is not None), None)
    for start, end in offsets[first:last]:
        if start >= rendered.end:
            mask.append(int(end_of_turn))
            continue
        if (
            rendered.text[start : rendered.start].strip()
            or rendered.text[rendered.end : max(end, rendered.end)].strip()
        ):
            raise HarnessError(
                f"a token covers both the response and the template ({rendered.text[start:end]!r}), so it has no exact "
                "mask. Use a template that ends in a token of its own before the response."
            )
        inside = {owners[i] for i in range(start, min(end, rendered.end)) if not rendered.text[i].isspace()}
        if counting is None:
            mask.append(1)
        elif inside:
            (previous,) = inside if len(inside) == 1 else (None,)
            mask.append(int(previous is not None and response.labels[previous] in counting))
            previous = max((o for o in inside if o is not None), default=None)
        else:
            mask.append(int(previous is not None and response.labels[previous] in counting))
    return MaskedResponse(tuple(ids[:last]), tuple(mask), first)


def _owners(rendered: Rendered, response: LabelledResponse) -> list[int | None]:
    """For every character of the rendered text the number of the sentence it lies in."""
    owners: list[int | None] = [None] * len(rendered.text)
    for number, sentence in enumerate(response.sentences):
        for i in range(sentence.start + rendered.offset, sentence.end + rendered.offset):
            if rendered.start <= i < rendered.end:
                owners[i] = number
    return owners


def _end_of_turn(
    tokenizer: PreTrainedTokenizerBase,
    rendered: Rendered,
    ids: list[int],
    offsets: list[tuple[int, int]],
    first: int,
) -> int:
    """Number of tokens up to the end of turn: the first special token after the response, which is what the model has
    to generate; without one, the template's text up to its last character that is not white space."""
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    last = first
    for i in range(first, len(ids)):
        start, end = offsets[i]
        if start < rendered.end or rendered.text[start:end].strip():
            last = i + 1
        if start >= rendered.end and ids[i] in special:
            return i + 1
    return last


def mask_pair(
    pair: Pair,
    tokenizer: PreTrainedTokenizerBase,
    *,
    masking: str = "sentences",
    end_of_turn: bool = True,
    max_length: int | None = None,
) -> MaskedPair | None:
    """Masks of both sides; None when one side has no counting token, possibly after cutting to `max_length` tokens.

    masking: `sentences` (Mask-DPO), `facts` (the same, but sentences without a fact count on neither side), or `none`
    (every token of the response counts: plain DPO on the same tokens).
    Raises HarnessError naming the pair's row.
    """
    if masking not in MASKINGS:
        raise HarnessError(f"masking {masking!r} is not known; use {', '.join(MASKINGS)}")
    check_tokenizer(tokenizer)
    rules = MASKINGS[masking]
    sides = []
    for side, response in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        if not response.text.strip():
            raise HarnessError(f"{pair.where}: {side}: the response is empty. Mend or remove the row.")
        counting = None if rules is None else rules[side]
        try:
            masked = mask_response(pair.prompt, response, tokenizer, counting, end_of_turn=end_of_turn)
        except HarnessError as error:
            raise HarnessError(f"{pair.where}: {side}: {error}") from error
        if counting is not None and not any(label in counting for label in response.labels):
            return None  # an end of turn alone teaches nothing about facts
        masked = MaskedResponse(masked.input_ids[:max_length], masked.mask[:max_length], masked.response_start)
        if not any(masked.mask):
            return None
        sides.append(masked)
    return MaskedPair(*sides)


def mask_pairs(
    pairs: Iterable[Pair],
    tokenizer: PreTrainedTokenizerBase,
    *,
    masking: str = "sentences",
    end_of_turn: bool = True,
    max_length: int | None = None,
) -> Iterator[tuple[Pair, MaskedPair | None]]:
    """`mask_pair` over a stream, the pair beside its masks."""
    for pair in pairs:
        yield (
            pair,
            mask_pair(pair, tokenizer, masking=masking, end_of_turn=end_of_turn, max_length=max_length),
        )


@dataclass(slots=True)
class MaskSummary:
    """What became of a file's pairs, and how much of their responses counts (tokens, end of turn included)."""

    pairs: int = 0
    dropped: int = 0
    response_tokens: int = 0
    chosen_counting: int = 0
    rejected_counting: int = 0

    def add(self, masked: MaskedPair | None) -> None:
        """Count one pair."""
        self.pairs += 1
        if masked is None:
            self.dropped += 1
            return
        for side in (masked.chosen, masked.rejected):
            self.response_tokens += len(side.input_ids) - side.response_start
        self.chosen_counting += sum(masked.chosen.mask)
        self.rejected_counting += sum(masked.rejected.mask)


@command
def main(argv: list[str] | None = None) -> None:
    """Command line."""
    from training.drift import drift, summarise

    parser = argparse.ArgumentParser(prog="python -m training.masks", description=str(__doc__).split("\n")[0])
    parser.add_argument("--tokenizer", required=True, help="folder or hub name of a tokenizer with a chat template")
    parser.add_argument("--pairs", type=Path, required=True, help="pairs in the official format")
    parser.add_argument("--out", type=Path, required=True, help="JSONL of token ids and masks, a row a kept pair")
    parser.add_argument("--masking", choices=MASKINGS, default="sentences")
    parser.add_argument("--no-end-of-turn", dest="end_of_turn", action="store_false")
    parser.add_argument("--max-length", type=int)
    parser.add_argument("--drift", action="store_true", help="also measure the reference's length-sum masks")
    args = parser.parse_args(argv)
    try:
        tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    except (OSError, ValueError) as error:
        raise HarnessError(f"{args.tokenizer}: no tokenizer there ({str(error)[:200]})") from error
    check_tokenizer(tokenizer)
    summary, drifts = MaskSummary(), []

    def rows() -> Iterator[dict[str, Any]]:
        pairs = tqdm(read_pairs(args.pairs), desc="masks", unit="pair")
        options = {"masking": args.masking, "end_of_turn": args.end_of_turn, "max_length": args.max_length}
        for pair, masked in mask_pairs(pairs, tokenizer, **options):
            summary.add(masked)
            if args.drift:
                drifts.append(drift(pair.prompt, pair.chosen, tokenizer, COUNTING["chosen"]))
                drifts.append(drift(pair.prompt, pair.rejected, tokenizer, COUNTING["rejected"]))
            if masked is not None:
                yield asdict(masked)

    write_jsonl(args.out, rows())
    if not summary.pairs:
        raise HarnessError(f"{args.pairs}: holds no pair")
    print(json.dumps(asdict(summary) | ({"drift": summarise(drifts)} if args.drift else {}), indent=2))


if __name__ == "__main__":
    sys.exit(main())
