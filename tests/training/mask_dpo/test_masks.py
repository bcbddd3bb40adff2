"""Token masks: exact to the character, for three kinds of tokenizers."""

from __future__ import annotations

import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, LlamaTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from factuality_harness.harness.annotation import COUNTING, Label, Sentence
from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.mask_dpo.masks import (
    Encoded,
    MaskedResponse,
    Rendered,
    _placed,
    _regions,
    encode,
    mask_pair,
    masks_or_reasons,
    render,
    token_mask,
)
from factuality_harness.training.mask_dpo.pairs import LabelledResponse, Pair, write_pairs
from tests.helpers.cli import command
from tests.helpers.tiny import TEMPLATE, labelled, tiny_tokenizer

TEXT = (
    "Ada Lovelace was born in 1815. She wrote about engines! Did she like maths? 她出生于伦敦。她喜欢数学！ "
    "Her notes were long; few read them. 😀 Emoji end here. 1. A list\n2. Another line\n\nThe end…"
)
QUESTION = ({"role": "user", "content": "Who was Ada?"},)
PLAIN = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] | trim }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def word_level() -> PreTrainedTokenizerFast:
    words = sorted(set(TEXT.split()) | {"user", "assistant", ":", "<unk>", "</s>", "."})
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    tokenizer.add_special_tokens(["</s>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")
    fast.chat_template = PLAIN
    return fast


def sentence_piece(folder: Path) -> PreTrainedTokenizerBase:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT] * 20 + ["user: assistant: Who was Ada?"] * 20),
        model_writer=model,
        vocab_size=400,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    tokenizer = LlamaTokenizer.from_pretrained(folder)
    tokenizer.chat_template = PLAIN
    tokenizer.save_pretrained(folder / "fast")
    return AutoTokenizer.from_pretrained(folder / "fast")


@pytest.fixture(scope="module", params=["smollm2", "sentencepiece", "word-level", "byte"])
def tokenizer(request, tmp_path_factory) -> PreTrainedTokenizerBase:
    if request.param == "smollm2":
        return AutoTokenizer.from_pretrained(request.getfixturevalue("smollm2"))
    if request.param == "sentencepiece":
        return sentence_piece(tmp_path_factory.mktemp("sp"))
    return word_level() if request.param == "word-level" else tiny_tokenizer()


def mask_response(prompt, response, tokenizer, counting, **options) -> MaskedResponse:
    """Tokens and mask of one side."""
    (encoded,) = encode(tokenizer, [render(tokenizer, prompt, response.text)])
    return token_mask(encoded, response, counting, **options)


words = st.sampled_from(
    [
        "Ada",
        "was",
        "born",
        "in 1815",
        "她出生于伦敦",
        "数学",
        "😀",
        "👩‍💻",
        "é",
        "No.",
        "3.14",
        "“quoted”",
        "a-b",
        "ﬁ",
        "x" * 30,
    ]
)
# Control characters apart, see test_offsets_that_a_dropped_byte_shifts_are_an_error.
anything = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn")), min_size=1, max_size=12).filter(str.strip)
sentences = st.builds(
    lambda parts, end: (" ".join(parts) + end).strip(),
    st.lists(words | anything, min_size=1, max_size=5),
    st.sampled_from([".", "!", "。", ""]),
)
gaps = st.sampled_from([" ", "  ", "\n", "\n\n", "", "\t", "\r\n", "\u3000", "\xa0 ", " \u2028"])
responses = st.builds(
    labelled,
    st.lists(st.tuples(sentences, gaps, st.sampled_from(list(Label))), min_size=1, max_size=6),
    st.sampled_from(["", " ", "\n"]),
)
slow_tokenizers = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def covered(tokenizer: Any, response: LabelledResponse, masked: MaskedResponse):
    """For every response token: (characters of the stripped response it covers that are not white space, its mask)."""
    text = tokenizer.apply_chat_template([*QUESTION, {"role": "assistant", "content": response.text}], tokenize=False)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    assert encoded["input_ids"][: len(masked.input_ids)] == list(masked.input_ids)
    stripped = response.text.strip()
    first = response.text.index(stripped)
    opened = tokenizer.apply_chat_template([*QUESTION], tokenize=False, add_generation_prompt=True)
    shift = text.index(stripped, len(opened)) - first
    for (start, end), bit in zip(encoded["offset_mapping"], masked.mask, strict=False):
        places = [i - shift for i in range(start, end) if not text[i].isspace()]
        yield [i for i in places if first <= i < first + len(stripped)], bit


