"""A handful of questions in the real files' formats: ANAH-v2, ANAH's topic files, FActScore's folder and database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from factuality_harness.harness.data.anah import Question, load_mini
from factuality_harness.harness.data.biographies import question_about
from factuality_harness.harness.factscore.knowledge import SEPARATOR
from factuality_harness.harness.io.jsonl import write_jsonl
from factuality_harness.harness.io.write import write_text

TAGS = {
    "en": ("<Hallucination> None\n<Reference> {}\n<Correction> None", "<No Fact>"),
    "zh": ("<幻觉>无\n<参考>{}\n<改正>无", "<无事实>"),
}
PROMPTS = '''"""Stands in for ANAH-v2's prompt file where that is not here: the same form, other words."""


def fact_check_prompt(question, annotation, language):
    cn_user_prompt = f"""请判断下面的句子里有没有可以查证的事实。问题：{question}
句子：{annotation} 请回答<有事实>或<无事实>。"""
    en_user_prompt = f"""Does the sentence hold facts that can be checked? Question: {question} Sentence: {annotation}
Answer <Facts Present> or <No Facts>."""
    return cn_user_prompt if language == "zh" else en_user_prompt


def reference_check_prompt(question, reference, annotation, language):
    cn_user_prompt = f"""请找出参考文档里与句子有关的段落，用<SEP>分开。问题：{question}
{reference}
句子：{annotation}"""
    en_user_prompt = f"""Which passages of the document bear on the sentence? Separate them by <SEP>.
Question: {question}
{reference}
Sentence: {annotation}"""
    return cn_user_prompt if language == "zh" else en_user_prompt


def hallucination_check_prompt(question, reference, annotation, language):
    cn_user_prompt = f"""请对照段落判断句子的幻觉类型。问题：{question} 段落：{reference} 句子：{annotation}"""
    en_user_prompt = f"""Of which type is the sentence, by these passages? Question: {question}
{reference}
Sentence: {annotation}"""
    return cn_user_prompt if language == "zh" else en_user_prompt
'''


@dataclass(frozen=True, slots=True)
class Data:
    """Files of a rehearsal. anah_v2: `question_document.jsonl`, without topics. anah: folder of ANAH's topic files.
    entities, knowledge: FActScore's folder and database. prompts: in place of ANAH-v2's. texts: of it all."""

    anah_v2: Path
    anah: Path
    entities: Path
    knowledge: Path
    prompts: Path
    texts: tuple[str, ...]


def write_data(folder: Path) -> Data:
    """Write all files, from the small corpus that is shipped here: of its 64 topics 59 are test topics, as in the real
    files, and 5 are left for training."""
    folder = folder.resolve()
    topics = _topics()
    questions = [q for topic in topics for q in topic]
    data = Data(
        folder / "question_document.jsonl",
        folder / "anah",
        folder / "factscore",
        folder / "enwiki.db",
        folder / "anahv2_prompt.py",
        tuple(dict.fromkeys([q.document for q in questions] + [q.question for q in questions])),
    )
    rows = [{"question": q.question, "document": q.document, "language": q.language} for q in questions]
    write_jsonl(data.anah_v2, rows)
    write_jsonl(data.anah / "person.jsonl", [_anah_row(topic) for topic in topics])
    _write_biographies([topic[0] for topic in topics if topic[0].language == "en"][:8], data)
    write_text(data.prompts, PROMPTS)
    return data


def _topics() -> list[list[Question]]:
    corpus = sorted(load_mini("all"), key=lambda q: (q.language, q.topic))
    return [list(group) for _, group in groupby(corpus, key=lambda q: (q.language, q.topic))]


def _anah_row(topic: list[Question]) -> dict[str, Any]:
    """A row of ANAH's first release, with answers and labels of people."""
    asked = [q.question for q in topic]
    answers = [q.document.split(". ")[0] for q in topic]
    fact, none = TAGS[topic[0].language]
    labels = [[fact.format(answer[:80]), none] for answer in answers]
    return {
        "name": topic[0].topic,
        "documents": [topic[0].document],
        "selected_questions": asked,
        "GPT3.5_answers_D": answers,
        "InternLM_answers": answers,
        "human_GPT3.5_answers_D_ann": labels,
        "human_InternLM_answers_ann": labels,
        "language": topic[0].language,
    }


def _write_biographies(questions: list[Question], data: Data) -> None:
    """Entities with human labels in FActScore's form, and their pages in its database."""
    rows = []
    for q in questions:
        sentence = q.document.split(". ")[0]
        facts = [{"text": sentence, "label": "S"}]
        annotation = {"text": sentence, "is-relevant": True, "model-atomic-facts": [], "human-atomic-facts": facts}
        row = {"input": question_about(q.topic), "output": sentence, "topic": q.topic, "cat": ["medium", "Europe"]}
        rows.append(row | {"annotations": [annotation]})
    for part in ("labeled/ChatGPT", "labeled/InstructGPT"):
        write_jsonl(data.entities / f"{part}.jsonl", rows)
    for part in ("labeled", "unlabeled"):
        write_text(data.entities / part / "prompt_entities.txt", "".join(f"{q.topic}\n" for q in questions))
    with closing(sqlite3.connect(data.knowledge)) as base, base:
        base.execute("CREATE TABLE documents (title PRIMARY KEY, text)")
        pages = [(q.topic, SEPARATOR.join(q.document.split("\n"))) for q in questions]
        base.executemany("INSERT INTO documents VALUES (?, ?)", pages)
