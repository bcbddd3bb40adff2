"""The k passages of a topic's page that bear most on a fact; query = topic + " " + fact, as in FActScore.

BM25 (library bm25s, Lucene's variant, whose idf is never negative on pages of a few passages) or dense
embeddings. Passages of equal score keep the order of the page, so a result never depends on chance.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from factuality_harness.harness.errors import EngineError, HarnessError
from factuality_harness.harness.factscore.knowledge import Passage
from factuality_harness.harness.io.tokenizers import ENGLISH, check_tokenizer
from factuality_harness.harness.words import EAST_ASIAN, tokens_about

PASSAGES = 5
_TOKEN = re.compile(rf"[{EAST_ASIAN}]+|[^\W{EAST_ASIAN}]+")


def union(ranks: Sequence[Sequence[int]], page: Sequence[Passage], tokens: float) -> tuple[int, ...]:
    """The passages to check several facts against at once: all that were found for any of them, in the page's order.

    ranks: for each fact its passages, best first. tokens: about how many the passages may have together; the best of
    every fact come first, then the second best, and so on. There is always one.
    """
    found: dict[int, float] = {}
    for turn in range(max(map(len, ranks), default=0)):
        for rank in ranks:
            if turn < len(rank) and rank[turn] not in found:
                size = tokens_about(page[rank[turn]].text)
                if not found or sum(found.values()) + size <= tokens:
                    found[rank[turn]] = size
    return tuple(sorted(found))


class Retriever(Protocol):
    """spec: the string that names it in results. k: passages a fact."""

    spec: str
    k: int

    def rank(self, topic: str, passages: Sequence[Passage], facts: Sequence[str]) -> list[tuple[int, ...]]:
        """For each fact the indices of its best passages, best first: k, or all where the page has fewer."""


def tokens(text: str) -> list[str]:
    """Words in lower case; runs of East Asian characters as overlapping bigrams (a lone one stays)."""
    return list(_tokens(text.lower()))


def _tokens(text: str) -> Iterator[str]:
    for run in _TOKEN.findall(text):
        if re.match(rf"[{EAST_ASIAN}]", run) and len(run) > 1:
            yield from map("".join, pairwise(run))
        else:
            yield run


class BM25Index:
    """BM25 over a fixed list of texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        import bm25s

        # It sets its logger to DEBUG, so any program with a log handler would print a line for every page.
        logging.getLogger("bm25s").setLevel(logging.WARNING)
        corpus = [tokens(t) for t in texts]
        self._size = len(corpus)
        self._index: Any = None
        if any(corpus):  # bm25s cannot index texts without a single token
            self._index = bm25s.BM25()
            self._index.index(corpus, show_progress=False)

    def best(self, query: str, k: int) -> tuple[int, ...]:
        """Indices of the k texts that score highest, best first, ties in the order of the texts."""
        words = tokens(query)
        scores = self._index.get_scores(words) if self._index is not None and words else np.zeros(self._size)
        return top(scores, k)


def top(scores: np.ndarray, k: int) -> tuple[int, ...]:
    """Indices of the k highest of `scores` (one a passage), ties in order.

    Scores are compared to six decimals: below that, the same passage in another batch can differ.
    """
    return tuple(int(i) for i in np.argsort(-np.round(scores.astype(np.float64), 6), kind="stable")[:k])


class BM25Retriever:
    """BM25 within the topic's page."""

    spec = "bm25"

    def __init__(self, k: int = PASSAGES) -> None:
        self.k = k

    def rank(self, topic: str, passages: Sequence[Passage], facts: Sequence[str]) -> list[tuple[int, ...]]:
        index = BM25Index([p.text for p in passages])
        return [index.best(f"{topic} {fact}", self.k) for fact in facts]


class DenseRetriever:
    """Cosine of sentence embeddings: mean of an encoder's last hidden states over the tokens of a text.

    For encoder-decoder models (such as GTR, which FActScore uses) the encoder is taken. The passages of a
    topic are embedded once and kept for the life of the retriever.
    """

    def __init__(self, model: str, k: int = PASSAGES, *, batch_size: int = 32, device: str | None = None) -> None:
        """model: hub name or folder. batch_size: texts a forward pass. device: by default CUDA if there."""
        self.k = k
        self.spec = f"dense:{model}"
        self.target = model
        self.batch_size = batch_size
        self._device = device
        self._model: Any = None
        self._tokenizer: Any = None
        self._pages: dict[tuple[Passage, ...], np.ndarray] = {}

    def _load(self) -> None:
        if self._model is not None:
            return
        import torch
        from transformers import AutoModel, AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(self.target)
            model: Any = AutoModel.from_pretrained(self.target)
        except (OSError, ValueError) as error:
            raise EngineError(f"retrieval model {self.target!r} cannot be loaded: {error}") from error
        check_tokenizer(self._tokenizer, self.target, ENGLISH)
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model = model.to(self._device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors, shape (texts, hidden size), float32. Texts over the model's context are cut off."""
        import torch

        self._load()
        limit = min(getattr(self._model.config, "max_position_embeddings", None) or 512, 512)
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))  # little padding
        vectors: dict[int, np.ndarray] = {}
        with torch.inference_mode():
            for start in range(0, len(order), self.batch_size):
                part = order[start : start + self.batch_size]
                inputs = self._tokenizer(
                    [texts[i] for i in part],
                    padding=True,
                    truncation=True,
                    max_length=limit,
                    return_tensors="pt",
                ).to(self._model.device)
                hidden = self._model(
                    input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
                ).last_hidden_state.float()
                mask = inputs["attention_mask"].unsqueeze(-1).float()
                mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
                unit = torch.nn.functional.normalize(mean, dim=-1).cpu().numpy()
                vectors.update(zip(part, unit, strict=True))
        return np.stack([vectors[i] for i in range(len(texts))])

    def rank(self, topic: str, passages: Sequence[Passage], facts: Sequence[str]) -> list[tuple[int, ...]]:
        if not passages or not facts:
            return [() for _ in facts]
        page = tuple(passages)
        if page not in self._pages:
            self._pages[page] = self.embed([p.text for p in page])
        queries = self.embed([f"{topic} {fact}" for fact in facts])
        return [top(row, self.k) for row in queries @ self._pages[page].T]


def open_retriever(spec: str, k: int = PASSAGES) -> Retriever:
    """`bm25` or `dense:MODEL`. Raises HarnessError for anything else."""
    if k < 1:
        raise HarnessError(f"k is {k}; at least one passage must be retrieved")
    if spec == "bm25":
        return BM25Retriever(k)
    kind, _, model = spec.partition(":")
    if kind == "dense" and model:
        return DenseRetriever(model, k)
    raise HarnessError(f"retrieval {spec!r} is not known; use bm25 or dense:MODEL")
