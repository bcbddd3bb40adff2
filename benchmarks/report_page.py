"""How fast is the report with 5 000 responses of 8 sentences? Measured in headless Chromium, from the file system.

    python -m benchmarks.report_page [--responses 5000] [--sentences 8] [--rounds 5]

The responses are made up (seeded), in lm_eval's own file format; every round starts Chromium with a fresh profile.
first_paint_ms and first_contentful_paint_ms are the Performance API's, ready_ms is when all responses can be filtered,
search_ms is from a keystroke in the search field to the painted result, filter_ms the same for a label. Needs Debian's
packages chromium and chromium-driver.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from factuality_harness.analysis.report.command import report
from factuality_harness.harness.annotation import Annotation, Judgement, Label, Sentence, dump_annotations
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.jsonl import write_jsonl
from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.io.write import write_csv
from factuality_harness.harness.metrics import count, summarise

OUT = Path("results/benchmarks/report_page")
STAMP = "2026-01-01T00-00-00.000000"
WORDS = ("the", "river", "town", "was", "founded", "in", "market", "grew", "stone", "bridge", "over", "old", "mills")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
MEASURE = """
const done = arguments[arguments.length - 1];
(async () => {
  const settled = () => new Promise((f) => requestAnimationFrame(() => requestAnimationFrame(f)));
  const timed = async (act) => {
    const start = performance.now();
    act();
    await settled();
    return performance.now() - start;
  };
  const paints = Object.fromEntries(performance.getEntriesByType("paint").map((e) => [e.name, e.startTime]));
  document.querySelector("nav a[data-view=responses]").click();
  const text = document.getElementById("text");
  const search = await timed(() => { text.value = "mills"; text.dispatchEvent(new Event("input")); });
  text.value = ""; text.dispatchEvent(new Event("input"));
  const filter = await timed(() => document.querySelector("#labels button[value=contradictory]").click());
  done({first_paint_ms: paints["first-paint"], first_contentful_paint_ms: paints["first-contentful-paint"],
        ready_ms: performance.getEntriesByName("ready")[0].startTime, search_ms: search, filter_ms: filter,
        dom_elements: document.querySelectorAll("*").length});
})();
"""


Answered = Sequence[tuple[str, Sequence[Annotation]]]
"""Reference document and annotated responses of each question."""


def write_lm_eval(folder: Path, tasks: Mapping[str, Answered], judge: str, version: str = "1.0") -> None:
    """Files as lm_eval writes them for judged tasks, the annotations by `judge`."""
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, Any]] = {"results": {}, "configs": {}, "versions": {}}
    for task, answered in tasks.items():
        metrics = summarise([count(found) for _, found in answered])
        results["results"][task] = {f"{name},annotation": value for name, value in metrics.items()}
        results["configs"][task] = {"task": task, "metadata": {"judge": judge}}
        results["versions"][task] = version
        rows = (
            {
                "doc_id": doc_id,
                "doc": {
                    "topic": found[0].topic,
                    "question": found[0].question,
                    "document": document,
                    "language": found[0].language,
                },
                "resps": [[a.response for a in found]],
                "filtered_resps": [dump_annotations([replace(a, judge=judge) for a in found])],
                "filter": "annotation",
            }
            for doc_id, (document, found) in enumerate(answered)
        )
        write_jsonl(folder / f"samples_{task}_{STAMP}.jsonl", rows)
    (folder / f"results_{STAMP}.json").write_text(json.dumps(results), encoding="utf-8")


def annotated(question: str, parts: Sequence[tuple[str, Judgement]], **fields: Any) -> Annotation:
    """An annotation whose response is the sentences of `parts` with a space between them."""
    sentences: list[Sentence] = []
    at = 0
    for text, _ in parts:
        sentences.append(Sentence(text, at, at + len(text)))
        at += len(text) + 1
    return Annotation(
        question=question,
        response=" ".join(text for text, _ in parts),
        sentences=tuple(sentences),
        judgements=tuple(judgement for _, judgement in parts),
        **{"language": "en", "judge": "lexical", "topic": "", **fields},
    )


def made_up(model: str, questions: int, sentences: int, right: float) -> Iterator[tuple[str, list[Annotation]]]:
    """Reference document and one answer of `sentences` sentences to each question; `right` of them are `ok`."""
    chance = random.Random(model)
    labels = list(Label)
    rest = (1 - right) / (len(labels) - 1)
    for number in range(questions):
        words = random.Random(number)
        topic = f"Topic {number // 3:03d}"
        facts = [" ".join(words.choices(WORDS, k=14)).capitalize() + f" {1500 + i}." for i in range(2 * sentences)]
        parts = []
        for fact in chance.sample(facts, sentences):
            label = chance.choices(labels, [right] + [rest] * (len(labels) - 1))[0]
            said = label in (Label.OK, Label.CONTRADICTORY)
            text = fact if label is Label.OK else " ".join(chance.choices(WORDS, k=14)).capitalize() + "."
            parts.append((text, Judgement(label, (fact,) if said else ())))
        language = "en" if number % 4 else "zh"
        question = f"Question {number}: what is known about {topic}?"
        yield " ".join(facts), [annotated(question, parts, topic=topic, language=language)]


@contextmanager
def chromium() -> Iterator[Any]:
    """A fresh headless Chromium, driven by selenium. Raises HarnessError where Debian's packages are missing."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        raise HarnessError("chromium and chromedriver are needed: apt-get install chromium chromium-driver")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for flag in (*FLAGS, f"--user-data-dir={profile}", "--window-size=1440,900"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        running = webdriver.Chrome(options=options, service=Service(driver))
        try:
            yield running
        finally:
            running.quit()


def open_page(driver: Any, page: Path, address: str = "") -> None:
    """Open a report from the file system and wait until its responses are there."""
    from selenium.webdriver.support.ui import WebDriverWait

    driver.get("about:blank")
    driver.get(page.resolve().as_uri() + address)
    WebDriverWait(driver, 30).until(lambda d: d.execute_script("return 'ready' in document.documentElement.dataset"))


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report_page", description=str(__doc__).split("\n")[0])
    parser.add_argument("--responses", type=int, default=5000)
    parser.add_argument("--sentences", type=int, default=8)
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=OUT, help="result files without their ending")
    args = parser.parse_args(argv)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        runs = []
        each = args.responses // args.models
        for place in range(args.models):
            folder = Path(scratch) / str(place)
            answers = list(made_up(str(place), each, args.sentences, 0.4 + 0.1 * place))
            write_lm_eval(folder, {"anah_factuality_mini": answers}, "lexical")
            runs.append(f"model {place}={folder}")
        page = Path(scratch) / "report.html"
        report(run=runs, per_task=each, out=page)
        for number in range(args.rounds):
            with chromium() as driver:
                open_page(driver, page)
                measured = driver.execute_async_script(MEASURE)
                browser = driver.capabilities["browserVersion"]
            values = {name: round(value, 1) for name, value in measured.items()}
            rows.append({"round": number, "responses": each * args.models, "sentences": args.sentences, **values})
            print(rows[-1])
        size = page.stat().st_size
    write_csv(args.out.with_suffix(".csv"), rows)
    settings = {"chromium": browser, "page_bytes": size, "models": args.models, "rounds": args.rounds}
    write_manifest(
        args.out.with_suffix(".manifest.json"), manifest(command="python -m benchmarks.report_page", **settings)
    )


if __name__ == "__main__":
    main()
