"""InternLM2's sentencepiece tokenizer as a fast one, in one tokenizer.json.

Read from `tokenizer.model` itself: pieces, merges in the order of their scores, bytes for what has no piece, spaces
kept as the model says. The ids of texts are then compared with sentencepiece's own, and a difference is an error.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.write import write_json

SPACE = "\u2581"
_CONTROL, _USER_DEFINED, _BYTE = 3, 4, 6
_BPE = 2
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Of InternLM2's chat models (arXiv 2403.17297, section 5.3; the same text as their tokenizer_config.json)."""
SAMPLES = (
    "Ada Lovelace was born in 1815.",
    "  two spaces, a\ttab,\n\na blank line and 1,234.5 \u20ac",
    "\u5c45\u91cc\u592b\u4eba\uff081867\u5e74\u2014\u20141934\u5e74\uff09\u83b7\u8bfa\u8d1d\u5c14\u5956\u3002",
    "na\u00efve caf\u00e9 \u2013 \u201cquoted\u201d \U0001f600 \u0928\u092e\u0938\u094d\u0924\u0947",
    "def f(x):\n    return x + 1\n",
    "<Facts Present> <No Hallucination> [UNVERIFIABLE] </s",
    "\u3000\u5168\u89d2\uff01 \u00a0nbsp",
    " a",
    "a ",
    "",
)
"""Texts that the check compares: spaces at every place, both languages, bytes."""


def build(folder: Path) -> tuple[Tokenizer, dict[str, Any]]:
    """The fast tokenizer of a checkpoint's folder, and its tokenizer_config.json.

    Raises HarnessError where `tokenizer.model` is missing or is no BPE model, or where the result would read a text
    otherwise than sentencepiece does.
    """
    path = folder / "tokenizer.model"
    proto: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    try:
        proto.ParseFromString(path.read_bytes())
        processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    except Exception as error:  # protobuf and sentencepiece raise kinds of their own
        raise HarnessError(f"{path}: cannot be read as a sentencepiece model ({error})") from error
    if proto.trainer_spec.model_type != _BPE:
        raise HarnessError(f"{path}: not a BPE model; InternLM2's is")
    given = _json(folder / "tokenizer_config.json")
    added = _added(folder, given, len(proto.pieces))
    tokenizer = _fast(proto, added)
    config = _config(proto, given)
    if given.get("add_bos_token", True):
        bos = config["bos_token"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    check(tokenizer, processor, SAMPLES, str(path))
    return tokenizer, config


def check(
    tokenizer: Tokenizer, processor: sentencepiece.SentencePieceProcessor, texts: Sequence[str], where: str
) -> None:
    """Raise HarnessError for the first text whose ids or whose text read back differ from sentencepiece's."""
    for text in texts:
        ours = tokenizer.encode(text, add_special_tokens=False).ids
        theirs = processor.encode(text)
        if ours != theirs or tokenizer.decode(ours, skip_special_tokens=False) != processor.decode(theirs):
            raise HarnessError(
                f"{where}: as a fast tokenizer it would read {text!r} as {ours}, sentencepiece reads {theirs}; such a "
                "model cannot be converted"
            )


def save(tokenizer: Tokenizer, config: dict[str, Any], out: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json."""
    tokenizer.save(str(out / "tokenizer.json"))
    write_json(out / "tokenizer_config.json", config)


def _fast(proto: Any, added: dict[int, AddedToken]) -> Tokenizer:
    pieces = [(p.piece, p.score, p.type) for p in proto.pieces]
    vocabulary = {piece: number for number, (piece, _, _) in enumerate(pieces)}
    merges = _merges(pieces, vocabulary)
    for number, token in added.items():
        if number < len(pieces):
            del vocabulary[pieces[number][0]]
        vocabulary[token.content] = number
    merges = [pair for pair in merges if "".join(pair) in vocabulary and set(pair) <= vocabulary.keys()]
    unknown = proto.trainer_spec.unk_piece or "<unk>"
    tokenizer = Tokenizer(
        models.BPE(
            vocabulary,
            merges,
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=any(kind == _BYTE for _, _, kind in pieces),
        )
    )
    tokenizer.normalizer = _normalizer(proto.normalizer_spec)
    prefix = proto.normalizer_spec.add_dummy_prefix
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            *([decoders.Strip(" ", 1, 0)] if prefix else []),
        ]
    )
    plain = [
        AddedToken(piece, special=kind == _CONTROL, normalized=False)
        for number, (piece, _, kind) in enumerate(pieces)
        if kind in (_CONTROL, _USER_DEFINED) and number not in added
    ]
    tokenizer.add_tokens([t for t in plain if not t.special])
    tokenizer.add_special_tokens([t for t in plain if t.special] + [t for _, t in sorted(added.items()) if t.special])
    tokenizer.add_tokens([t for _, t in sorted(added.items()) if not t.special])
    return tokenizer


def _merges(pieces: Sequence[tuple[str, float, int]], vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Pairs that sentencepiece joins, the first it would join first: in the order of the joined piece's score."""
    found = []
    for piece, score, kind in pieces:
        if kind in (_CONTROL, _USER_DEFINED, _BYTE):
            continue
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocabulary and right in vocabulary:
                found.append((-score, vocabulary[left], vocabulary[right], left, right))
    return [(left, right) for *_, left, right in sorted(found)]


def _normalizer(spec: Any) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    steps.append(normalizers.Replace(" ", SPACE))
    return normalizers.Sequence(steps)


def _added(folder: Path, given: dict[str, Any], size: int) -> dict[int, AddedToken]:
    """Tokens that tokenizer_config.json or added_tokens.json put at an id of their own."""
    rows = {int(number): row for number, row in (given.get("added_tokens_decoder") or {}).items()}
    for content, number in _json(folder / "added_tokens.json").items():
        rows.setdefault(int(number), {"content": content, "special": True})
    beyond = sorted(number for number in rows if number >= size)
    if beyond != list(range(size, size + len(beyond))):
        raise HarnessError(f"{folder}: added tokens leave ids free between {size} and {beyond[-1]}")
    return {
        number: AddedToken(
            row["content"],
            special=row.get("special", True),
            normalized=False,
            lstrip=row.get("lstrip", False),
            rstrip=row.get("rstrip", False),
        )
        for number, row in rows.items()
    }


def _config(proto: Any, given: dict[str, Any]) -> dict[str, Any]:
    spec = proto.trainer_spec
    names = {"bos_token": spec.bos_piece or "<s>", "eos_token": spec.eos_piece or "</s>"}
    names |= {"unk_token": spec.unk_piece or "<unk>", "pad_token": names["eos_token"]}
    tokens = {}
    for name, default in names.items():
        value = given.get(name) or default
        tokens[name] = value["content"] if isinstance(value, dict) else value
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **tokens,
        "clean_up_tokenization_spaces": False,
        "padding_side": given.get("padding_side", "left"),
        "model_max_length": given.get("model_max_length", int(1e30)),
        "chat_template": given.get("chat_template") or CHAT_TEMPLATE,
    }


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise HarnessError(f"{path}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise HarnessError(f"{path}: not an object")
    return found
