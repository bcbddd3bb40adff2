"""Any server that speaks the OpenAI chat API: vLLM, SGLang, llama.cpp, or a hosted model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any
from urllib.parse import urlsplit

from factuality_harness.harness.engines.base import Batch, Conversation, Reply, Sampling
from factuality_harness.harness.errors import EngineError, HarnessError


class OpenAIEngine:
    """Concurrent requests to an OpenAI-compatible server.

    The key is read from `OPENAI_API_KEY` and held by the client alone. Connection errors, time-outs, 429 and 5xx are
    retried with exponential back-off by the client library; when that is used up the run stops with one message.
    A request the server refuses for its content (400, 413, 422) fails alone.
    """

    def __init__(
        self,
        target: str,
        *,
        concurrency: int = 64,
        timeout: float = 600.0,
        retries: int = 5,
        extra_body: dict[str, Any] | None = None,
    ) -> None:
        """target: `URL` or `URL#MODEL`; without a model the server must serve exactly one.

        timeout: seconds a request. extra_body: more fields for every request (server extensions).
        Raises HarnessError for a malformed URL or one that carries a password.
        """
        self.url, _, self._model = target.partition("#")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise HarnessError(f"{self.url!r} is not a server URL; expected http://HOST:PORT/v1#MODEL")
        if parts.username or parts.password or parts.query:
            raise HarnessError("a server URL must not carry credentials; set OPENAI_API_KEY in the environment instead")
        self.concurrency = concurrency
        self._extra = extra_body or {}
        from openai import OpenAI

        self._client = OpenAI(
            base_url=self.url,
            api_key=os.environ.get("OPENAI_API_KEY") or "EMPTY",
            timeout=timeout,
            max_retries=retries,
        )

    def _words(self, error: Exception) -> str:
        """What the server said, without the key: some servers repeat what they were sent."""
        return str(error).replace(self._client.api_key, "[key]")[:300]

    @property
    def model(self) -> str:
        """The model name; asks the server once when the target names none."""
        if not self._model:
            names = self._served()
            if len(names) != 1:
                raise EngineError(
                    f"{self.url} serves {len(names)} models ({', '.join(names)}); name one: {self.url}#MODEL"
                )
            self._model = names[0]
        return self._model

    @property
    def identity(self) -> str:
        return f"openai#{self.model}"

    def _served(self) -> list[str]:
        import openai

        try:
            return [model.id for model in self._client.with_options(max_retries=1).models.list()]
        except openai.APIError as error:
            raise EngineError(self._explain(error)) from error

    def _explain(self, error: Exception) -> str:
        import openai

        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return f"{self.url} refused the key; set OPENAI_API_KEY in the environment"
        if isinstance(error, openai.APITimeoutError):
            what = "did not answer in time"
        elif isinstance(error, openai.APIConnectionError):
            what = "cannot be reached"
        elif isinstance(error, openai.APIStatusError):
            what = f"answered {error.status_code}: {self._words(error)}"
        else:
            what = f"failed: {self._words(error)}"
        return (
            f"judge server {self.url} {what}. Start it (or mend the URL) and run the same command again: "
            "finished answers are in the cache and are not asked twice."
        )

    def check(self) -> None:
        import openai

        try:
            names = self._served()
        except EngineError as error:
            # Some hosts keep the model list closed while the chat API works.
            if isinstance(error.__cause__, openai.NotFoundError):
                return
            raise
        if self._model and names and self._model not in names:
            raise EngineError(f"{self.url} does not serve {self._model!r}; it serves: {', '.join(names)}")

    def _ask(self, conversation: Conversation, sampling: Sampling) -> Reply:
        import openai

        extra = dict(self._extra)
        if sampling.top_k:
            extra["top_k"] = sampling.top_k
        if sampling.choices:
            extra["structured_outputs"] = {"choice": list(sampling.choices)}  # vLLM's extension
        try:
            answer = self._client.chat.completions.create(
                model=self.model,
                messages=list(conversation),  # type: ignore[arg-type]
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=sampling.seed,
                extra_body=extra or None,
            )
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            return Reply(None, f"refused by the server: {self._words(error)}")
        except openai.APIStatusError as error:
            if error.status_code == 413:
                return Reply(None, "refused by the server: request too large")
            raise
        if not answer.choices:
            return Reply(None, "the server sent no answer")
        # JSON can carry half a surrogate pair, which no file or database can: it becomes U+FFFD.
        text = answer.choices[0].message.content or ""
        return Reply(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))

    def stream(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[Batch]:
        import openai

        pending: dict[Future[Reply], int] = {}
        todo = iter(enumerate(conversations))
        failure: Exception | None = None
        with ThreadPoolExecutor(self.concurrency) as pool:
            while True:
                # Keep a few requests queued behind the running ones, not the whole list: memory stays flat.
                while failure is None and len(pending) < 2 * self.concurrency:
                    if (item := next(todo, None)) is None:
                        break
                    pending[pool.submit(self._ask, item[1], sampling)] = item[0]
                if not pending:
                    break
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                batch: Batch = []
                for future in done:
                    index = pending.pop(future)
                    error = future.exception()
                    if error is None:
                        batch.append((index, future.result()))
                    elif isinstance(error, openai.APIError):
                        failure = failure or error
                    else:
                        raise error
                if failure is not None:
                    # Requests not yet running are dropped; the running ones may still bring their answers home.
                    for future in list(pending):
                        if future.cancel():
                            del pending[future]
                if batch:
                    yield batch
        if failure is not None:
            raise EngineError(self._explain(failure)) from failure
