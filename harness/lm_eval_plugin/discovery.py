"""Makes lm_eval find the tasks and the replay model of an installed harness."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from factuality_harness.harness.errors import HarnessError


def tasks_folder() -> Path:
    """The folder of task YAML files: beside the package, in a checkout and in an installation alike."""
    return Path(__file__).resolve().parents[2] / "tasks"


def find_spec(name: str) -> ModuleSpec | None:
    """Spec of lm_eval's task manager that also calls `register` when it is loaded; called from the start-up file.

    A failure to register is one line on standard error: lm_eval must work whatever happens to us.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return spec
    execute = spec.loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        try:
            register(module)
        except Exception as error:
            sys.stderr.write(f"factuality-harness: its tasks are not available: {error!r}\n")

    spec.loader.exec_module = exec_module  # type: ignore[method-assign]
    return spec


def register(manager: ModuleType) -> None:
    """Called once lm_eval.tasks.manager is loaded: add the tasks folder to every TaskManager, and the replay model."""
    original = manager.TaskManager.__init__

    @functools.wraps(original)
    def init(
        self: Any,
        verbosity: str | None = None,
        include_path: Any = None,
        include_defaults: bool = True,
        **kwargs: Any,
    ) -> None:
        paths = (
            list(include_path) if isinstance(include_path, (list, tuple)) else [include_path] if include_path else []
        )
        # The user's own folders come last: in lm_eval later folders win.
        ours = tasks_folder()
        if include_defaults and ours.resolve() not in [Path(p).resolve() for p in paths]:
            paths.insert(0, ours)
        original(self, verbosity, paths or None, include_defaults, **kwargs)
        self.include_path = include_path

    manager.TaskManager.__init__ = init

    register_models()
    if Path(sys.argv[0]).name in ("lm_eval", "lm-eval") or "lm_eval" in Path(sys.argv[0]).parts:
        _plain_errors()
        atexit.register(_end)


def register_models() -> None:
    """Make lm_eval know the replay model."""
    import lm_eval.models  # noqa: F401  (lm_eval registers its own models only while the registry is empty)
    from lm_eval.api.registry import model_registry

    if "replay" not in model_registry:
        model_registry.register("replay", target="factuality_harness.harness.lm_eval_plugin.replay:ReplayLM")


def _end() -> None:
    """End lm_eval's command as failed, after all it writes, when a judge left too much unjudged."""
    task = sys.modules.get("factuality_harness.harness.lm_eval_plugin.task")
    if failed := getattr(task, "FAILED", []):
        print(*(f"error: {why}" for why in failed), sep="\n", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(3)


def _plain_errors() -> None:
    """On lm_eval's command line, show a HarnessError as its message and not as a traceback."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, HarnessError):
            print(f"error: {error}", file=sys.stderr)
        else:
            before(kind, error, trace)

    sys.excepthook = hook
