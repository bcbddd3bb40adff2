"""The page of coloured sentences."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from factuality_harness.harness.annotation import Annotation, Judgement, Label, Sentence
from factuality_harness.harness.page.render import format_metric, render_page
from tests.helpers.cli import command

main = command("page")

RESPONSE = "Ada wrote <script>alert(1)</script>.\n\nShe was born in 1900."


def annotation() -> Annotation:
    return Annotation(
        question="Who was <b>Ada</b>?",
        response=RESPONSE,
        language="en",
        judge="lexical",
        topic="Ada",
        sentences=(Sentence(RESPONSE[:36], 0, 36), Sentence(RESPONSE[38:], 38, len(RESPONSE))),
        judgements=(Judgement(Label.OK, ('say "yes" & <i>so</i>',)), Judgement(Label.CONTRADICTORY)),
    )


def test_model_output_is_shown_as_text() -> None:
    page = render_page([annotation()], [""], title="T", subtitle="S")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;." in page
    assert "<b>Ada</b>" not in page
    assert "&#34;yes&#34; &amp; &lt;i&gt;so" in page


def test_every_sentence_carries_label_and_mark_and_the_text_keeps_its_line_breaks() -> None:
    page = render_page([annotation()], [""], title="T", subtitle="S")
    body = page[page.index("<article") :]
    assert body.count('class="s ok"') == body.count('class="s contradictory"') == 1
    assert "<sup>✓</sup></span>\n\n<span" in body
    assert '<td>factuality</td><td class="n">50.0 %</td>' in page


def test_page_from_a_samples_file(tmp_path: Path) -> None:
    a = annotation()
    row = {
        "doc": {"question": a.question, "document": "The <reference> text."},
        "filtered_resps": [json.dumps(a.to_dict())],
        "filter": "annotation",
    }
    (tmp_path / "samples_x.jsonl").write_text(json.dumps(row) + "\n")
    assert main([str(tmp_path), "--out", str(tmp_path / "page.html")]) == 0
    assert "The &lt;reference&gt; text." in (tmp_path / "page.html").read_text()


def test_an_unjudged_run_is_named_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = tmp_path / "samples_x.jsonl"
    samples.write_text(json.dumps({"doc": {}, "filtered_resps": ["An answer."], "filter": "none"}) + "\n")
    assert main([str(samples), "--out", str(tmp_path / "page.html")]) == 2
    error = capsys.readouterr().err
    assert "row 1" in error
    assert "replay it" in error


def test_missing_values_read_as_missing() -> None:
    assert format_metric("factuality", float("nan")) == "n/a"
    assert format_metric("correct", 3.0) == "3"
    assert format_metric("unparsed_rate", 0.125) == "12.5 %"


def write_samples(path: Path, *annotations: Annotation) -> Path:
    path.write_text("".join(json.dumps(a.to_dict()) + "\n" for a in annotations), encoding="utf-8")
    return path


def test_two_models_stand_under_each_other(tmp_path: Path) -> None:
    before, after = (write_samples(tmp_path / f"{n}.jsonl", annotation()) for n in ("a", "b"))
    out = tmp_path / "page.html"
    arguments = [str(before), str(after), "--names", "base", "mask-dpo", "--questions", "1", "--out", str(out)]
    assert main(arguments) == 0
    page = out.read_text(encoding="utf-8")
    assert page.count("<article") == 2 and "<th>Metric" not in page
    assert page.index("<strong>base</strong>") < page.index("<strong>mask-dpo</strong>")


def test_a_comparison_needs_names_and_a_shared_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = write_samples(tmp_path / "a.jsonl", annotation())
    other = write_samples(tmp_path / "b.jsonl", dataclasses.replace(annotation(), question="Who else?"))
    assert main([str(before), str(other), "--names", "x", "x", "--out", str(tmp_path / "p.html")]) == 2
    assert "--names" in capsys.readouterr().err
    assert main([str(before), str(other), "--out", str(tmp_path / "p.html")]) == 2
    assert "no question is answered in all" in capsys.readouterr().err
