"""Token masks from labelled sentences, exact to the character.

The rule, token by token of the response:

1. A token's sentences are those in which its characters lie, white space left aside. It counts when there is one of
   them, that one counts, and none of its characters lies outside every sentence. So the blank that a byte-level token
   carries in front of its word ("Ġword") goes with the word, and a token across two sentences counts for neither.
2. A token of white space alone goes with the sentence whose span holds it; between spans, with the one before it (in
   front of them all, with the first).
3. A token without characters goes with what stands before it.
4. The template's end of turn (the first special token after the response, and what lies before that one) counts on both
   sides unless switched off. What the template writes after it, say a line break, is left out.

So every character of a counting sentence lies in a counting token, unless the token also holds a character of another
sentence, and no counting token holds one of a sentence that does not count. Correct sentences (ok) count in the chosen
response, wrong ones (contradictory, unverifiable) in the rejected one, sentences without a fact in the chosen one only,
unparsed ones in neither. What cannot be aligned is an error naming the row, never a guess.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from factuality_harness.harness.annotation import COUNTING, WRONG, Label
from factuality_harness.harness.engines import Message
from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.mask_dpo.pairs import LabelledResponse, Pair

# Labels of the sentences that count, by masking and side; None: everything does.
MASKINGS: dict[str, dict[str, frozenset[Label]] | None] = {
    "sentences": COUNTING,
    "facts": {"chosen": frozenset({Label.OK}), "rejected": WRONG},
    "none": None,
}
_SENTINEL = "sentinel0response0of0the0template"
# Marks and control or format characters: normalizers join the first to their letter and drop the others.
_MAY_VANISH = frozenset({"Mn", "Mc", "Me", "Cc", "Cf"})
_BATCH = 64


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
class TemplateFrame:
    """What the chat template writes around a response. opened: the prompt as it is rendered for generation."""

    before: str
    after: str
    opened: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as the chat template writes it; `text[start:end]` is the response, white space at its ends
    possibly stripped; `offset` is what to add to a place in the original response to find it in `text`."""

    text: str
    start: int
    end: int
    offset: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """A rendered conversation in tokens: ids, and for each the half-open span of characters of `rendered.text`.

    The response's tokens are `first` to `body_end`, the end of turn's `body_end` to `turn_end`.
    """

    rendered: Rendered
    ids: list[int]
    offsets: list[tuple[int, int]]
    first: int
    body_end: int
    turn_end: int


def check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise HarnessError for a tokenizer without character offsets or without a chat template."""
    if not getattr(tokenizer, "is_fast", False):
        raise HarnessError(
            f"{tokenizer.name_or_path}: this tokenizer gives no character offsets, so masks cannot be exact. Use its "
            "fast version (a folder with tokenizer.json)."
        )
    if tokenizer.chat_template is None:
        raise HarnessError(f"{tokenizer.name_or_path}: no chat template; set tokenizer.chat_template and save it")


def template_frame(tokenizer: PreTrainedTokenizerBase, prompt: Iterable[Message]) -> TemplateFrame:
    """What the template writes around the answer to `prompt`.

    Raises HarnessError when it refuses the conversation, does not write the answer exactly once, or writes the prompt
    differently before an answer than it does for generation.
    """
    messages = [dict(m) for m in prompt]
    sentinel = _SENTINEL
    while any(sentinel in m["content"] for m in messages):
        sentinel += "0"
    text = _apply(tokenizer, [*messages, {"role": "assistant", "content": sentinel}])
    if text.count(sentinel) != 1:
        raise HarnessError("the chat template does not write the response exactly once")
    before, after = text.split(sentinel)
    opened = _apply(tokenizer, messages, add_generation_prompt=True)
    if not before.startswith(opened):
        raise HarnessError("the chat template writes the prompt differently when an answer follows than for generation")
    return TemplateFrame(before, after, opened)


def render(
    tokenizer: PreTrainedTokenizerBase, prompt: Iterable[Message], response: str, frame: TemplateFrame | None = None
) -> Rendered:
    """Render prompt and response, and find the response in the result. frame: of the same prompt, where it is known.

    Raises HarnessError as `template_frame`, and when the template changes more of the response than white space at its
    ends.
    """
    messages = [dict(m) for m in prompt]
    frame = frame or template_frame(tokenizer, prompt)
    text = _apply(tokenizer, [*messages, {"role": "assistant", "content": response}])
    start, end = len(frame.before), len(text) - len(frame.after)
    body = text[start:end]
    if (
        not text.startswith(frame.before)
        or not text.endswith(frame.after)
        or body.strip() != response.strip()
        or body not in response
    ):
        raise HarnessError(
            "the chat template rewrites the response, so its sentences have no exact place. Use a template that writes "
            "it as it is."
        )
    return Rendered(text, start, end, start - response.index(body))


def _apply(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], **options: Any) -> str:
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))
    except TemplateError as error:
        raise HarnessError(f"the chat template refuses this conversation ({error})") from error


def encode(tokenizer: PreTrainedTokenizerBase, rendered: Sequence[Rendered]) -> Iterator[Encoded]:
    """Tokenize rendered conversations in one batch."""
    if not rendered:
        return
    encoded = tokenizer(
        [r.text for r in rendered], add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    for one, ids, offsets in zip(rendered, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        yield _regions(one, ids, _placed(offsets), special)


def _placed(offsets: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The offsets, tokens without characters put where the token before them ends."""
    placed, place = [], 0
    for start, end in offsets:
        if end <= start:
            start = end = place
        place = end
        placed.append((start, end))
    return placed


