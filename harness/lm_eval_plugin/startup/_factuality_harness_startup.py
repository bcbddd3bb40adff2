# mypy: ignore-errors
"""Runs at interpreter start (from factuality_harness.pth): waits for the import of lm_eval's task manager.

Nothing is imported here but the standard library's `sys`; where lm_eval is not used, nothing else ever happens.
"""

import sys


class _Finder:
    """Lets the real finders find `lm_eval.tasks.manager`, then has the harness register itself after it has loaded."""

    def find_spec(self, name, path=None, target=None):
        if name != "lm_eval.tasks.manager":
            return None
        sys.meta_path.remove(self)
        from importlib.util import find_spec

        spec = find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            try:
                from factuality_harness.harness.lm_eval_plugin.discovery import register

                register(module)
            except Exception as error:  # lm_eval must work whatever happens to us
                sys.stderr.write(f"factuality-harness: its tasks are not available: {error!r}\n")

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Finder())
