"""FActScore of a file of responses, as JSON on standard output.

factuality score-facts --responses FILE --judge SPEC --knowledge PATH [--out FILE]
factuality score-facts --human-labels FILE
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from factuality_harness.harness.annotators.spec import JudgeSpec, usage_of
from factuality_harness.harness.commands import Judge, JudgeArgs, MaxUnparsed
from factuality_harness.harness.data.biographies import load_labelled, question_about, topic_of
from factuality_harness.harness.dry_run import ASK, AskingOptions, DryRun
from factuality_harness.harness.engines import AnswerCache
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.factscore.abstain import Detector
from factuality_harness.harness.factscore.evaluator import STYLE, FactScorer, Missing, open_scorer
from factuality_harness.harness.factscore.facts import FACTS_PER_SENTENCE
from factuality_harness.harness.factscore.knowledge import open_knowledge
from factuality_harness.harness.factscore.retrieval import PASSAGES
from factuality_harness.harness.factscore.score import GAMMA, counts_of_labels, summarise_facts, unjudged_share
from factuality_harness.harness.factscore.scored import TopicResponse
from factuality_harness.harness.io.jsonl import write_jsonl
from factuality_harness.harness.io.manifest import manifest, write_manifest
from factuality_harness.harness.io.tables import read_rows
from factuality_harness.harness.io.write import json_text
from factuality_harness.harness.names import name_of
from factuality_harness.harness.sentences import LANGUAGES, Language, Style
from factuality_harness.harness.unjudged import LIMIT, check_unjudged


def load_responses(path: str | Path, language: str = "en") -> list[TopicResponse]:
    """Responses from JSONL: FActScore rows (`topic`, `output`) or rows `question` and/or `topic`, `response`.

    Without a topic it is the name that the question asks about in a usual wording ("Tell me a bio of <name>.", "Who
    was <name>?"), and for other questions the question itself. A row's `language` goes before the
    argument. Raises HarnessError naming file and row.
    """
    items = [_item(row, f"{path}, row {number}", language) for number, row in read_rows(path)]
    if not items:
        raise HarnessError(f"{path}: no responses in it")
    return items


def _item(row: Mapping[str, Any], where: str, language: str) -> TopicResponse:
    def text(*keys: str) -> str | None:
        for key in keys:
            if row.get(key) is not None:
                if not isinstance(row[key], str):
                    raise HarnessError(f"{where}: `{key}` must be text, not {type(row[key]).__name__}: {row[key]!r}")
                return row[key]
        return None

    topic = None if row.get("topic") is None else name_of(row["topic"], "`topic`", where)
    question = text("question", "input")
    response = text("response", "output")
    if response is None:
        raise HarnessError(f"{where}: no `response` or `output`; the row has {', '.join(row)}")
    if not topic and not question:
        raise HarnessError(f"{where}: neither `topic` nor `question`; facts are checked against the topic's page")
    topic = topic or topic_of(question or "") or question or ""
    spoken = text("language") or language
    if spoken not in LANGUAGES:
        raise HarnessError(f"{where}: language {spoken!r} is not supported; use one of: {', '.join(LANGUAGES)}")
    return TopicResponse(topic, question or question_about(topic), response, spoken)


def show_plan(dry: DryRun, scorer: FactScorer, items: Sequence[TopicResponse]) -> None:
    """Print what scoring would ask. Raises what `FactScorer.score` raises."""
    results = scorer.score(items)
    if any(calls.part == "extraction" and calls.to_ask for calls in dry.calls):
        dry.notes.append(
            f"facts of sentences that were not taken apart yet are taken to be {FACTS_PER_SENTENCE} each (the mean of "
            "FActScore's human labels)"
        )
    dry.show(
        scorer.spec,
        responses=len(results),
        abstained=sum(r.abstained and not r.skipped for r in results),
        skipped=sum(r.skipped for r in results),
        sentences=sum(len(r.sentences) for r in results if not (r.abstained or r.skipped)),
    )


def score_facts(
    *,
    responses: Path | None = None,
    human_labels: Path | None = None,
    judge: Judge = None,
    judge_args: JudgeArgs | None = None,
    extractor: str | None = None,
    extractor_args: JudgeArgs | None = None,
    knowledge: str | None = None,
    passage_tokenizer: str | None = None,
    retrieval: str = "bm25",
    passages: int = PASSAGES,
    missing: Missing = "error",
    gamma: float = GAMMA,
    abstain_detector: Detector = "generic",
    demos: Path | None = None,
    sentence_style: Style = STYLE,
    language: Language = "en",
    cache: Path | None = None,
    out: Path | None = None,
    max_unparsed: MaxUnparsed = LIMIT,
    asking: AskingOptions = ASK,
) -> None:
    """Judge answers fact by fact (FActScore); the scores are printed as JSON.

    Parameters
    ----------
    responses
        JSONL of {topic, output} or {question, response}.
    human_labels
        FActScore's labelled file to score in place of responses; needs no judge.
    judge
        factscore@openai:URL#MODEL, factscore@hf:MODEL, factscore@vllm:MODEL, or a judge of sentences such as lexical;
        default $HARNESS_JUDGE.
    extractor
        Another engine that extracts facts, say hf:MODEL.
    extractor_args
        JSON object of the extractor's options and its engine's, such as {"max_tokens": 2048}; without --extractor they
        change the judge's.
    knowledge
        SQLite database, JSONL of {title, text}, or hf:REPO[@SPLIT].
    passage_tokenizer
        Cut JSONL pages by the tokens of this model, not by words.
    retrieval
        bm25 or dense:MODEL.
    passages
        Passages for each fact.
    missing
        What to do about topics without a page.
    gamma
        Facts below which an answer is penalised; 0: never.
    abstain_detector
        How an answer that declines is recognised.
    demos
        Demonstrations: FActScore's JSON, or JSONL of {sentence, facts}.
    sentence_style
        Rules to split by.
    language
        Of rows that name none.
    cache
        Answer cache; default: under $HARNESS_CACHE.
    out
        Write every fact with its verdict, as JSONL; .manifest.json goes beside it.
    """
    if (responses is None) == (human_labels is None):
        raise HarnessError("give --responses or --human-labels, one of them")
    if human_labels is not None:
        labelled = load_labelled(human_labels)
        metrics = summarise_facts([counts_of_labels(row) for row in labelled.rows], gamma)
        left_out = {"sentences_without_labels": labelled.without_facts, "bad_labels": labelled.bad_facts}
        print(json_text({**metrics, **left_out, "judge": f"human labels of {human_labels.name}"}, indent=2))
        return
    if knowledge is None:
        raise HarnessError("--knowledge is needed: a SQLite database, a JSONL file {title, text} or hf:REPO[@split]")
    assert responses is not None
    items = load_responses(responses, language)
    spec = JudgeSpec.configured(judge)
    dry = asking.dry()
    scorer = open_scorer(
        str(spec),
        open_knowledge(knowledge, tokenizer=passage_tokenizer),
        retrieval=retrieval,
        k=passages,
        demos=demos,
        extractor=extractor,
        extractor_args=extractor_args,
        store=AnswerCache(cache) if cache is not None else None,
        options=asking.options(judge_args),
        dry=dry,
        abstain_detector=abstain_detector,
        style=sentence_style,
        missing=missing,
    )
    if dry is not None:
        show_plan(dry, scorer, items)
        return
    scorer.check()
    results = scorer.score(items)
    counts = [r.counts() for r in results]
    about = {**summarise_facts(counts, gamma), **scorer.settings(), "judge_usage": usage_of(scorer)}
    if out is not None:
        write_jsonl(out, (r.to_dict() for r in results))
        write_manifest(f"{out}.manifest.json", manifest(judge_args=judge_args, **about))
    print(json_text(about, indent=2))
    if spec.fallible or scorer.extractor is not None:
        check_unjudged(unjudged_share(counts), max_unparsed, "facts and unread sentences")
