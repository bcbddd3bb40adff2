"""The sweep's command line: what is left to run, what a change costs, and a whole sweep killed and gone on with."""

import json
import os
import signal
import subprocess
import sys
from copy import deepcopy

import pytest

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.sweep.command import state, status, write_experiments
from factuality_harness.training.sweep.estimate import estimate
from factuality_harness.training.sweep.experiment import load_experiment
from factuality_harness.training.sweep.plan import make_plan
from factuality_harness.training.sweep.schema import STAGES
from factuality_harness.training.sweep.store import Store
from tests.helpers import doze, experiments
from tests.helpers.cli import command
from tests.helpers.paths import ROOT

main = command("sweep")


@pytest.fixture
def planned(tmp_path):
    """Experiments, plan and an empty store of the tiny experiment."""
    found = [load_experiment(experiments.experiment(tmp_path))]
    return found, make_plan(found), Store(tmp_path / "store")


def finish(store, plan, *kinds):
    for stage in plan.stages.values():
        if stage.kind in kinds:
            store.begin(stage, resume=False)
            store.finish(stage, 60.0, ["python -m something"])


def test_status_names_what_is_left_and_for_whom(planned):
    found, plan, store = planned
    finish(store, plan, "base", "questions", "sample")
    broken = next(s for s in plan.stages.values() if s.kind == "annotate")
    store.fail(broken.id, "no judge\ntraceback")
    text = status(found, plan, store)
    assert "tiny: 1 failed, 1 waiting of 2 cells" in text
    assert f"error in {broken.id}: no judge" in text and "traceback" not in text
    assert "stages: 3 done, 1 failed, 4 waiting" in text


def test_a_finished_cell_says_done(planned):
    found, plan, store = planned
    finish(store, plan, *{stage.kind for stage in plan.stages.values()})
    assert status(found, plan, store).splitlines() == ["tiny: 2 done of 2 cells", "stages: 8 done"]


def test_a_run_that_has_nothing_to_do_leaves_the_manifest_of_the_one_that_had(planned):
    (experiment,), plan, store = planned
    made_with = store.root / "manifest.json"
    finish(store, plan, *STAGES)
    made_with.write_text("of an earlier run")
    assert main(["run", str(experiment.path), "--store", str(store.root)]) == 0
    assert made_with.read_text() == "of an earlier run"
    made_with.unlink()
    assert main(["run", str(experiment.path), "--store", str(store.root)]) == 0
    assert json.loads(made_with.read_text())["inputs"]


def test_changing_one_cell_reruns_that_cell_and_nothing_else(tmp_path, capsys):
    path = experiments.experiment(tmp_path)
    plan = make_plan([load_experiment(path)])
    store = Store(tmp_path / "store")
    finish(store, plan, *{stage.kind for stage in plan.stages.values()})
    grid = {"setting": {"base": {"train": []}, "w/ mask": {"train": deepcopy(experiments.TRAINED)}}}
    grid["setting"]["w/ mask"]["train"][0]["arguments"]["learning_rate"] = 1e-3
    experiments.experiment(tmp_path, grid=grid)
    assert main(["status", str(path), "--store", str(store.root)]) == 0
    shown = capsys.readouterr().out
    assert "tiny: 1 done, 1 waiting of 2 cells" in shown
    assert [line.split()[1].split("-")[0] for line in shown.splitlines() if ", for 1 cells" in line] == [
        "train",
        "score",
    ]


def test_estimate_counts_time_and_judge_calls(tmp_path):
    rows = [{"topic": f"t{i}", "question": "q?", "document": "d", "language": "en"} for i in range(10)]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    defaults = {
        **experiments.TINY,
        "model": "hub/name",
        "questions": {"file": str(questions)},
        "judge": "dialogue@hf:x",
    }
    path = experiments.experiment(
        tmp_path, defaults=defaults, estimate={"train": 600, "sentences": 5, "test_questions": 7}
    )
    found = [load_experiment(path)]
    plan, store = make_plan(found), Store(tmp_path / "store")
    finish(store, plan, "questions")
    text = estimate(found, plan, store, workers=2)
    assert "6 of 7 stages to run, about 5 min with 2 workers, not counting sample, annotate, pair, score" in text
    assert "1 annotate  (time unknown), up to 600 judge calls" in text  # 10 questions x 4 samples x 5 sentences x 3
    assert "2 score     (time unknown), up to 210 judge calls" in text  # 2 cells x 7 x 5 x 3


