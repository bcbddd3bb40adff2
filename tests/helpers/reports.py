"""What the reports of these tests show."""

from __future__ import annotations

from benchmarks.report_page import annotated, made_up
from factuality_harness.harness.annotation import Annotation, Judgement, Label

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def answers(model: str, right: float) -> list[tuple[str, list[Annotation]]]:
    """Twelve questions, and one in Chinese with characters of two UTF-16 units."""
    chinese = annotated(
        "桥在哪里？",
        [
            ("😀桥在北方。", Judgement(Label.OK, ("桥在北方 😀",))),
            ("桥很老。", Judgement(Label.UNVERIFIABLE, (), "no match")),
        ],
        topic="桥",
        language="zh",
    )
    return [*made_up(model, 12, 5, right), ("桥在北方 😀。", [chinese])]
