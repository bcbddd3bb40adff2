"""Discovery, in fresh interpreters: lm_eval finds the tasks, and nothing is ever broken or slowed by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

STARTUP = ROOT / "harness" / "lm_eval_plugin" / "startup"
PTH = (STARTUP / "factuality_harness.pth").read_text()
TASKS = [
    f"anah_factuality{suffix}"
    for suffix in ("", "_best_of_n", "_en", "_mini", "_mini_en", "_mini_zh", "_sampled", "_zh")
]
TASKS += ["world_best_of_n", "world_recall", "world_recall_clusters", "general_ability", "general_ability_math"]

# lm_eval's own task folder takes half a minute to index: these programs let it look into an empty one instead.
EMPTY_DEFAULTS = """
import os, sys
from lm_eval.tasks import manager
manager.__file__ = os.path.join(sys.argv[1], "manager.py")
"""

pytestmark = pytest.mark.skipif(
    find_spec("_factuality_harness_startup") is None, reason="the harness is not installed here"
)


def python(
    program: str, folder: Path, *flags: str, arguments: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh interpreter, from another folder."""
    command = [sys.executable, *flags, "-c", program, str(folder), *arguments]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | environment
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)


def test_a_task_manager_knows_the_tasks_without_being_told(tmp_path: Path) -> None:
    program = EMPTY_DEFAULTS + (
        "import json; from lm_eval.tasks import TaskManager\n"
        "from lm_eval.api.registry import get_model, model_registry\n"
        "print(json.dumps([TaskManager().all_tasks, get_model('replay').__name__, 'hf' in model_registry]))"
    )
    done = python(program, tmp_path)
    assert done.returncode == 0, done.stderr
    tasks, replay, others = json.loads(done.stdout.splitlines()[-1])
    assert set(TASKS) <= set(tasks)
    assert replay == "ReplayLM"
    assert others  # lm_eval's own models are still there


