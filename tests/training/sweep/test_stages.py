"""Stages by themselves: which questions are kept, what can be gone on with, and commands as a user would type them."""

import hashlib
import shlex
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factuality_harness.harness.data.anah import Question
from factuality_harness.harness.embeddings.distances import read_distances
from factuality_harness.harness.embeddings.models import embed_groups, open_embedding
from factuality_harness.harness.embeddings.neighbours import distances
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import write_jsonl
from factuality_harness.harness.world import World, WorldConfig
from factuality_harness.harness.world.base import build_base
from factuality_harness.harness.world.generate import BaseConfig
from factuality_harness.training.shipped import TRAINING
from factuality_harness.training.sweep.distances import topic_distances
from factuality_harness.training.sweep.experiment import load_experiment
from factuality_harness.training.sweep.plan import Stage, make_plan
from factuality_harness.training.sweep.scoring import refuse_test_topics
from factuality_harness.training.sweep.selection import _amount, choose, choose_half
from factuality_harness.training.sweep.stages import COMMANDS, check_stages, resumes, run_stage
from factuality_harness.training.sweep.store import Store
from tests.helpers import experiments
from tests.helpers.tiny import save_pairs, save_tiny

WORLD = World(WorldConfig(clusters=8, topics=(4, 1, 2), bio_clusters=1))
QUESTIONS = WORLD.questions("train")
CLUSTER = {topic.name: topic.cluster for topic in WORLD.topics}


def topics(questions):
    return {q.topic for q in questions}


@given(st.integers(0, 20), st.integers(1, 8), st.integers(1, 4), st.integers(1, 3))
def test_parts_have_the_sizes_asked_for_and_lie_within_larger_ones(seed, clusters, per_cluster, per_topic):
    wanted = {"seed": seed, "clusters": clusters, "topics_per_cluster": per_cluster, "per_topic": per_topic}
    found = choose(QUESTIONS, wanted, WORLD)
    assert len({CLUSTER[t] for t in topics(found)}) == clusters
    assert len(topics(found)) == clusters * per_cluster
    assert len(found) == clusters * per_cluster * per_topic
    assert found == [q for q in QUESTIONS if q in found]
    for key in ("clusters", "topics_per_cluster", "per_topic"):
        larger = choose(QUESTIONS, {**wanted, key: wanted[key] + 1}, WORLD)
        assert {q.question for q in found} <= {q.question for q in larger}


@given(st.integers(0, 20), st.sampled_from(["1/3", "2/3", "1", 0.5, 5]))
def test_a_share_of_the_topics(seed, share):
    found = choose(QUESTIONS, {"seed": seed, "topics": share})
    total = len(topics(QUESTIONS))
    assert len(topics(found)) == (share if isinstance(share, int) else round(Fraction(str(share)) * total))
    assert len(found) == 3 * len(topics(found))


def test_one_question_a_topic_is_not_always_the_same_one():
    found = choose(QUESTIONS, {"seed": 0, "per_topic": 1})
    kinds = {q.question.split(" of ")[0] for q in found}
    assert len(found) == len(topics(QUESTIONS)) and len(kinds) > 4


def test_sides_are_the_worlds():
    near = {t.name for t in WORLD.topics if t.side == "near"}
    assert topics(choose(QUESTIONS, {"side": "near"}, WORLD)) == near & topics(QUESTIONS)
    with pytest.raises(HarnessError, match="fact world's"):
        choose(QUESTIONS, {"clusters": 2})


def test_amounts():
    assert [_amount(x, 9) for x in (3, "1/3", "2/3", "1", 0.5)] == [3, 3, 6, 9, 4]


def test_halves_share_nothing_and_are_equal():
    both = [choose_half(QUESTIONS, [], {"embedding": "random", "keep": k, "seed": 1}, None) for k in "ab"]
    assert topics(both[0]).isdisjoint(topics(both[1]))
    assert len(topics(both[0])) == len(topics(both[1])) == len(topics(QUESTIONS)) // 2


def test_the_near_half_by_the_words_of_a_topic():
    def ask(name):
        return [Question(name, f"What of {name} {i}?", "d", "en") for i in range(2)]

    train = [q for name in ("Ambrose Hill", "Zyx Qu", "Ambrose Dale", "Wvu Kp") for q in ask(name)]
    for keep, wanted in (("near", {"Ambrose Hill", "Ambrose Dale"}), ("far", {"Zyx Qu", "Wvu Kp"})):
        settings = {"embedding": "tfidf", "keep": keep, "seed": 0}
        assert topics(choose_half(train, ask("Ambrose Vale"), settings, None)) == wanted


def unnamed(name, document):
    topic = f"document-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return [Question(topic, f"What of it {i}?", document, "en") for i in range(2)]


