"""`--model replay`: score answers that are already written down.

    lm_eval --model replay --model_args responses=FILE --tasks anah_factuality --metadata '{"judge": "…"}'

FILE is an lm_eval samples file (say, of a `--predict_only` run), JSONL with `question` and `response`, FActScore rows
with `topic` and `output`, or a folder of such files. The generating model is never loaded, so a large judge has the
machine to itself, and one set of answers can be scored by several judges.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from harness.errors import HarnessError
from harness.samples import stored_responses

log = logging.getLogger(__name__)


class ReplayLM(LM):
    """An lm_eval model that answers from a file. Answers to a question asked N times are given out in file order."""

    tokenizer_name = "replay"

    def __init__(self, responses: str, **_: Any) -> None:
        super().__init__()
        self.path = responses
        self._stored = stored_responses(responses)

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict | None = None) -> ReplayLM:
        from lm_eval.utils import simple_parse_args_string

        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict, additional_config: dict | None = None) -> ReplayLM:
        if not arg_dict.get("responses"):
            raise HarnessError("the replay model needs a file: --model_args responses=FILE")
        return cls(**arg_dict)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Stored answers. Raises HarnessError counting the questions without one (or with too few for `repeats`)."""
        given: dict[str, int] = defaultdict(int)
        answers: list[str] = []
        missing: list[str] = []
        for request in requests:
            doc = request.doc or {}
            keys = [k for k in (doc.get("question"), doc.get("topic")) if isinstance(k, str)]
            key = next((k.strip() for k in keys if k.strip() in self._stored), None)
            if key is None or given[key] >= len(self._stored[key]):
                missing.append(keys[0] if keys else "?")
                continue
            answers.append(self._stored[key][given[key]])
            given[key] += 1
        if missing:
            raise HarnessError(
                f"{self.path}: {len(missing)} of {len(requests)} requested answers are not stored, e.g. for: "
                + "; ".join(repr(q) for q in list(dict.fromkeys(missing))[:3])
                + ". Generate the rest, or choose the questions with --limit or --samples."
            )
        unused = len(self._stored) - len(given)
        if unused:
            log.info("%s: answers to %d questions that this task does not ask are not used", self.path, unused)
        return answers

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        raise HarnessError("stored answers have no likelihoods; the replay model serves generation tasks only")

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        raise HarnessError("stored answers have no likelihoods; the replay model serves generation tasks only")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return chat_history[-1]["content"]

    def chat_template(self, chat_template: bool | str = False) -> str:
        return ""
