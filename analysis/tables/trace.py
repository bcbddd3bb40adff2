"""Where a number of a table comes from: lm_eval's file of each seed, and every stage behind it with its settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from factuality_harness.analysis.results import CellResult, Results, read_json
from factuality_harness.analysis.tables.differences import half_differences
from factuality_harness.analysis.tables.model import Column, Row, Table
from factuality_harness.harness.errors import HarnessError


def trace_back(results: Results, tables: Sequence[Table], row: str, column: str) -> str:
    """Text for people; the first of the tables that has such a row counts.

    A difference of two halves (`diff`) is traced to both of them. Raises HarnessError for a row or column that is not
    there, and for a row that only the paper has.
    """
    table = next((t for t in tables if any(r.name == row and r.cells for r in t.rows)), tables[0])
    found = table.row(row)
    if not found.cells:
        file = table.paper.file if table.paper else ""
        raise HarnessError(
            f"{table.name}: {row} stands only in the paper (results/paper/{file}); no cell was run for it"
        )
    if column == "diff":
        pair = next((d for (name, _), d in half_differences(table).items() if name == found.name), None)
        if pair is None:
            raise HarnessError(f"{table.name}: {found.name} shows no difference; ask for the second of two halves")
        parts = [_lines(results, table, r, pair.column) for r in (pair.row, pair.reference)]
        values = f"{pair.row.name} minus {pair.reference.name}: {pair.estimate.mean!r}, paired by seed"
        return "\n".join([values, "", *parts[0], "", *parts[1]])
    return "\n".join(_lines(results, table, found, table.column(column)))


def _lines(results: Results, table: Table, row: Row, column: Column) -> list[str]:
    found, lacks = row.estimate(column), any(row.lacks(column, seed) for seed in row.cells)
    seeds = f"{len(row.by_seed(column))} of {len(row.cells)} seeds" + ", one measurement" * row.once(column)
    shown_as = f"{found.mean!r}, mean of {seeds}" if found else "not scored" if lacks else "missing"
    lines = [f"{table.title}; {row.name}; {column.name}: {shown_as}", f"results: {results.root}"]
    shown: set[str] = set()
    for seed, cell in sorted(row.cells.items()):
        score = row.score(column, seed)
        if why := row.lacks(column, seed):
            lines += ["", f"seed {seed}: not scored: {cell.stages['score']} has run, with {why}"]
            continue
        if score is None:
            lines += ["", f"seed {seed}: missing; not finished: {', '.join(_unfinished(results, cell))}"]
            continue
        value = score.metric(row.metric(column))
        lines += [
            "",
            f"seed {seed}: {value!r}",
            f"  metric {row.metric(column)}",
            f"  task   {score.task} (version {score.version}, judge {score.judge or 'none'})",
            f"  file   {score.file}",
            f"  sha256 {score.sha256}",
            "  stages",
        ]
        for stage in chain(results, cell.stages["score"]):
            lines += _stage(results, stage, again=stage in shown)
            shown.add(stage)
    manifest = results.root / "manifest.json"
    if manifest.is_file():
        lines += ["", f"manifest of the sweep: {manifest}"]
        data = read_json(manifest)
        if not isinstance(data, dict):
            raise HarnessError(f"{manifest}: not a manifest; remove it, or run the sweep again")
        lines += [
            f"  {key}: {json.dumps(data[key])}"
            for key in ("date", "commit", "uncommitted_changes", "command", "python", "packages")
            if key in data
        ]
    return lines


def chain(results: Results, stage: str) -> list[str]:
    """The stage and all it needs, each after what it needs."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name in results.stages and name not in order:
            for need in results.stages[name]["needs"].values():
                visit(need)
            order.append(name)

    visit(stage)
    return order


def _unfinished(results: Results, cell: CellResult) -> list[str]:
    return [name for name in cell.stages.values() if name not in results.stages and not name.startswith("model:")]


def _stage(results: Results, name: str, again: bool) -> list[str]:
    record: dict[str, Any] = results.stages[name]
    if again:
        return [f"    {name} (as above)"]
    needs = ", ".join(f"{role} {need}" for role, need in record["needs"].items())
    lines = [f"    {name} ({record['kind']}, {record.get('seconds', '?')} s)" + (f" needs {needs}" if needs else "")]
    lines += [f"      settings {json.dumps(record.get('settings'), ensure_ascii=False)}"]
    if "commit" in record:
        changed = ", with uncommitted changes" if record.get("uncommitted_changes") else ""
        lines += [f"      made {record.get('date')} at commit {record['commit']}{changed}"]
    return lines + [f"      $ {line}" for line in record.get("commands", [])]