def test_topics_without_names_are_embedded_by_their_documents():
    train = [
        q for name in ("Ambrose Hill", "Zyx Qu", "Ambrose Dale", "Wvu Kp") for q in unnamed(name, f"{name} {'x' * 99}")
    ]
    settings = {"embedding": "tfidf", "keep": "near", "seed": 0, "text": "{document:.8}"}
    found = choose_half(train, unnamed("Ambrose Vale", "Ambrose Vale"), settings, None)
    assert {q.document[:7] for q in found} == {"Ambrose"} and len(found) == 4


@pytest.mark.parametrize(
    ("text", "message"), [({}, "no topic"), ({"text": "{kind}"}, "no kind"), ({"text": "{0}"}, "filled in")]
)
def test_a_text_that_cannot_be_filled_in(text, message):
    settings = {"embedding": "tfidf", "keep": "near", "seed": 0, **text}
    with pytest.raises(HarnessError, match=message):
        choose_half(unnamed("a", "Document a"), unnamed("b", "Document b"), settings, None)


def test_arguments_reach_the_embedding():
    settings = {"embedding": "tfidf", "keep": "near", "seed": 0, "embedding_args": {"dtype": "auto"}}
    with pytest.raises(HarnessError, match=r"embedding tfidf: .*dtype"):
        choose_half(QUESTIONS, QUESTIONS, settings, None, WORLD)


@pytest.mark.parametrize(
    ("kind", "settings", "wanted"),
    [
        ("sample", {"engine": "hf"}, False),
        ("sample", {"engine": "vllm"}, True),
        ("annotate", {}, True),
        ("train", {"arguments": {"save_strategy": "no"}}, False),
        ("train", {"arguments": {"save_strategy": "epoch"}}, True),
        ("base", {}, False),
        ("score", {}, False),
    ],
)
def test_only_what_ends_the_same_is_gone_on_with(kind, settings, wanted):
    assert resumes(Stage(kind, f"{kind}-0", settings, {})) is wanted


def test_commands_read_as_a_user_would_type_them(tmp_path):
    def line(kind, settings, **inputs):
        command = COMMANDS[kind](Stage(kind, f"{kind}-0", settings, {}), inputs, tmp_path)
        return " ".join([command.shown, *command.argv])

    sample = {"engine": "vllm", "n": 4, "seed": 2000, "temperature": 0.8, "with_document": True}
    assert line("sample", sample, model="M", questions="Q") == (
        f"factuality sample --questions Q/questions.jsonl --out {tmp_path}/samples.jsonl "
        "--engine vllm:M --n 4 --seed 2000 --temperature 0.8 --with-document"
    )
    score = {"engine": "hf", "tasks": ["a", "b"], "batch_size": 8, "chat_template": True, "judge": "lexical"}
    assert line("score", score | {"gen_kwargs": {"temperature": 0.5}}, model="M") == (
        f"lm_eval run --log_samples --output_path {tmp_path}/lm_eval --model hf --model_args pretrained=M --tasks a,b "
        '--batch_size 8 --apply_chat_template --gen_kwargs temperature=0.5 --metadata {"judge": "lexical"}'
    )
    assert "--seed 0,1234,7,1234 " in line("score", score | {"seed": 7}, model="M") + " "
    seeded = line("score", score | {"seed": 7, "engine": "vllm", "judge_args": {"max_tokens": 64}}, model="M")
    assert "--model_args pretrained=M,seed=7 " in seeded and '"judge_args": {"max_tokens": 64}' in seeded
    train = {"trainer": "sft", "arguments": {"learning_rate": 1e-4}}
    assert line("train", train, model="M", pair="P") == f"factuality train sft --config {tmp_path}/recipe.yaml"
    assert "pairs: P/pairs.jsonl" in (tmp_path / "recipe.yaml").read_text()
    assert line("annotate", {"judge": "lexical", "judge_args": {}}, sample="S") == (
        f"factuality label --samples S/samples.jsonl --out {tmp_path}/annotations.jsonl "
        "--judge lexical --judge-args {}"
    )


@pytest.mark.parametrize(
    ("kind", "settings", "inputs", "begins"),
    [
        ("train", {"trainer": "mask_dpo", "arguments": {}}, {"model": "M", "pair": "P"},
         ["-m", "factuality_harness.training.mask_dpo", "--config"]),
        ("train", {"trainer": "sft", "arguments": {}}, {"model": "M", "pair": "P"},
         ["-m", "factuality_harness.training.sft", "--config"]),
        ("annotate", {"judge": "lexical", "judge_args": {}}, {"sample": "S"},
         ["-m", "factuality_harness", "label", "--samples"]),
    ],
)  # fmt: skip
def test_a_launcher_starts_a_module_and_finds_shipped_files(tmp_path, monkeypatch, kind, settings, inputs, begins):
    """`echo` stands for a launcher: it ends well and what it was given is what was recorded."""
    monkeypatch.chdir(tmp_path)  # where no training/ is
    store, folder = Store("store"), tmp_path / "out"
    folder.mkdir()
    line = "echo --config_file training/recipes/accelerate/zero3.yaml"
    needs = {role: f"model:{place}" for role, place in inputs.items()}
    (recorded,) = run_stage(Stage(kind, f"{kind}-0", settings, needs, launch=line), store, folder)
    own = TRAINING / "recipes" / "accelerate" / "zero3.yaml"
    assert shlex.split(recorded)[: 3 + len(begins)] == ["echo", "--config_file", str(own), *begins]


