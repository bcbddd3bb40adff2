"""Dry runs of every judged command, prices, tokens, and answers that are not kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from factuality_harness.harness.data.anah import load_mini
from factuality_harness.harness.dry_run import read_prices, token_counter
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.lm_eval_plugin.discovery import tasks_folder
from tests.helpers.cli import command
from tests.helpers.judge_server import JudgeServer
from tests.helpers.rule_judge import EN_DOCUMENT

# Every sentence takes all three turns of the tests' judge.
SENTENCES = ["Alice was born in 1901.", "Alice moved to Rome in 1920."]
QUESTION = {"question": "Who is Alice?", "topic": "Alice", "document": EN_DOCUMENT, "language": "en"}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JudgeServer]:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    with JudgeServer() as server:
        yield server


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def words_of(name: str, folder: Path) -> list[Any]:
    """The command line of a judged command, over the same two sentences."""
    answer = " ".join(SENTENCES)
    match name:
        case "annotate":
            asked = write(folder / "q.jsonl", QUESTION)
            return [name, write(folder / "r.jsonl", {**QUESTION, "response": answer}), "--questions", asked]
        case "label":
            return [name, write(folder / "s.jsonl", {**QUESTION, "response": answer, "sample": 0})]
        case "judge-card":
            rows = [{**QUESTION, "sentence": sentence, "label": "ok"} for sentence in SENTENCES]
            return [name, "--labels", write(folder / "l.jsonl", *rows)]
    pages = write(folder / "k.jsonl", {"title": "Alice", "text": EN_DOCUMENT})
    return [name, "--responses", write(folder / "r.jsonl", {**QUESTION, "response": answer}), "--knowledge", pages]


def usages(name: str, out: Path) -> list[dict[str, Any]]:
    path = out / "manifest.json" if name == "judge-card" else Path(f"{out}.manifest.json")
    return json.loads(path.read_text())["settings"]["judge_usage"]


@pytest.mark.parametrize("name", ["annotate", "label", "judge-card", "score-facts"])
def test_every_judged_command_counts_first_and_says_what_it_used(
    name: str, tmp_path: Path, server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = [*words_of(name, tmp_path), "--judge", f"dialogue@openai:{server.url}#rules", "--out", out]
    main = command(str(words[0]))

    def plan() -> dict[str, Any]:
        assert main([*words[1:], "--dry-run"]) == 0
        return json.loads(capsys.readouterr().out)

    before = plan()
    assert (server.requests, server.trials, out.exists()) == ([], [], False)
    assert (before["requests"], before["from_cache"], before["to_ask"]) == (6, 0, 6)
    assert before["prompt_tokens"] > before["shared_tokens"] > before["prompt_tokens"] / 2
    assert main(words[1:]) == 0
    capsys.readouterr()
    assert len(server.requests) == 6
    (usage,) = usages(name, out)
    assert (usage["engine"], usage["requests"], usage["from_cache"]) == ("openai#rules", 6, 0)
    if name != "label":  # whose rows are all there
        after = plan()
        assert (after["requests"], after["from_cache"], after["to_ask"], after["prompt_tokens"]) == (6, 6, 0, 0)
        assert main([*words[1:], "--no-cache"]) == 0
        assert len(server.requests) == 12


@pytest.mark.parametrize("guided", [True, False])
def test_a_sheet_is_one_request_a_response(
    guided: bool, tmp_path: Path, server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*words_of("annotate", tmp_path)[1:], "--judge", f"sheet@openai:{server.url}#rules", "--dry-run"]
    words += ["--judge-args", json.dumps({"guided": guided}), "--out", tmp_path / "a"]
    assert command("annotate")(words) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["requests"], plan["sentences"]) == (1, 2)
    assert plan["completion_tokens"] > 20


def test_the_score_command_counts_as_the_task_does(
    tmp_path: Path, server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = write(tmp_path / "q.jsonl", QUESTION)
    words = ["--questions", asked, "--model", "dummy", "--judge", f"dialogue@openai:{server.url}#rules"]
    with pytest.raises(SystemExit) as ended:
        command("score")([*words, "--dry-run", "--out", tmp_path / "out"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert json.loads(shown[shown.index("{") :])["responses"] == 1
    assert server.requests == server.trials == []
    assert not (tmp_path / "out").exists()


def test_no_cache_keeps_nothing(tmp_path: Path, server: JudgeServer) -> None:
    for name in ("annotate", "label"):
        words = [*words_of(name, tmp_path), "--judge", f"dialogue@openai:{server.url}#rules"]
        assert command(name)([*words[1:], "--no-cache", "--out", tmp_path / f"{name}.jsonl"]) == 0
    assert len(server.requests) == 12
    assert not (tmp_path / "cache" / "answers.sqlite").exists()


def test_money(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("m: {prompt: 1000000, completion: 0, cached: 0, batch_discount: 0.5}\n")
    words = [
        *words_of("annotate", tmp_path)[1:],
        "--dry-run",
        "--prices",
        prices,
        "--out",
        tmp_path / "a",
        "--no-cache",
    ]

    def plan(judge: str) -> dict[str, Any]:
        assert command("annotate")([*words, "--judge", judge]) == 0
        return json.loads(capsys.readouterr().out)

    one_by_one = plan("dialogue@openai:http://127.0.0.1:9/v1#m")
    (part,) = one_by_one["by_part"]
    # A price of one a token: the cost is the number of tokens, up to their rounding.
    assert one_by_one["cost"] == pytest.approx(one_by_one["prompt_tokens"], abs=1)
    assert part["cost_with_prompt_cache"] == pytest.approx(part["prompt_tokens"] - part["shared_tokens"], abs=1)
    assert plan("dialogue@batch:http://127.0.0.1:9/v1#m")["cost"] == pytest.approx(one_by_one["cost"] / 2)
    other = plan("dialogue@openai:http://127.0.0.1:9/v1#other")
    assert other["cost"] is None
    assert any("no price for other" in note for note in other["notes"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("m: 3", "prices are an object of models"),
        ("m: {prompt: 1}", "m: completion"),
        ('{"m": {"prompt": "1", "completion": 2}}', "m: prompt is '1'"),
        ('{"m": {"promt": 1}}', "no option 'promt'; did you mean 'prompt'"),
        ("m: {prompt: [", "cannot be read as prices"),
    ],
)
def test_prices_that_are_none(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(content)
    with pytest.raises(HarnessError, match=message):
        read_prices(path)


def test_options_of_a_dry_run_go_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = words_of("annotate", tmp_path)[1:]
    assert command("annotate")([*words, "--judge", "lexical", "--tokenizer", "x", "--out", tmp_path / "a"]) == 2
    assert "go with --dry-run" in capsys.readouterr().err


def test_tokens_by_a_tokenizer(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]")
    tokenizer.save_pretrained(tmp_path / "plain")
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}<assistant>"
    tokenizer.save_pretrained(tmp_path / "chat")
    conversation = [{"role": "user", "content": "one two"}, {"role": "assistant", "content": "three"}]
    assert token_counter(str(tmp_path / "plain"))[0](conversation) == 3
    count, note = token_counter(str(tmp_path / "chat"))
    assert count(conversation) == 6
    assert "counted with the tokenizer" in note
    assert token_counter(None)[0]([{"role": "user", "content": "四个汉字"}]) == 4
    assert token_counter(None)[0]([{"role": "user", "content": "eight, 8"}]) == 2
    with pytest.raises(HarnessError, match="cannot be loaded"):
        token_counter(str(tmp_path / "nowhere"))


MINI = load_mini()


def evaluate(model: str, model_args: dict[str, Any], metadata: dict[str, Any], *tasks: str) -> dict[str, Any]:
    manager = TaskManager(include_path=str(tasks_folder()), include_defaults=False, metadata=metadata)
    return simple_evaluate(model, model_args, tasks=[*tasks], task_manager=manager, bootstrap_iters=0, limit=3)


def test_a_task_is_counted_before_anything_is_generated(
    server: JudgeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = f"dialogue@openai:{server.url}#rules"
    metadata = {"judge": spec, "dry_run": {"answer_tokens": 100}}
    with pytest.raises(SystemExit) as ended:
        evaluate("dummy", {}, metadata, "anah_factuality_mini", "anah_factuality_mini_zh")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    decoder, plans = json.JSONDecoder(), []
    while shown := shown[shown.find("{") :] if "{" in shown else "":
        plan, end = decoder.raw_decode(shown)
        plans.append(plan)
        shown = shown[end:]
    assert [p["task"] for p in plans] == ["anah_factuality_mini", "anah_factuality_mini_zh"]
    for plan in plans:
        assert plan["responses"] == 3 and plan["to_ask"] == plan["requests"] >= 3 * 2 * 3
        assert any("nothing is generated" in note for note in plan["notes"])
    assert server.requests == server.trials == []


def test_a_task_counts_stored_answers(server: JudgeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "r.jsonl", *({"question": q.question, "response": "In 1901. And 1920."} for q in MINI))
    spec = f"dialogue@openai:{server.url}#rules"
    with pytest.raises(SystemExit):
        evaluate("replay", {"responses": str(file)}, {"judge": spec, "dry_run": True}, "anah_factuality_mini")
    plan = json.loads(capsys.readouterr().out)
    assert (plan["responses"], plan["requests"]) == (3, 3 * 2 * 3)
    assert server.requests == server.trials == []
    with pytest.raises(HarnessError, match="dry_run is 'yes'"):
        evaluate("replay", {"responses": str(file)}, {"judge": spec, "dry_run": "yes"}, "anah_factuality_mini")


def test_a_task_without_the_cache(server: JudgeServer, tmp_path: Path) -> None:
    file = write(tmp_path / "r.jsonl", *({"question": q.question, "response": "In 1901."} for q in MINI))
    metadata = {"judge": f"dialogue@openai:{server.url}#rules", "judge_args": {"cache": False}, "max_unparsed": 1.0}
    for runs in (1, 2):
        found = evaluate("replay", {"responses": str(file)}, metadata, "anah_factuality_mini")
        (usage,) = found["configs"]["anah_factuality_mini"]["metadata"]["judge_usage"]
        assert len(server.requests) == runs * usage["requests"] > 0
    assert not (tmp_path / "cache" / "answers.sqlite").exists()
