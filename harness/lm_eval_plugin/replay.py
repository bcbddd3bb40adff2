"""`--model replay`: score answers that are already written down.

    lm_eval --model replay --model_args responses=FILE --tasks anah_factuality --metadata '{"judge": "…"}'

FILE is an lm_eval samples file (say, of a `--predict_only` run), JSONL with `question` and `response` (and `topic`,
where one question is asked on several), FActScore rows with `topic` and `output`, or a folder of such files. The
generating model is never loaded, so a large judge has the machine to itself, and one set of answers can be scored by
several judges.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections import defaultdict
from typing import Any, ClassVar

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from factuality_harness.harness.errors import HarnessError
from factuality_harness.harness.io.samples import QuestionKey, key_of, match, stored_responses

log = logging.getLogger(__name__)


class ReplayLM(LM):
    """An lm_eval model that answers from a file. Answers to a question asked N times are given out in file order.

    Under `torchrun` or `accelerate launch` each process takes its share of the questions, and so judges it.
    """

    tokenizer_name = "replay"
    current: ClassVar[weakref.ref[ReplayLM] | None] = None
    """The newest one of this process, for a dry run."""

    def __init__(self, responses: str, **_: Any) -> None:
        super().__init__()
        self.path = responses
        self._stored = stored_responses(responses)
        ReplayLM.current = weakref.ref(self)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import Accelerator

            self.accelerator = Accelerator()
            self._rank = self.accelerator.process_index
            self._world_size = self.accelerator.num_processes
            self._device = self.accelerator.device

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
        given: dict[QuestionKey, int] = defaultdict(int)
        answers: list[str] = []
        missing: list[str] = []
        asked = [key_of(request.doc or {}) for request in requests]
        try:
            found = match(asked, self._stored)
        except HarnessError as error:
            raise HarnessError(f"{self.path}: {error}") from error
        for request, (topic, question) in zip(requests, asked, strict=True):
            key = found.get((topic, question))
            # Asked more often than `repeats`: lm_eval evens out the processes' shares; any answer will do.
            turn = min(given[key], request.repeats - 1) if key is not None else 0
            if key is None or turn >= len(self._stored[key]):
                missing.append(question or topic or "?")
                continue
            answers.append(self._stored[key][turn])
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

    def all_gather(self, tensor: Any) -> Any:
        return self.accelerator.gather(tensor)

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        import torch.distributed

        result: list[Any] | None = [None] * self.world_size if self.rank == dst else None
        torch.distributed.gather_object(obj=obj, object_gather_list=result, dst=dst)
        return result

    def barrier(self) -> None:
        self.accelerator.wait_for_everyone()

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return chat_history[-1]["content"]

    def chat_template(self, chat_template: bool | str = False) -> str:
        return ""
