"""Any server that speaks the OpenAI chat API: vLLM, SGLang, llama.cpp, LiteLLM's proxy, or a hosted model."""

from __future__ import annotations

import copy
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, PositiveFloat

from factuality_harness.harness.engines.base import Batch, Conversation, Reply, Sampling
from factuality_harness.harness.engines.completion import Completion, read_completion
from factuality_harness.harness.engines.parameters import Parameters
from factuality_harness.harness.engines.throttle import Throttle
from factuality_harness.harness.errors import EngineError, HarnessError
from factuality_harness.harness.settings import Settings, read_settings

if TYPE_CHECKING:
    import openai

KEYS = {"judge": ("JUDGE_API_KEY", "OPENAI_API_KEY"), "model": ("OPENAI_API_KEY",)}
"""Role of a model to the environment variables that may hold its key, the first one set."""
_SECRET = ("key", "token", "secret", "password", "sig", "auth", "code", "credential")
_CHAT = "/chat/completions"
TRIAL_PATIENCE = 60.0  # seconds of "too many requests" while a judge is tried


class OpenAIOptions(Settings):
    """concurrency: requests on their way at once, at most. timeout: seconds a request. retries: of a request after
    lost connections, time-outs and server errors. patience: seconds of "too many requests" until the run stops.
    reasoning_effort, chat_template_kwargs: how much the model thinks. extra_body: more fields for every request.
    """

    concurrency: Annotated[int, Field(ge=1, le=4096)] = 64
    timeout: PositiveFloat = 600.0
    retries: Annotated[int, Field(ge=0, le=100)] = 5
    patience: PositiveFloat = 6 * 3600.0
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    extra_body: dict[str, Any] = Field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """What the user asked for in every request."""
        chosen = {name: getattr(self, name) for name in ("reasoning_effort", "chat_template_kwargs")}
        return self.extra_body | {name: value for name, value in chosen.items() if value is not None}


def api_key(role: str) -> str:
    """The key for a role, white space around it cut off. Raises HarnessError for one that no header can carry."""
    for name in KEYS[role]:
        if key := os.environ.get(name, "").strip():
            odd = next((c for c in key if not 32 < ord(c) < 127), None)
            if odd is not None or key[0] in "\"'":
                raise HarnessError(f"{name} holds {odd or key[0]!r}, which no key has: set it to the key alone")
            return key
    return "EMPTY"


