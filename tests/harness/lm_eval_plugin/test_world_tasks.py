"""The fact world's further tasks in lm_eval: best-of-N from one pool, and what a model remembers of its documents."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from factuality_harness.harness import best_of, metrics
from factuality_harness.harness.annotation import load_annotations
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.lm_eval_plugin.discovery import tasks_folder
from factuality_harness.harness.lm_eval_plugin.world import recall_dataset, world_dataset
from factuality_harness.harness.world import World, WorldConfig
from factuality_harness.harness.world.base import BaseConfig, build_base
from factuality_harness.harness.world.generate import answer_pieces, corpus, question_pieces

SMALL = WorldConfig(seed=3, clusters=8, topics=(2, 1, 2), bio_clusters=2, bio_topics=2)
CONFIG = asdict(SMALL)
WORLD = World(SMALL)


def tasks(metadata: dict[str, Any]) -> TaskManager:
    folder = str(tasks_folder() / "world")
    return TaskManager(include_path=folder, include_defaults=False, metadata={"world": CONFIG, **metadata})


def load(task: str, metadata: dict[str, Any]) -> Any:
    return tasks(metadata).load([task])["tasks"][task]


def evaluate(model: str, arguments: dict[str, Any], task: str, **options: Any) -> dict[str, Any]:
    manager = tasks(options.pop("metadata", {}))
    return simple_evaluate(model, arguments, tasks=[task], task_manager=manager, bootstrap_iters=0, **options)


def stored(path: Path, rows: list[tuple[str, str]]) -> dict[str, Any]:
    path.write_text("".join(json.dumps({"question": q, "response": r}) + "\n" for q, r in rows))
    return {"responses": str(path)}


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """best-of-N over eight answers of the world's own making to every question; one in ten holds no fact."""
    rng = random.Random(5)
    rows = []
    for topic in WORLD.select("test", "near"):
        for number, pieces in enumerate(question_pieces(topic)):
            for _ in range(8):
                empty = rng.random() < 0.1
                text = "Opinions on this differ." if empty else "".join(answer_pieces(WORLD, topic, number, rng))
                rows.append(("".join(pieces), text))
    answers = stored(tmp_path_factory.mktemp("pools") / "answers.jsonl", rows)
    return evaluate("replay", answers, "world_best_of_n", metadata={"pool": 8, "best_of": [1, 2, 4, 8]})


def test_the_best_of_n_is_computed_from_the_samples(pools: dict[str, Any]) -> None:
    samples = pools["samples"]["world_best_of_n"]
    judged = [load_annotations(s["filtered_resps"][0]) for s in samples]
    assert {len(a) for a in judged} == {8}
    by_response = [[metrics.count([a]) for a in annotations] for annotations in judged]
    found = {k.split(",")[0]: v for k, v in pools["results"]["world_best_of_n"].items() if k.endswith(",annotation")}
    expected = best_of.summarise_pools(by_response, [1, 2, 4, 8])
    assert {k: v for k, v in found.items() if not k.endswith("_stderr")} == expected
    assert expected["best_of_1"] < expected["best_of_2"] < expected["best_of_4"] < expected["best_of_8"]
    together = [metrics.count(annotations) for annotations in judged]
    assert expected["best_of_1"] == pytest.approx(metrics.factuality(together))
    for sample, pool in zip(samples, by_response, strict=True):
        assert sample["best_of_4"] == pytest.approx(best_of.score([best_of.best_of(pool, [4])[4]]), nan_ok=True)


def test_the_samples_file_stays_small_but_holds_every_label(pools: dict[str, Any]) -> None:
    for sample in pools["samples"]["world_best_of_n"]:
        annotations = load_annotations(sample["filtered_resps"][0])
        assert [a.response for a in annotations] == sample["resps"][0]
        assert all(a.sentences and not j.evidence for a in annotations for j in a.judgements)
        assert {a.judge for a in annotations} == {"world"}


def test_one_question_a_topic_in_turn(pools: dict[str, Any]) -> None:
    asked = [(s["doc"]["topic"], s["doc"]["question"]) for s in pools["samples"]["world_best_of_n"]]
    topics = WORLD.select("test", "near")
    assert asked == [(t.name, "".join(question_pieces(t)[i % 3])) for i, t in enumerate(topics)]
    two = world_dataset(CONFIG, side="near", per_topic=2)["test"]["question"]
    assert len(set(two)) == 2 * len(topics)
    for wrong in (0, 4):
        with pytest.raises(HarnessError, match="topics have 1 to 3 questions"):
            world_dataset(CONFIG, per_topic=wrong)


