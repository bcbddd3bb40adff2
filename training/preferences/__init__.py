"""From questions to preference pairs: sample, annotate, pair.

    python -m training.preferences sample --questions SRC --engine hf:MODEL --n 4 --out samples.jsonl
    python -m training.preferences annotate --samples samples.jsonl --judge SPEC --out annotations.jsonl
    python -m training.preferences pair --annotations annotations.jsonl --out pairs.jsonl

SRC: `mini:train`, `mini:test`, `mini:all`, or ANAH-format rows (a file or folder). sample and annotate write as they
go, and run again with the same settings they go on where they stopped.
"""

from factuality_harness.training.preferences.annotate import annotate_samples, read_samples
from factuality_harness.training.preferences.command import main
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
    "main",
    "make_pairs",
    "pair_question",
    "read_samples",
    "sample",
]
