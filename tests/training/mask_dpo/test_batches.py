"""From a file of pairs to rows: which pairs are dropped and why, and what is cut."""

from __future__ import annotations

import json

import pytest

from factuality_harness.harness.annotation import Label
from factuality_harness.training.mask_dpo.batches import pair_row
from factuality_harness.training.mask_dpo.pairs import Pair, write_pairs
from tests.helpers.cli import command
from tests.helpers.tiny import response, save_tiny

OK, WRONG, NOFACT = Label.OK, Label.CONTRADICTORY, Label.NOFACT
LENGTH = 50  # tokens: bytes here, and the four special ones of the template
FAR = ("So they say, again and again and again and again.", Label.UNPARSED)
CHOSEN, REJECTED = "no counting sentence in the chosen response", "no counting sentence in the rejected response"
CHOSEN_CUT = "no counting token of the chosen response within the maximum length"
REJECTED_CUT = "no counting token of the rejected response within the maximum length"
PAIRS = [
    # question, chosen, rejected, why Mask-DPO drops the pair, why SFT does
    ("?", [("It is red.", OK)], [("It is blue.", WRONG)], "", ""),
    ("?", [("Hello.", NOFACT), ("It is red.", WRONG)], [("It is blue.", WRONG)], "", ""),
    ("?", [("It is red.", WRONG)], [("It is blue.", WRONG)], CHOSEN, ""),
    ("?", [("It is red.", OK)], [("Hello.", NOFACT)], REJECTED, ""),
    ("?", [FAR, ("It is red.", OK)], [("It is blue.", WRONG)], CHOSEN_CUT, ""),
    ("?", [("It is red.", OK)], [FAR, ("It is blue.", WRONG)], REJECTED_CUT, ""),
    ("?", [FAR, ("It is red.", OK)], [("It is blue.", OK)], CHOSEN_CUT, ""),  # the first reason of two
    ("?" * LENGTH, [("It is red.", OK)], [("It is blue.", WRONG)], CHOSEN_CUT, CHOSEN_CUT),
]


@pytest.mark.parametrize(("trainer", "masking", "column"), [("mask_dpo", "sentences", 3), ("sft", "none", 4)])
def test_the_trainers_and_the_masks_command_drop_the_same_pairs_for_the_same_reasons(
    tmp_path, capsys, trainer, masking, column
):
    folder, file, out = save_tiny(tmp_path / "tiny"), tmp_path / "pairs.jsonl", tmp_path / "out"
    prompts = [({"role": "user", "content": question},) for question, *_ in PAIRS]
    sides = [(response(chosen), response(rejected)) for _, chosen, rejected, *_ in PAIRS]
    write_pairs(file, [Pair(prompt, *pair) for prompt, pair in zip(prompts, sides, strict=True)])
    reasons = [row[column] for row in PAIRS if row[column]]
    wanted = {reason: reasons.count(reason) for reason in reasons}

    masks = ["--pairs", file, "--tokenizer", folder, "--masking", masking, "--max-length", LENGTH]
    assert command("masks")([*masks, "--out", tmp_path / "masks.jsonl"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["pairs"], found["kept"], found["dropped"]) == (len(PAIRS), len(PAIRS) - len(reasons), wanted)

    words = ["--pairs", file, "--model_name_or_path", folder, "--output_dir", out, "--max_length", LENGTH]
    words += ["--max_steps", 1, "--use_cpu", "true", "--report_to", "none", "--save_strategy", "no"]
    assert command(f"train {trainer}")(words) == 0
    assert json.loads((out / "manifest.json").read_text())["settings"]["pairs"]["train"] == found


def test_rows_end_with_their_last_counting_token():
    row = pair_row([5, 6, 7, 8], [0, 1, 0, 0], (5, 9), (0, 1))
    assert row == {
        "chosen_ids": [5, 6],
        "chosen_mask": [0, 1],
        "rejected_ids": [5, 9],
        "rejected_mask": [0, 1],
        "length": 2,
    }
