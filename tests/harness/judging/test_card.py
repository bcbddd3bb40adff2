"""Judge cards: what they hold, on a real judge server and on the human-labelled biographies; resuming; errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.judging.card import judge_labels, make_card
from factuality_harness.harness.judging.correction import read_card
from factuality_harness.harness.judging.labels import load_biographies
from tests.helpers.cli import command
from tests.helpers.judge_server import JudgeServer
from tests.helpers.paths import ROOT

main = command("judge-card")
DOCUMENTS = {"en": "Alice was born in 1901. Alice moved to Rome in 1920.", "zh": "张三生于1901年。张三1920年到罗马。"}
# (sentence, human label); the tests' judge calls a sentence right whose numbers the passages hold.
SENTENCES = {
    "en": [
        ("Alice was born in 1901.", "ok"),
        ("Alice was born in 1905.", "contradictory"),
        ("Alice had 3 cats.", "unverifiable"),  # judge: contradictory
        ("Alice sang in 1920.", "unverifiable"),  # judge: ok
        ("Oh, how nice!", "nofact"),
        ("Alice MUMBLE 1901.", "ok"),  # judge: unparsed
        ("Alice is well.", "ok"),  # judge: nofact
        ("Alice came 1901.", "right"),  # malformed
    ],
    "zh": [("张三生于1901年。", "ok"), ("张三生于1905年。", "contradictory"), ("好的。", "nofact")],
}


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer() as server:
        yield server


def rows(topics: int = 3) -> list[dict[str, Any]]:
    return [
        {
            "topic": f"T{t} {language}",
            "question": f"Question {t}?",
            "sentence": sentence,
            "document": DOCUMENTS[language],
            "language": language,
            "label": label,
            "frequency": ("rare", "very freq", "very rare")[t % 3],
            "evidence": DOCUMENTS[language].split(". " if language == "en" else "。")[:1] if "1901" in sentence else [],
        }
        for t in range(topics)
        for language, pieces in SENTENCES.items()
        for sentence, label in pieces
    ]


def labels_file(folder: Path) -> Path:
    path = folder / "labels.jsonl"
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows()), encoding="utf-8")
    return path


def report(folder: Path, *options: str) -> dict[str, Any]:
    assert main([*options, "--out", str(folder / "card")]) == 0
    return json.loads((folder / "card" / "card.json").read_text(encoding="utf-8"))


def test_a_card_from_a_judge_server(tmp_path: Path, server: JudgeServer) -> None:
    path = labels_file(tmp_path)
    data = report(tmp_path, "--labels", str(path), "--judge", f"dialogue@openai:{server.url}#rules")
    assert (data["judge"], data["unit"], data["languages"]) == ("dialogue@openai#rules", "sentence", ["en", "zh"])
    assert (data["n"], data["malformed"]) == (30, 3)
    assert data["malformed_rows"][0]["where"] == "labels.jsonl, row 8"
    none = dict.fromkeys(("ok", "contradictory", "unverifiable", "nofact", "unparsed"), 0)
    assert data["confusion"] == {
        "ok": none | {"ok": 6, "nofact": 3, "unparsed": 3},
        "contradictory": none | {"contradictory": 6},
        "unverifiable": none | {"ok": 3, "contradictory": 3},
        "nofact": none | {"nofact": 6},
    }
    binary = data["binary"]
    assert (binary["sensitivity"]["value"], binary["sensitivity"]["n"]) == (1.0, 6)
    assert (binary["specificity"]["value"], binary["specificity"]["n"]) == (0.75, 12)
    assert binary["no_verdict"] == {
        "positive": {"nofact": 3, "unparsed": 3, "of": 12},
        "negative": {"nofact": 0, "unparsed": 0, "of": 12},
    }
    assert data["types"]["accuracy"]["value"] == 18 / 30
    assert data["by"]["language"]["zh"]["specificity"]["value"] == 1
    assert data["by"]["language"]["en"]["specificity"]["value"] == 2 / 3
    zh, en = (data["by"]["language"][name] for name in ("zh", "en"))
    assert (zh["types"]["f1_ok"]["value"], zh["types"]["accuracy"]["n"]) == (1, 9)
    assert en["types"]["f1_contradictory"]["value"] == 2 * 3 / (3 + 6)
    assert (
        sum(part["evidence"]["precision_1gram"]["n"] for part in (zh, en)) == data["evidence"]["precision_1gram"]["n"]
    )
    page = (tmp_path / "card" / "card.md").read_text(encoding="utf-8")
    assert "| language | types: accuracy | types: f1_weighted" in page
    assert "evidence: precision_4gram |" in page.partition("## By language")[2]
    assert list(data["by"]["frequency"]) == ["very rare", "rare", "very freq"]
    assert data["topics"][0] == ["T0 en", 1, 0, 2, 1, 2, 0]
    assert [sum(column) for column in list(zip(*data["topics"], strict=True))[1:]] == [6, 0, 9, 3, 6, 0]
    kinds = {(e["human"], e["judge"]): e["of"] for e in data["examples"]}
    assert kinds == {
        ("ok", "nofact"): 3,
        ("ok", "unparsed"): 3,
        ("unverifiable", "contradictory"): 3,
        ("unverifiable", "ok"): 3,
    }
    assert data["evidence"]["precision_4gram"]["value"] == 5 / 12  # it quotes one passage too many


def test_the_page_and_the_manifest(tmp_path: Path) -> None:
    data = report(tmp_path, "--labels", str(labels_file(tmp_path)), "--judge", "lexical")
    page = (tmp_path / "card" / "card.md").read_text(encoding="utf-8")
    for human, row in data["confusion"].items():
        assert f"| {human} | {' | '.join(str(n) for n in row.values())} |" in page
    assert "3 x label 'right' is none of" in page
    assert "## By frequency" in page
    manifest = json.loads((tmp_path / "card" / "manifest.json").read_text())
    assert list(manifest["inputs"]) == ["labels.jsonl"]
    assert str(tmp_path) not in manifest["command"].partition("--out")[0]


def test_an_interrupted_run_goes_on(tmp_path: Path, server: JudgeServer, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--labels", str(labels_file(tmp_path)), "--judge", f"dialogue@openai:{server.url}#rules"]
    options += ["--judge-args", '{"retries": 0, "concurrency": 2}']
    server.stop_after = 10
    assert main([*options, "--out", str(tmp_path / "card")]) == 2
    assert "finished answers are in the cache" in capsys.readouterr().err
    assert not (tmp_path / "card").exists()
    server.stop_after = None
    server.start()
    report(tmp_path, *options)
    kept = [messages for messages in server.answered if "MUMBLE" not in messages]
    assert len(kept) == len(set(kept))
    server.answered.clear()
    report(tmp_path, *options)
    assert server.answered and all("MUMBLE" in messages for messages in server.answered)  # cannot be read: not kept


def test_factscores_verifier_is_a_judge_too(tmp_path: Path) -> None:
    def answer(messages: list[dict[str, str]]) -> str:
        text = messages[-1]["content"]
        return "True." if text.count("1901") > 1 else "False."

    with JudgeServer(answer) as server:
        options = ["--labels", str(labels_file(tmp_path)), "--judge", f"factscore@openai:{server.url}#rules"]
        data = report(tmp_path, *options, "--language", "en")
    assert data["judge"] == "factscore@openai#rules"
    assert data["confusion"]["ok"]["ok"] == 6
    assert data["confusion"]["contradictory"]["unverifiable"] == 3
    assert data["languages"] == ["en"]


def test_a_judge_that_never_gives_a_verdict_has_no_value(tmp_path: Path) -> None:
    with JudgeServer(lambda messages: "<No Facts>") as server:
        options = ["--labels", str(labels_file(tmp_path)), "--judge", f"dialogue@openai:{server.url}#rules"]
        data = report(tmp_path, *options)
    assert data["binary"]["sensitivity"] == {"value": None, "low": None, "high": None, "n": 0, "wilson": [None, None]}
    assert data["binary"]["no_verdict"]["positive"]["nofact"] == 12
    assert "no value" in (tmp_path / "card" / "card.md").read_text(encoding="utf-8")


def test_bad_command_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(labels_file(tmp_path))
    for options, message in (
        (["--labels", path, "--judge", "lexcial"], "'lexcial' is not known"),
        (["--labels", path, "--judge", "factscore"], "'factscore' needs a model"),
        (["--labels", path, "--judge", "lexical", "--knowledge", "x"], "--knowledge goes with --biographies"),
        (["--labels", path, "--judge", "lexical", "--limit-topics", "0"], "at least one"),
        (["--labels", path, "--judge", "lexical", "--language", "fr"], "'fr' is not supported"),
        (["--labels", path, "--judge", "lexical", "--judge-args", "[1]"], "'[1]' is no JSON object of options"),
        (["--labels", path, "--judge", "lexical", "--judge-args", "{"], "'{' is not JSON"),
        (["--labels", path, "--judge", "lexical", "--examples", "-1"], "0 or more"),
        (["--labels", path], "no judge is configured"),
        (["--judge", "lexical"], "as one of --anah, --biographies, --labels"),
        (["--labels", path, "--anah", path, "--judge", "lexical"], "as one of --anah, --biographies, --labels"),
    ):
        assert main([*options, "--out", str(tmp_path / "card")]) == 2
        assert message in capsys.readouterr().err
    english = tmp_path / "en.jsonl"
    english.write_text(json.dumps(rows(1)[0]) + "\n")
    assert main(["--labels", str(english), "--judge", "lexical", "--language", "zh", "--out", str(tmp_path / "c")]) == 2
    assert "there are labels in: en" in capsys.readouterr().err


def test_a_file_in_the_way_is_found_before_any_judging(
    tmp_path: Path, server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(labels_file(tmp_path))
    for out in (path, f"{path}/card"):
        assert main(["--labels", path, "--judge", f"dialogue@openai:{server.url}#rules", "--out", out]) == 2
        assert "a file is in the way" in capsys.readouterr().err
    assert server.requests == []


def test_one_topic_has_no_interval_and_no_examples_no_heading(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows(1)[:2]))
    data = report(tmp_path, "--labels", str(path), "--judge", "lexical", "--examples", "0")
    assert (data["accuracy"]["low"], data["accuracy"]["high"]) == (None, None)
    page = (tmp_path / "card" / "card.md").read_text(encoding="utf-8")
    assert "[n/a]" in page
    assert "Examples" not in page


@pytest.mark.parametrize(
    ("spec", "options", "kept"),
    [
        ("dialogue@openai#m", {"guided": False, "concurrency": 4, "window": 9, "max_tokens": 256}, {"guided": False}),
        ("factscore@hf#m", {"reading": "reference", "batch_size": 2}, {"reading": "reference"}),
        ("someone", {"x": 1}, {"x": 1}),
    ],
)
def test_options_that_can_change_a_label(spec: str, options: dict[str, Any], kept: dict[str, Any]) -> None:
    assert JudgeSpec.from_results(spec).label_options(options) == kept


@pytest.mark.slow
def test_the_committed_cards_are_what_the_data_give(shared_data: Path) -> None:
    folder = shared_data / "factscore_labeled"
    for unit in ("fact", "sentence"):
        labels = load_biographies(folder, unit)
        made = make_card(labels, judge_labels(labels, JudgeSpec("lexical").open(), progress=False), "lexical")
        path = ROOT / "results" / "judges" / "lexical_biographies" / unit / "card.json"
        stored = json.loads(path.read_text(encoding="utf-8"))
        assert stored["confusion"] == made["confusion"]
        assert stored["topics"] == made["topics"]
        assert stored["examples"] == []  # the data are not ours to ship
        for name in ("sensitivity", "specificity"):
            stored["binary"][name].pop("wilson")
            made["binary"][name].pop("wilson")
            assert stored["binary"][name] == pytest.approx(made["binary"][name])
        assert read_card(path).n == sum(map(sum, (row[1:] for row in made["topics"])))
