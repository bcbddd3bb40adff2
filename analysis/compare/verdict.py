"""Comparisons in words: the verdict by rule, and the text for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from factuality_harness.analysis.compare.differences import MEASURES, Comparison, compare_pair
from factuality_harness.analysis.compare.runs import JudgedRun
from factuality_harness.analysis.compare.statistics import POWER, holm
from factuality_harness.analysis.intervals import LEVEL
from factuality_harness.harness.metrics import BOOTSTRAP_SEED


def compare_all(runs: Sequence[JudgedRun], *, detect: float = 0.03, seed: int = BOOTSTRAP_SEED) -> list[Comparison]:
    """Every run against the first, with Holm's correction over them and a verdict each."""
    found = [compare_pair(runs[0], run, detect=detect, seed=seed) for run in runs[1:]]
    adjusted = holm([c.p_value for c in found])
    return [
        replace(done, verdict=verdict_on(done))
        for done in (replace(c, p_holm=p) for c, p in zip(found, adjusted, strict=True))
    ]


def verdict_on(c: Comparison) -> str:
    """The comparison in one plain sentence."""
    score = c.score
    if math.isnan(score.difference) or math.isnan(c.p_holm):
        return f"Nothing can be said about {c.run} against {c.baseline}: one of them has no checkable sentence."
    if score.difference == score.low == score.high == 0:
        return f"{c.run} and {c.baseline} do not differ: they have the same factuality on every topic."
    numbers = f"{score.difference:+.4f} [{score.low:+.4f}, {score.high:+.4f}], p = {c.p_holm:.4f}"
    checks = {d.measure: d for d in c.checks}
    watched = [(m, f"{'more' if m.bad > 0 else 'fewer'} {m.name}", checks[m.name]) for m in MEASURES if m.bad]
    warnings = [f"{what} ({d.difference:+.3f})" for m, what, d in watched if d.sign == m.bad]
    if c.p_holm >= 1 - LEVEL:
        planned = (
            f": about {c.needed} questions would be needed to detect {c.detect:g}, and there are {c.questions}"
            if c.needed is not None
            else ""
        )
        return f"No difference in factuality between {c.run} and {c.baseline} can be told from noise ({numbers})" + (
            f"{planned}; note {_listed(warnings)}." if warnings else f"{planned}."
        )
    end = _beyond_the_seeds(c) + "."
    if score.difference < 0:
        return (
            f"{c.run} is less factual than {c.baseline} ({numbers})"
            + (f", with {_listed(warnings)} on top" if warnings else "")
            + end
        )
    if unknown := [what for _, what, d in watched if not d.known]:
        end = f"; whether it has {_listed(unknown)} could not be checked{end}"
    if not warnings:
        clear = _listed([what for _, what, d in watched if d.known], "or")
        signs = f", without a sign of {clear}" if clear else ""
        return f"{c.run} is more factual than {c.baseline} ({numbers}){signs}{end}"
    strict, right = checks["factuality, unparsed as wrong"], checks["correct facts per response"]
    doubts = []
    if checks["unparsed sentences"].sign > 0:
        held = "remains" if strict.sign > 0 else "is not certain"
        doubts.append(f"it {held} if unparsed sentences count as wrong ({strict.difference:+.4f})")
    if right.sign > 0:
        return (
            f"{c.run} scores higher than {c.baseline} ({numbers}) and gives more correct facts per response "
            f"({right.difference:+.3f}), so the gain is not bought by saying less, though it has {_listed(warnings)}"
            + "".join(f", and {doubt}" for doubt in doubts)
            + end
        )
    if right.sign < 0:
        doubts.append(f"it gives fewer correct facts per response ({right.difference:+.3f})")
    elif checks["facts per response"].sign < 0:
        doubts.append(f"it does not give fewer correct facts per response beyond noise ({right.difference:+.3f})")
    return (
        f"{c.run} scores higher than {c.baseline} ({numbers}), but the gain may be bought by saying less: it has "
        f"{_listed(warnings)}" + (f", and {_listed(doubts)}" if doubts else "") + end
    )


def _beyond_the_seeds(c: Comparison) -> str:
    """What a verdict must add where the seeds do not carry it from these checkpoints to the recipe."""
    seeds = c.over_seeds
    if seeds is None or (seeds.low > 0) - (seeds.high < 0) == (c.score.difference > 0) - (c.score.difference < 0):
        return ""
    if math.isnan(seeds.low):
        return "; of one training seed, so this is about these checkpoints and not about the recipe"
    return (
        f"; this is about these checkpoints and may not hold for the recipe, since over its {seeds.n} training seeds "
        f"the difference is {seeds.mean:+.4f} [{seeds.low:+.4f}, {seeds.high:+.4f}]"
    )


def _listed(parts: Sequence[str], last: str = "and") -> str:
    return ", ".join(parts[:-1]) + (f" {last} " if len(parts) > 1 else "") + (parts[-1] if parts else "")


def comparison_text(found: Sequence[Comparison]) -> str:
    """Text for the terminal."""
    lines = []
    for c in found:
        lines += [
            f"{c.run}  against  {c.baseline}: {c.questions} questions, {c.clusters} topics",
            f"  {'':30}{'baseline':>10}{'run':>10}{'difference':>12}   95 % interval, paired",
        ]
        for d in (c.score, *c.checks):
            values = f"{_number(d.baseline):>10}{_number(d.run):>10}{_number(d.difference, '+.4f'):>12}"
            lines.append(f"  {d.measure:30}{values}   [{_number(d.low, '+.4f')}, {_number(d.high, '+.4f')}]")
        lines += [
            f"  p = {_number(c.p_value)}"
            + (f", {_number(c.p_holm)} after Holm over {len(found)} runs" if len(found) > 1 else ""),
            f"  unpaired interval [{_number(c.unpaired[0], '+.4f')}, {_number(c.unpaired[1], '+.4f')}], "
            f"{_number(c.tighter, '.2f')} times as wide",
            f"  to detect {c.detect:g} (power {POWER}): {_planned(c.needed)} questions paired, "
            f"{_planned(c.needed_unpaired)} unpaired",
            "  p and intervals are about these checkpoints, not the recipe: how training seeds vary is not in them",
        ]
        if (seeds := c.over_seeds) is not None:
            interval = f"[{_number(seeds.low, '+.4f')}, {_number(seeds.high, '+.4f')}] (Student's t)"
            lines.append(
                f"  factuality over {seeds.n} training seeds, paired: {_number(seeds.mean, '+.4f')} {interval}"
            )
        lines += [f"  {c.verdict}", ""]
    return "\n".join(lines)


def _planned(questions: int | None) -> str:
    return "n/a" if questions is None else str(questions)


def _number(value: float, form: str = ".4f") -> str:
    return "n/a" if math.isnan(value) else format(value, form)
