"""A checkpoint's model card: method, data, judge, and scores with their intervals.

TRL's own card names its trainer ("trained with DPO") and, for a local base, no model at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

NAMES = {
    "sft": "Supervised fine-tuning on the chosen responses",
    "sigmoid": "DPO",
    "dpop": "DPOP (arXiv 2402.13228)",
    "tdpo": "TDPO (arXiv 2404.11999)",
    "sepo": "SePO (arXiv 2408.13518)",
}
MASKS = {
    "sentences": "tokens of correct sentences (and of those without a fact) of the chosen response, and of wrong ones "
    "of the rejected response",
    "facts": "tokens of correct sentences of the chosen and of wrong ones of the rejected response, none of sentences "
    "without a fact",
    "none": "every token of a response",
}


@dataclass(frozen=True, slots=True)
class CardScore:
    """A metric of a task. low, high: of its 95 % interval, NaN without one; over: what that is taken over."""

    task: str
    version: str
    metric: str
    value: float
    judge: str
    low: float = math.nan
    high: float = math.nan
    over: str = ""


def method_name(method: Mapping[str, Any]) -> str:
    """What a training is called in the literature."""
    loss = str(method.get("preference_loss") or method.get("trainer"))
    if loss == "sigmoid" and method.get("masking") in ("sentences", "facts"):
        return "Mask-DPO (arXiv 2503.02846)"
    name = NAMES.get(loss, f"{loss} preference loss")
    return f"{name}, masked by sentence" if method.get("masking") in ("sentences", "facts") else name


def model_card(name: str, about: Mapping[str, Any], scores: Sequence[CardScore] = ()) -> str:
    """The card's text. about: `method` (trainer, preference_loss, masking and other settings), `model`, and `data`
    (pairs, sha256, judges, trained_on) of a training's manifest."""
    method, data, base = about.get("method") or {}, about.get("data") or {}, str(about.get("model") or "")
    head: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["factuality"]}
    if base and not Path(base).exists():
        head["base_model"] = base
    if str(data.get("pairs", "")).startswith("hf:"):
        head["datasets"] = [str(data["pairs"]).removeprefix("hf:").partition("@")[0]]
    lines = ["---", yaml.safe_dump(head, sort_keys=False).strip(), "---", "", f"# {name}", ""]
    lines += [f"{method_name(method)}, from `{base or 'a model in memory'}`.", "", "## Method", ""]
    if masking := method.get("masking"):
        lines.append(f"- What counts (`masking: {masking}`): {MASKS.get(masking, masking)}.")
    lines += [f"- `{key}`: {value}" for key, value in method.items() if key not in ("masking", "trainer")]
    lines += ["", "## Data", "", f"- Pairs: `{data.get('pairs', 'unknown')}`" + _checksum(data)]
    lines += [f"- {text}: {data[key]}" for key, text in (("trained_on", "Trained on"),) if data.get(key)]
    judges = data.get("judges") or []
    lines.append(f"- Sentences labelled by: {', '.join(f'`{judge}`' for judge in judges) or 'not recorded'}")
    lines += ["", "## Scores", ""]
    if scores:
        lines += ["| task | metric | score | 95 % interval | judge |", "|---|---|---|---|---|"]
        lines += [
            f"| {s.task} {s.version} | {s.metric} | {s.value:.4g} | {_interval(s)} | {_judge(s)} |" for s in scores
        ]
    else:
        lines.append("None yet: `factuality model card CHECKPOINT --results LM_EVAL_FOLDER` adds them.")
    return "\n".join(lines) + "\n"


def _checksum(data: Mapping[str, Any]) -> str:
    return f" (SHA-256 `{data['sha256']}`)" if data.get("sha256") else ""


def _interval(score: CardScore) -> str:
    return "none" if math.isnan(score.low) else f"{score.low:.4g} to {score.high:.4g} (over {score.over})"


def _judge(score: CardScore) -> str:
    return f"`{score.judge}`" if score.judge else "none"