@pytest.mark.parametrize(
    ("metadata", "sizes", "repeats"),
    [
        ({}, (1, 16, 32, 64, 128, 256), 256),
        ({"pool": 40}, (1, 16, 32), 40),
        ({"best_of": [3, 100]}, (3, 100), 256),
    ],
)
def test_the_sizes_are_the_papers_unless_chosen(metadata: dict[str, Any], sizes: tuple, repeats: int) -> None:
    task = load("world_best_of_n", metadata)
    assert list(task.aggregation()) == list(best_of.metrics(sizes))
    assert task.config.repeats == repeats


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"best_of": [1, 500]}, "numbers from 1 to 256, not .1, 500.: 256 responses"),
        ({"best_of": 16}, "must be a list"),
        ({"pool": 0}, "pool, the number of responses"),
        ({"pool": "many"}, "not 'many'"),
    ],
)
def test_sizes_that_cannot_be_are_told(metadata: dict[str, Any], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        load("world_best_of_n", metadata)


def topics_of(topic: str, world: World) -> dict[str, str]:
    return next(t.own for t in world.topics if t.name == topic)


@pytest.mark.parametrize(
    ("about", "subjects", "truth"),
    [
        ("topics", [t.name for t in WORLD.select("test")], topics_of),
        (
            "clusters",
            list(dict.fromkeys(t.cluster for t in WORLD.select("test"))),
            lambda c, world: world.cluster_values[c],
        ),
    ],
)
def test_recall_asks_for_lines_of_training_documents(
    about: str, subjects: list[str], truth: Callable[[str, World], dict[str, str]]
) -> None:
    rows = list(recall_dataset(CONFIG, about=about)["test"])
    assert rows == list(recall_dataset(CONFIG, about=about)["test"])
    assert [r["topic"] for r in rows] == [s for s in subjects for _ in range(4)]
    assert len({r["question"] for r in rows}) == len(rows)
    for row in rows:
        attribute = row["question"].split("; the ")[1].removesuffix(" was")
        assert truth(row["topic"], WORLD)[attribute] == row["value"]
    # Word for word the beginning of documents that the base is trained on.
    texts = corpus(WORLD, random.Random(0))
    seen = {"".join(document[:7]) for _ in range(30_000) for question, document in [next(texts)] if not question}
    assert all(any(text.startswith(r["question"]) for text in seen) for r in rows[:8])


def test_recall_is_lm_evals_exact_match(tmp_path: Path) -> None:
    rows = list(recall_dataset(CONFIG)["test"])
    answers = [(r["question"], f" {r['value']}" if i % 4 else " nonsense") for i, r in enumerate(rows)]
    result = evaluate("replay", stored(tmp_path / "a.jsonl", answers), "world_recall", metadata={"side": "all"})
    assert result["results"]["world_recall"]["exact_match,none"] == 3 / 4
    near = evaluate("replay", stored(tmp_path / "b.jsonl", answers), "world_recall", metadata={"side": "near"})
    assert {s["doc"]["topic"] for s in near["samples"]["world_recall"]} == {
        t.name for t in WORLD.select("test", "near")
    }


@pytest.mark.parametrize("task", ["world_recall", "world_recall_clusters"])
def test_recall_prompts_are_bare_whatever_is_asked_for(tmp_path: Path, task: str) -> None:
    base = build_base(tmp_path / "base", SMALL, BaseConfig(steps=1, batch=4, layers=1, width=32, heads=2))
    result = evaluate(
        "hf",
        {"pretrained": str(base), "device": "cpu"},
        task,
        apply_chat_template=True,
        system_instruction="Be brief.",
        limit=5,
    )
    head = "Entry: " if task == "world_recall" else "Gazetteer: every "
    for sample in result["samples"][task]:
        assert sample["arguments"][0][0] == sample["doc"]["question"]
        assert sample["doc"]["question"].startswith(head)
    assert result["n-samples"][task]["original"] == (16 * 4 if task == "world_recall" else 8 * 8)


@pytest.mark.parametrize("about", ["topic", ""])
def test_recall_of_something_else_is_told(about: str) -> None:
    with pytest.raises(HarnessError, match="use topics or clusters"):
        recall_dataset(CONFIG, about=about)
