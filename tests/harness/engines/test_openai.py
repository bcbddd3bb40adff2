"""The OpenAI engine against a real server: retries, refusals, time-outs, death, keys."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from factuality_harness.harness.annotators.spec import JudgeSpec
from factuality_harness.harness.engines import AnswerCache, CachedEngine, OpenAIEngine, Reply, Sampling, open_engine
from factuality_harness.harness.errors import EngineError, HarnessError
from tests.helpers.judge_server import JudgeServer

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer(
        lambda messages: None if "REFUSE" in messages[-1]["content"] else messages[-1]["content"]
    ) as server:
        yield server


def say(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": text}] for text in texts]


def ask(engine: OpenAIEngine, *texts: str, sampling: Sampling | None = None) -> list[Reply]:
    replies = dict(pair for batch in engine.stream(say(*texts), sampling or Sampling()) for pair in batch)
    return [replies[i] for i in range(len(texts))]


def test_every_conversation_is_answered_once(server: JudgeServer) -> None:
    engine = OpenAIEngine(f"{server.url}#rules", concurrency=8)
    texts = [f"text {i} é字😀" for i in range(60)]
    assert [r.text for r in ask(engine, *texts)] == texts
    assert len(server.requests) == 60
    assert ask(engine) == []


def test_requests_run_at_the_same_time(server: JudgeServer) -> None:
    running: list[int] = []
    most: list[int] = []

    def answer(messages: list[dict[str, str]]) -> str:
        running.append(1)
        time.sleep(0.1)
        most.append(len(running))
        running.pop()
        return "ok"

    server.answer = answer
    server.one_at_a_time = False
    ask(OpenAIEngine(f"{server.url}#rules", concurrency=4), *map(str, range(12)))
    assert 2 <= max(most) <= 4


def test_sampling_reaches_the_server(server: JudgeServer) -> None:
    engine = OpenAIEngine(f"{server.url}#rules", extra_body={"chat_template_kwargs": {"thinking": False}})
    ask(engine, "a", sampling=Sampling(7, temperature=0.8, top_p=0.9, top_k=40, seed=3, choices=("a", "y")))
    body = server.requests[0]
    assert body == {
        "model": "rules",
        "messages": [{"role": "user", "content": "a"}],
        "max_tokens": 7,
        "temperature": 0.8,
        "top_p": 0.9,
        "top_k": 40,
        "seed": 3,
        "structured_outputs": {"choice": ["a", "y"]},
        "chat_template_kwargs": {"thinking": False},
    }
    ask(engine, "a")
    assert not {"top_k", "structured_outputs"} & set(server.requests[1])


def test_passing_trouble_is_retried(server: JudgeServer) -> None:
    server.fail_first = 2
    assert ask(OpenAIEngine(f"{server.url}#rules", retries=3), "a")[0].text == "a"
    assert len(server.requests) == 3


def test_lasting_trouble_ends_the_run_with_one_message(server: JudgeServer) -> None:
    server.fail_first = 99
    with pytest.raises(
        EngineError, match=f"judge server {server.url} answered 500: .*out of memory.*run the same"
    ) as caught:
        ask(OpenAIEngine(f"{server.url}#rules", retries=1, concurrency=1), "a", "b", "c", "d", "e", "f")
    assert "not asked twice" in str(caught.value)
    assert len(server.requests) <= 4  # the rest is not tried


def test_a_server_that_hangs_is_given_up(server: JudgeServer) -> None:
    server.hang_first = 99
    start = time.monotonic()
    with pytest.raises(EngineError, match="did not answer in time"):
        ask(OpenAIEngine(f"{server.url}#rules", timeout=0.3, retries=0), "a", "b")
    assert time.monotonic() - start < 5


def test_a_hanging_request_is_asked_again(server: JudgeServer) -> None:
    server.hang_first = 1
    assert ask(OpenAIEngine(f"{server.url}#rules", timeout=0.5, retries=2), "a")[0].text == "a"


def test_a_refused_request_fails_alone(server: JudgeServer) -> None:
    replies = ask(OpenAIEngine(f"{server.url}#rules", concurrency=2), "a", "REFUSE", "c")
    assert [r.text for r in replies] == ["a", None, "c"]
    assert replies[1].error.startswith("refused by the server: Error code: 400")
    assert len(server.requests) == 3


def test_an_answer_without_choices_fails_alone(server: JudgeServer) -> None:
    server.choices = False
    assert ask(OpenAIEngine(f"{server.url}#rules"), "a") == [Reply(None, "the server sent no answer")]


def test_half_a_character_in_an_answer_can_be_stored(server: JudgeServer, tmp_path: Path) -> None:
    server.answer = lambda messages: "half \ud83d, whole 😀"
    engine = open_engine(f"openai:{server.url}#rules", AnswerCache(tmp_path / "a.sqlite"))
    assert engine.complete(say("a"), Sampling())[0].text == "half \ufffd, whole 😀"
    assert engine.complete(say("a"), Sampling())[0].text == "half \ufffd, whole 😀"
    assert len(server.requests) == 1


def test_what_came_before_the_servers_death_is_kept(server: JudgeServer, tmp_path: Path) -> None:
    server.stop_after = 10
    cache = AnswerCache(tmp_path / "a.sqlite")
    texts = [str(i) for i in range(40)]
    with pytest.raises(EngineError, match="cannot be reached"):
        open_engine(f"openai:{server.url}#rules", cache, retries=0, concurrency=4).complete(say(*texts), Sampling())
    assert len(cache) == len(server.answered) == 10
    server.stop_after = None
    server.start()
    engine = open_engine(f"openai:{server.url}#rules", cache, retries=0, concurrency=4)
    assert [r.text for r in engine.complete(say(*texts), Sampling())] == texts
    assert len(server.answered) == len(set(server.answered)) == 40


def test_answers_on_their_way_when_the_trouble_comes_are_kept(server: JudgeServer, tmp_path: Path) -> None:
    def slowly(messages: list[dict[str, str]]) -> str:
        time.sleep(0.5)
        return "late"

    def fails_once_both_are_there(body: dict[str, object], turn: int):
        if turn > 1:
            return None
        while len(server.requests) < 2:
            time.sleep(0.01)
        return 500, error("out of memory"), {}

    server.answer, server.one_at_a_time, server.odd = slowly, False, fails_once_both_are_there
    cache = AnswerCache(tmp_path / "a.sqlite")
    with pytest.raises(EngineError, match="answered 500"):
        open_engine(f"openai:{server.url}#rules", cache, retries=0, concurrency=2).complete(say("a", "b"), Sampling())
    assert len(cache) == 1


class TestCheck:
    """What is found out before any work is spent."""

    def test_a_server_that_is_up(self, server: JudgeServer) -> None:
        OpenAIEngine(f"{server.url}#rules").check()
        assert server.requests == []

    def test_no_server(self, server: JudgeServer) -> None:
        server.stop_listening()
        start = time.monotonic()
        with pytest.raises(EngineError, match=f"judge server {server.url} cannot be reached. Start it"):
            OpenAIEngine(f"{server.url}#rules").check()
        assert time.monotonic() - start < 10

    def test_another_model(self, server: JudgeServer) -> None:
        with pytest.raises(EngineError, match="does not serve 'gpt'; it serves: rules"):
            OpenAIEngine(f"{server.url}#gpt").check()

    def test_a_closed_model_list_is_no_obstacle(self, server: JudgeServer) -> None:
        server.models = None
        OpenAIEngine(f"{server.url}#rules").check()

    def test_a_refused_key(self, server: JudgeServer) -> None:
        server.key = KEY
        with pytest.raises(EngineError, match=r"refused the key \(.*\); set JUDGE_API_KEY or OPENAI_API_KEY"):
            OpenAIEngine(f"{server.url}#rules").check()

    def test_the_only_model_needs_no_name(self, server: JudgeServer) -> None:
        engine = OpenAIEngine(server.url)
        engine.check()
        assert engine.identity == "openai#rules"
        ask(engine, "a")
        assert server.requests[0]["model"] == "rules"

    def test_one_of_several_models_must_be_named(self, server: JudgeServer) -> None:
        server.models = ["a", "b"]
        with pytest.raises(EngineError, match=r"serves 2 models \(a, b\); name one"):
            _ = OpenAIEngine(server.url).identity


def wrong_key(engine: OpenAIEngine, server: JudgeServer) -> None:
    server.key = "another"
    ask(engine, "a")


def broken(engine: OpenAIEngine, server: JudgeServer) -> None:
    server.fail_first = 99
    ask(engine, "a")


def gone(engine: OpenAIEngine, server: JudgeServer) -> None:
    server.stop_listening()
    engine.check()


@pytest.mark.parametrize("trouble", [wrong_key, broken, gone])
def test_the_key_is_in_no_error(
    server: JudgeServer,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Callable[[OpenAIEngine, JudgeServer], None],
) -> None:
    """The server repeats the header it was sent, as some do."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(EngineError) as caught:
        trouble(OpenAIEngine(f"{server.url}#rules", retries=0), server)
    assert KEY not in str(caught.value)


