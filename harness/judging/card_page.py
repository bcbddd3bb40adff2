"""A judge's card as a page for people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from factuality_harness.harness.judging.agreement import JUDGE

_MALFORMED_SHOWN = 20


def _shown(e: dict[str, Any]) -> str:
    if e["value"] is None:
        return "no value"
    return f"{e['value']:.3f} " + ("[n/a]" if e["low"] is None else f"[{e['low']:.3f}, {e['high']:.3f}]")


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = [" | ".join(map(str, row)) for row in (head, ["---", *["--:"] * (len(head) - 1)], *rows)]
    return ["", *(f"| {line} |" for line in lines), ""]


def _typed_and_quoted(part: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Estimates on types and evidence of a card or of one of its groups, by what they are called on the page."""
    return {f"{kind}: {k}": e for kind in ("types", "evidence") for k, e in part.get(kind, {}).items()}


def _quoted(text: str, limit: int = 300) -> str:
    text = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def card_markdown(data: dict[str, Any]) -> str:
    """A card as a page for people."""
    binary = data["binary"]
    lost = binary["no_verdict"]
    lines = [
        f"# Judge `{data['judge']}`" + (f" with {json.dumps(data['judge_args'])}" if data["judge_args"] else ""),
        "",
        f"Measured on {data['dataset']}: {data['n']} {data['unit']}s, {len(data['topics'])} topics, "
        f"{', '.join(data['languages'])}. Malformed human labels, left out: {data['malformed']}. "
        "Intervals: 95 %, bootstrap over topics; n/a where a value rests on a single topic.",
        "",
        *(f"- {caveat}" for caveat in data["caveats"]),
        *_table(
            ["", "value [95 % interval]", "Wilson interval", "units"],
            [
                [
                    name.replace("_", " "),
                    _shown(e),
                    "[{:.3f}, {:.3f}]".format(*e["wilson"]) if e.get("wilson", [None])[0] is not None else "",
                    e["n"],
                ]
                for name, e in (
                    *((k, binary[k]) for k in ("sensitivity", "specificity", "balanced_accuracy")),
                    ("accuracy", data["accuracy"]),
                    ("kappa", data["kappa"]),
                    *_typed_and_quoted(data).items(),
                )
            ],
        ),
        "Sensitivity: of what humans call supported, the share the judge calls `ok`; specificity: of what humans call "
        "not supported, the share it calls wrong; both among the units it gave a verdict on. No verdict (`nofact` or "
        "`unparsed`): "
        + ", ".join(
            f"{part['nofact'] + part['unparsed']} of {part['of']} {'supported' if k == 'positive' else 'unsupported'}"
            for k, part in lost.items()
        )
        + ". Accuracy and kappa count every unit, with no verdict as a disagreement.",
        "",
        "## Confusion",
        *_table(
            ["human \\ judge", *JUDGE],
            [[human, *(row[name] for name in JUDGE)] for human, row in data["confusion"].items()],
        ),
    ]
    for name, parts in data["by"].items():
        if len(parts) > 1:
            head = [name, "units", "topics", "sensitivity", "specificity", "balanced accuracy", "kappa"]
            keys = ("sensitivity", "specificity", "balanced_accuracy", "kappa")
            rows = [[value, p["n"], p["topics"], *(_shown(p[k]) for k in keys)] for value, p in parts.items()]
            lines += [f"## By {name}", *_table(head, rows)]
            more = {value: _typed_and_quoted(p) for value, p in parts.items()}
            columns = next(iter(more.values()))
            if columns:
                rows = [[value, *map(_shown, found.values())] for value, found in more.items()]
                lines += _table([name, *columns], rows)[1:]
    if data["examples"]:
        lines += ["## Examples of each kind of error", ""]
    seen: set[tuple[str, str]] = set()
    for e in data["examples"]:
        if (e["human"], e["judge"]) not in seen:
            seen.add((e["human"], e["judge"]))
            lines += ["", f"Human `{e['human']}`, judge `{e['judge']}` ({e['of']} times):", ""]
        quoted = " / ".join(map(_quoted, e["judge_evidence"]))
        lines.append(
            f"- {_quoted(e['topic'])}: “{_quoted(e['text'])}”"
            + (f" Judge's evidence: “{quoted}”" if quoted else "")
            + (f" ({_quoted(e['detail'])})" if e["detail"] else "")
        )
    if data["malformed"]:
        lines += ["", "## Malformed human labels", ""]
        for reason, n in Counter(m["reason"] for m in data["malformed_rows"]).most_common(_MALFORMED_SHOWN):
            first = next(m["where"] for m in data["malformed_rows"] if m["reason"] == reason)
            lines.append(f"- {n} x {_quoted(reason)}; the first: {first}")
    return "\n".join(lines) + "\n"