def test_distances_of_a_worlds_test_topics(tmp_path):
    """Against the embedding by hand, with the kinds and clusters that the world tells."""
    pairs = tmp_path / "pairs.jsonl"
    train, targets = WORLD.select("train", "near"), WORLD.questions("test")
    write_jsonl(pairs, [{"topic": t.name} for t in train for _ in range(2)])
    settings = {"embedding": "tfidf", "text": "Entry: {topic}, {kind} of", "k": 2, "centre": False}
    found = topic_distances(pairs, targets, settings, None, WORLD)
    an = {"painter": "a painter", "island": "an island", "battle": "a battle", "engine": "an engine"}
    test = WORLD.select("test")
    texts = [[f"Entry: {t.name}, {an[t.kind]} of" for t in part] for part in (train, test)]
    near, far = embed_groups(open_embedding("tfidf"), *texts)
    expected = np.sort(distances(near, far), axis=1)[:, :2].mean(axis=1)
    assert [*found.distance] == [t.name for t in test] and found.training_topics == len(train)
    np.testing.assert_allclose([*found.distance.values()], expected)
    assert found.unit == {t.name: f"world 0, {t.cluster}" for t in test}


def test_distances_in_the_hidden_states_of_the_policy(tmp_path):
    """A whole stage on a base model, hardly trained: its file holds what the model itself gives."""
    store, folder = Store(tmp_path / "store"), tmp_path / "out"
    folder.mkdir()
    base = build_base(store.folder("base-0"), WORLD.config, BaseConfig(steps=2, batch=4, width=32, heads=2))
    train, test = WORLD.select("train", "near"), WORLD.select("test")
    write_jsonl(store.folder("pair-0") / "pairs.jsonl", [{"topic": t.name} for t in train])
    write_jsonl(store.folder("questions-0") / "questions.jsonl", (q.to_dict() for q in WORLD.questions("test")))
    settings = {
        "embedding": "hidden:policy@1", "embedding_args": {"template": "Tell me of {topic}."},
        "text": "{topic}", "k": 2, "centre": True,
    }  # fmt: skip
    needs = {"pair": "pair-0", "targets": "questions-0", "base": "base-0", "model": "base-0"}
    assert run_stage(Stage("distances", "distances-0", settings, needs), store, folder) == []
    found = read_distances(folder / "distances.json")
    embedding = open_embedding(f"hidden:{base}@1", template="Tell me of {topic}.")
    vectors = embedding.embed([t.name for t in (*train, *test)]).astype(float)
    vectors -= vectors.mean(axis=0)
    expected = np.sort(distances(vectors[: len(train)], vectors[len(train) :]), axis=1)[:, :2].mean(axis=1)
    np.testing.assert_allclose([*found.distance.values()], expected, atol=1e-4)
    assert (found.embedding, found.template, found.k) == ("hidden:policy@1", "Tell me of {topic}.", 2)


@pytest.mark.parametrize(
    ("topic", "text", "message"),
    [
        ("document-0123456789ab", "{topic}", "pairs.jsonl, row 1: its topic has no name"),
        ("Elsewhere", "{kind}", "must hold {topic}"),
        ("Elsewhere", "{topic}, {kind}", "the kind of 'Elsewhere' is not known"),
    ],
)
def test_distances_that_cannot_be_had(tmp_path, topic, text, message):
    write_jsonl(tmp_path / "pairs.jsonl", [{"topic": topic}])
    settings = {"embedding": "random", "text": text, "k": 1, "centre": True}
    with pytest.raises(HarnessError, match=message):
        topic_distances(tmp_path / "pairs.jsonl", QUESTIONS, settings, None, WORLD)


def check(folder, **changes):
    check_stages(make_plan([load_experiment(experiments.experiment(folder, **changes))]), Store(folder / "store"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lerning_rate": 1e-3}, "lerning_rate"),
        ({"learning_rate": "fast"}, "argument --learning_rate.*'fast'"),
        ({"masking": "words"}, "masking"),
        ({"preference_loss": "robust", "label_smoothing": 0.7}, "label_smoothing 0.7"),
    ],
)
def test_arguments_are_put_before_their_trainer_before_anything_runs(tmp_path, arguments, message):
    grid = {"setting": {"one": {"train": [{"recipe": experiments.RECIPE, "arguments": arguments}]}}}
    with pytest.raises(HarnessError, match=f"tiny: one .*train: .*{message}"):
        check(tmp_path, grid=grid)


