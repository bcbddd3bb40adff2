"""FActScore: atomic facts, a knowledge source and retrieval, verification, score.

scorer = open_scorer("factscore@openai:http://host:8000/v1#model", "enwiki-20230401.db")
results = scorer.score([Item("Ada Lovelace", "Question: Tell me a bio of Ada Lovelace.", response)])
print(summarise([r.counts() for r in results]))
"""

from __future__ import annotations

from factuality_harness.harness.factscore.evaluator import (
    Fact,
    FactScorer,
    Item,
    ScoredResponse,
    SentenceFacts,
    open_scorer,
)
from factuality_harness.harness.factscore.knowledge import open_knowledge
from factuality_harness.harness.factscore.plan import Plan, plan
from factuality_harness.harness.factscore.score import (
    METRICS,
    FactCounts,
    counts_of_annotation,
    counts_of_labels,
    summarise,
)

__all__ = [
    "METRICS",
    "Fact",
    "FactCounts",
    "FactScorer",
    "Item",
    "Plan",
    "ScoredResponse",
    "SentenceFacts",
    "counts_of_annotation",
    "counts_of_labels",
    "open_knowledge",
    "open_scorer",
    "plan",
    "summarise",
]