def _regions(rendered: Rendered, ids: list[int], offsets: list[tuple[int, int]], special: set[int]) -> Encoded:
    """Which tokens are the response's and which the end of turn's: the first special token after the response, which is
    what the model has to generate; without one, the template's text up to its last character that is not white
    space."""
    first = next((i for i, (_, end) in enumerate(offsets) if end > rendered.start), len(ids))
    while first and offsets[first - 1][0] == offsets[first - 1][1] >= rendered.start:
        first -= 1
    body_end = next((i for i in range(first, len(ids)) if offsets[i][0] >= rendered.end), len(ids))
    turn_end = body_end
    for i in range(body_end, len(ids)):
        start, end = offsets[i]
        if ids[i] in special or rendered.text[start:end].strip():
            turn_end = i + 1
        if ids[i] in special:
            break
    return Encoded(rendered, ids, offsets, first, body_end, turn_end)


def token_mask(
    encoded: Encoded, response: LabelledResponse, counting: frozenset[Label] | None, *, end_of_turn: bool = True
) -> MaskedResponse:
    """The mask by the module's rule. counting: labels of the sentences that count; None: the whole response counts.

    Raises HarnessError for a token that covers both the response and the template, and for characters of the response
    that no token covers.
    """
    _check_cover(encoded)
    text = encoded.rendered.text
    begin, length = encoded.rendered.start, encoded.rendered.end - encoded.rendered.start
    owners = _owners(encoded.rendered, response)
    white = [text[begin + i].isspace() for i in range(length)]
    counts = [counting is None or label in counting for label in response.labels]
    # None: nothing of any sentence yet, or text that no sentence holds.
    previous = next((o for o in owners if o is not None), None)
    mask = [0] * encoded.first
    for start, end in encoded.offsets[encoded.first : encoded.body_end]:
        places = range(max(start - begin, 0), min(end - begin, length))
        solid = [owners[i] for i in places if not white[i]]
        if solid:
            previous = solid[-1]
            one = previous if solid.count(previous) == len(solid) else None
        else:
            around = {owners[i] for i in places}
            one = around.pop() if len(around) == 1 and None not in around else previous
        mask.append(int(counting is None or (one is not None and counts[one])))
    mask += [int(end_of_turn)] * (encoded.turn_end - encoded.body_end)
    return MaskedResponse(tuple(encoded.ids[: encoded.turn_end]), tuple(mask), encoded.first)


def _owners(rendered: Rendered, response: LabelledResponse) -> list[int | None]:
    """For every character of the rendered response the number of the sentence whose span holds it."""
    owners: list[int | None] = [None] * (rendered.end - rendered.start)
    shift = rendered.offset - rendered.start
    for number, sentence in enumerate(response.sentences):
        for i in range(max(sentence.start + shift, 0), min(sentence.end + shift, len(owners))):
            owners[i] = number
    return owners


def _check_cover(encoded: Encoded) -> None:
    rendered, text = encoded.rendered, encoded.rendered.text
    covered = rendered.start
    for start, end in encoded.offsets[encoded.first : encoded.body_end]:
        if (start < rendered.start and text[start : rendered.start].strip()) or text[rendered.end : end].strip():
            raise HarnessError(
                f"a token covers both the response and the template ({text[start:end]!r}), so it has no exact mask. "
                "Use a template that ends in a token of its own before the response."
            )
        if start > covered:
            _check_lost(text, covered, start)
        if end > covered:
            covered = end
    _check_lost(text, covered, rendered.end)


def _check_lost(text: str, start: int, end: int) -> None:
    """Raise HarnessError when characters that no token covers are more than what normalizing folds into others."""
    for i in range(start, end):
        if text[i].isspace() or unicodedata.category(text[i]) in _MAY_VANISH:
            continue
        joined = text[max(start - 1, 0) : i + 1]
        if len(unicodedata.normalize("NFKC", joined)) == len(joined):
            raise HarnessError(
                f"no token covers {text[i]!r} ({text[max(i - 20, 0) : i + 20]!r}), so the tokenizer's offsets are not "
                "exact. Use another tokenizer, or take the character and any control characters before it out."
            )


