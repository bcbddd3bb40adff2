"""A file of the same shape as the ANAH-v2 prompt file, in words of our own, that tells when it is executed."""

from __future__ import annotations

from pathlib import Path

SOURCE = r'''import os

with open(os.environ.get("TOLD_TALES", os.devnull), "a") as tales:
    tales.write("executed\n")


def fact_check_prompt(question, annotation, language):
    cn_user_prompt = f"""
    甲：看看这里有没有能查的东西。

    ### 一。 **问：** {question}

    ### 二。 **答：**\t{annotation}

    - 没有就写“<无事实>”，花括号 {{不动}}。
    """

    en_user_prompt = f"""
    Stage one: is there anything to look up?

    ### 1. **Asked:** {question}

    ### 2. **Said:** {annotation} \\ \u00e9

    - “<No Facts>” or “<Facts Present>”; {{braces}} stay. \n
    """
    return cn_user_prompt if language == "zh" else en_user_prompt


def reference_check_prompt(question, reference, annotation, language):
    cn_user_prompt = f"""
    乙：{question}{annotation}
    {reference}"""

    en_user_prompt = f"""
    Stage two. {question}
    {annotation}
{reference} {question}
    """

    return cn_user_prompt if language == "zh" else en_user_prompt


def hallucination_check_prompt(question, reference, annotation, language):
    cn_user_prompt = f"""丙：{reference}{annotation}{question}"""

    en_user_prompt = f"""
    Stage three.
    {reference} against {annotation}, asked {question}"""
    return cn_user_prompt if language == "zh" else en_user_prompt
'''


def write(folder: Path, source: str = SOURCE) -> Path:
    file = folder / "anahv2_prompt.py"
    file.write_text(source, encoding="utf-8")
    return file
