"""From questions to preference pairs: sample, label, pair.

    factuality sample --questions SOURCE --engine hf:MODEL --n 4 --out samples.jsonl
    factuality label samples.jsonl --judge SPEC --out annotations.jsonl
    factuality pair --annotations annotations.jsonl --out pairs.jsonl

sample and label write as they go, and run again with the same settings they go on where they stopped.
"""

from factuality_harness.training.preferences.annotate import annotate_samples, read_samples
from factuality_harness.training.preferences.pairing import (
    AnnotationFiles,
    Pairing,
    PairRules,
    make_pairs,
    pair_question,
)
from factuality_harness.training.preferences.sampling import Sample, draw, sample

__all__ = [
    "AnnotationFiles",
    "PairRules",
    "Pairing",
    "Sample",
    "annotate_samples",
    "draw",
    "make_pairs",
    "pair_question",
    "read_samples",
    "sample",
]
