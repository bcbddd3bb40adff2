"""`factuality score`: a model's factuality on anybody's questions, through lm_eval.

    factuality score --questions FILE --model hf --model-args pretrained=MODEL --judge SPEC --out DIR

A front of `lm_eval --tasks factuality_custom --log_samples`, with its options under its names.
"""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.commands import Flag, Judge, JudgeArgs, Options, Out, Questions, Split
from factuality_harness.harness.dry_run import ASK, AskingOptions
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.sentences import Language

TASK = "factuality_custom"


def score(
    *,
    questions: Questions,
    columns: Options | None = None,
    split: Split = None,
    language: Language | None = None,
    knowledge: str | None = None,
    model: str = "hf",
    model_args: Annotated[str, Parameter(name=("--model-args", "--model_args"))] = "",
    gen_kwargs: Annotated[str | None, Parameter(name=("--gen-kwargs", "--gen_kwargs"))] = None,
    apply_chat_template: Annotated[Flag, Parameter(name=("--apply-chat-template", "--apply_chat_template"))] = False,
    system_instruction: Annotated[str | None, Parameter(name=("--system-instruction", "--system_instruction"))] = None,
    batch_size: Annotated[str, Parameter(name=("--batch-size", "--batch_size"))] = "1",
    device: str | None = None,
    limit: float | None = None,
    seed: int | None = None,
    judge: Judge = None,
    judge_args: JudgeArgs | None = None,
    metadata: Options | None = None,
    asking: AskingOptions = ASK,
    out: Out,
) -> None:
    """A model's factuality on your own questions, through lm_eval.

    Parameters
    ----------
    columns
        Which column holds question, document, topic or language, where it has not its usual name: a JSON object.
    language
        Only the questions in it.
    knowledge
        Pages by topic, to check facts against in place of documents: SQLite database, rows of title and text, or
        hf:REPO.
    model
        lm_eval's name of the kind of model: hf, vllm, local-chat-completions, replay, …
    model_args
        lm_eval's arguments of the model, such as pretrained=FOLDER.
    gen_kwargs
        lm_eval's settings of decoding, such as max_gen_toks=256.
    apply_chat_template
        Ask in the form the model was tuned on.
    system_instruction
        A system message before each question.
    batch_size
        Questions at once, or auto.
    device
        Where the model runs.
    limit
        The first so many questions, or a share of them.
    seed
        Of everything random; lm_eval's own where it is not given.
    metadata
        More settings of the task: a JSON object (tasks/custom/README.md).
    out
        Folder of lm_eval's results and samples files.
    """
    from factuality_harness.harness.lm_eval_plugin.evaluation import evaluate

    given = {
        "questions": questions,
        "columns": columns,
        "split": split,
        "language": language,
        "knowledge": knowledge,
        "judge": str(JudgeSpec.configured(judge or (metadata or {}).get("judge"))),
        "judge_args": asking.options(judge_args or (metadata or {}).get("judge_args")) or None,
        "dry_run": asking.task_setting(),
    }
    settings = {**(metadata or {}), **{name: value for name, value in given.items() if value is not None}}
    seeds = {f"{of}_{'random_' * (of != 'random')}seed": seed for of in ("random", "numpy", "torch", "fewshot")}
    arguments: dict[str, Any] = {
        "model": model,
        "model_args": model_args,
        "tasks": [TASK],
        "gen_kwargs": gen_kwargs,
        "apply_chat_template": apply_chat_template,
        "system_instruction": system_instruction,
        "batch_size": batch_size,
        "device": device,
        "limit": limit,
        "metadata": settings,
        **(seeds if seed is not None else {}),
    }
    results = evaluate(arguments, out)
    if results is None:
        return
    from lm_eval.utils import make_table

    from factuality_harness.harness.lm_eval_plugin.task import FAILED

    print(make_table(results))
    print(f"to read: factuality page {out} --out {out / 'page.html'}")
    if FAILED:
        raise HarnessError("; ".join(FAILED))