def test_the_key_is_sent_and_written_nowhere(
    server: JudgeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.key = KEY
    engine = open_engine(f"openai:{server.url}#rules", AnswerCache(tmp_path / "a.sqlite"))
    engine.engine.check()
    replies = engine.complete(say("a", "REFUSE"), Sampling())
    assert replies[0].text == "a"
    assert "too long (Bearer [key])" in replies[1].error
    assert KEY not in engine.engine.identity
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert any(b"a" in p.read_bytes() for p in files)
    assert not any(KEY.encode() in p.read_bytes() for p in files)


def test_answers_do_not_depend_on_where_the_server_is(server: JudgeServer, tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "a.sqlite")
    open_engine(f"openai:{server.url}#rules", cache).complete(say("a"), Sampling())
    with JudgeServer() as other:
        engine = open_engine(f"openai:{other.url}#rules", cache)
        assert engine.complete(say("a"), Sampling())[0].text == "a"
        assert other.requests == []


def test_a_url_must_be_one() -> None:
    for url in ("", "#m", "host/v1#m", "file:///etc/passwd", "http://#m"):
        with pytest.raises(HarnessError, match="not a server URL"):
            OpenAIEngine(url)


def test_open_engine_puts_the_users_cache_in_front(server: JudgeServer) -> None:
    engine = open_engine(f"openai:{server.url}#rules")
    assert isinstance(engine, CachedEngine)
    engine.complete(say("a"), Sampling())
    again = open_engine(f"openai:{server.url}#rules")
    again.complete(say("a"), Sampling())
    assert (again.asked, again.hits, len(server.requests)) == (0, 1, 1)


def error(words: str, **details: object) -> dict[str, object]:
    return {"error": {"message": words, "type": "invalid_request_error", **details}}


def refuses(name: str, words: str, status: int = 400):
    def odd(body: dict[str, object], turn: int):
        return (status, error(words), {}) if name in body else None

    return odd


@pytest.mark.parametrize(
    ("name", "words", "status"),
    [
        ("max_tokens", "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", 400),
        ("temperature", "Unsupported value: 'temperature' does not support 0 with this model.", 400),
        ("structured_outputs", "Unrecognized request argument supplied: structured_outputs", 400),
        ("seed", "Extra inputs are not permitted: seed", 422),
    ],
)
def test_a_refused_parameter_is_learned_once_for_all_requests(
    server: JudgeServer, name: str, words: str, status: int
) -> None:
    server.odd = refuses(name, words, status)
    engine = OpenAIEngine(f"{server.url}#rules", concurrency=1)
    sampling = Sampling(temperature=0.5 if name == "seed" else 0.0, choices=("a", "b", "c"))
    assert [r.text for r in ask(engine, "a", "b", "c", sampling=sampling)] == ["a", "b", "c"]
    assert len(engine.parameters.learned) == (2 if name == "temperature" else 1)  # 1 is tried before none
    assert len(server.requests) == 3 + len(engine.parameters.learned)


def test_a_constraint_that_is_ignored_shows_in_an_answer_that_was_cut(server: JudgeServer) -> None:
    def odd(body: dict[str, object], turn: int):
        text, finish = ('{"label": "a"}', "stop") if "response_format" in body else ("The sentence is not", "length")
        message = {"role": "assistant", "content": text}
        return 200, {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}, {}

    server.odd = odd
    engine = OpenAIEngine(f"{server.url}#rules", concurrency=1)
    assert [r.text for r in ask(engine, "x", "y", sampling=Sampling(choices=("a", "b")))] == ['{"label": "a"}'] * 2
    assert len(server.requests) == 3


def test_a_parameter_the_user_set_is_not_left_out(server: JudgeServer) -> None:
    server.odd = refuses("temperature", "Unsupported value: 'temperature' does not support 0.3")
    engine = OpenAIEngine(f"{server.url}#rules", extra_body={"temperature": 0.3})
    assert "does not support 0.3" in ask(engine, "a")[0].error


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("<!doctype html><html>gateway</html>", "the server answered with an HTML page"),
        ('{"id": "1", "choices": [{"mess', "the server answered with no JSON"),
        ({"id": "1", "choices": [{"index": 0, "finish_reason": "length"}]}, "the server sent no message"),
    ],
)
def test_an_odd_answer_is_a_worded_failure(server: JudgeServer, answer: object, words: str) -> None:
    server.odd = lambda body, turn: (200, answer, {})  # type: ignore[return-value, assignment]
    assert ask(OpenAIEngine(f"{server.url}#rules"), "a")[0].error.startswith(words)


