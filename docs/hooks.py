"""What mkdocs does beside Markdown: pages' generated parts, and links to files that are not below docs/.

`<!-- generated: NAME -->` is replaced by what `GENERATED[NAME]` returns. Pages link to files of the repository by
relative paths, so that they work where the repository is browsed; on the site, pictures are copied and other files are
links to the repository.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(\]\()((?:\.\./)+)([^)#\s]+)((?:#[^)\s]*)?\))")


def commands() -> str:
    """Every command with its options, from the functions' signatures and docstrings."""
    from factuality_harness.cli import PASSED_ON, make_app

    text = make_app().generate_docs().split("\n", 1)[1]
    text = re.sub(r"## Table of Contents\n.*?(?=\*\*Commands\*\*)", "", text, flags=re.DOTALL)  # the site has its own
    for name in PASSED_ON:
        start = text.index(f"### factuality {name}\n")
        end = start + re.search(r"\n#|\Z", text[start + 1 :]).start() + 1  # type: ignore[union-attr]
        body = text[start:end].partition("**Parameters**")[0]
        text = f"{text[:start]}{body}Options: [settings of recipes](recipes.md), and all of TRL's.\n{text[end:]}"
    return text


def recipe_settings() -> str:
    """Fields that the trainers add to TRL's, as a table."""
    from factuality_harness.training.arguments import PairArguments, TrainerDefaults
    from factuality_harness.training.mask_dpo.config import MaskDPOConfig

    first, *more = map(_fields, (PairArguments, TrainerDefaults, MaskDPOConfig))
    return "\n".join([*first, *(row for rows in more for row in rows[2:])])


def _fields(kind: Any) -> list[str]:
    """Rows of a dataclass's own fields: those of its parents are described where the parents are."""
    rows = ["| key | type | default | what |", "|---|---|---|---|"]
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if field.name not in kind.__annotations__:
            continue
        default = field.default if field.default is not dataclasses.MISSING else "…"
        text = " ".join(str(field.metadata.get("help", "")).split()).replace("|", "\\|")
        rows.append(f"| `{field.name}` | {_type(hints[field.name])} | `{default}` | {text} |")
    return rows


def experiment_settings() -> str:
    """Settings of a cell and their types, nested ones as `sample.n`, as a table."""
    from factuality_harness.training.sweep import schema

    return "\n".join(["| setting | type |", "|---|---|", *_nested(schema.CellSettings)])


def _nested(kind: Any, prefix: str = "") -> list[str]:
    rows = []
    for name, field in kind.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            rows += _nested(field.annotation, f"{prefix}{name}.")
        else:
            rows.append(f"| `{prefix}{name}` | {_type(field.annotation)} |")
    return rows


def _type(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(hint))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_type(part) for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is typing.Annotated:
        return _type(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (list, dict, tuple):
        return f"{typing.get_origin(hint).__name__} of {', '.join(map(_type, typing.get_args(hint)))}"
    return getattr(hint, "__name__", str(hint)).removeprefix("_")


GENERATED: dict[str, Callable[[], str]] = {
    "commands": commands,
    "recipe settings": recipe_settings,
    "experiment settings": experiment_settings,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Pictures under results/ are part of the site."""
    for picture in sorted((ROOT / "results").rglob("*.png")):
        place = picture.relative_to(ROOT).as_posix()
        files.append(File.generated(config, place, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in generated parts, and turn links that leave docs/ into ones that work on the site."""
    for name, make in GENERATED.items():
        marker = f"<!-- generated: {name} -->"
        if marker in markdown:
            markdown = markdown.replace(marker, make())
    depth = page.file.src_uri.count("/")

    def link(found: re.Match[str]) -> str:
        start, up, target, end = found.groups()
        if up.count("../") <= depth:
            return found[0]
        if not (ROOT / target).exists():
            raise ValueError(f"{page.file.src_uri}: {up}{target} does not exist")
        if target.endswith(".png"):
            return f"{start}{'../' * depth}{target}{end}"
        kind = "tree" if (ROOT / target).is_dir() else "blob"
        return f"{start}{config.repo_url}/{kind}/main/{target}{end}"

    return LINK.sub(link, markdown)
