"""Distances of test topics: against numpy by hand, and their file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from factuality_harness.harness.embeddings.distances import (
    TopicDistances,
    read_distances,
    write_distances,
)
from factuality_harness.harness.embeddings.models import open_embedding
from factuality_harness.harness.embeddings.nearest import nearest_topics
from factuality_harness.harness.errors import HarnessError

FILE = TopicDistances("tfidf", "{topic}", None, 1, True, 3, {"金星": 0.25, "NA": 1 / 3}, {"金星": "world 0, Copper"})


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("centre", [True, False])
def test_distances_are_those_of_the_vectors(k: int, centre: bool) -> None:
    train, test = {t: f"of {t}" for t in "abc"}, {t: f"of {t}" for t in "xyza"}
    embedding = open_embedding("random", seed=1)
    vectors = embedding.embed([*train.values(), *test.values()]).astype(float)
    vectors -= vectors.mean(axis=0) * centre
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = np.sort(1 - vectors[3:] @ vectors[:3].T, axis=1)[:, :k].mean(axis=1)
    found = nearest_topics(embedding, train, test, k=k, centre=centre)
    assert [*found] == [*"xyza"]
    np.testing.assert_allclose([*found.values()], expected, atol=1e-6)


def test_more_neighbours_than_training_topics_are_refused() -> None:
    with pytest.raises(HarnessError, match="2 nearest of 1 training topics"):
        nearest_topics(open_embedding("random"), {"a": "a"}, {"b": "b"}, k=2)


def test_the_file_gives_back_every_digit(tmp_path: Path) -> None:
    write_distances(tmp_path / "distances.json", FILE)
    assert read_distances(tmp_path / "distances.json") == FILE
    assert read_distances(tmp_path / "distances.json") != replace(FILE, k=2)


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "no such file; it is written by the stage `distances`"),
        ("{", "no distances with"),
        ("[]", "no distances with"),
        ('{"embedding": "tfidf"}', r"KeyError\('text'\)"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "d.json").write_text(content)
    with pytest.raises(HarnessError, match=message):
        read_distances(tmp_path / "d.json")
