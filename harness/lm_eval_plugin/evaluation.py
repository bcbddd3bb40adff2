"""lm_eval in this process, with its own files as the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.lm_eval_plugin.discovery import register_models
from factuality_harness.harness.lm_eval_plugin.lookup import find_tasks


def evaluate(arguments: dict[str, Any], out: Path) -> dict[str, Any] | None:
    """Run `lm_eval.simple_evaluate` with `arguments` and write what its command line writes, samples too.

    Returns its results; None in a process that leaves writing to another one. Raises HarnessError for a task or model
    that lm_eval does not know, and where it wrote nothing.
    """
    import lm_eval
    from lm_eval.api.registry import get_model
    from lm_eval.loggers import EvaluationTracker

    manager = find_tasks(arguments["tasks"], arguments["metadata"] or {})
    register_models()
    try:
        get_model(arguments["model"])
    except (KeyError, ValueError) as error:
        raise HarnessError(f"lm_eval knows no model {arguments['model']!r}; say hf, vllm or replay") from error
    tracker = EvaluationTracker(output_path=str(out))
    gen_kwargs = arguments["gen_kwargs"]
    results = lm_eval.simple_evaluate(
        **{**arguments, "gen_kwargs": dict(gen_kwargs) if isinstance(gen_kwargs, dict) else gen_kwargs},
        task_manager=manager,
        evaluation_tracker=tracker,
        log_samples=True,
    )
    if results is None:
        return None
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task in results["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])
    if not list(out.rglob("results_*.json")):
        raise HarnessError(f"{out}: lm_eval wrote no result file; its message stands in the log")
    return results
