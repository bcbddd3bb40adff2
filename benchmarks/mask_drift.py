"""The reference's length-sum masks against the exact ones, on FActScore's human-labelled biographies.

    python -m benchmarks.mask_drift --labels FOLDER --tokenizer models/smollm2-135m

A sentence is wrong if it has an NS fact. Biographies whose labelled sentences are not their text are left out, counted.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from transformers import AutoTokenizer

from harness.annotation import Label
from harness.data.biographies import LabelledBiography, load_labelled
from harness.errors import HarnessError
from harness.manifest import manifest, write_manifest
from training.drift import Drift, drift, summarise
from training.masks import COUNTING
from training.pairs import LabelledResponse, locate

OUT = Path("results/masks/drift")
SYSTEMS = ("ChatGPT", "InstructGPT")


def labelled_response(row: LabelledBiography) -> LabelledResponse | None:
    """The biography with one label a sentence; None without labels. Raises HarnessError when the sentences are not its
    text."""
    if not row.sentences:
        return None
    labels = [
        Label.CONTRADICTORY if any(f.label == "NS" for f in s.human_facts or ()) else Label.OK for s in row.sentences
    ]
    return LabelledResponse(row.output, locate(row.output, [s.text for s in row.sentences]), tuple(labels))


def main() -> None:
    """Measure and write the table with its manifest."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--labels", type=Path, required=True, help="folder of ChatGPT.jsonl and InstructGPT.jsonl")
    parser.add_argument("--tokenizer", default="models/smollm2-135m")
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    files = [args.labels / f"{system}.jsonl" for system in SYSTEMS]
    table, every = [], list[Drift]()
    for path in files:
        rows: list[Drift] = []
        left_out = 0
        for row in load_labelled(path).rows:
            try:
                response = labelled_response(row)
            except HarnessError:
                left_out += 1
                continue
            if response is not None:
                rows.append(drift([{"role": "user", "content": row.question}], response, tokenizer, COUNTING["chosen"]))
        table.append({"answers": path.stem, **summarise(rows), "left_out": left_out})
        every += rows
    table.append({"answers": "both", **summarise(every), "left_out": sum(int(r["left_out"]) for r in table)})
    OUT.parent.mkdir(parents=True, exist_ok=True)
    with OUT.with_suffix(".csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, table[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    write_manifest(OUT.with_suffix(".manifest.json"), manifest(inputs=files, tokenizer=Path(args.tokenizer).name))
    for line in table:
        print(line)


if __name__ == "__main__":
    main()
