"""Token masks: exact to the character, for three kinds of tokenizers."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import TEMPLATE, tiny_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, LlamaTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from harness.annotation import Label, Sentence
from harness.errors import HarnessError
from training.drift import drift, length_sum_mask, summarise
from training.masks import COUNTING, MaskedResponse, main, mask_pair, mask_response
from training.pairs import LabelledResponse, Pair, locate, write_pairs

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


def labelled(pieces: list[tuple[str, str, Label]], lead: str = "") -> LabelledResponse:
    """A response from (sentence, white space after it, label)."""
    text, sentences = lead, []
    for sentence, gap, _ in pieces:
        sentences.append(Sentence(sentence, len(text), len(text) + len(sentence)))
        text += sentence + gap
    return LabelledResponse(text, tuple(sentences), tuple(label for *_, label in pieces))


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
sentences = st.builds(
    lambda parts, end: " ".join(parts) + end,
    st.lists(words, min_size=1, max_size=5),
    st.sampled_from([".", "!", "。", ""]),
)
gaps = st.sampled_from([" ", "  ", "\n", "\n\n", "", "\t"])
responses = st.builds(
    labelled,
    st.lists(st.tuples(sentences, gaps, st.sampled_from(list(Label))), min_size=1, max_size=6),
    st.sampled_from(["", " ", "\n"]),
)
slow_tokenizers = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def covered(tokenizer: PreTrainedTokenizerBase, response: LabelledResponse, masked: MaskedResponse):
    """For every response token: (characters of the stripped response it covers that are not white space, its mask)."""
    text = tokenizer.apply_chat_template([*QUESTION, {"role": "assistant", "content": response.text}], tokenize=False)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    assert encoded["input_ids"][: len(masked.input_ids)] == list(masked.input_ids)
    stripped = response.text.strip()
    first = response.text.index(stripped)
    shift = text.rindex(stripped) - first
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
    assert tokenizer.decode(masked.rejected.input_ids).endswith("Who knows.<|im_end|>")


def test_white_space_alone_follows_the_sentence_before_it():
    tokenizer = tiny_tokenizer()
    response = labelled([("A.", " \n", Label.OK), ("B.", " ", Label.CONTRADICTORY)])
    masked = mask_response(QUESTION, response, tokenizer, COUNTING["chosen"], end_of_turn=False)
    assert "".join(shown(tokenizer, masked)) == "A. \n"


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


def test_an_odd_template_is_an_error_naming_the_row():
    good = labelled([("Ada was born.", "", Label.OK)])
    pair = Pair(QUESTION, good, good, where="pairs.jsonl, row 7")
    tokenizer = tiny_tokenizer()
    for template, message in (
        (TEMPLATE.replace("message['content'] }}", "message['content'] | upper }}"), "exactly once"),
        (TEMPLATE.replace("message['content'] }}", "message['content'] | replace('was', 'is') }}"), "rewrites"),
        (TEMPLATE.replace("<|end|>", "{{ message['content'] }}<|end|>"), "exactly once"),
        (TEMPLATE.replace("{% for", "{% if not add_generation_prompt %}New.{% endif %}{% for"), "differently"),
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


def test_the_command_writes_rows_a_summary_and_the_drift(tmp_path, capsys):
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    kept = Pair(QUESTION, THREE, THREE)
    dropped = Pair(QUESTION, THREE, labelled([("A.", "", Label.OK)]))
    write_pairs(tmp_path / "pairs.jsonl", [kept, dropped])
    out = tmp_path / "masks.jsonl"
    arguments = ["--tokenizer", str(tmp_path / "tokenizer"), "--pairs", str(tmp_path / "pairs.jsonl"), "--drift"]
    assert main([*arguments, "--out", str(out)]) == 0
    (row,) = map(json.loads, out.read_text().splitlines())
    assert set(row) == {"chosen", "rejected"}
    assert len(row["chosen"]["mask"]) == len(row["chosen"]["input_ids"]) > row["chosen"]["response_start"]
    summary = json.loads(capsys.readouterr().out)
    assert (summary["pairs"], summary["dropped"]) == (2, 1)
    assert summary["chosen_counting"] == sum(row["chosen"]["mask"])
    assert summary["drift"]["responses"] == 4
    assert main(["--tokenizer", str(tmp_path), "--pairs", "x", "--out", str(out)]) == 2
    (tmp_path / "none.jsonl").write_text("")
    assert main([*arguments[:2], "--pairs", str(tmp_path / "none.jsonl"), "--out", str(out)]) == 2


def test_the_reference_drifts_at_white_space(smollm2):
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    exact = labelled([("It is red.", " ", Label.OK), ("It is blue.", "", Label.CONTRADICTORY)])
    assert drift(QUESTION, exact, tokenizer, COUNTING["chosen"]).different == 0
    gap = labelled(
        [("It is red.", "\n\n\n", Label.OK), ("It is blue.", "\n\n", Label.CONTRADICTORY), ("Yes.", "", Label.OK)]
    )
    measured = drift(QUESTION, gap, tokenizer, COUNTING["chosen"])
    assert measured.different > 0 and measured.still_trained > 0
    assert summarise([measured])["wrong_mask"] == round(measured.different / measured.tokens, 4)


def test_the_reference_masks_token_zero_and_never_more_than_there_is(smollm2):
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    text = "It is red."
    response = LabelledResponse(text, locate(text, [text]), (Label.OK,))
    assert length_sum_mask(response, [5, 0, 7], tokenizer, COUNTING["chosen"]) == ([1, 0, 1], 1)


def test_sentences_without_a_fact_can_be_left_out(smollm2):
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    masked = mask_pair(Pair(QUESTION, THREE, THREE), tokenizer, masking="facts")
    assert masked is not None
    assert "".join(shown(tokenizer, masked.chosen)) == "It is red.<|im_end|>"
    assert "".join(shown(tokenizer, masked.rejected)) == "It is blue.<|im_end|>"
    with pytest.raises(HarnessError, match="sentences, facts, none"):
        mask_pair(Pair(QUESTION, THREE, THREE), tokenizer, masking="words")
