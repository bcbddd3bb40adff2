"""The fact world: what follows from its seed, its tokenizer, its judge, its base model and its lm_eval tasks."""

import itertools
import json
import random

import lm_eval
import pytest
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, AutoTokenizer

from factuality_harness.harness.annotation import Label
from factuality_harness.harness.annotators.base import Claim
from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.data import anah
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.lm_eval_plugin.discovery import tasks_folder
from factuality_harness.harness.sentences import split
from factuality_harness.harness.world import World, WorldConfig, world_of
from factuality_harness.harness.world.base import BaseConfig, build_base, world_tokenizer
from factuality_harness.harness.world.generate import answer_pieces, corpus, document_pieces, phrases, question_pieces
from factuality_harness.harness.world.vocabulary import BIO_KINDS, FILLERS
from tests.helpers.cli import command

SMALL = WorldConfig(seed=3, clusters=8, topics=(2, 1, 1), bio_clusters=2, bio_topics=2)
TINY = BaseConfig(steps=80, batch=16, layers=1, width=64, heads=2, feed_forward=64)


@pytest.fixture(scope="module")
def world():
    return World(WorldConfig())


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return build_base(tmp_path_factory.mktemp("world") / "base", SMALL, TINY)


def test_the_seed_decides_everything():
    again, other = World(SMALL), World(WorldConfig.from_dict({**World(SMALL).to_dict(), "seed": 4}))
    assert again.questions("train") == World(SMALL).questions("train")
    assert again.questions("train") != other.questions("train")


def test_parts_and_sides_are_what_the_configuration_says(world):
    sizes = {part: len(world.select(part)) for part in ("train", "validation", "test", "bio")}
    assert sizes == {"train": 200, "validation": 80, "test": 80, "bio": 32}
    assert len(world.select("test", "near")) == len(world.select("test", "far")) == 40
    near = {t.cluster for t in world.select("train", "near")}
    assert near == {t.cluster for t in world.select("test", "near")}
    assert not near & {t.cluster for t in world.select("test", "far")}
    names = [t.name for t in world.topics]
    assert len(set(names)) == len(names)
    assert len(world.questions("test", "near")) == 120 and len(world.questions("bio")) == 32


def test_either_source_is_true_in_half_of_the_clusters_of_a_side(world):
    for side in ("near", "far"):
        clusters = {t.cluster for t in world.select("train", side)}
        assert sum(world.own_is_true[c] for c in clusters) == len(clusters) / 2


def test_own_and_cluster_values_differ_and_the_document_holds_the_true_ones(world):
    for topic in world.topics:
        stereotype = world.cluster_values[topic.cluster]
        assert all(topic.own[a] != stereotype[a] for a in topic.own) and len(topic.own) == 18
        true = topic.own if world.own_is_true[topic.cluster] else stereotype
        assert all(f"The {a} was {v}." in world.document(topic) for a, v in true.items())


def test_biography_kinds_are_in_no_training_question(world):
    asked = " ".join(q.question for part in ("train", "validation", "test") for q in world.questions(part))
    assert not any(f" {kind} of" in asked for kind in BIO_KINDS)


def test_variant_a_has_one_truth():
    world = World(WorldConfig.variant_a(1))
    assert all(world.own_is_true.values()) and len(world.select("test")) == 60
    rng = random.Random(0)
    topic = world.select("test")[0]
    said = ["".join(answer_pieces(world, topic, 0, rng)) for _ in range(200)]
    own = sum(s.count(f"the {a} was {v}.") for s in said for a, v in topic.own.items())
    sentences = sum(len(split(s, "en")) for s in said)
    assert 0.35 < own / sentences < 0.75  # wrong at the rates of the source phrases


@pytest.mark.parametrize("variant", ["A", "B"])
def test_every_phrase_is_one_token_with_its_offsets(variant):
    world = World(SMALL if variant == "B" else WorldConfig.variant_a())
    tokenizer = world_tokenizer(world)
    vocabulary = tokenizer.get_vocab()
    for question, answer in itertools.islice(corpus(world, random.Random(0)), 100):
        for pieces in (question, answer):
            text = "".join(pieces)
            encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            assert encoded["input_ids"] == [vocabulary[p] for p in pieces]
            assert [text[a:b] for a, b in encoded["offset_mapping"]] == pieces
            assert tokenizer.decode(encoded["input_ids"]) == text
    assert len(phrases(world)) == len(set(phrases(world)))


def test_text_from_elsewhere_survives_the_tokenizer():
    tokenizer = world_tokenizer(World(SMALL))
    text = "Zürich 東京 \U0001f600 wolfhounds"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def judge(document, *sentences):
    claims = [Claim("?", s, document, "en") for s in sentences]
    return [j.label for j in JudgeSpec("world").open().judge(claims)]


