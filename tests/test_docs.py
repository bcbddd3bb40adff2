"""README and docs: every block is accounted for, every command line parses, and what can run here is run."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from factuality_harness.cli import PASSED_ON, make_app
from factuality_harness.harness.lm_eval_plugin.discovery import tasks_folder
from factuality_harness.harness.questions import load_questions
from tests.helpers.judge_server import JudgeServer
from tests.helpers.paths import ROOT
from tests.helpers.tiny import save_tiny

pytest.importorskip("mkdocs", reason="pip install 'factuality-harness[docs]'")

BIN = Path(sys.executable).parent
PAGES = [
    path
    for pattern in ("*.md", "docs/**/*.md", "tasks/*/README.md", "training/**/README.md")
    for path in sorted(ROOT.glob(pattern))
]


@dataclass(frozen=True)
class Block:
    page: str
    language: str
    text: str

    def __str__(self) -> str:
        return " ".join(self.key)

    @property
    def key(self) -> tuple[str, str]:
        """Page and first words of the first line."""
        return self.page, " ".join(self.text.split("\n", 1)[0].split()[:4])

    def commands(self) -> list[list[str]]:
        """Command lines as words; a line goes on after a backslash and inside quotes."""
        found, held = [], ""
        for line in self.text.replace("\\\n", " ").splitlines():
            held = f"{held}\n{line}" if held else line
            try:
                words = shlex.split(held, comments=True)
            except ValueError:  # a quotation is still open
                continue
            found += [words] if words else []
            held = ""
        assert not held, held
        return found


BLOCKS = [
    Block(path.relative_to(ROOT).as_posix(), found[2], found[3])
    for path in PAGES
    for found in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
]

RUN = "run below"
MAKE = "make: every target is looked up below, and continuous integration runs them"
INSTALL = "installing: tests/test_wheel.py and the Makefile do it; the extras are looked up below"
GPU = "needs GPUs, or vLLM; the command line is parsed below"
HUB = "needs the hub, or data that is not shipped; the command line is parsed below"
SCRIPT: dict[tuple[str, str], str] = {
    ("CONTRIBUTING.md", "make check # lint,"): MAKE,
    ("README.md", "make demo # sets"): MAKE,
    ("README.md", "pip install ."): RUN,
    ("README.md", "factuality sample --questions PATH"): RUN,
    ("docs/index.md", "pip install ."): INSTALL,
    (
        "docs/guides/demo.md",
        "factuality demo",
    ): "ten minutes; make demo is what continuous integration and a reader begin with",
    ("docs/guides/reproduce.md", "factuality tables --results results/world"): RUN,
    ("docs/guides/score.md", "pip install ."): RUN,
    ("docs/guides/score.md", "factuality model fetch smollm2-135m"): RUN,
    ("docs/guides/sweep.md", "factuality sweep run world/table08_methods.yaml"): RUN,
    (
        "docs/guides/sweep.md",
        "factuality sweep run training/experiments/world/[a-z]*.yaml",
    ): "about an hour (make reproduce); "
    "and a cluster with GPUs: tests/training/sweep/test_slurm.py runs a sweep on a real Slurm",
    (
        "docs/guides/sweep.md",
        "factuality sweep rehearse llama31-8b/table02_mask.yaml",
    ): "tests/test_rehearse.py runs another one",
    ("docs/guides/train.md", "factuality sample --questions PATH"): RUN,
    ("docs/guides/train.md", "factuality model card CHECKPOINT"): HUB,
    ("docs/guides/train.md", "factuality world base --out"): RUN,
    ("docs/world.md", "factuality world base --out"): RUN,
    ("tasks/custom/README.md", "factuality score --questions QUESTIONS.csv"): RUN,
    (
        "tasks/custom/README.md",
        "lm_eval --model hf --model_args",
    ): "what the block before it runs; tests/harness/lm_eval_plugin/test_custom.py runs the task",
    ("tasks/factscore/README.md", "lm_eval --model vllm --model_args"): GPU,
    ("tasks/general/README.md", "pip install 'lm-eval[math]'"): HUB,
    ("tasks/judge/README.md", "HF_HUB_OFFLINE=1 lm_eval --model dummy"): HUB,
    ("tasks/judge/README.md", "factuality judge-card --judge SPEC"): HUB,
    ("tasks/world/README.md", "lm_eval --model hf --model_args"): RUN,
    ("training/experiments/README.md", "factuality sweep run world/table08_methods.yaml"): RUN,
    ("docs/guides/sweep.md", "factuality model llamafy opencompass/anah-v2"): HUB,
    ("training/recipes/internlm2-7b/README.md", "factuality model llamafy internlm/internlm2-chat-7b"): GPU,
    ("training/recipes/llama31-8b/README.md", "factuality model llamafy opencompass/anah-v2"): GPU,
    ("training/recipes/llama31-8b/README.md", "D=out/llama31-8b"): GPU,
    (
        "training/recipes/smollm2-135m/README.md",
        "factuality model fetch smollm2-135m",
    ): "25 minutes; its commands run with other words in the blocks of docs/guides",
    ("training/recipes/world/README.md", "factuality world base --out"): RUN,
}
"""Every block of commands, and why those that are not run are not."""


def test_every_block_of_commands_is_accounted_for() -> None:
    assert {block.key for block in BLOCKS if block.language in ("bash", "python", "console", "sh")} == set(SCRIPT)
    assert {block.language for block in BLOCKS} <= {"bash", "json", "yaml", "text", "bibtex"}


def lines(first: str) -> list[tuple[Block, list[str]]]:
    """Command lines of a program, without variables set before it."""
    found = []
    for block in BLOCKS:
        for words in block.commands() if block.language == "bash" else ():
            bare = words[next((i for i, w in enumerate(words) if not re.match(r"[A-Z_]+=", w)), 0) :]
            found += [(block, bare)] if bare[:1] == [first] else []
    return found


@pytest.mark.parametrize(("block", "words"), lines("factuality"), ids=str)
def test_command_lines_parse(block: Block, words: list[str]) -> None:
    """Commands and options exist and fit; nothing is run."""
    if " ".join(words[1:3]) in PASSED_ON:
        return  # read by TRL: tests/training/test_recipes.py
    make_app().parse_args(words[1:], exit_on_error=False, print_error=False)


@pytest.mark.parametrize(("block", "words"), lines("lm_eval"), ids=str)
def test_tasks_and_settings_are_real(block: Block, words: list[str]) -> None:
    from lm_eval.tasks import TaskManager

    known = set(TaskManager(include_path=tasks_folder(), include_defaults=False).all_tasks)
    given = dict(itertools.pairwise(words))
    assert set(given["--tasks"].split(",")) <= known
    json.loads(given.get("--metadata", "{}"))


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in ("json", "yaml")])
def test_data_blocks_can_be_read(block: Block) -> None:
    assert json.loads(block.text) if block.language == "json" else yaml.safe_load(block.text)


def test_targets_and_extras_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = {words[1] for _, words in lines("make")} | set(re.findall(r"`make ([a-z-]+)`", texts))
    assert named <= targets
    extras = set(re.findall(r"^([a-z]+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:\.|factuality-harness)\[([a-z]+)\]", texts)) <= extras


@pytest.mark.slow
def test_the_site_builds_strictly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # of the theme about the successor of mkdocs
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_to_files_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if not re.match(r"https?:", target)]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


# What is run: blocks in one folder each, in order, with the words replaced that stand for what a reader has.


def run(folder: Path, block: Block, replaced: dict[str, str], skip: str = "") -> str:
    """Run a block as bash would; `skip`: command lines that begin so are left out."""
    text = block.text
    for old, new in replaced.items():
        assert old in text, f"{block.page}: {old} is not in the block"
        text = text.replace(old, new)
    if skip:
        assert re.search(rf"^{skip}", text, re.MULTILINE)
        text = re.sub(rf"^{skip}.*?[^\\]\n", "", text, flags=re.MULTILINE | re.DOTALL)
    env = os.environ | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=env, capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, f"{block.page}: {text}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def blocks(page: str, *starts: str) -> list[Block]:
    found = [b for b in BLOCKS if b.page == page and any(b.text.startswith(start) for start in starts)]
    assert len(found) >= len(starts)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "results").symlink_to(ROOT / "results")
    return tmp_path


@pytest.mark.slow
def test_where_a_number_comes_from(folder: Path) -> None:
    (block,) = blocks("docs/guides/reproduce.md", "factuality tables")
    assert "Mask-DPO" in run(folder, block, {})


@pytest.mark.slow
@pytest.mark.parametrize("page", ["docs/guides/sweep.md", "training/experiments/README.md"])
def test_a_sweep_is_planned(folder: Path, page: str) -> None:
    (block,) = blocks(page, "factuality sweep run world/table08_methods.yaml --dry-run")
    assert "table08" in run(folder, block, {})


@pytest.mark.slow
def test_score_your_checkpoint(folder: Path) -> None:
    (block,) = blocks("README.md", "pip install .\nlm_eval")
    (shorter,) = blocks("docs/guides/score.md", "pip install .\nlm_eval")
    assert shorter.commands() == block.commands()[:2]
    save_tiny(folder / "tiny")
    with JudgeServer() as judge:
        replaced = {
            "pretrained=MODEL": "pretrained=tiny",
            "anah_factuality ": "anah_factuality_mini --limit 2 --device cpu --gen_kwargs max_gen_toks=8 ",
            "http://HOST:8000/v1#JUDGE": f"{judge.url}#rules",
        }
        run(folder, block, replaced, skip="pip install")
    (results,) = (folder / "out").rglob("results_*.json")
    assert "dialogue@openai" in results.read_text()


def test_score_your_own_questions(folder: Path) -> None:
    (block,) = blocks("tasks/custom/README.md", "factuality score")
    (folder / "QUESTIONS.csv").write_text("prompt,reference\nWho is Alice?,Alice was born in 1990 in Paris.\n")
    save_tiny(folder / "tiny")
    said = run(
        folder, block, {"pretrained=MODEL": "pretrained=tiny", "max_gen_toks=256": "max_gen_toks=8 --device cpu"}
    )
    assert "f1_at_k" in said and "Who is Alice?" in (folder / "page.html").read_text()


@pytest.mark.slow
def test_try_it_here(folder: Path, smollm2: Path) -> None:
    (block,) = blocks("docs/guides/score.md", "factuality model fetch")
    (folder / "models").symlink_to(smollm2.parent)
    run(folder, block, {})
    assert "SmolLM2" in (folder / "page.html").read_text() or (folder / "page.html").stat().st_size > 10_000


@pytest.mark.slow
def test_train_in_four_commands(folder: Path) -> None:
    """All but the fourth, which wants GPUs (tests/training/mask_dpo/test_trainer.py runs the trainer on this CPU)."""
    (block,) = blocks("README.md", "factuality sample --questions PATH")
    assert blocks("docs/guides/train.md", "factuality sample --questions PATH")[0].commands() == block.commands()
    documents = {q.question: q.document for q in load_questions("mini:train")}
    asked: Counter[str] = Counter()

    def answer(messages: list[dict[str, str]]) -> str:
        """Now the truth, now a lie."""
        question = messages[-1]["content"]
        asked[question] += 1
        return documents[question] if asked[question] % 2 else "It was founded in 1234 by Zorblax the Great."

    with JudgeServer(answer) as server:
        replaced = {"PATH": "mini:train", "vllm:MODEL": f"openai:{server.url}#rules", "SPEC": "lexical"}
        run(folder, block, replaced, skip="accelerate launch")
    assert (folder / "pairs.jsonl").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_fact_world_from_base_to_score(folder: Path) -> None:
    """The pages show the same commands; they are run once, then what the task's README adds."""
    (block,) = blocks("docs/guides/train.md", "factuality world base")
    (recipe,) = blocks("training/recipes/world/README.md", "factuality world base")
    (short,) = blocks("docs/world.md", "factuality world base")
    assert recipe.commands() == block.commands()
    assert short.commands() == block.commands()[: len(short.commands())]
    run(folder, block, {"--seed 0": "--seed 0 --steps 400"})  # of 1500: a third of the facts, and of the time
    near, more = blocks("tasks/world/README.md", "lm_eval")
    for other in (near, more):
        run(folder, other, {"CHECKPOINT": "out/world-0/mask_dpo --limit 8"})
