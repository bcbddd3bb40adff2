"""How often is `lexical` right? Measured on the human-labelled biographies of FActScore.

    python -m benchmarks.lexical_judge --labels FOLDER

Each human fact (S supported, NS not; IR left out) of one system is judged against the supported human facts of the
OTHER system on the same topic, and each sentence likewise (wrong if it holds an NS fact). What the other system did not
say cannot be confirmed, so `unverifiable` is often the honest answer to a true fact: this bounds every judge here.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.annotation import Label
from harness.annotators.base import Claim
from harness.annotators.lexical import judge_claim
from harness.data.biographies import LabelledBiography, load_labelled, question_about
from harness.manifest import manifest, write_manifest

OUT = Path("results/judges/lexical_biographies")
SYSTEMS = ("ChatGPT", "InstructGPT")


def facts(row: LabelledBiography) -> Iterator[tuple[str, bool]]:
    """(fact, is supported) for the S and NS facts."""
    for fact in row.facts:
        if fact.label in ("S", "NS"):
            yield fact.text, fact.label == "S"


def sentences(row: LabelledBiography) -> Iterator[tuple[str, bool]]:
    """(sentence, holds no NS fact) for the sentences with an S or NS fact."""
    for sentence in row.sentences or ():
        labels = {f.label for f in sentence.human_facts or ()}
        if labels & {"S", "NS"}:
            yield sentence.text, "NS" not in labels


def measure(rows: Sequence[LabelledBiography], documents: dict[str, str], unit: str) -> dict[str, Any]:
    """Confusion of human truth and `lexical`, with what follows from it. Topics without a document are left out.

    F1 is that of the class "supported"; sentences called `nofact` are counted apart, as in the score.
    """
    table = {(truth, label): 0 for truth in (True, False) for label in Label}
    pieces = facts if unit == "fact" else sentences
    for row in rows:
        if row.topic not in documents:
            continue
        for text, truth in pieces(row):
            claim = Claim(question_about(row.topic), text, documents[row.topic], "en")
            table[truth, judge_claim(claim).label] += 1
    kept, lost = table[True, Label.OK], table[True, Label.CONTRADICTORY] + table[True, Label.UNVERIFIABLE]
    missed, caught = table[False, Label.OK], table[False, Label.CONTRADICTORY] + table[False, Label.UNVERIFIABLE]
    sensitivity, specificity = kept / (kept + lost), caught / (caught + missed)
    return {
        "unit": unit,
        "judged": kept + lost + missed + caught,
        "accuracy": round((kept + caught) / (kept + lost + missed + caught), 4),
        "balanced_accuracy": round((sensitivity + specificity) / 2, 4),
        "f1_supported": round(2 * kept / (2 * kept + lost + missed), 4),
        "sensitivity": round(sensitivity, 4),
        "specificity": round(specificity, 4),
        **{
            f"{'supported' if truth else 'unsupported'}_called_{label.value}": n
            for (truth, label), n in table.items()
            if label is not Label.UNPARSED
        },
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lexical_judge", description=__doc__.split("\n")[0])
    parser.add_argument("--labels", type=Path, required=True, help="folder with ChatGPT.jsonl and InstructGPT.jsonl")
    parser.add_argument("--out", type=Path, default=OUT, help="result files without their ending")
    args = parser.parse_args()
    files = {name: args.labels / f"{name}.jsonl" for name in SYSTEMS}
    labelled = {name: load_labelled(path).rows for name, path in files.items()}
    results = []
    for name, other in (SYSTEMS, SYSTEMS[::-1]):
        said = {row.topic: "\n".join(text for text, truth in facts(row) if truth) for row in labelled[other]}
        documents = {topic: text for topic, text in said.items() if text}
        for unit in ("fact", "sentence"):
            results.append({"answers": name, "knowledge": other, **measure(labelled[name], documents, unit)})
            print(results[-1])
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.with_suffix(".csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, results[0])
        writer.writeheader()
        writer.writerows(results)
    command = "python -m benchmarks.lexical_judge --labels FOLDER"
    write_manifest(args.out.with_suffix(".manifest.json"), manifest(inputs=files.values(), command=command))


if __name__ == "__main__":
    main()
