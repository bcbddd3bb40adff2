"""Retrieval: real bm25s, and a tiny real encoder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factuality_harness.harness.errors import EngineError, HarnessError
from factuality_harness.harness.factscore.knowledge import Passage
from factuality_harness.harness.factscore.retrieval import (
    BM25Index,
    BM25Retriever,
    DenseRetriever,
    open_retriever,
    tokens,
    top,
)
from factuality_harness.harness.io.tokenizers import ENGLISH

PAGE = [
    Passage("Ada", text)
    for text in (
        "She was born in London in 1815.",
        "Her father was the poet Byron.",
        "She wrote notes on the Analytical Engine.",
        "She died of cancer in 1852.",
        "A programming language is named after her.",
        "Her letters are kept in Oxford.",
        "她出生于伦敦，父亲是诗人。",
    )
]


def test_tokens() -> None:
    assert tokens("Born in 1815, J.K.'s") == ["born", "in", "1815", "j", "k", "s"]
    assert tokens("她生于1815年。中国人abc字") == ["她生", "生于", "1815", "年", "中国", "国人", "abc", "字"]
    assert tokens("…!") == []


def test_bm25_finds_the_passage() -> None:
    ranks = BM25Retriever().rank("Ada", PAGE, ["Her father was a poet.", "She died in 1852.", "她的父亲是诗人"])
    assert [r[0] for r in ranks] == [1, 3, 6]
    assert all(len(set(r)) == 5 for r in ranks)


def test_small_pages_and_ties_keep_the_order() -> None:
    same = [Passage("t", "the same words")] * 3
    assert BM25Retriever().rank("t", same, ["same words", "nothing here", "…"]) == [(0, 1, 2)] * 3
    assert BM25Retriever().rank("t", [Passage("t", "…"), Passage("t", "")], ["x"]) == [(0, 1)]
    assert BM25Index([]).best("x", 5) == ()


def test_top_ignores_the_last_digits() -> None:
    assert top(np.array([0.5, 0.5 + 1e-9, 0.7]), 2) == (2, 0)


@given(
    st.lists(st.text(alphabet="ab cd中文", max_size=12), max_size=8),
    st.text(alphabet="ab cd中文", max_size=12),
)
def test_ranks_are_a_permutation(texts: list[str], fact: str) -> None:
    page = [Passage("t", text) for text in texts]
    (rank,) = BM25Retriever(k=100).rank("t", page, [fact])
    assert sorted(rank) == list(range(len(page)))
    assert BM25Retriever(k=3).rank("t", page, [fact])[0] == rank[:3]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Bert of two narrow layers with a tokenizer of one token a word, as a Hugging Face folder."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = sorted({w for p in PAGE for w in tokens(p.text)} | set(re.findall(r"\w+|[^\w\s]+", ENGLISH[0].lower())))
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path_factory.mktemp("encoder")
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder)
    return str(folder)


def test_dense_embeddings_do_not_depend_on_the_batch(encoder: str) -> None:
    texts = [p.text for p in PAGE] + ["word " * 100, ""]
    alone = DenseRetriever(encoder, batch_size=1, device="cpu").embed(texts[:-1])
    together = DenseRetriever(encoder, batch_size=4, device="cpu").embed(texts[:-1])
    assert alone.shape == (len(texts) - 1, 16)
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_dense_ranks_by_cosine_and_embeds_a_page_once(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    retriever = DenseRetriever(encoder, k=3, device="cpu")
    facts = ["father was the poet", "died in 1852"]
    ranks = retriever.rank("Ada", PAGE, facts)
    cosine = retriever.embed([f"Ada {f}" for f in facts]) @ retriever.embed([p.text for p in PAGE]).T
    assert [r[0] for r in ranks] == list(cosine.argmax(axis=1))
    assert all(len(r) == 3 for r in ranks)
    embedded: list[str] = []
    original = retriever.embed

    def embed(texts: Sequence[str]) -> np.ndarray:
        embedded.extend(texts)
        return original(texts)

    monkeypatch.setattr(retriever, "embed", embed)
    assert retriever.rank("Ada", PAGE, facts) == ranks
    assert embedded == [f"Ada {f}" for f in facts]
    assert retriever.rank("Ada", PAGE[:2] * 2, ["poet"])[0][:2] in {(0, 2), (1, 3)}
    assert retriever.rank("Ada", [], ["poet"]) == [()]


def test_dense_encoder_of_an_encoder_decoder(encoder: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, T5Config, T5Model

    tokenizer = AutoTokenizer.from_pretrained(encoder)
    config = T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5Model(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert DenseRetriever(str(tmp_path), device="cpu").embed(["born in London"]).shape == (1, 16)


def test_open_retriever(tmp_path: Path) -> None:
    assert open_retriever("bm25").spec == "bm25"
    assert open_retriever("dense:some/model").spec == "dense:some/model"
    for spec in ("bm26", "dense:", "dense", ""):
        with pytest.raises(HarnessError, match="use bm25 or dense:MODEL"):
            open_retriever(spec)
    with pytest.raises(HarnessError, match="at least one passage"):
        open_retriever("bm25", 0)
    with pytest.raises(EngineError, match="cannot be loaded"):
        open_retriever(f"dense:{tmp_path / 'nowhere'}").rank("t", PAGE, ["x"])
