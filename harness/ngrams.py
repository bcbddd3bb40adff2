"""N-grams of a few texts, looked up in many."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat

import numpy as np

from factuality_harness.harness.words import EAST_ASIAN, tokens

NGRAM = 13
"""Words in an n-gram, as in the overlap studies of GPT-3 (arXiv 2005.14165, appendix C)."""
_CHINESE = re.compile(rf"[{EAST_ASIAN}]")
_BASE = np.uint64(0x9E3779B97F4A7C15)


class Ngrams:
    """N-grams of questions (or documents) of a test set, looked up in training texts.

    A text becomes the numbers of its words in the questions' vocabulary (0 for any other word); a window's hash is a
    polynomial of them modulo 2**64, computed for all windows of a text at once, size by size. Only windows of known
    words are looked up, so most of a text is never hashed to the end.
    """

    def __init__(self, questions: Sequence[str], sizes: tuple[int, int] = (NGRAM, NGRAM)) -> None:
        """sizes: of n-grams in words, and in characters for questions that are mostly Chinese."""
        self._numbers: dict[str, int] = {}
        rng = np.random.default_rng(0)
        grams: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        self.totals = np.ones(len(questions))
        rows = [tokens(q) for q in questions]
        for words in rows:
            for word in words:
                self._numbers.setdefault(word, len(self._numbers) + 1)
        values = rng.integers(1, 2**64, size=len(self._numbers) + 1, dtype=np.uint64)
        values[0] = 0
        self._values = values
        for i, words in enumerate(rows):
            if not words:
                continue
            chinese = sum(map(bool, map(_CHINESE.match, words))) * 2 > len(words)
            size = min(sizes[chinese], len(words))
            numbers = np.array([self._numbers[w] for w in words])
            hashes = np.unique(_windows(self._values[numbers], size))
            self.totals[i] = len(hashes)
            for h in hashes.tolist():
                grams[size][h].append(i)
        self._grams = {size: dict(of_size) for size, of_size in sorted(grams.items())}
        self._sorted = {size: np.array(sorted(of_size), dtype=np.uint64) for size, of_size in self._grams.items()}

    def shares(self, texts: Iterable[str]) -> dict[int, float]:
        """Share of each question's n-grams in `texts` together, for the questions that have any; by their number."""
        return self.portions(self.found(map(tokens, texts)))

    def portions(self, found: Mapping[int, set[int]]) -> dict[int, float]:
        """Share of its n-grams that each question has among those `found`."""
        return {question: len(hashes) / self.totals[question] for question, hashes in found.items()}

    def found(self, texts: Iterable[Sequence[str]]) -> dict[int, set[int]]:
        """Hashes of each question's n-grams in `texts`, given as tokens, by the question's number."""
        found: dict[int, set[int]] = defaultdict(set)
        if not self._sorted:
            return found
        for words in texts:
            numbers = np.fromiter(map(self._numbers.get, words, repeat(0)), np.int64, len(words))
            # Positions from which `size` known words follow, and the hash of that window, grown word by word.
            starts = np.flatnonzero(numbers)
            hashes = self._values[numbers[starts]]
            grown = 1
            for size, known in self._sorted.items():
                while grown < size and len(starts):
                    inside = starts + grown < len(numbers)
                    starts, hashes = starts[inside], hashes[inside]
                    following = numbers[starts + grown]
                    kept = following > 0
                    starts = starts[kept]
                    hashes = hashes[kept] * _BASE + self._values[following[kept]]
                    grown += 1
                if not len(starts):
                    break
                places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
                for h in set(hashes[known[places] == hashes].tolist()):
                    for question in self._grams[size][h]:
                        found[question].add(h)
        return found


def _windows(values: np.ndarray, size: int) -> np.ndarray:
    hashes = values[: len(values) - size + 1].copy()
    for i in range(1, size):
        hashes = hashes * _BASE + values[i : len(values) - size + 1 + i]
    return hashes
