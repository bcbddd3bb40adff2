"""How far test topics lie from the topics a model was trained on, in an embedding."""

from __future__ import annotations

from collections.abc import Mapping

from factuality_harness.harness.embeddings.models import Embedding, embed_groups
from factuality_harness.harness.embeddings.neighbours import centred, nearest_distance


def nearest_topics(
    embedding: Embedding, train: Mapping[str, str], test: Mapping[str, str], *, k: int = 1, centre: bool = True
) -> dict[str, float]:
    """Test topic to its mean cosine distance to the k nearest training topics.

    train, test: topic to the text that is embedded for it. Raises HarnessError as the embedding does, and for a k
    beyond the number of training topics.
    """
    a, b = embed_groups(embedding, [*train.values()], [*test.values()])
    if centre:
        a, b = centred(a, b)
    return {topic: float(d) for topic, d in zip(test, nearest_distance(a, b, k), strict=True)}