@slow_tokenizers
@given(response=responses, side=st.sampled_from(["chosen", "rejected"]))
def test_a_token_counts_exactly_when_it_lies_in_counting_sentences_alone(tokenizer, response, side):
    masked = mask_response(QUESTION, response, tokenizer, COUNTING[side], end_of_turn=False)
    owner = {i: n for n, s in enumerate(response.sentences) for i in range(s.start, s.end)}
    counts = [label in COUNTING[side] for label in response.labels]
    counted: set[int] = set()
    shared: set[int] = set()
    for places, bit in covered(tokenizer, response, masked):
        owners = {owner[i] for i in places}
        if bit:
            assert all(counts[o] for o in owners) and len(owners) <= 1
            counted |= set(places)
        elif len(owners) > 1:
            shared |= set(places)
    for number, sentence in enumerate(response.sentences):
        solid = {i for i in range(sentence.start, sentence.end) if not response.text[i].isspace()}
        if counts[number]:
            assert solid <= counted | shared
        else:
            assert not solid & counted
    assert not any(masked.mask[: masked.response_start])


@slow_tokenizers
@given(response=responses, length=st.integers(1, 60))
def test_truncated_masks_stay_aligned(tokenizer, response, length):
    pair = Pair(QUESTION, response, response)
    whole = mask_pair(pair, tokenizer, masking="none")
    short = mask_pair(pair, tokenizer, masking="none", max_length=length)
    assert whole is not None
    if short is None:
        assert not any(whole.chosen.mask[:length])
    else:
        assert short.chosen.input_ids == whole.chosen.input_ids[:length]
        assert short.chosen.mask == whole.chosen.mask[:length]


@slow_tokenizers
@given(response=responses, other=responses)
def test_a_stream_is_masked_like_its_pairs_one_by_one(tokenizer, response, other):
    pairs = [Pair(QUESTION, response, other), Pair(QUESTION, other, response)]
    singly = [(pair, mask_pair(pair, tokenizer)) for pair in pairs]
    streamed = masks_or_reasons(pairs, tokenizer)
    assert [(pair, None if isinstance(masked, str) else masked) for pair, masked in streamed] == singly


def test_a_stream_may_be_longer_than_a_batch_and_is_not_read_ahead_of_need():
    tokenizer = tiny_tokenizer()
    side = labelled([("A.", " ", Label.OK), ("B.", "", Label.CONTRADICTORY)])
    pair = Pair(QUESTION, side, side)
    source = iter([pair] * 150)
    stream = masks_or_reasons(source, tokenizer)
    assert next(stream)[1] == mask_pair(pair, tokenizer)
    assert sum(1 for _ in source) > 0
    assert sum(not isinstance(masked, str) for _, masked in masks_or_reasons([pair] * 150, tokenizer)) == 150


@slow_tokenizers
@given(response=responses)
def test_without_masking_the_response_and_its_end_count(tokenizer, response):
    masked = mask_response(QUESTION, response, tokenizer, None)
    assert all(masked.mask[masked.response_start :])
    assert masked.input_ids[-1] == tokenizer.eos_token_id


def shown(tokenizer, masked):
    return [tokenizer.decode([i]) for i, bit in zip(masked.input_ids, masked.mask, strict=True) if bit]


THREE = labelled(
    [
        ("It is red.", " ", Label.OK),
        ("Hello there.", "\n\n", Label.NOFACT),
        ("It is blue.", " ", Label.CONTRADICTORY),
        ("Who knows.", "", Label.UNPARSED),
    ]
)


def test_which_labels_count_on_which_side(smollm2):
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    masked = mask_pair(Pair(QUESTION, THREE, THREE), tokenizer)
    assert masked is not None
    assert "".join(shown(tokenizer, masked.chosen)) == "It is red. Hello there.\n\n<|im_end|>"
    # The gap before "Who knows" is part of that sentence's first token.
    assert "".join(shown(tokenizer, masked.rejected)) == "It is blue.<|im_end|>"
    masked = mask_pair(Pair(QUESTION, THREE, THREE), tokenizer, end_of_turn=False)
    assert masked is not None
    assert "".join(shown(tokenizer, masked.rejected)) == "It is blue."
    assert str(tokenizer.decode([*masked.rejected.input_ids])).endswith("Who knows.<|im_end|>")