def masks_or_reasons(
    pairs: Iterable[Pair],
    tokenizer: PreTrainedTokenizerBase,
    *,
    masking: str = "sentences",
    end_of_turn: bool = True,
    max_length: int | None = None,
) -> Iterator[tuple[Pair, MaskedPair | str]]:
    """Stream pairs with the masks of both sides, tokenized in batches; a pair to drop comes with the reason, in words:
    one side's response has no counting token, possibly after cutting to `max_length` tokens (the start is kept).

    masking: `sentences` (Mask-DPO), `facts` (the same, but sentences without a fact count on neither side), or `none`
    (every token of the response counts: plain DPO on the same tokens).
    Raises HarnessError naming the pair's row.
    """
    if masking not in MASKINGS:
        raise HarnessError(f"masking {masking!r} is not known; use {', '.join(MASKINGS)}")
    if max_length is not None and max_length < 1:
        raise HarnessError(f"max_length {max_length} leaves no token; use at least 1")
    check_tokenizer(tokenizer)
    rules = MASKINGS[masking]
    source = iter(pairs)
    while group := list(islice(source, _BATCH)):
        rendered = [side for pair in group for side in _render_pair(pair, tokenizer)]
        encoded = encode(tokenizer, rendered)
        for pair in group:
            sides, reason = [], ""
            for side, response in _sides(pair):
                one = next(encoded)
                counting = None if rules is None else rules[side]
                try:
                    masked = token_mask(one, response, counting, end_of_turn=end_of_turn)
                except HarnessError as error:
                    raise HarnessError(f"{_where(pair, side)}: {error}") from error
                # An end of turn alone teaches nothing about the response, so it keeps no pair.
                if not any(masked.mask[: one.body_end]):
                    reason = reason or f"no counting sentence in the {side} response"
                elif not any(masked.mask[:max_length]):
                    reason = reason or f"no counting token of the {side} response within the maximum length"
                sides.append(
                    MaskedResponse(masked.input_ids[:max_length], masked.mask[:max_length], masked.response_start)
                )
            yield pair, reason or MaskedPair(*sides)


def _sides(pair: Pair) -> tuple[tuple[str, LabelledResponse], ...]:
    return ("chosen", pair.chosen), ("rejected", pair.rejected)


def _where(pair: Pair, side: str) -> str:
    return f"{pair.where}: {side}" if pair.where else side


def _render_pair(pair: Pair, tokenizer: PreTrainedTokenizerBase) -> Iterator[Rendered]:
    frame = None
    for side, response in _sides(pair):
        if not response.text.strip():
            raise HarnessError(f"{_where(pair, side)}: the response is empty. Fix or remove the row.")
        try:
            frame = frame or template_frame(tokenizer, pair.prompt)
            yield render(tokenizer, pair.prompt, response.text, frame)
        except HarnessError as error:
            raise HarnessError(f"{_where(pair, side)}: {error}") from error


def mask_pair(pair: Pair, tokenizer: PreTrainedTokenizerBase, **options: Any) -> MaskedPair | None:
    """Masks of a single pair, None where it is dropped. Options and errors as of `masks_or_reasons`."""
    ((_, masked),) = masks_or_reasons([pair], tokenizer, **options)
    return masked if isinstance(masked, MaskedPair) else None


@dataclass(slots=True)
class MaskSummary:
    """What became of a file's pairs, and how much of the kept ones' responses counts (tokens, end of turn included).

    dropped: pairs by reason. Shares: counting tokens over response tokens.
    """

    pairs: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    chosen_tokens: int = 0
    chosen_counting: int = 0
    rejected_tokens: int = 0
    rejected_counting: int = 0

    def add(self, masked: MaskedPair | str) -> None:
        """Count one pair, or the reason it was dropped for."""
        self.pairs += 1
        if isinstance(masked, str):
            self.dropped[masked] += 1
            return
        self.kept += 1
        self.chosen_tokens += len(masked.chosen.input_ids) - masked.chosen.response_start
        self.rejected_tokens += len(masked.rejected.input_ids) - masked.rejected.response_start
        self.chosen_counting += sum(masked.chosen.mask)
        self.rejected_counting += sum(masked.rejected.mask)

    def __str__(self) -> str:
        reasons = "".join(f"; {count} dropped: {reason}" for reason, count in self.dropped.items())
        counting = self.chosen_counting + self.rejected_counting
        return f"{self.kept} of {self.pairs} pairs kept, {counting} counting tokens{reasons}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the shares."""
        sides: dict[str, Any] = {}
        for side in ("chosen", "rejected"):
            tokens, counting = getattr(self, f"{side}_tokens"), getattr(self, f"{side}_counting")
            share = round(counting / tokens, 4) if tokens else None
            sides |= {f"{side}_tokens": tokens, f"{side}_counting": counting, f"{side}_share": share}
        return {"pairs": self.pairs, "kept": self.kept, "dropped": dict(self.dropped), **sides}


def kept_masks(
    pairs: Iterable[Pair], tokenizer: PreTrainedTokenizerBase, summary: MaskSummary, **options: Any
) -> Iterator[MaskedPair]:
    """Stream the masks of the pairs that can be trained on; `summary` counts all. See `masks_or_reasons`."""
    for _, masked in masks_or_reasons(pairs, tokenizer, **options):
        summary.add(masked)
        if isinstance(masked, MaskedPair):
            yield masked