class OpenAIEngine:
    """Concurrent requests to an OpenAI-compatible server.

    The key is held by the client alone. Connection errors, time-outs and 5xx are retried with exponential back-off;
    "too many requests" is waited for, with fewer requests at once afterwards. When that is used up the run stops with
    one message. A request the server refuses for its content (400, 413, 422) fails alone; a parameter it refuses is
    renamed or left out (see `Parameters`).
    """

    name = "openai"
    OPTIONS = OpenAIOptions
    remote = True

    def __init__(self, target: str, role: str = "judge", **options: Any) -> None:
        """target: `URL` or `URL#MODEL`; without a model the server must serve exactly one. role: see `KEYS`. options:
        `OpenAIOptions`.

        Raises HarnessError for a malformed URL, one that carries a password, and a wrong option.
        """
        self.options = read_settings(self.OPTIONS, options, f"options of the {self.name} engine")
        self.url, _, self._model = target.partition("#")
        self._key = api_key(role)
        self._key_names = " or ".join(KEYS[role])
        self._client = _client(self.url, self._key, float(self.options.timeout))
        self._fixed = self.options.fields()
        self.parameters = Parameters(self._fixed)
        self.patience = float(self.options.patience)
        self.usage: Counter[str] = Counter()
        """prompt_tokens, cached_tokens and completion_tokens so far."""
        self._lock = threading.Lock()

    @property
    def schemas(self) -> bool:
        return self.parameters.constrained

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

    @property
    def settings(self) -> dict[str, Any]:
        return self._fixed

    # ------------------------------------------------------------ before a run

    def check(self) -> None:
        """Raises EngineError where the server is not there, is not at this URL, or does not serve the model."""
        try:
            names = self._served()
        except EngineError as error:
            cause = error.__cause__
            if getattr(cause, "status_code", None) in (404, 405) or isinstance(cause, ValueError):
                self._look_elsewhere(error)
                return  # some hosts keep the model list closed while the chat API works
            raise
        if self._model and names and self._model not in names:
            raise EngineError(f"{self.url} does not serve {self._model!r}; it serves: {', '.join(names)}")

    def _served(self, client: Any = None) -> list[str]:
        import openai

        try:
            answer = (client or self._client).models.with_raw_response.list(timeout=min(30.0, self.options.timeout))
            return [str(row["id"]) for row in answer.http_response.json()["data"]]
        except (ValueError, KeyError, TypeError) as error:
            raise EngineError(
                f"{self.url}/models answers, but not as the OpenAI API does: {_start(answer.http_response.text)}"
            ) from (error if isinstance(error, ValueError) else ValueError(str(error)))
        except openai.APIError as error:
            raise EngineError(self._explain(error)) from error

    def _look_elsewhere(self, error: EngineError) -> None:
        """Raise EngineError with the right URL, where the API is found beside the one given."""
        base, _, query = self.url.partition("?")
        base, query = base.rstrip("/"), f"?{query}" if query else ""
        root = "://".join(urlsplit(base)[:2])
        for other in (base.removesuffix(_CHAT), f"{base}/v1", f"{root}/v1"):
            if other == base:
                continue
            try:
                self._served(_client(other + query, self._key, float(self.options.timeout)))
            except HarnessError:
                continue
            model = f"#{self._model}" if self._model else ""
            raise EngineError(f"{self.url} is not where the API is: write {other}{query}{model}") from error
        if isinstance(error.__cause__, ValueError):
            raise error

    def for_trial(self) -> OpenAIEngine:
        """This engine, less patient: whether a judge works must show in a minute."""
        engine = copy.copy(self)
        engine.patience = min(TRIAL_PATIENCE, self.patience)
        return engine

    # ------------------------------------------------------------ words

    def _words(self, error: Exception | str) -> str:
        """What the server said, without the key: some servers repeat what they were sent."""
        return str(error).replace(self._key, "[key]")[:300]

    def _explain(self, error: Exception) -> str:
        import openai

        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return f"{self.url} refused the key ({self._words(error)}); set {self._key_names} in the environment"
        if isinstance(error, openai.APITimeoutError):
            what = "did not answer in time"
        elif isinstance(error, openai.APIConnectionError):
            what = "cannot be reached"
        elif isinstance(error, openai.APIStatusError):
            what = f"answered {error.status_code}: {self._words(error)}"
        else:
            what = f"failed: {self._words(error)}"
        return (
            f"judge server {self.url} {what}. Start it (or correct the URL) and run the same command again: "
            "finished answers are in the cache and are not asked twice."
        )

    # ------------------------------------------------------------ requests

    def _ask(self, conversation: Conversation, sampling: Sampling, throttle: Throttle) -> Reply:
        """One answer, however often it is asked for. Raises openai.APIError or EngineError when it ends the run."""
        import openai

        failures = waits = 0
        while True:
            sent = self.parameters.body(sampling)
            try:
                with throttle:
                    found = self._send(conversation, sent)
                if found.reply is not None:
                    throttle.answered()
                    self._note(found)
                    reply = found.reply
                    if reply.text and self.parameters.ignored(sent, sampling, reply.text, cut=reply.cut):
                        continue
                    return replace(reply, error=self._words(reply.error)) if reply.error else reply
                error: Exception = EngineError(f"{self.url}: {self._words(found.error)}")
                status, text, after = found.status, found.error, None
            except openai.APIConnectionError as caught:
                error, status, text, after = caught, 503, "", None
            except openai.APIStatusError as caught:
                error, status, text = caught, caught.status_code, _body(caught)
                after = _retry_after(caught)
            if status in (400, 413, 422):
                if self.parameters.learn(sent, text):
                    continue
                return Reply(None, f"refused by the server: {self._words(error)}")
            if status == 429 and "insufficient_quota" not in text and "exceeded your current quota" not in text:
                if not throttle.too_many(waits, after):
                    raise error
                waits += 1
            elif (status < 500 and status not in (408, 409, 429)) or status == 429 or failures >= self.options.retries:
                raise error
            else:
                failures += 1
                time.sleep(after if after is not None else min(8.0, 0.5 * 2**failures))

    def _send(self, conversation: Conversation, parameters: dict[str, Any]) -> Completion:
        answer = self._client.chat.completions.with_raw_response.create(
            model=self.model,
            messages=list(conversation),  # type: ignore[arg-type]
            extra_body=parameters,
        )
        return read_completion(answer.http_response.text)

    def _note(self, found: Completion) -> None:
        with self._lock:
            self.usage.update(found.usage or {})

    def stream(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[Batch]:
        import openai

        pending: dict[Future[Reply], int] = {}
        todo = iter(enumerate(conversations))
        failure: Exception | None = None
        throttle = Throttle(self.options.concurrency, self.patience)
        with ThreadPoolExecutor(self.options.concurrency) as pool:
            try:
                while True:
                    # Keep a few requests queued behind the running ones, not the whole list: memory stays flat.
                    while failure is None and len(pending) < 2 * self.options.concurrency:
                        if (item := next(todo, None)) is None:
                            break
                        pending[pool.submit(self._ask, item[1], sampling, throttle)] = item[0]
                    if not pending:
                        break
                    done, _ = wait(pending, return_when=FIRST_COMPLETED)
                    batch: Batch = []
                    for future in done:
                        index = pending.pop(future)
                        error = future.exception()
                        if error is None:
                            batch.append((index, future.result()))
                        elif isinstance(error, openai.APIError | EngineError):
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
            finally:  # the reader stopped reading, or a bug: nothing is left waiting in line
                for future in pending:
                    future.cancel()
                throttle.stop()
        if isinstance(failure, EngineError):
            raise failure
        if failure is not None:
            raise EngineError(self._explain(failure)) from failure


def _client(url: str, key: str, timeout: float) -> openai.OpenAI:
    """Raises HarnessError for a URL that is none or holds a secret, and for a proxy that cannot be used."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise HarnessError(f"{url!r} is not a server URL; expected http://HOST:PORT/v1#MODEL")
    query = dict(parse_qsl(parts.query))
    if parts.username or parts.password or any(word in name.lower() for name in query for word in _SECRET):
        raise HarnessError("a server URL must not carry credentials; set OPENAI_API_KEY in the environment instead")
    from openai import OpenAI

    try:
        return OpenAI(base_url=url.partition("?")[0], default_query=query, api_key=key, timeout=timeout, max_retries=0)
    except (ImportError, ValueError) as error:
        proxies = [n for n in os.environ if n.lower() in ("all_proxy", "http_proxy", "https_proxy")]
        if not proxies:
            raise
        values = ", ".join(f"{name}={os.environ[name].rpartition('@')[2]}" for name in proxies)
        raise HarnessError(
            f"the proxy in {values} cannot be used ({str(error).splitlines()[0]}): unset it, add the "
            "server to NO_PROXY, or for a SOCKS proxy write socks5://… and pip install 'httpx[socks]'"
        ) from error


def _body(error: openai.APIStatusError) -> str:
    try:
        return error.response.text
    except Exception:  # a body that was not read
        return str(error)


def _retry_after(error: openai.APIStatusError) -> float | None:
    """Seconds the server asks to wait; None where it names none in this form."""
    value = error.response.headers.get("retry-after", "")
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        return None


def _start(text: str) -> str:
    return repr(" ".join(text.split())[:120])