def test_white_space_alone_follows_the_sentence_before_it():
    tokenizer = tiny_tokenizer()
    response = labelled([("A.", " \n", Label.OK), ("B.", " ", Label.CONTRADICTORY)])
    masked = mask_response(QUESTION, response, tokenizer, COUNTING["chosen"], end_of_turn=False)
    assert "".join(shown(tokenizer, masked)) == "A. \n"


def test_white_space_inside_a_span_goes_with_that_sentence():
    text = "A. \nB."
    response = LabelledResponse(text, (Sentence("A.", 0, 2), Sentence("\nB.", 3, 6)), (Label.OK, Label.CONTRADICTORY))
    masked = mask_response(QUESTION, response, tiny_tokenizer(), COUNTING["chosen"], end_of_turn=False)
    assert "".join(shown(tiny_tokenizer(), masked)) == "A. "


def test_text_that_no_sentence_holds_does_not_count():
    text = "A. Hm B."
    response = LabelledResponse(text, (Sentence("A.", 0, 2), Sentence("B.", 6, 8)), (Label.OK, Label.OK))
    masked = mask_response(QUESTION, response, tiny_tokenizer(), COUNTING["chosen"], end_of_turn=False)
    assert "".join(shown(tiny_tokenizer(), masked)) == "A. B."


def test_every_byte_of_a_character_counts(smollm2):
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    response = labelled([("她爱😀", "", Label.OK), ("不👩‍💻", "", Label.CONTRADICTORY)])
    encoded = tokenizer(response.text, return_offsets_mapping=True)
    assert len(encoded["input_ids"]) > len(response.text)  # several tokens a character
    masked = mask_response(QUESTION, response, tokenizer, COUNTING["chosen"], end_of_turn=False)
    wanted = [int(start < 3) for start, _ in encoded["offset_mapping"]]
    assert list(masked.mask[masked.response_start :]) == [*wanted, 0]


def test_a_token_without_characters_goes_with_what_stands_before_it():
    rendered = Rendered("U:A.B.<e>\n", 2, 6, 2)
    response = labelled([("A.", "", Label.OK), ("B.", "", Label.CONTRADICTORY)])
    offsets = [(0, 0), (0, 2), (0, 0), (2, 4), (4, 4), (4, 6), (0, 0), (6, 9), (9, 10)]
    encoded = _regions(rendered, list(range(9)), _placed(offsets), special={7})
    assert (encoded.first, encoded.body_end, encoded.turn_end) == (2, 6, 8)
    assert token_mask(encoded, response, COUNTING["chosen"]).mask == (0, 0, 1, 1, 1, 0, 1, 1)


def test_white_space_after_a_shared_token_follows_the_later_sentence():
    response = labelled([("A.", "", Label.CONTRADICTORY), ("B.", " ", Label.OK), ("C.", "", Label.CONTRADICTORY)])
    encoded = Encoded(Rendered("A.B. C.", 0, 7, 0), [1, 2, 3], [(0, 4), (4, 5), (5, 7)], 0, 3, 3)
    assert token_mask(encoded, response, COUNTING["chosen"]).mask == (0, 1, 0)


def test_nothing_after_the_end_of_turn_is_kept():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE.replace("<|end|>", "<|end|>\n<|pad|>")
    masked = mask_response(QUESTION, labelled([("A.", "", Label.OK)]), tokenizer, COUNTING["chosen"])
    assert str(tokenizer.decode([*masked.input_ids])).endswith("A.<|end|>")


def test_a_token_of_two_sentences_counts_for_neither():
    tokenizer = word_level()
    response = labelled([("Ada", "", Label.OK), ("was", " ", Label.OK), ("born", "", Label.OK)])
    masked = mask_response(QUESTION, response, tokenizer, COUNTING["chosen"], end_of_turn=False)
    assert masked.mask[masked.response_start :] == (0, 1, 0)


