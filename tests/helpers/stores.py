"""Small sweep stores for tests: files of the shape lm_eval and a sweep write, from given counts a question."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from factuality_harness.harness.metrics import Counts, summarise

STAMP = "2026-01-02T03-04-05.678901"
TOPICS = 10
LABELS = ("ok", "contradictory", "unverifiable", "nofact", "unparsed")


def questions(
    correct: int, *, topics: int = TOPICS, facts: int = 10, nofact: int = 1, unparsed: int = 0
) -> list[Counts]:
    """A question a topic with `facts` checkable sentences, `correct` of them right, one more or less by topic."""
    rows = []
    for topic in range(topics):
        ok = max(0, min(facts, correct + topic % 3 - 1))
        rows.append(
            Counts(
                f"topic {topic}",
                1,
                ok,
                (facts - ok) // 2,
                facts - ok - (facts - ok) // 2,
                nofact,
                unparsed,
                each=((ok, facts - ok, unparsed),),
            )
        )
    return rows


@lru_cache(maxsize=256)  # the bootstrap takes its time
def _summary(counts: tuple[Counts, ...]) -> dict[str, float]:
    return summarise(counts)


def annotation(counts: Counts, judge: str) -> str:
    """Annotation JSON with those counts, as the judged tasks' filter gives it."""
    names = [label for label in LABELS for _ in range(getattr(counts, label))]
    text = "".join("a. " for _ in names)
    sentences = [
        {"text": "a.", "start": 3 * i, "end": 3 * i + 2, "label": label, "evidence": [], "detail": ""}
        for i, label in enumerate(names)
    ]
    row = {"question": "q", "response": text, "language": "en", "topic": counts.topic, "judge": judge}
    return json.dumps(row | {"sentences": sentences})


def lm_eval_files(
    folder: Path,
    tasks: Mapping[str, Sequence[Counts] | Mapping[str, float]],
    *,
    judge: str = "world",
    version: float = 1.0,
    stamp: str = STAMP,
    metadata: Mapping[str, Any] | None = None,
    annotated_by: str | None = None,
) -> Path:
    """Results and samples files. tasks: counts of each question of a judged task, or metrics of another. annotated_by:
    the judge's name in annotations, where it is not its spec."""
    folder.mkdir(parents=True, exist_ok=True)
    data: dict[str, Any] = {"results": {}, "configs": {}, "versions": {}, "n-samples": {}}
    for task, given in tasks.items():
        counts = None if isinstance(given, Mapping) else tuple(given)
        judged = counts is not None
        metrics: dict[str, float] = _summary(counts) if counts is not None else dict(given)  # type: ignore[arg-type]
        values: dict[str, Any] = {"alias": task, "name": task, "sample_len": TOPICS}
        for key, value in metrics.items():
            name = f"{key},{'annotation' if judged else 'none'}" if "," not in key else key
            values[name] = value
            if judged:
                values[f"{key}_stderr,annotation"] = "N/A"
        data["results"][task] = values
        data["versions"][task] = version
        data["configs"][task] = {"task": task, "repeats": 1, "metadata": {"version": version}}
        if judged or any(name.startswith("best_of_") for name in metrics):
            data["configs"][task]["metadata"] |= {"judge": judge, **(metadata or {})}
        if counts is not None:
            rows = [
                {
                    "doc_id": i,
                    "doc": {},
                    "filter": "annotation",
                    "resps": [["a"]],
                    "filtered_resps": [annotation(c, annotated_by or judge)],
                }
                for i, c in enumerate(counts)
            ]
            text = "".join(json.dumps(row) + "\n" for row in reversed(rows))
            (folder / f"samples_{task}_{stamp}.jsonl").write_text(text)
    (folder / f"results_{stamp}.json").write_text(json.dumps(data))
    return folder / f"results_{stamp}.json"


