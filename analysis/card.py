"""A checkpoint's card with its scores, and the checkpoint on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from factuality_harness.analysis.intervals import of_one_run
from factuality_harness.analysis.results import TaskScore, load_run, read_json
from factuality_harness.harness.commands import Flag, Several
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.card import CardScore, model_card
from factuality_harness.harness.io.write import write_text

HIDDEN = ("ci95_low", "ci95_high", "stderr")


def card_scores(runs: list[dict[str, TaskScore]]) -> list[CardScore]:
    """Metrics that have an interval, and the only one of a task that has none; of every task of the runs."""
    found = []
    for score in (score for run in runs for score in run.values()):
        names = [name for name in score.metrics if not any(part in name for part in HIDDEN)]
        estimates = {name: of_one_run(score.metrics, name) for name in names}
        shown = [name for name in names if estimates[name].over] or names[:1]
        for name in shown:
            e = estimates[name]
            found.append(CardScore(score.task, score.version, name, e.mean, score.judge, e.low, e.high, e.over))
    return found


def card(
    checkpoint: Path,
    /,
    *,
    results: Annotated[list[Path] | None, Several] = None,
    name: str | None = None,
    push: str | None = None,
    private: Flag = False,
) -> None:
    """Write a checkpoint's model card: method, data, judge, scores with their intervals; and push it to the hub.

    Parameters
    ----------
    checkpoint
        Folder of a training, with its manifest.json.
    results
        Output folders of lm_eval on this checkpoint.
    name
        What the card is headed; default the repository's or the folder's name.
    push
        Repository of the hub, OWNER/NAME, made where it is not there; checkpoints to resume from stay here.
    private
        Make it a private one.
    """
    path = checkpoint / "manifest.json"
    if not path.is_file():
        raise HarnessError(f"{checkpoint}: no manifest.json; name the output_dir of a training that has ended")
    about: dict[str, Any] = read_json(path).get("settings") or {}
    if "method" not in about:
        raise HarnessError(f"{path}: does not say by which method; it was written by an older version, train again")
    scores = card_scores([load_run(folder) for folder in results or []])
    heading = name or (push or checkpoint.resolve().name).rpartition("/")[2]
    write_text(checkpoint / "README.md", model_card(heading, about, scores))
    print(checkpoint / "README.md")
    if push:
        print(_push(checkpoint, push, private))


def _push(checkpoint: Path, repository: str, private: bool) -> str:
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        url = api.create_repo(repository, private=private, exist_ok=True)
        left_out = ["checkpoint-*/**", "cache/**", "recipe.yaml", "stage.json", "training_args.bin"]
        api.upload_folder(repo_id=repository, folder_path=checkpoint, ignore_patterns=left_out)
    except Exception as error:  # the client raises many unrelated types
        raise HarnessError(
            f"{repository}: cannot be pushed ({type(error).__name__}: {str(error).strip()[:200]}); `hf auth login` "
            "first, or look at the repository's name"
        ) from error
    return str(url)
