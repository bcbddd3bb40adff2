"""The whole way from responses to facts with verdicts, and its dry run."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from factuality_harness.harness.annotation import Annotation, Label
from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.dry_run import Calls, DryRun
from factuality_harness.harness.engines import AnswerCache, CachedEngine
from factuality_harness.harness.errors import EngineError, HarnessError
from factuality_harness.harness.factscore.evaluator import FactScorer, open_scorer
from factuality_harness.harness.factscore.facts import FACTS_PER_SENTENCE, FactExtractor
from factuality_harness.harness.factscore.knowledge import open_knowledge
from factuality_harness.harness.factscore.score import counts_of_annotation, summarise_facts
from factuality_harness.harness.factscore.scored import ScoredResponse, TopicResponse
from factuality_harness.harness.factscore.verify import AnnotatorVerifier, ModelVerifier
from tests.helpers.rule_engine import RuleEngine

PAGES = {
    "Ada": "Ada was born in London in 1815. She was a poet. She died in 1852.",
    "Bob": ["Bob was born in Oslo.", "Bob sailed to Peru in 1970."],
    "小明": "小明生于伦敦，卒于巴黎。",
}
ITEMS = [
    TopicResponse("Ada", "Tell me a bio of Ada.", "Ada was born in London and Ada died in 1852. I hope this helps!"),
    TopicResponse(
        "Bob", "Tell me a bio of Bob.", "Bob was born in Oslo, VAGUE and UNSURE.\n\nBob is from Rome. MUMBLE."
    ),
    TopicResponse("Bob", "Tell me a bio of Bob.", "I'm sorry, I do not know Bob."),
    TopicResponse("Ada", "Tell me a bio of Ada.", ""),
    TopicResponse("小明", "介绍一下小明。", "小明生于伦敦，他是画家。", "zh"),
    TopicResponse("Ada", "Tell me a bio of Ada.", "Ada died in 1852. TOOLONG."),
]
READ = [ITEMS[0], TopicResponse("Bob", "Tell me a bio of Bob.", "Bob was born in Oslo. Bob is from Rome."), *ITEMS[2:5]]
"""Items of which every answer of the judge is read, and so kept."""


def scorer(cache: Path, engine: RuleEngine | None = None, **settings: object) -> FactScorer:
    cached = CachedEngine(engine or RuleEngine(), AnswerCache(cache / "answers.sqlite"))
    return FactScorer(
        ModelVerifier(cached),
        open_knowledge(PAGES),
        extractor=FactExtractor(cached),
        progress=False,
        **settings,  # type: ignore[arg-type]
    )


@pytest.fixture
def results(tmp_path: Path) -> list[ScoredResponse]:
    return scorer(tmp_path).score(ITEMS)


def test_facts_and_verdicts(results: list[ScoredResponse]) -> None:
    ada, bob, sorry, empty, chinese, long = results
    assert [(f.text, f.supported) for f in ada.facts] == [
        ("Ada was born in London.", True),
        ("Ada died in 1852.", True),
    ]
    assert [s.label() for s in ada.sentences] == [Label.OK, Label.NOFACT]
    assert [[f.supported for f in s.facts] for s in bob.sentences] == [[True, None, None], [False], []]
    assert [f.undecided for f in bob.facts] == [False, True, True, False]
    assert [s.label() for s in bob.sentences] == [Label.UNPARSED, Label.UNVERIFIABLE, Label.UNPARSED]
    assert "no list of facts in the answer" in bob.sentences[2].detail
    assert (sorry.abstained, sorry.facts) == (True, ())
    assert [s.label() for s in sorry.sentences] == [Label.NOFACT]
    assert (empty.abstained, empty.sentences) == (True, ())
    assert [f.supported for f in chinese.facts] == [True, False]
    assert [s.label() for s in long.sentences] == [Label.OK, Label.UNPARSED]
    assert {r.judge for r in results} == {"factscore@rule#1"}


def test_spans_slice_the_response(results: list[ScoredResponse]) -> None:
    for result in results:
        for s in result.sentences:
            assert result.response[s.start : s.end] == s.text


def test_metrics(results: list[ScoredResponse]) -> None:
    values = summarise_facts([r.counts() for r in results], gamma=0)
    assert values["score"] == pytest.approx((1 + 2 / 4 + 1 / 2 + 1) / 4)
    assert values["respond_ratio"] == 4 / 6
    assert values["num_facts_per_response"] == 9 / 4
    assert (values["abstained"], values["undecided_facts"], values["unparsed_sentences"]) == (2, 2, 2)


def test_both_json_forms_keep_everything(results: list[ScoredResponse]) -> None:
    for result in results:
        assert ScoredResponse.from_dict(json.loads(json.dumps(result.to_dict()))) == result
        annotation = Annotation.from_dict(json.loads(json.dumps(result.to_annotation().to_dict())))
        assert annotation == result.to_annotation()
        assert len(annotation.extra["facts"]) == len(annotation.sentences)
        assert counts_of_annotation(annotation) == result.counts()


@pytest.mark.parametrize(
    "change", [{"sentences": None}, {"more": 1}, {"response": "Bda"}, {"sentences": [{"text": 1}]}]
)
def test_other_json_is_refused(results: list[ScoredResponse], change: dict[str, object]) -> None:
    with pytest.raises(HarnessError, match="not a scored response"):
        ScoredResponse.from_dict({**results[0].to_dict(), **change})


def test_order_of_the_calls_is_by_topic(tmp_path: Path) -> None:
    engine = RuleEngine()
    scorer(tmp_path, engine).score([ITEMS[i] for i in (0, 1, 5, 4)])
    topics = [text.split("Above are passages about ")[1][:3] for text in engine.asked if "Above are passages" in text]
    assert len([1 for a, b in pairwise(topics) if a != b]) == 1


def test_results_do_not_depend_on_company_or_window(tmp_path: Path, results: list[ScoredResponse]) -> None:
    for i, item in enumerate(ITEMS):
        assert scorer(tmp_path / str(i)).score([item]) == [results[i]]
    assert scorer(tmp_path / "w", window=2).score(ITEMS) == results
    assert scorer(tmp_path / "r").score(ITEMS[::-1]) == results[::-1]
    assert scorer(tmp_path / "n").score([]) == []


def test_a_second_run_asks_nothing_and_a_broken_one_goes_on(tmp_path: Path) -> None:
    items = READ
    broken = RuleEngine(fail_after=7)
    with pytest.raises(EngineError):
        scorer(tmp_path, broken).score(items)
    second = RuleEngine()
    resumed = scorer(tmp_path, second).score(items)
    whole = RuleEngine()
    assert scorer(tmp_path / "fresh", whole).score(items) == resumed
    assert len(broken.asked) + len(second.asked) == len(whole.asked)
    third = RuleEngine()
    assert scorer(tmp_path, third).score(items) == resumed
    assert third.asked == []


def test_missing_pages(tmp_path: Path) -> None:
    items = [
        ITEMS[0],
        TopicResponse("Eve", "q", "Eve lived."),
        TopicResponse("Dan", "q", ""),
        TopicResponse("Eve", "q", "Eve died."),
    ]
    engine = RuleEngine()
    with pytest.raises(HarnessError, match="no page for 2 topics: 'Eve', 'Dan'"):
        scorer(tmp_path, engine).score(items)
    assert engine.asked == []
    results = scorer(tmp_path, engine, missing="skip").score(items)
    assert [r.skipped for r in results] == [False, True, True, True]
    values = summarise_facts([r.counts() for r in results], gamma=0)
    assert (values["score"], values["responses"], values["respond_ratio"], values["skipped"]) == (1, 1, 1, 3)
    annotation = results[1].to_annotation()
    assert [j.label for j in annotation.judgements] == [Label.UNPARSED]
    assert counts_of_annotation(annotation).skipped


def test_lexical_needs_no_model() -> None:
    lexical = FactScorer(AnnotatorVerifier(JudgeSpec("lexical").open()), open_knowledge(PAGES), progress=False)
    lexical.check()
    text = "Ada was born in London in 1815. Ada sailed to Peru in 1790. I hope this helps."
    (result,) = lexical.score([TopicResponse("Ada", "Tell me a bio of Ada.", text)])
    assert [s.label() for s in result.sentences] == [Label.OK, Label.UNVERIFIABLE, Label.NOFACT]
    assert [f.text for f in result.facts] == [s.text for s in result.sentences[:2]]
    assert result.judge == "lexical"


def test_settings_and_options(tmp_path: Path) -> None:
    assert scorer(tmp_path).settings() == {
        "judge": "factscore@rule#1",
        "extractor": "rule#1",
        "extractor_args": {},
        "knowledge": "memory",
        "demonstrations": "own",
        "retrieval": "bm25",
        "passages": 5,
        "reading": "stated",
        "abstain_detector": "generic",
        "sentence_style": "spacy",
    }
    for setting in ({"style": "x"}, {"abstain_detector": "x"}, {"missing": "x"}):
        with pytest.raises(HarnessError, match="'x' is not known"):
            scorer(tmp_path, None, **setting)
    with pytest.raises(HarnessError, match="language 'fr' is not supported"):
        scorer(tmp_path).score([TopicResponse("Ada", "q", "Elle est née.", "fr")])
    assert len(scorer(tmp_path, abstain_detector="none").score(ITEMS[2:3])[0].facts) == 2


def test_open_scorer(tmp_path: Path) -> None:
    page = tmp_path / "k.jsonl"
    page.write_text('{"title": "Ada", "text": "Ada lived."}\n')
    cache = AnswerCache(tmp_path / "a.sqlite")
    opened = open_scorer("factscore@openai:http://127.0.0.1:9/v1#m", page, store=cache)
    assert opened.spec.startswith("factscore@openai")
    assert opened.extractor is not None
    assert open_scorer("lexical", page).extractor is None
    assert open_scorer("lexical", page, extractor="openai:http://127.0.0.1:9/v1#m", store=cache).extractor is not None
    for judge, message in (
        ("factscore", "needs a model"),
        ("factscore@x:y", "engine 'x:y' is not known"),
        ("nobody", "judge 'nobody' is not known"),
    ):
        with pytest.raises(HarnessError, match=message):
            open_scorer(judge, page)
    demos = tmp_path / "d.json"
    demos.write_text('{"A.": ["B."]}')
    with pytest.raises(HarnessError, match="demonstrations need a model"):
        open_scorer("lexical", page, demos=demos)


def forecast(folder: Path, items: list[TopicResponse], engine: RuleEngine | None = None) -> tuple[Calls, Calls]:
    """What a dry run counts for extraction and for verification."""
    dry = DryRun()
    real = CachedEngine(engine or RuleEngine(), AnswerCache(folder / "answers.sqlite"))
    verifier = ModelVerifier(dry.engine(real, "verification"))
    extractor = FactExtractor(dry.engine(real, "extraction"))
    FactScorer(verifier, open_knowledge(PAGES), extractor=extractor, progress=False).score(items)
    verification, extraction = dry.calls
    return extraction, verification


def test_a_dry_run_before_anything_is_known_is_an_estimate(tmp_path: Path) -> None:
    engine = RuleEngine()
    extraction, verification = forecast(tmp_path, ITEMS, engine)
    assert engine.asked == []
    assert (extraction.requests, extraction.from_cache, extraction.to_ask) == (8, 0, 8)
    assert verification.requests == verification.to_ask == int(8 * FACTS_PER_SENTENCE)
    assert extraction.prompt_tokens and extraction.completion_tokens and verification.prompt_tokens
    # A fact is about 12 tokens with its dash.
    assert 8 < extraction.completion_tokens / verification.requests < 13


def test_a_dry_run_after_a_run_is_exact(tmp_path: Path) -> None:
    first = scorer(tmp_path)
    first.extractor.extract([("Ada was born in London and Ada died in 1852.", "en")])
    extraction, verification = forecast(tmp_path, READ)
    assert (extraction.from_cache, extraction.to_ask) == (1, 4)
    assert verification.requests == 2 + int(4 * FACTS_PER_SENTENCE)
    results = first.score(READ)
    extraction, verification = forecast(tmp_path, READ)
    facts = sum(len(r.facts) for r in results)
    assert (verification.requests, verification.from_cache) == (facts, facts)
    assert (extraction.to_ask, verification.to_ask, verification.prompt_tokens) == (0, 0, 0)
    # And it has stored nothing of its own.
    assert scorer(tmp_path).score(READ) == results


def test_a_dry_run_counts_an_equal_prompt_once(tmp_path: Path) -> None:
    extraction, _ = forecast(tmp_path, [ITEMS[0], ITEMS[0]])
    assert (extraction.requests, extraction.from_cache, extraction.to_ask) == (4, 0, 2)


PAGE = open_knowledge({"T": "A text."})
SERVER = "openai:http://127.0.0.1:9/v1#m"


def test_the_extractor_has_options_of_its_own(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "a.sqlite")
    given = {"max_tokens": 2048, "system": "Be brief.", "reasoning_effort": "low"}
    scorer = open_scorer(
        f"factscore@{SERVER}", PAGE, store=cache, options={"concurrency": 3, "max_tokens": 9}, extractor_args=given
    )
    assert scorer.extractor is not None and isinstance(scorer.verifier, ModelVerifier)
    extracting, judging = scorer.extractor.engine.engine, scorer.verifier.engine.engine
    assert (scorer.extractor.sampling.max_tokens, scorer.verifier.sampling.max_tokens) == (2048, 9)
    assert (extracting.options.concurrency, extracting.options.reasoning_effort) == (3, "low")  # type: ignore[attr-defined]
    assert judging.options.reasoning_effort is None  # type: ignore[attr-defined]
    assert scorer.extractor.conversation("A.", "en")[0] == {"role": "system", "content": "Be brief."}
    assert scorer.settings()["extractor_args"] == {**given}
    named = open_scorer("lexical", PAGE, store=cache, extractor=SERVER, extractor_args={"retries": 1})
    assert named.extractor is not None and named.extractor.engine.engine.options.retries == 1  # type: ignore[attr-defined]


def test_a_judges_own_options_stay_out_of_its_extractors_engine(tmp_path: Path) -> None:
    scorer = open_scorer(
        f"factscore_sheet@{SERVER}",
        PAGE,
        store=AnswerCache(tmp_path / "a.sqlite"),
        options={"passage_tokens": 99, "concurrency": 3},
        extractor_args={"reasoning_effort": "low"},
    )
    assert scorer.extractor is not None
    options = scorer.extractor.engine.engine.options  # type: ignore[attr-defined]
    assert (options.concurrency, options.reasoning_effort) == (3, "low")
    assert scorer.settings()["passage_tokens"] == 99


def test_without_engine_options_extractor_and_judge_share_an_engine(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "a.sqlite")
    scorer = open_scorer(f"factscore@{SERVER}", PAGE, store=cache, extractor_args={"max_tokens": 64})
    assert scorer.extractor is not None and isinstance(scorer.verifier, ModelVerifier)
    assert scorer.extractor.engine is scorer.verifier.engine
    assert scorer.settings()["extractor_args"] == {"max_tokens": 64}


@pytest.mark.parametrize(
    ("judge", "extractor", "given", "message"),
    [
        (
            f"factscore@{SERVER}",
            None,
            {"max_token": 9},
            "extractor_args: no option 'max_token'; did you mean 'max_tokens'",
        ),
        (f"factscore@{SERVER}", None, {"max_tokens": 0}, "extractor_args: max_tokens is 0"),
        (f"factscore@{SERVER}", None, {"concurrency": "8"}, "concurrency is '8'"),
        (f"factscore@{SERVER}", None, [1], "extractor_args must be an object of options, not list"),
        ("lexical", None, {"max_tokens": 9}, "judge 'lexical' has none: name an extractor"),
        ("lexical", SERVER, {"guided": True}, "extractor_args: no option 'guided'"),
        ("lexical", "opnai:x", {"max_tokens": 9}, "engine 'opnai:x' is not known"),
    ],
)
def test_wrong_options_of_the_extractor_are_told(judge: str, extractor: str | None, given: dict, message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        open_scorer(judge, PAGE, extractor=extractor, extractor_args=given)
