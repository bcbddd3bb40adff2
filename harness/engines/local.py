"""Models in this process: vLLM and transformers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from factuality_harness.harness.engines.base import Batch, Conversation, Reply, Sampling
from factuality_harness.harness.errors import EngineError
from factuality_harness.harness.io.tokenizers import check_tokenizer
from factuality_harness.harness.settings import Settings, read_settings

NO_MATTER = ("gpu_memory_utilization", "tensor_parallel_size", "enforce_eager", "swap_space", "disable_log_stats")
"""Arguments of vLLM that decide where and how fast, not what a model answers: no part of the cache's key."""


def model_identity(model: str) -> str:
    """Name for the cache. For a local folder: its name and a digest of config and weight sizes and dates, so that a
    retrained checkpoint in the same place is another model."""
    folder = Path(model)
    if not folder.is_dir():
        return model
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix == ".json":
            digest.update(path.read_bytes())
        elif path.suffix in (".safetensors", ".bin", ".gguf", ".model", ".jinja"):
            stat = path.stat()
            digest.update(f"{path.name}:{stat.st_size}:{stat.st_mtime_ns};".encode())
    return f"{folder.resolve().name}@{digest.hexdigest()[:16]}"


class VLLMEngine:
    """vLLM's offline engine (`pip install factuality-harness[vllm]`)."""

    remote = False
    schemas = True

    def __init__(self, target: str, *, batch_size: int = 512, **engine_args: Any) -> None:
        """target: hub name or folder. batch_size: requests handed over (and stored) together. engine_args: of vLLM."""
        self.target = target
        self.identity = f"vllm#{model_identity(target)}"
        self.batch_size = batch_size
        self._args = engine_args
        self._llm: Any = None

    @property
    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in self._args.items() if name not in NO_MATTER}

    def check(self) -> None:
        try:
            import vllm  # noqa: F401
        except ImportError as error:
            raise EngineError(
                f"judge {self.target!r} needs vLLM, which is not installed here ({error}): "
                "pip install 'factuality-harness[vllm]', or use openai:URL with a server elsewhere, or hf:MODEL"
            ) from error
        from transformers import AutoTokenizer

        name = self._args.get("tokenizer") or self.target
        revision = self._args.get("tokenizer_revision") or self._args.get("revision") or "main"
        try:
            tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
        except (OSError, ValueError):  # one that only vLLM reads; what is wrong with it vLLM says when it loads
            return
        check_tokenizer(tokenizer, self.target)

    def _load(self) -> Any:
        if self._llm is None:
            self.check()
            from vllm import LLM

            try:
                self._llm = LLM(model=self.target, **self._args)
            except (OSError, ValueError, RuntimeError) as error:
                raise EngineError(f"vLLM cannot load {self.target!r}: {error}") from error
        return self._llm

    def stream(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[Batch]:
        llm = self._load()
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        held = None
        if sampling.choices:
            held = StructuredOutputsParams(choice=list(sampling.choices))
        elif sampling.schema:
            held = StructuredOutputsParams(json=sampling.schema)
        params = SamplingParams(
            structured_outputs=held,
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k or -1,
            seed=sampling.seed,
        )
        for start in range(0, len(conversations), self.batch_size):
            part = [list(c) for c in conversations[start : start + self.batch_size]]
            try:
                outputs = llm.chat(part, params, use_tqdm=False)
                yield [(start + i, _reply(output)) for i, output in enumerate(outputs)]
            except ValueError:
                # One prompt over the context length fails the whole call: find it, answer the others.
                batch: Batch = []
                for i, conversation in enumerate(part):
                    try:
                        output = llm.chat([conversation], params, use_tqdm=False)[0]
                        batch.append((start + i, _reply(output)))
                    except ValueError as error:
                        batch.append((start + i, Reply(None, f"refused by vLLM: {error}")))
                yield batch


def _reply(output: Any) -> Reply:
    answer = output.outputs[0]
    return Reply(answer.text, cut=answer.finish_reason == "length")


HUB_CODE = "it brings code of its own, which is never run; `factuality model llamafy` makes a Llama of an InternLM2"


class TransformersOptions(Settings):
    """batch_size: sequences a forward pass. device: cuda, cpu, …; by default a GPU where there is one. dtype: torch's
    name, or auto for the checkpoint's."""

    batch_size: Annotated[int, Field(ge=1)] = 16
    device: str | None = None
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"


class TransformersEngine:
    """transformers' generate, batched by length; for small judges and machines without vLLM."""

    OPTIONS = TransformersOptions
    remote = False

    def __init__(self, target: str, **options: Any) -> None:
        """target: hub name or folder. options: `TransformersOptions`; HarnessError for a wrong one."""
        self.options = read_settings(TransformersOptions, options, "options of the hf engine")
        self.target = target
        self.identity = f"hf#{model_identity(target)}"
        self._model: Any = None
        self._tokenizer: Any = None

    @property
    def settings(self) -> dict[str, Any]:
        return {} if self.options.dtype == "auto" else {"dtype": self.options.dtype}

    def check(self) -> None:
        """The small files only: the weights would lie beside the generating model until the judge's turn comes."""
        from transformers import AutoConfig, AutoTokenizer

        if self._tokenizer is None:
            try:
                AutoConfig.from_pretrained(self.target, trust_remote_code=False)
                self._tokenizer = AutoTokenizer.from_pretrained(
                    self.target, padding_side="left", trust_remote_code=False
                )
            except (OSError, ValueError) as error:
                words = str(error)
                own = any(word in words for word in ("trust_remote_code", "`internlm2`"))
                why = HUB_CODE if own else words.splitlines()[0] if words else type(error).__name__
                raise EngineError(f"transformers cannot load {self.target!r}: {why}") from error
        check_tokenizer(self._tokenizer, self.target)
        if self._tokenizer.chat_template is None:
            raise EngineError(f"{self.target!r} has no chat template; a judge must be an instruct model")
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token

    def _load(self) -> None:
        if self._model is not None:
            return
        self.check()
        import torch
        from transformers import AutoModelForCausalLM

        try:
            self._model = AutoModelForCausalLM.from_pretrained(
                self.target, dtype=self.options.dtype, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise EngineError(f"transformers cannot load {self.target!r}: {error}") from error
        device = self.options.device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._model.to(device).eval()

    def stream(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[Batch]:
        self._load()
        prompts = [
            self._tokenizer.apply_chat_template(list(c), tokenize=False, add_generation_prompt=True)
            for c in conversations
        ]
        limit = getattr(self._model.config, "max_position_embeddings", None)
        lengths = [len(self._tokenizer(p, add_special_tokens=False)["input_ids"]) for p in prompts]
        order = sorted(range(len(prompts)), key=lambda i: -lengths[i])
        if limit is not None:
            over = [i for i in order if lengths[i] + sampling.max_tokens > limit]
            if over:
                yield [(i, Reply(None, f"prompt of {lengths[i]} tokens exceeds the context of {limit}")) for i in over]
            order = [i for i in order if lengths[i] + sampling.max_tokens <= limit]
        size = self.options.batch_size
        for start in range(0, len(order), size):
            part = order[start : start + size]
            yield list(zip(part, self._generate([prompts[i] for i in part], sampling), strict=True))

    def _generate(self, prompts: list[str], sampling: Sampling) -> list[Reply]:
        import torch

        inputs = self._tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        options: dict[str, Any] = {
            "max_new_tokens": sampling.max_tokens,
            "do_sample": sampling.temperature > 0,
        }
        if sampling.temperature > 0:
            torch.manual_seed(sampling.seed)
            options |= {
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k,
            }
        if sampling.choices:
            options["prefix_allowed_tokens_fn"] = self._only(sampling.choices, inputs["input_ids"].shape[1])
        with torch.inference_mode():
            output = self._model.generate(
                **inputs.to(self._model.device), pad_token_id=self._tokenizer.pad_token_id, **options
            )
        new = output[:, inputs["input_ids"].shape[1] :]
        ends = torch.tensor([*self._ends(), self._tokenizer.pad_token_id], device=new.device)
        ended = torch.isin(new, ends).any(1).tolist() if new.shape[1] == sampling.max_tokens else [True] * len(new)
        texts = self._tokenizer.batch_decode(new, skip_special_tokens=True)
        return [Reply(text, cut=not whole) for text, whole in zip(texts, ended, strict=True)]

    def _ends(self) -> list[int]:
        """Tokens that end an answer."""
        ends = self._model.generation_config.eos_token_id
        return [*ends] if isinstance(ends, list) else [self._tokenizer.eos_token_id if ends is None else ends]

    def _only(self, choices: Sequence[str], prompt_length: int) -> Callable[[int, Any], list[int]]:
        """For generate: the tokens that may follow, so that the answer becomes one of `choices`."""
        end = self._tokenizer.eos_token_id
        paths = [self._tokenizer(c, add_special_tokens=False)["input_ids"] + [end] for c in choices]

        def allowed(_: int, ids: Any) -> list[int]:
            said = ids[prompt_length:].tolist()
            following = {path[len(said)] for path in paths if len(path) > len(said) and path[: len(said)] == said}
            return sorted(following) or [end]

        return allowed