class StoreBuilder:
    """A store that grows by experiments."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def stage(self, name: str, needs: Mapping[str, str], settings: Mapping[str, Any], done: bool = True) -> Path:
        folder = self.root / "stages" / name
        folder.mkdir(parents=True, exist_ok=True)
        command = f"python -m lm_eval --output_path {folder}/lm_eval"
        record = {"kind": name.partition("-")[0], "settings": dict(settings), "needs": dict(needs), "seconds": 1.5}
        if done:
            (folder / "stage.json").write_text(json.dumps(record | {"commands": [command]}))
        return folder

    def experiment(
        self,
        name: str,
        axes: Mapping[str, Iterable[str]],
        scores: Callable[[dict[str, str], int], Mapping[str, Any] | None],
        *,
        table: Mapping[str, Any],
        seeds: Sequence[int] = (0, 1, 2),
        base: str = "",
        margins: bool = True,
        only: Callable[[dict[str, str]], bool] = lambda labels: True,
        **files: Any,
    ) -> StoreBuilder:
        """scores: labels and seed to what `lm_eval_files` takes, None for a cell that has not run. base: the label of
        the model that is not trained. only: which combinations of labels are cells."""
        cells = []
        for values in itertools.product(*axes.values()):
            labels = dict(zip(axes, values, strict=True))
            if not only(labels):
                continue
            for seed in seeds:
                key = f"{name}-{'-'.join(values)}-{seed}".replace("/", "_").replace(" ", "_")
                stages = {"base": f"base-{seed}", "score": f"score-{key}"}
                self.stage(stages["base"], {}, {"world": {"seed": seed}})
                model = stages["base"]
                given = scores(labels, seed)
                if base not in values:
                    stages |= {"pair": f"pair-{key}", "train": f"train-{key}"}
                    self.stage(stages["pair"], {}, {"seed": seed}, done=given is not None)
                    needs = {"model": stages["base"], "pair": stages["pair"]}
                    folder = self.stage(stages["train"], needs, {"trainer": "mask_dpo"}, done=given is not None)
                    model = stages["train"]
                    if margins and given is not None:
                        self.curve(folder, seed, values)
                if given is not None:
                    folder = self.stage(stages["score"], {"model": model, "base": stages["base"]}, {"tasks": [*given]})
                    lm_eval_files(folder / "lm_eval" / "model", given, **files)
                cells.append({"labels": labels, "seed": seed, "stages": stages})
        (self.root / "experiments").mkdir(parents=True, exist_ok=True)
        data = {"name": name, "title": name.replace("_", " "), "table": dict(table), "cells": cells}
        (self.root / "experiments" / f"{name}.json").write_text(json.dumps(data))
        return self

    @staticmethod
    def curve(folder: Path, seed: int, values: Sequence[str]) -> None:
        rate = 0.02 + 0.01 * (len("".join(values)) % 4)
        rows: list[dict[str, Any]] = [{"loss": 0.7, "rewards/margins": 0.0, "rewards/accuracies": 0.5, "step": 1}]
        rows += [
            {"loss": 0.6, "rewards/margins": rate * s + 0.05 * seed, "rewards/accuracies": 0.8, "step": s}
            for s in range(10, 101, 10)
        ]
        text = "".join(json.dumps(row) + "\n" for row in [*rows, {"train_runtime": 3.0, "step": 100}])
        (folder / "loss_curve.jsonl").write_text(text)


NEAR, BIO, BEST = "world_factuality_near_sampled", "world_bio_sampled", "world_best_of_n"


def full_store(root: Path) -> StoreBuilder:
    """A store with an experiment for most tables, one cell not run, and experiments of our own."""
    builder = StoreBuilder(root)
    level = {
        "base": 4,
        "w/o mask": 5,
        "w/ mask": 6,
        "DPO": 5,
        "DPOP": 5,
        "TDPO": 5,
        "SePO": 4,
        "Mask-DPO": 6,
        "Baseline": 4,
    }

    def by(axis: str, tasks: Sequence[str] = (NEAR,)) -> Callable[[dict[str, str], int], Mapping[str, Any]]:
        def scores(labels: dict[str, str], seed: int) -> Mapping[str, Any]:
            right = level[labels[axis]]
            return {task: questions(right + (seed == 2), facts=14 - right + (seed == 1)) for task in tasks}

        return scores

    builder.experiment(
        "table02_mask",
        {"setting": ["base", "w/o mask", "w/ mask"]},
        by("setting", (NEAR, BIO)),
        table={"number": 2, "reference": "base", "columns": {"anah_v2_score": NEAR, "factscore_score": BIO}},
        base="base",
    )
    share = {"0": -1, "1/3": 0, "2/3": 1, "1": 3}

    def whole(labels: dict[str, str]) -> bool:
        return len({value in ("base", "0") for value in labels.values()}) == 1

    builder.experiment(
        "table04_scaling",
        {"dimension": ["base", "topic", "question"], "scale": ["0", "1/3", "2/3", "1"]},
        lambda labels, seed: (
            {
                NEAR: questions(
                    4 + share[labels["scale"]] + (labels["dimension"] == "topic" and labels["scale"] == "2/3")
                )
            }
            if (labels["scale"], seed) != ("2/3", 2)
            else None
        ),
        table={"number": 4, "columns": {"score": NEAR}},
        base="base",
        only=whole,
    )
    builder.experiment(
        "table05_near_far",
        {"embedding": ["base", "policy", "ngram"], "distance": ["base", "far", "near"]},
        lambda labels, seed: (
            {NEAR: questions(5 + (labels == {"embedding": "policy", "distance": "near"}) + (seed == 1))}
            if labels["embedding"] != "ngram" or labels["distance"] == "near"
            else None
        ),
        table={
            "number": 5,
            "columns": {"score": NEAR},
            "rename": {"policy": "Llama3.1-8B"},
            "where": {"base_model": "Llama3.1-8B"},
            "note": "The fact world's policy stands for Llama.",
        },
        base="base",
        only=whole,
    )
    gain = {"Baseline": 0.45, "Mask-DPO": 0.6}

    def best(labels: dict[str, str], seed: int) -> Mapping[str, Any]:
        values: dict[str, Any] = {}
        for i, n in enumerate((1, 16, 32, 64)):
            value = gain[labels["model"]] + 0.06 * i + 0.01 * seed
            values |= {
                f"best_of_{n}": value,
                f"best_of_{n}_ci95_low": value - 0.03,
                f"best_of_{n}_ci95_high": value + 0.02,
            }
        return {BEST: values}

    builder.experiment(
        "table06_best",
        {"model": ["Baseline", "Mask-DPO"]},
        best,
        table={"number": 6, "columns": {"score": BEST}},
        base="Baseline",
    )
    builder.experiment(
        "table08_methods",
        {"method": ["DPO", "DPOP", "TDPO", "SePO", "Mask-DPO"]},
        by("method"),
        table={"number": 8, "columns": {"score": NEAR}, "reference": "DPO"},
        seeds=[0],
    )
    builder.experiment(
        "coverage",
        {"clusters": ["base", "4", "8", "16"], "per_cluster": ["3", "6", "12"]},
        lambda labels, seed: (
            {NEAR: questions(4 if labels["clusters"] == "base" else 4 + int(labels["clusters"]) // 8 + (seed == 1))}
            if labels != {"clusters": "16", "per_cluster": "12"}
            else None
        ),
        table={"kind": "coverage", "reference": "base"},
        base="base",
    )
    return builder
