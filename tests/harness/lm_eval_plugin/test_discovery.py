"""Discovery, in fresh interpreters: lm_eval finds the tasks, and nothing is ever broken or slowed by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

PTH = (ROOT / "factuality_harness" / "startup.pth").read_text()
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


def is_installed() -> bool:
    try:
        return bool(version("factuality-harness"))
    except PackageNotFoundError:
        return False


pytestmark = pytest.mark.skipif(not is_installed(), reason="the harness is not installed here")


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


def test_a_start_imports_nothing(tmp_path: Path) -> None:
    """An import at start-up costs every interpreter milliseconds, so the hook takes none, of ours or anyone's."""
    done = python("import sys; print(type(sys.meta_path[0]).__name__, 'importlib.util' in sys.modules)", tmp_path, "-I")
    assert (done.stdout.split(), done.stderr) == (["Finder", "False"], "")
    hook = "import sys; before = set(sys.modules); exec(sys.argv[2]); print(*sorted(set(sys.modules) - before))"
    done = python(hook, tmp_path, "-S", arguments=(PTH,))
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_another_import_of_lm_eval_imports_nothing_of_ours(tmp_path: Path) -> None:
    done = python("import lm_eval, sys; print(any('factuality' in n for n in sys.modules))", tmp_path)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("body", ["raise RuntimeError('broken on purpose')", "pass"])
def test_a_broken_harness_never_breaks_lm_eval(tmp_path: Path, body: str) -> None:
    fake = tmp_path / "fake"
    (fake / "factuality_harness").mkdir(parents=True)
    (fake / "factuality_harness" / "__init__.py").write_text(body)
    program = EMPTY_DEFAULTS + "from lm_eval.tasks import TaskManager; print(TaskManager().all_tasks)"
    done = python(program, tmp_path, PYTHONPATH=str(fake))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr.count("factuality-harness: its tasks are not available") == 1
    assert "Traceback" not in done.stderr


def test_the_startup_file_alone_breaks_nothing(tmp_path: Path) -> None:
    """What a half removed installation leaves behind: lm_eval is found as ever, and one line says what is missing."""
    manager = tmp_path / "lm_eval" / "tasks" / "manager.py"
    manager.parent.mkdir(parents=True)
    for file in (manager, manager.with_name("__init__.py"), manager.parents[1] / "__init__.py"):
        file.write_text("")
    program = PTH + "import sys; sys.path.insert(0, sys.argv[1]); import lm_eval.tasks.manager as m; print(m.__name__)"
    done = python(program, tmp_path, "-S")
    assert (done.returncode, done.stdout.strip()) == (0, "lm_eval.tasks.manager")
    said, error = done.stderr.split(": ", 2)[1:]
    assert said == "its tasks are not available"
    assert error == "ModuleNotFoundError(\"No module named 'factuality_harness'\")\n"


def test_the_startup_file_is_comments_and_one_line() -> None:
    """Python executes each line of a .pth file that begins with `import` on its own, and takes others for folders."""
    lines = [line for line in PTH.splitlines() if not line.startswith("#")]
    assert len(lines) == 1
    assert lines[0].startswith("import ")
    compile(lines[0], "factuality_harness.pth", "exec")


def test_without_lm_eval_the_hook_stays_out_of_the_way(tmp_path: Path) -> None:
    program = PTH + (
        "\ntry:\n    import lm_eval.tasks.manager\nexcept ModuleNotFoundError as error:\n    print(error.name)\n"
    )
    done = python(program, tmp_path, "-S")
    assert (done.stdout.strip(), done.stderr) == ("lm_eval", "")


def test_tasks_and_model_are_declared_as_entry_points() -> None:
    """lm_eval reads those of models on its main branch; those of tasks are proposed there."""
    (tasks,) = (e for e in entry_points(group="lm_eval.tasks") if e.name == "factuality-harness")
    assert (tasks.load()() / "anah" / "anah_factuality.yaml").is_file()
    (replay,) = (e for e in entry_points(group="lm_eval.models") if e.name == "replay")
    assert replay.load().__name__ == "ReplayLM"


def test_a_bare_checkout_works_with_include_path() -> None:
    """From its folder. With -S no .pth file is read: hook and installed harness are not there, only the libraries."""
    program = (
        "import sys, json\n"
        "sys.path.append(sys.argv[2])\n"
        "from lm_eval.tasks import TaskManager\n"
        "manager = TaskManager(include_path='tasks', include_defaults=False)\n"
        "task = manager.load(['anah_factuality_mini'])['tasks']['anah_factuality_mini']\n"
        "task.build_all_requests(limit=1)\n"
        "(answer,) = task.judge_responses([['It was in 1234. I hope this helps.']], list(task.test_docs())[:1])\n"
        "labels = [s['label'] for s in json.loads(answer)['sentences']]\n"
        "print(json.dumps([manager.all_tasks, labels, task.config.metadata['judge']]))\n"
    )
    libraries = find_spec("lm_eval")
    assert libraries and libraries.origin
    done = python(program, ROOT, "-S", arguments=(str(Path(libraries.origin).parents[1]),))
    assert done.returncode == 0, done.stderr
    tasks, labels, judge = json.loads(done.stdout.splitlines()[-1])
    assert set(TASKS) <= set(tasks)
    assert (labels, judge) == (["unverifiable", "nofact"], "lexical")


def test_errors_of_the_harness_are_one_line_on_the_command_line(tmp_path: Path) -> None:
    program = EMPTY_DEFAULTS.replace("import os, sys", "import os, sys; sys.argv[0] = '/x/lm_eval/__main__.py'") + (
        "from factuality_harness.harness.errors import HarnessError\n"
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
