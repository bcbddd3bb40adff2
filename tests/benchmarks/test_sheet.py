"""What a sheet saves against three turns, counted as a dry run counts it."""

import csv
import sys

from benchmarks import sheet


def test_a_sheet_reads_the_page_once_a_response(smollm2, tmp_path, monkeypatch):
    monkeypatch.setattr(sheet, "LENGTHS", (1, 3))
    arguments = ["tokens", "--responses", "2", "--models", str(smollm2.parent), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["benchmarks.sheet", *arguments])
    sheet.main()
    with (tmp_path / "sheet_tokens.csv").open() as file:
        three_turns, one_line, nine_turns, three_lines = csv.DictReader(file)
    assert [int(row["requests"]) for row in (three_turns, one_line, nine_turns, three_lines)] == [6, 2, 18, 2]
    assert float(one_line["times fewer prompt tokens"]) < 8 < float(three_lines["times fewer prompt tokens"])
    assert (tmp_path / "sheet_tokens.manifest.json").is_file()