def test_the_users_own_folders_are_asked_too_and_win(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.yaml").write_text("task: mine\noutput_type: generate_until\n")
    (tmp_path / "own" / "anah.yaml").write_text("task: anah_factuality\noutput_type: generate_until\n")
    program = EMPTY_DEFAULTS + (
        "import json; from lm_eval.tasks import TaskManager\n"
        "found = []\n"
        "for path in ('own', ['own']):\n"
        "    m = TaskManager(include_path=path)\n"
        "    found.append(['mine' in m.all_tasks, 'anah_factuality_mini' in m.all_tasks,\n"
        "                  str(m.task_index['anah_factuality'].yaml_path), m.include_path == path])\n"
        "only = TaskManager(include_path='own', include_defaults=False)\n"
        "found.append(only.all_tasks)\n"
        "print(json.dumps(found))"
    )
    done = python(program, tmp_path)
    assert done.returncode == 0, done.stderr
    *both, only = json.loads(done.stdout.splitlines()[-1])
    assert both == [[True, True, "own/anah.yaml", True]] * 2
    assert only == ["anah_factuality", "mine"]


def test_a_start_without_lm_eval_imports_nothing_of_ours(tmp_path: Path) -> None:
    before = python("import sys; print(*sys.modules)", tmp_path, "-S").stdout.split()
    done = python("import sys; print(*sys.modules)", tmp_path)
    assert done.stderr == ""
    loaded = set(done.stdout.split())
    assert "_factuality_harness_startup" in loaded
    assert not any(name.split(".")[0] in ("harness", "lm_eval", "torch", "datasets", "json") for name in loaded)
    assert "sys" in before


def test_another_import_of_lm_eval_imports_nothing_of_ours(tmp_path: Path) -> None:
    done = python("import lm_eval, sys; print(any(n.split('.')[0] == 'harness' for n in sys.modules))", tmp_path)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("body", ["raise RuntimeError('broken on purpose')", "pass"])
def test_a_broken_harness_never_breaks_lm_eval(tmp_path: Path, body: str) -> None:
    fake = tmp_path / "fake"
    (fake / "harness").mkdir(parents=True)
    (fake / "harness" / "__init__.py").write_text(body)
    program = EMPTY_DEFAULTS + "from lm_eval.tasks import TaskManager; print(TaskManager().all_tasks)"
    done = python(program, tmp_path, PYTHONPATH=str(fake))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr.count("factuality-harness: its tasks are not available") == 1
    assert "Traceback" not in done.stderr


def test_the_startup_line_alone_does_nothing(tmp_path: Path) -> None:
    """What a half removed installation leaves behind."""
    done = python(PTH + "\nimport sys; print(len(sys.meta_path))", tmp_path, "-S")
    assert (done.returncode, done.stderr) == (0, "")
    untouched = python("import sys; print(len(sys.meta_path))", tmp_path, "-S")
    assert done.stdout == untouched.stdout


def test_the_startup_line_stays_one_line() -> None:
    """Python executes each line of a .pth file that begins with `import` on its own."""
    assert PTH.startswith("import ")
    assert PTH.strip().count("\n") == 0
    compile(PTH, "factuality_harness.pth", "exec")


def test_without_lm_eval_the_hook_stays_out_of_the_way(tmp_path: Path) -> None:
    program = (STARTUP / "_factuality_harness_startup.py").read_text() + (
        "\ntry:\n    import lm_eval.tasks.manager\nexcept ModuleNotFoundError as error:\n    print(error.name)\n"
    )
    done = python(program, tmp_path, "-S")
    assert (done.stdout.strip(), done.stderr) == ("lm_eval", "")


def test_a_bare_checkout_works_with_include_path(tmp_path: Path) -> None:
    """With -S no .pth file is read: neither the hook nor the installed harness is there, only the libraries."""
    program = (
        "import sys, json\n"
        "sys.path.append(sys.argv[2])\n"
        "from importlib.util import find_spec\n"
        "assert not find_spec('harness') and '_factuality_harness_startup' not in sys.modules, 'not a bare checkout'\n"
        "from lm_eval.tasks import TaskManager\n"
        "manager = TaskManager(include_path=sys.argv[3], include_defaults=False)\n"
        "task = manager.load(['anah_factuality_mini'])['tasks']['anah_factuality_mini']\n"
        "task.build_all_requests(limit=1)\n"
        "(answer,) = task.judge_responses([['It was in 1234. I hope this helps.']], list(task.test_docs())[:1])\n"
        "labels = [s['label'] for s in json.loads(answer)['sentences']]\n"
        "print(json.dumps([manager.all_tasks, labels, task.config.metadata['judge']]))\n"
    )
    done = python(program, tmp_path, "-S", arguments=(sysconfig.get_paths()["purelib"], str(ROOT / "tasks")))
    if "not a bare checkout" in done.stderr:
        pytest.skip("the harness is installed as files, not from its checkout")
    assert done.returncode == 0, done.stderr
    tasks, labels, judge = json.loads(done.stdout.splitlines()[-1])
    assert set(TASKS) <= set(tasks)
    assert (labels, judge) == (["unverifiable", "nofact"], "lexical")


def test_errors_of_the_harness_are_one_line_on_the_command_line(tmp_path: Path) -> None:
    program = EMPTY_DEFAULTS.replace("import os, sys", "import os, sys; sys.argv[0] = '/x/lm_eval/__main__.py'") + (
        "from harness.errors import HarnessError\n"
        "try:\n    raise ValueError('a bug')\nexcept ValueError:\n    sys.excepthook(*sys.exc_info())\n"
        "print('----', file=sys.stderr)\n"
        "raise HarnessError('say this')"
    )
    done = python(program, tmp_path)
    bug, ours = done.stderr.split("----\n")
    assert "Traceback" in bug
    assert "ValueError: a bug" in bug
    assert (done.returncode, ours) == (1, "error: say this\n")


@pytest.mark.slow
def test_the_real_listing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lm_eval", "ls", "tasks"], cwd=tmp_path, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    listed = {line.split("|")[1].strip() for line in done.stdout.splitlines() if line.count("|") > 2}
    assert set(TASKS) <= listed
    assert "gsm8k" in listed
