"""Which tokenizers are refused: tables of small ones, made here, and the places where a tokenizer is loaded."""

from __future__ import annotations

import io
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    ByT5Tokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerFast,
)

from factuality_harness.harness.embeddings.models import HiddenStates
from factuality_harness.harness.engines.local import TransformersEngine
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.factscore.retrieval import DenseRetriever
from factuality_harness.harness.io.tokenizers import CHINESE, ENGLISH, check_tokenizer
from factuality_harness.harness.lm_eval_plugin.evaluation import evaluate
from factuality_harness.harness.world.base import world_tokenizer
from factuality_harness.harness.world.generate import World, WorldConfig
from factuality_harness.training.checkpoints import load_tokenizer
from tests.helpers.tiny import TEMPLATE, save_tiny, tiny_tokenizer

CHARACTERS = sorted(set("".join((*ENGLISH, *CHINESE)) + string.ascii_letters) - set(" \n"))
Make = Callable[[Path], Any]


def bytes_with(normalizer: Any = None, splitter: Any = None, **settings: Any) -> PreTrainedTokenizerFast:
    """A token a byte, with something in front."""
    fast = tiny_tokenizer()
    backend = fast.backend_tokenizer
    if normalizer is not None:
        backend.normalizer = normalizer
    if splitter is not None:
        backend.pre_tokenizer = pre_tokenizers.Sequence([splitter, backend.pre_tokenizer])
    return PreTrainedTokenizerFast(tokenizer_object=backend, **settings)


def characters(known: list[str], unknown: str | None = None, **parts: Any) -> PreTrainedTokenizerFast:
    """A token a character. unknown: what stands for one that is not known; None: nothing does."""
    words = [*known, *([unknown] if unknown else [])]
    backend = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, [], unk_token=unknown))
    for name, part in parts.items():
        setattr(backend, name, part)
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token=unknown)


def bert(folder: Path, lower: bool = True, known: list[str] = CHARACTERS) -> BertTokenizer:
    pieces = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", *known, *(f"##{c}" for c in known)]
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, do_lower_case=lower)


def t5(folder: Path) -> PreTrainedTokenizerFast:
    pieces = [("<unk>", 0.0), *((c, -1.0) for c in [*CHARACTERS, ",", "\u2581"])]
    backend = Tokenizer(models.Unigram([(p, s) for p, s in dict(pieces).items()], unk_id=0))
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")])
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", clean_up_tokenization_spaces=True)


def sentencepiece_file(folder: Path) -> Path:
    """InternLM2's kind of tokenizer.model: BPE with bytes, no space in front."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*ENGLISH, *CHINESE, "She was here."] * 20),
        model_writer=model,
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    return folder


class Lowering(ByT5Tokenizer):
    """Lower-cases where no file says so."""

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        return super()._tokenize(text.lower())


FINE: dict[str, Make] = {
    "bytes": lambda folder: tiny_tokenizer(),
    "a fact world's": lambda folder: world_tokenizer(World(WorldConfig(clusters=4))),
    "a space in front": lambda folder: LlamaTokenizer.from_pretrained(sentencepiece_file(folder)),
    "sentencepiece, none in front": lambda folder: AutoTokenizer.from_pretrained(sentencepiece_file(folder)),
    "clean_up_tokenization_spaces": lambda folder: bytes_with(clean_up_tokenization_spaces=True),
    "composed characters": lambda folder: bytes_with(normalizers.NFC()),
    "Bert, uncased": bert,
    "Bert, cased": lambda folder: bert(folder, lower=False),
    "lower case by its normalizer": lambda folder: bytes_with(normalizers.Lowercase()),
    "T5: white space is a space": t5,
    "python, bytes": lambda folder: ByT5Tokenizer(),
}
REFUSED: dict[str, tuple[Make, str]] = {
    "another class over sentencepiece's file": (
        lambda folder: GPT2Tokenizer.from_pretrained(sentencepiece_file(folder)),
        "loses white space.*'Ada Lovelace was",
    ),
    "pieces joined by spaces": (
        lambda folder: characters(CHARACTERS, pre_tokenizer=pre_tokenizers.Whitespace()),
        "loses white space.*'A d a L o v e",
    ),
    "a normalizer that drops spaces": (lambda folder: bytes_with(normalizers.Replace(" ", "")), "loses white space"),
    "one space for many": (
        lambda folder: bytes_with(splitter=pre_tokenizers.Split(Regex("(?<= ) "), "removed")),
        "loses white space.*hold",
    ),
    "line breaks": (lambda folder: bytes_with(splitter=pre_tokenizers.Split("\n", "removed")), "loses white space"),
    "Chinese, silently": (
        lambda folder: characters([c for c in CHARACTERS if c.isascii()] + [" ", "\n"], decoder=decoders.Fuse()),
        "loses characters.*居里夫人",
    ),
    "Chinese, as unknown": (
        lambda folder: bert(folder, known=[c for c in CHARACTERS if c.isascii()]),
        r"has \[UNK\] for what it does not know.*居里夫人",
    ),
    "capitals": (lambda folder: Lowering(), "loses upper case.*'ada lovelace"),
    "everything": (lambda folder: bert(folder, known=[]), r"has \[UNK\] for what it does not know"),
    "everything, silently": (lambda folder: characters(["~"]), "loses characters"),
}


@pytest.mark.parametrize("kind", FINE)
def test_what_is_kept_or_stated_is_no_reason(kind: str, tmp_path: Path) -> None:
    check_tokenizer(FINE[kind](tmp_path), "m")


def test_a_real_one_is_fine(smollm2: Path) -> None:
    check_tokenizer(AutoTokenizer.from_pretrained(smollm2), "m")


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_lost_and_not_stated_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    make, reason = REFUSED[kind]
    with pytest.raises(HarnessError, match=f"^m: its tokenizer {reason}.*tokenizer.json") as refused:
        check_tokenizer(make(tmp_path), "m")
    assert "\n" not in str(refused.value)


def test_an_english_retriever_needs_no_chinese(tmp_path: Path) -> None:
    make, _ = REFUSED["Chinese, as unknown"]
    check_tokenizer(make(tmp_path), "m", ENGLISH)


@pytest.fixture(scope="module")
def lossy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model whose tokenizer drops spaces."""
    folder = save_tiny(tmp_path_factory.mktemp("lossy"))
    tokenizer = bytes_with(normalizers.Replace(" ", ""), pad_token="<|pad|>", eos_token="<|end|>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return str(folder)


def _lm_eval(model: str) -> None:
    evaluate(
        {
            "model": "hf",
            "model_args": f"pretrained={model},device=cpu",
            "tasks": ["anah_factuality_mini"],
            "metadata": {"judge": "lexical"},
            "apply_chat_template": True,
            "gen_kwargs": None,
            "limit": 1,
        },
        Path("unused"),
    )


@pytest.mark.parametrize(
    "load",
    [
        lambda model: TransformersEngine(model).check(),  # judging, and sampling for training
        load_tokenizer,  # mask_dpo, sft, token scores, the masks' check
        HiddenStates,
        lambda model: DenseRetriever(model).embed(["x"]),
        _lm_eval,
    ],
    ids=["hf engine", "training", "embedding", "retrieval", "lm_eval"],
)
def test_it_is_refused_wherever_it_is_loaded(load: Callable[[str], Any], lossy: str) -> None:
    with pytest.raises(HarnessError, match=f"{Path(lossy).name}: its tokenizer loses white space"):
        load(lossy)