def test_a_template_that_strips_the_response_is_followed():
    tokenizer = word_level()
    response = labelled([("Ada was born.", "  ", Label.OK)], lead="\n ")
    masked = mask_response(QUESTION, response, tokenizer, COUNTING["chosen"])
    assert all(masked.mask[masked.response_start :]) and masked.input_ids[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("label", "side"), [(Label.CONTRADICTORY, "chosen"), (Label.OK, "rejected"), (Label.UNPARSED, "chosen")]
)
def test_a_side_without_a_counting_sentence_drops_the_pair(label, side):
    good = labelled([("A.", " ", Label.OK), ("B.", "", Label.CONTRADICTORY)])
    bad = labelled([("A.", "", label)])
    sides = {"chosen": good, "rejected": good} | {side: bad}
    assert mask_pair(Pair(QUESTION, **sides), tiny_tokenizer()) is None
    assert mask_pair(Pair(QUESTION, **sides), tiny_tokenizer(), masking="none") is not None


def test_a_side_whose_every_token_is_shared_drops_the_pair():
    good = labelled([("Ada", " ", Label.OK), ("was", "", Label.CONTRADICTORY)])
    shared = labelled([("Ada", "", Label.OK), ("was", "", Label.CONTRADICTORY)])
    assert mask_pair(Pair(QUESTION, good, good), word_level()) is not None
    assert mask_pair(Pair(QUESTION, good, shared), word_level()) is None


def test_reasons_for_dropping():
    tokenizer = tiny_tokenizer()
    good = labelled([("A.", " ", Label.OK), ("B.", "", Label.CONTRADICTORY)])
    wrong = labelled([("B.", "", Label.CONTRADICTORY)])
    pairs = [Pair(QUESTION, wrong, good), Pair(QUESTION, good, good)]
    start = mask_response(QUESTION, good, tokenizer, None).response_start
    reasons = [reason for _, reason in masks_or_reasons(pairs, tokenizer, max_length=start + 2)]
    assert reasons == [
        "no counting sentence in the chosen response",
        "no counting token of the rejected response within the maximum length",
    ]
    with pytest.raises(HarnessError, match="max_length -5"):
        mask_pair(pairs[1], tokenizer, max_length=-5)


def test_an_answer_opened_by_the_template_is_no_part_of_the_response():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE.replace(
        "{{ message['content'] }}",
        "{% if message['role'] == 'assistant' %}<think></think>\n{% endif %}{{ message['content'] }}",
    )
    response = labelled([("A.", "", Label.OK)])
    masked = mask_response(QUESTION, response, tokenizer, COUNTING["chosen"])
    assert "".join(shown(tokenizer, masked)) == "A.<|end|>"


def test_a_normalizer_that_joins_characters_leaves_no_gap():
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    apart = unicodedata.normalize("NFD", "é한국")
    response = labelled([(apart, " ", Label.OK), (apart, "", Label.CONTRADICTORY)])
    masked = mask_response(QUESTION, response, tokenizer, COUNTING["chosen"], end_of_turn=False)
    assert tokenizer.decode([i for i, bit in zip(masked.input_ids, masked.mask, strict=True) if bit]) == "é한국 "


def test_a_tokenizer_that_drops_letters_is_an_error_naming_the_row():
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("x", "")
    good, bad = labelled([("A.", "", Label.OK)]), labelled([("A fox.", "", Label.OK)])
    with pytest.raises(HarnessError, match="row 9: chosen: no token covers 'x'"):
        mask_pair(Pair(QUESTION, bad, good, where="pairs.jsonl, row 9"), tokenizer)


def test_offsets_that_a_dropped_byte_shifts_are_an_error(smollm2):
    """SmolLM2's vocabulary lacks six control bytes; it drops them, and offsets of what follows slip by one."""
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    response = labelled([("It is 0\x1d.", "", Label.OK)])
    with pytest.raises(HarnessError, match=r"row 4: chosen: no token covers '.' .*control characters"):
        mask_pair(Pair(QUESTION, response, response, where="pairs.jsonl, row 4"), tokenizer)


def test_a_prompt_may_hold_any_text():
    tokenizer = tiny_tokenizer()
    good = labelled([("A.", " ", Label.OK), ("B.", "", Label.CONTRADICTORY)])
    prompt = ({"role": "user", "content": "A. sentinel0response0of0the0template A."},)
    masked = mask_pair(Pair(prompt, good, good), tokenizer)
    assert masked is not None and "".join(shown(tokenizer, masked.chosen)) == "A. <|end|>"