def test_analysis_is_told_what_the_cells_are(planned):
    found, plan, store = planned
    write_experiments(found, plan, store)
    data = json.loads((store.root / "experiments" / "tiny.json").read_text())
    assert [cell["labels"] for cell in data["cells"]] == [{"setting": "base"}, {"setting": "w/ mask"}]
    assert [*data["cells"][0]["stages"]] == ["base", "score"]
    assert all(stage in plan.stages for cell in data["cells"] for stage in cell["stages"].values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "no.yaml"], "no such experiment file"),
        (["run", "EXPERIMENT", "--workers", "0"], "--workers 0"),
        (["run", "EXPERIMENT", "EXPERIMENT"], "two experiments have the same name"),
        (["run", "EXPERIMENT", "--seeds", "1", "1"], "seeds is a list"),
        (["run", "EXPERIMENT", "--job", "partition=gpu"], "options partition: those are of jobs"),
        (["run", "EXPERIMENT", "--executor", "slurm", "--job", "=x"], "option =x: give KEY=VALUE"),
    ],
)
def test_bad_command_lines(tmp_path, capsys, arguments, message):
    path = str(experiments.experiment(tmp_path))
    assert main([path if a == "EXPERIMENT" else a for a in arguments] + ["--store", str(tmp_path / "store")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("action", [["run"], ["run", "--dry-run"], ["status"]])
def test_a_store_that_is_a_file(tmp_path, capsys, action):
    path = experiments.experiment(tmp_path)
    for store in (path, path / "below"):
        assert main([*action, str(path), "--store", str(store)]) == 2
        assert f"{path}: is a file" in capsys.readouterr().err


def test_a_record_that_is_none_is_named(planned):
    found, plan, store = planned
    finish(store, plan, "base")
    record = next(store.root.glob("stages/base-*/stage.json"))
    record.write_text('{"settings": {}, "needs": {}, "seconds": 1}', encoding="utf-8")
    with pytest.raises(HarnessError, match=f"{record}: unreadable .*kind"):
        estimate(found, plan, store, workers=1)


def test_a_reader_that_leaves_early_ends_the_output_quietly(tmp_path):
    path = experiments.experiment(tmp_path)
    read, write = os.pipe()
    os.close(read)
    line = [
        sys.executable,
        "-m",
        "factuality_harness",
        "sweep",
        "status",
        str(path),
        "--store",
        str(tmp_path / "store"),
    ]
    ended = subprocess.run(line, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert ended.returncode == 1 and not ended.stderr


@pytest.mark.parametrize("name", ["world/table02_mask.yaml", "training/experiments/world/table02_mask.yaml"])
def test_shipped_experiments_are_planned_from_any_folder(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    for room in ("harness", "training", "analysis", "tasks"):  # of somebody else
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").touch()
    assert main(["run", name, "--dry-run"]) == 0
    assert "waiting  table02_mask: w/ mask (seed 2): base-" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"harness", "training", "analysis", "tasks"}


def test_a_missing_checkpoint_stops_the_run_but_not_the_plan(tmp_path, capsys):
    path = str(
        experiments.experiment(
            tmp_path, defaults={**experiments.TINY, "model": "./nowhere", "questions": {"file": "mini:train"}}
        )
    )
    assert main(["run", path, "--store", str(tmp_path / "store"), "--dry-run"]) == 2  # the whole plan, then this
    said = capsys.readouterr()
    assert (
        "waiting  tiny: base (seed 0): score-" in said.out
        and "missing model: ./nowhere: no such checkpoint folder" in said.out
    )
    assert said.err.endswith("things this needs is missing; see above\n")
    assert main(["run", path, "--store", str(tmp_path / "store")]) == 2
    assert "missing checkpoint: ./nowhere" in capsys.readouterr().err


def test_a_stage_is_held_by_one_and_let_go_with_its_process(planned):
    _, plan, store = planned
    stage = next(iter(plan.stages))
    with store.hold(stage) as first, Store(store.root).hold(stage) as second:
        assert first and not second
        assert state(stage, store) == "running"
    assert state(stage, store) == "waiting"
    program = (
        "import os, sys; from factuality_harness.training.sweep.store import Store\n"
        "with Store(sys.argv[1]).hold(sys.argv[2]): os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(store.root), stage], cwd=ROOT)
    assert ended.returncode == -signal.SIGKILL
    with store.hold(stage) as ours:
        assert ours


def test_a_stage_has_its_name_only_when_it_is_whole(planned):
    _, plan, store = planned
    stage = next(iter(plan.stages.values()))
    (store.begin(stage, resume=False) / "half").touch()
    assert not store.folder(stage.id).exists()
    folder = store.begin(stage, resume=True)
    assert (folder / "half").exists()
    (folder / "recipe.yaml").write_text(f"output_dir: {folder}")
    store.folder(stage.id).mkdir(parents=True)
    (store.folder(stage.id) / "of an earlier version").touch()
    store.finish(stage, 1.0, [f"command --out {folder}/x"])
    assert {path.name for path in store.folder(stage.id).iterdir()} == {"half", "stage.json", "recipe.yaml"}
    assert (store.folder(stage.id) / "recipe.yaml").read_text() == f"output_dir: {store.folder(stage.id)}"
    assert not folder.exists()
    assert store.record(stage.id)["commands"] == [f"command --out {store.folder(stage.id)}/x"]


def test_status_says_where_to_look_while_a_run_is_at_work(planned):
    found, plan, store = planned
    assert "dashboard" not in status(found, plan, store)
    with store.announced(dashboard="http://here:1/status"):
        assert status(found, plan, store).splitlines()[-1].endswith("dashboard http://here:1/status")
    assert "dashboard" not in status(found, plan, store)


def sweep(path, store):
    line = [
        sys.executable,
        "-m",
        "factuality_harness",
        "sweep",
        "run",
        str(path),
        "--store",
        str(store),
        "--workers",
        "1",
    ]
    return subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def outcome(store):
    """Metrics by stage: all of a result that is not time or place."""
    files = sorted(store.glob("stages/score-*/lm_eval/*/results_*.json"))
    return {file.parents[2].name: json.loads(file.read_text())["results"] for file in files}


@pytest.mark.slow
def test_a_sweep_killed_at_any_stage_ends_as_an_unbroken_one(tmp_path):
    path = experiments.experiment(tmp_path)
    plain, broken = tmp_path / "plain", tmp_path / "broken"
    unbroken = sweep(path, plain)
    text, _ = unbroken.communicate(timeout=400)
    assert unbroken.returncode == 0, text
    assert "tiny: 2 done of 2 cells" in text and len(outcome(plain)) == 2
    for kind in ("base", "sample", "train"):
        process = sweep(path, broken)
        doze.wait_for(
            lambda kind=kind: list([*broken.glob(f"parts/{kind}-*[0-9a-f]"), *broken.glob(f"stages/{kind}-*")]), 200
        )
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    again = sweep(path, broken)
    text, _ = again.communicate(timeout=400)
    assert again.returncode == 0, text
    assert outcome(broken) == outcome(plain)