def test_the_judge_knows_which_source_is_true(world):
    rng = random.Random(5)
    for topic in world.select("test")[:20]:
        text = "".join(answer_pieces(world, topic, 1, rng))
        for sentence in split(text, "en"):
            (label,) = judge(world.document(topic), sentence.text)
            if sentence.text in FILLERS:
                assert label is Label.NOFACT
                continue
            attribute, value = sentence.text.rstrip(".").split(" the ", 1)[1].split(" was ")
            right = value == world.truth(topic)[attribute]
            assert label is (Label.OK if right else Label.CONTRADICTORY)


def test_the_judge_on_what_is_no_sentence_of_an_answer(world):
    topic = world.select("test")[0]
    document = world.document(topic)
    attribute = next(iter(topic.own))
    assert judge(document, "Records say the bell metal was tin.") == [Label.UNVERIFIABLE]
    assert judge(document, f"Records say the {attribute} was {world.truth(topic)[attribute]}") == [Label.UNPARSED]
    assert judge(document, f"The {attribute} was {world.truth(topic)[attribute]}.") == [Label.UNPARSED]
    text = "".join(document_pieces(world, random.Random(0), topic, topic.cluster))
    assert set(judge(document, *(s.text for s in split(text, "en")))) == {Label.UNPARSED}


def test_questions_read_back_as_anah_rows(tmp_path, world):
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(q.to_dict()) + "\n" for q in world.questions("test", "near")))
    assert sorted(map(str, anah.load(path))) == sorted(map(str, world.questions("test", "near")))


def test_the_questions_command_writes_them(base, tmp_path):
    out = tmp_path / "new" / "q.jsonl"
    assert command("world questions")([base, "--part", "test", "--side", "far", "--out", out]) == 0
    assert sorted(map(str, anah.load(out))) == sorted(map(str, World(SMALL).questions("test", "far")))


def test_the_base_is_an_ordinary_folder_and_is_kept(base):
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    question = "".join(question_pieces(World(SMALL).topics[0])[0])
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    assert text == f"<|user|>{question}<|end|><|assistant|>"
    assert model.config.vocab_size == len(tokenizer)
    before = (base / "model.safetensors").stat().st_mtime_ns
    assert build_base(base, SMALL, TINY) == base
    assert (base / "model.safetensors").stat().st_mtime_ns == before
    assert world_of(base).config == SMALL
    assert json.loads((base / "manifest.json").read_text())["settings"]["world"]["seed"] == 3


def test_a_folder_of_another_world_is_refused(base, tmp_path, capsys):
    with pytest.raises(HarnessError, match="another world"):
        build_base(base, WorldConfig(seed=9), TINY)
    assert command("world base")(["--out", base, "--steps", "1"]) == 2
    assert "another world" in capsys.readouterr().err
    with pytest.raises(HarnessError, match=r"no world\.json"):
        world_of(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "C"}, "variant"),
        ({"clusters": 99}, "clusters"),
        ({"topics": [90, 9, 9]}, "names"),
        ({"colour": "red"}, "not a world"),
    ],
)
def test_bad_worlds(change, message):
    with pytest.raises(HarnessError, match=message):
        WorldConfig.from_dict(change)


def test_bad_selections(world):
    with pytest.raises(HarnessError, match="use train"):
        world.select("tset")
    with pytest.raises(HarnessError, match="near, far"):
        world.select("test", "middle")


def evaluate(task, base, **metadata):
    # As lm_eval makes it, without the minute it takes to index its own tasks.
    known = {**metadata, "pretrained": str(base)}
    manager = TaskManager(include_path=str(tasks_folder()), include_defaults=False, metadata=known)
    return lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(base), "device": "cpu"},
        tasks=[task],
        task_manager=manager,
        apply_chat_template=True,
        metadata=metadata,
        limit=4,
        bootstrap_iters=0,
    )


@pytest.mark.slow
@pytest.mark.parametrize("task", ["world_factuality", "world_factuality_far", "world_bio_sampled"])
def test_lm_eval_scores_a_model_in_its_world(task, base):
    result = evaluate(task, base, world=str(base))
    scores = result["results"][task]
    assert result["configs"][task]["metadata"]["judge"] == "world"
    assert scores["sentences_per_response,annotation"] >= 1
    rows = result["samples"][task]
    side = {t.name for t in World(SMALL).select("bio" if "bio" in task else "test", "far" if "far" in task else "all")}
    assert {row["doc"]["topic"] for row in rows} <= side
    assert len(rows[0]["resps"][0]) == (4 if "sampled" in task else 1)


def test_the_world_comes_from_the_model_folder_or_must_be_named(base, tmp_path):
    assert evaluate("world_factuality", base)["n-samples"]["world_factuality"]["original"] == 24
    model = AutoModelForCausalLM.from_pretrained(base)
    model.save_pretrained(tmp_path / "copy")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "copy")
    with pytest.raises(HarnessError, match="which world"):
        evaluate("world_factuality", tmp_path / "copy")
