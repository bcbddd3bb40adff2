"""The answer cache from the command line: whose answers it holds, and forgetting a judge's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.engines import ENGINES, AnswerCache, cache_path, open_engine
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.write import json_text

CacheFile = Annotated[Path | None, Parameter(help="The cache; default: under $HARNESS_CACHE.")]
UNKNOWN = "not recorded"


def _open(path: Path | None) -> AnswerCache:
    path = path or cache_path()
    if not path.is_file():
        raise HarnessError(f"{path}: no answer cache there")
    return AnswerCache(path)


def list_cache(*, cache: CacheFile = None) -> None:
    """Whose answers the cache holds: judges, their number and characters."""
    store = _open(cache)
    rows = [
        {"judge": owner or UNKNOWN, "answers": n, "characters": size} for owner, (n, size) in store.owners().items()
    ]
    print(json_text({"cache": str(store.path), "judges": rows}, indent=2))


def prune_cache(*, judge: str, cache: CacheFile = None) -> None:
    """Delete a judge's answers from the cache; others may use it meanwhile.

    Parameters
    ----------
    judge
        As `factuality cache list` names it, or a judge's spec; "not recorded": answers of versions that did not note
        their judge.
    """
    store = _open(cache)
    known = store.owners()
    names = [judge] if judge in known else []
    if judge == UNKNOWN:
        names = [""] if "" in known else []
    elif not names:
        spec = JudgeSpec.from_results(judge)
        if spec.engine in ENGINES and spec.target:
            engine = open_engine(f"{spec.engine}:{spec.target}", cache=False).engine
            names = [name for name in (f"{spec.name}@{engine.identity}",) if name in known]
    if not names:
        held = ", ".join(name or UNKNOWN for name in known) or "none"
        raise HarnessError(f"{store.path} holds no answers of {judge!r}; it holds those of: {held}")
    deleted = sum(store.prune(name) for name in names)
    print(json_text({"cache": str(store.path), "judge": names[0] or UNKNOWN, "deleted": deleted, "left": len(store)}))