def test_what_can_run_passes(tmp_path):
    sepo = {"recipe": "training/recipes/world/sepo.yaml", "oracle": {"recipe": "training/recipes/world/dpo.yaml"}}
    sft = {"recipe": "training/recipes/world/sft.yaml", "trainer": "sft"}
    check(tmp_path, grid={"setting": {"one": {"train": [sft, sepo]}}})
    assert not (tmp_path / "store").exists()


@pytest.mark.slow  # looks through lm_eval's 12 000 tasks
def test_a_task_that_lm_eval_does_not_know(tmp_path):
    score = {"tasks": ["world_factuality", "gsm8k", "general_ability", "world_factualty"]}
    with pytest.raises(HarnessError, match=r"tiny: base .*score: lm_eval knows no task world_factualty$"):
        check(tmp_path, defaults={**experiments.TINY, "score": score})


def test_training_on_test_topics_is_refused(tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    test = {"tasks": ["world_factuality", "gsm8k"], "metadata": {"world": {"clusters": 8, "topics": [4, 1, 2]}}}
    world = World(WorldConfig(clusters=8, topics=(4, 1, 2)))
    train, held_out = world.select("train")[0].name, world.select("test")[0].name
    write_jsonl(pairs, [{"topic": train, "question": "?"}])
    refuse_test_topics(pairs, test, Store(tmp_path))
    write_jsonl(pairs, [{"topic": name, "question": "?"} for name in (train, held_out.upper())])
    with pytest.raises(
        HarnessError, match=f"tested on world_factuality: 1 test topics are in the training set .{held_out}"
    ):
        refuse_test_topics(pairs, test, Store(tmp_path))


def test_training_on_test_questions_without_topics_is_refused(tmp_path):
    """ANAH-v2's rows name no topic, and pairs of others do not either."""
    document = "The lighthouse of Arden was built in 1871 on a rock in the bay and lit by hand until the year 1932. "
    rows = [{"question": f"What is known about light {n} of Arden?", "document": document * 3} for n in range(3)]
    write_jsonl(tmp_path / "v2.jsonl", rows)
    test = {"tasks": ["anah_factuality"], "metadata": {"data": str(tmp_path / "v2.jsonl"), "judge": "lexical"}}
    pairs = tmp_path / "pairs.jsonl"
    side = {"chosen": [{"role": "assistant", "content": "A."}], "rejected": [{"role": "assistant", "content": "B."}]}
    for prompt, refused in (
        (rows[1]["question"], True),
        (f"{document * 3} Who lit it?", True),
        ("What is light 1?", False),
    ):
        write_jsonl(pairs, [{"prompt": [{"role": "user", "content": prompt}], **side}])
        if refused:
            with pytest.raises(HarnessError, match=r"tested on anah_factuality: \d test questions"):
                refuse_test_topics(pairs, test, Store(tmp_path))
        else:
            refuse_test_topics(pairs, test, Store(tmp_path))


def test_token_scores_are_a_stage_whose_file_the_training_reads(tmp_path):
    """Oracle, scores, training: each a stage, with the command lines that a user would type."""
    pairs = tmp_path / "store" / "stages" / "pair-1"
    save_pairs(pairs.mkdir(parents=True) or pairs / "pairs.jsonl", 4)
    model = f"model:{save_tiny(tmp_path / 'tiny')}"
    oracle = f"model:{save_tiny(tmp_path / 'oracle', seed=1)}"
    arguments = {"preference_loss": "sepo", "masking": "none", "use_cpu": True, "report_to": "none", "max_length": 256}
    arguments |= {"save_strategy": "no", "num_train_epochs": 1}
    needs = {"model": model, "pair": "pair-1", "oracle": oracle}
    store = Store(tmp_path / "store")
    for stage in (
        Stage("tokens", "tokens-1", {"arguments": arguments}, needs),
        Stage("train", "train-1", {"trainer": "mask_dpo", "arguments": arguments}, {**needs, "tokens": "tokens-1"}),
    ):
        (line,) = run_stage(stage, store, store.begin(stage, resume=False))
        store.finish(stage, 0.0, [line])
        assert f"factuality train {'token_scores' if stage.kind == 'tokens' else 'mask_dpo'} --config" in line
    scores = store.folder("tokens-1") / "scores.jsonl"
    assert len(scores.read_text().splitlines()) == 5
    assert str(scores) in (store.folder("train-1") / "recipe.yaml").read_text()
    assert (store.folder("train-1") / "model.safetensors").is_file()
