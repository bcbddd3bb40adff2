"""The prompts the ANAH-v2 model was trained on, read from the reference repository's file, never executed.

The file is pinned by commit and SHA-256. It is parsed with `ast`: of each of the three functions only the two f-strings
`cn_user_prompt` and `en_user_prompt` are taken, and their places may hold nothing but a plain parameter name.
"""

from __future__ import annotations

import ast
import hashlib
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from factuality_harness.harness.engines.cache import cache_path
from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.write import whole_file

SHA256 = "d8611d4f006d143bc65b304a5c5980af7acc737ab937403efca49fa78ec5754a"
COMMIT = "89d24d890f9e0ad6c8dd6236b55fe68e1ff98e62"
URL = f"https://raw.githubusercontent.com/open-compass/ANAH/{COMMIT}/eval/anah_v2/anahv2_prompt.py"
FUNCTIONS = ("fact_check_prompt", "reference_check_prompt", "hallucination_check_prompt")
VARIABLES = {"zh": "cn_user_prompt", "en": "en_user_prompt"}

Piece = tuple[bool, str]
"""(is a field, text or field name)."""


@dataclass(frozen=True)
class UpstreamPrompts:
    """Templates by (function, language)."""

    templates: dict[tuple[str, str], tuple[Piece, ...]]

    def render(self, function: str, language: str, **fields: str) -> str:
        """The prompt text, byte for byte what calling `function` of the upstream file would return."""
        return "".join(fields[text] if is_field else text for is_field, text in self.templates[function, language])


def parse_prompts(source: str, name: str = "anahv2_prompt.py") -> UpstreamPrompts:
    """Templates from the source text of the upstream file. Raises HarnessError when it has another shape."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise HarnessError(f"{name}: not Python source: {error}") from error
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    templates: dict[tuple[str, str], tuple[Piece, ...]] = {}
    for function in FUNCTIONS:
        if function not in functions:
            raise HarnessError(f"{name}: no function {function}; this is not the ANAH-v2 prompt file")
        node = functions[function]
        parameters = {argument.arg for argument in node.args.args}
        values = {
            target.id: statement.value
            for statement in node.body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
        for language, variable in VARIABLES.items():
            if variable not in values:
                raise HarnessError(f"{name}: {function} has no {variable}")
            where = f"{name}: {function}.{variable}"
            templates[function, language] = _pieces(values[variable], parameters, where)
    return UpstreamPrompts(templates)


def _pieces(value: ast.expr, parameters: set[str], where: str) -> tuple[Piece, ...]:
    parts = value.values if isinstance(value, ast.JoinedStr) else [value]
    pieces: list[Piece] = []
    for part in parts:
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            pieces.append((False, part.value))
        elif (
            isinstance(part, ast.FormattedValue)
            and isinstance(part.value, ast.Name)
            and part.value.id in parameters
            and part.conversion == -1
            and part.format_spec is None
        ):
            pieces.append((True, part.value.id))
        else:
            raise HarnessError(f"{where}: line {part.lineno} is neither text nor a plain parameter; not read")
    return tuple(pieces)


def load_prompts(path: str | Path | None = None, *, any_checksum: bool = False) -> UpstreamPrompts:
    """The pinned prompts from `path`, $HARNESS_ANAH_V2_PROMPTS, the cache folder, or the network (then cached).

    Raises HarnessError when the file cannot be had or its SHA-256 differs (unless `any_checksum`).
    """
    path = path or os.environ.get("HARNESS_ANAH_V2_PROMPTS")
    file = Path(path) if path else cache_path().with_name(f"anahv2_prompt-{COMMIT[:12]}.py")
    if path and not file.is_file():
        raise HarnessError(f"{file}: no such file; expected a copy of {URL}")
    data = file.read_bytes() if file.is_file() else _download(file)
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256 and not any_checksum:
        raise HarnessError(
            f"{file}: SHA-256 is {digest}, not the pinned {SHA256}. The annotator was trained on the pinned texts; "
            "get that version, or pass any_checksum (judge_args) if you mean to use this one."
        )
    return parse_prompts(data.decode("utf-8"), str(file))


def _download(file: Path) -> bytes:
    try:
        with urllib.request.urlopen(URL, timeout=60) as answer:
            data = answer.read()
    except (urllib.error.URLError, OSError) as error:
        raise HarnessError(
            f"cannot download the ANAH-v2 prompts ({error}). Get {URL} by other means and pass its path as "
            "judge_args prompt_file or HARNESS_ANAH_V2_PROMPTS, or use the judge `dialogue`."
        ) from error
    if hashlib.sha256(data).hexdigest() == SHA256:
        with whole_file(file, "wb") as kept:
            kept.write(data)
    return data