def test_an_error_inside_a_200_counts_as_what_it_says(server: JudgeServer) -> None:
    server.odd = lambda body, turn: (200, error("rate-limited upstream", code=429), {}) if turn == 1 else None
    assert ask(OpenAIEngine(f"{server.url}#rules"), "a")[0].text == "a"
    assert len(server.requests) == 2


def test_too_many_requests_are_waited_for(server: JudgeServer) -> None:
    server.odd = lambda body, turn: (429, error("slow down"), {"Retry_After": "0.2"}) if turn <= 3 else None
    start = time.monotonic()
    engine = OpenAIEngine(f"{server.url}#rules", retries=0, concurrency=4)
    assert [r.text for r in ask(engine, *map(str, range(8)))] == [*map(str, range(8))]
    assert time.monotonic() - start >= 0.2


def test_an_exhausted_quota_stops_with_the_servers_words(server: JudgeServer) -> None:
    words = error("You exceeded your current quota, please check your plan.", code="insufficient_quota")
    server.odd = lambda body, turn: (429, words, {})
    with pytest.raises(EngineError, match="exceeded your current quota"):
        ask(OpenAIEngine(f"{server.url}#rules", concurrency=1), *map(str, range(50)))
    assert len(server.requests) <= 3


def test_a_trial_is_less_patient_than_a_run(server: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("factuality_harness.harness.engines.openai.TRIAL_PATIENCE", 0.3)
    server.odd = lambda body, turn: (200, error("rate-limited upstream", code=429), {})
    judge = JudgeSpec.parse(f"dialogue@openai:{server.url}#rules").open()
    with pytest.raises(EngineError, match="rate-limited upstream"):
        judge.check()


def test_patience_with_too_many_requests_ends(server: JudgeServer) -> None:
    server.odd = lambda body, turn: (429, error("slow down"), {"Retry_After": "0.1"})
    with pytest.raises(EngineError, match="answered 429"):
        ask(OpenAIEngine(f"{server.url}#rules", concurrency=1, patience=0.3), "a")


class TestWhereTheApiIs:
    """A wrong path shows before anything is generated, with the right one."""

    @pytest.mark.parametrize("path", ["", "/", "/v1/chat/completions", "/v1/chat/completions/", "/api/v1", "/v2"])
    def test_the_right_url_is_named(self, server: JudgeServer, path: str) -> None:
        root = server.url.removesuffix("/v1")
        with pytest.raises(EngineError, match=f"is not where the API is: write {server.url}#rules"):
            OpenAIEngine(f"{root}{path}#rules").check()
        assert server.requests == []

    def test_a_trailing_slash_is_no_other_place(self, server: JudgeServer) -> None:
        engine = OpenAIEngine(f"{server.url}/#rules")
        engine.check()
        assert ask(engine, "a")[0].text == "a"

    def test_a_page_in_place_of_the_list(self, server: JudgeServer) -> None:
        server.page = "<!doctype html><html>gateway</html>"
        with pytest.raises(EngineError, match="answers, but not as the OpenAI API does: '<!doctype html>"):
            OpenAIEngine(f"{server.url}#rules").check()

    def test_a_query_goes_with_every_request_and_a_secret_in_it_is_refused(self, server: JudgeServer) -> None:
        engine = OpenAIEngine(f"{server.url}?api-version=2024-10-21#rules")
        engine.check()
        assert ask(engine, "a")[0].text == "a"
        with pytest.raises(HarnessError, match="must not carry credentials"):
            OpenAIEngine(f"{server.url}?api-key=abc#rules")


@pytest.mark.parametrize(
    ("key", "sent"),
    [("example-key\r\n", "example-key"), (" example-key", "example-key"), ("example-key", "example-key")],
)
def test_white_space_around_a_key_is_no_part_of_it(
    server: JudgeServer, monkeypatch: pytest.MonkeyPatch, key: str, sent: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    server.key = sent
    assert ask(OpenAIEngine(f"{server.url}#rules"), "a")[0].text == "a"


@pytest.mark.parametrize("key", ["“example-key”", "'example-key'", "exa mple", "clé"])
def test_an_impossible_key_is_named(server: JudgeServer, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(HarnessError, match=r"OPENAI_API_KEY holds .*, which no key has"):
        OpenAIEngine(f"{server.url}#rules")


def test_a_judge_has_a_key_of_its_own(server: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-model")
    monkeypatch.setenv("JUDGE_API_KEY", "of-the-judge")
    server.key = "of-the-judge"
    OpenAIEngine(f"{server.url}#rules").check()
    with pytest.raises(EngineError, match="refused the key"):
        OpenAIEngine(f"{server.url}#rules", "model").check()


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "socks://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_is_named(server: JudgeServer, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(HarnessError, match=r"the proxy in ALL_PROXY=.* cannot be used"):
        OpenAIEngine(f"{server.url}#rules")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"concurrency": "8"}, "concurrency is '8'"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"concurrency": True}, "concurrency is True"),
        ({"timeout": "60"}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"retries": -1}, "retries is -1"),
        ({"extra_body": "x"}, "extra_body is 'x'"),
        ({"temperature": 0.2}, "no option 'temperature'"),
        ({"concurency": 4}, "did you mean 'concurrency'?"),
    ],
)
def test_a_wrong_option_is_one_clear_line(server: JudgeServer, options: dict[str, Any], words: str) -> None:
    with pytest.raises(HarnessError, match="options of the openai engine") as caught:
        OpenAIEngine(f"{server.url}#rules", **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