def test_an_odd_template_is_an_error_naming_the_row():
    good = labelled([("Ada was born.", "", Label.OK)])
    pair = Pair(QUESTION, good, good, where="pairs.jsonl, row 7")
    tokenizer = tiny_tokenizer()
    for template, message in (
        (TEMPLATE.replace("message['content'] }}", "message['content'] | upper }}"), "exactly once"),
        (TEMPLATE.replace("message['content'] }}", "message['content'] | replace('was', 'is') }}"), "rewrites"),
        (TEMPLATE.replace("<|end|>", "{{ message['content'] }}<|end|>"), "exactly once"),
        (TEMPLATE.replace("{% for", "{% if not add_generation_prompt %}New.{% endif %}{% for"), "differently"),
        ("{{ raise_exception('no user here') }}", "refuses this conversation .no user here"),
    ):
        tokenizer.chat_template = template
        with pytest.raises(HarnessError, match=rf"row 7: chosen: .*{message}"):
            mask_pair(pair, tokenizer)


def test_a_token_across_response_and_template_is_an_error():
    tokenizer = word_level()
    tokenizer.chat_template = PLAIN.replace("assistant: ", "assistant:").replace(": {{", ":{{")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    good = labelled([("Ada was born.", "", Label.OK)])
    with pytest.raises(HarnessError, match="covers both the response and the template"):
        mask_response(QUESTION, good, tokenizer, COUNTING["chosen"])


def test_tokenizers_that_will_not_do(monkeypatch):
    good = labelled([("Ada was born.", "", Label.OK)])
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(HarnessError, match="no chat template"):
        mask_pair(Pair(QUESTION, good, good), tokenizer)
    slow = tiny_tokenizer()
    monkeypatch.setattr(type(slow), "is_fast", property(lambda self: False))
    with pytest.raises(HarnessError, match="no character offsets"):
        mask_pair(Pair(QUESTION, good, good), slow)


def test_an_empty_response_names_its_row():
    good, empty = labelled([("A.", "", Label.OK)]), LabelledResponse(" ", (), ())
    with pytest.raises(HarnessError, match="row 3: rejected: the response is empty"):
        mask_pair(Pair(QUESTION, good, empty, where="f, row 3"), tiny_tokenizer())


def test_the_command_writes_rows_and_a_summary(tmp_path, capsys):
    main = command("masks")
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    kept = Pair(QUESTION, THREE, THREE)
    dropped = Pair(QUESTION, THREE, labelled([("A.", "", Label.OK)]))
    write_pairs(tmp_path / "pairs.jsonl", [kept, dropped])
    out = tmp_path / "masks.jsonl"
    arguments = ["--tokenizer", str(tmp_path / "tokenizer"), "--pairs", str(tmp_path / "pairs.jsonl")]
    assert main([*arguments, "--out", str(out)]) == 0
    (row,) = map(json.loads, out.read_text().splitlines())
    assert set(row) == {"chosen", "rejected"}
    assert len(row["chosen"]["mask"]) == len(row["chosen"]["input_ids"]) > row["chosen"]["response_start"]
    summary = json.loads(capsys.readouterr().out)
    assert (summary["pairs"], summary["kept"]) == (2, 1)
    assert summary["dropped"] == {"no counting sentence in the rejected response": 1}
    assert summary["chosen_share"] == round(summary["chosen_counting"] / summary["chosen_tokens"], 4)
    assert summary["chosen_counting"] == sum(row["chosen"]["mask"])
    assert main(["--tokenizer", str(tmp_path), "--pairs", "x", "--out", str(out)]) == 2
    (tmp_path / "none.jsonl").write_text("")
    assert main([*arguments[:2], "--pairs", str(tmp_path / "none.jsonl"), "--out", str(out)]) == 2


def test_sentences_without_a_fact_can_be_left_out(smollm2):
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    masked = mask_pair(Pair(QUESTION, THREE, THREE), tokenizer, masking="facts")
    assert masked is not None
    assert "".join(shown(tokenizer, masked.chosen)) == "It is red.<|im_end|>"
    assert "".join(shown(tokenizer, masked.rejected)) == "It is blue.<|im_end|>"
    with pytest.raises(HarnessError, match="sentences, facts, none"):
        mask_pair(Pair(QUESTION, THREE, THREE), tokenizer, masking="words")
