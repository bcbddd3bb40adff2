"""How many requests are on their way, as the server says "too many" and answers again."""

from __future__ import annotations

import threading
import time

from factuality_harness.harness.engines.throttle import RAISE_AFTER, Throttle


def test_halved_once_for_all_that_were_refused_together_and_raised_again() -> None:
    throttle = Throttle(16, patience=60)
    assert throttle.too_many(0, 0.05)
    assert throttle.too_many(0, 0.05)
    assert throttle.limit == 8
    for _ in range(RAISE_AFTER):
        throttle.answered()
    assert throttle.limit == 9


def test_everybody_waits_as_long_as_the_server_says() -> None:
    throttle = Throttle(4, patience=60)
    throttle.too_many(0, 0.3)
    start = time.monotonic()
    with throttle:
        assert time.monotonic() - start > 0.25


def test_patience_ends() -> None:
    throttle = Throttle(4, patience=0.05)
    assert throttle.too_many(0, 0.01)
    time.sleep(0.1)
    assert not throttle.too_many(1, 0.01)


def test_no_more_than_the_limit_at_once() -> None:
    throttle = Throttle(2, patience=60)
    running, most = 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with throttle:
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.02)
            with lock:
                running -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2


def test_a_stop_lets_all_waiting_go() -> None:
    throttle = Throttle(1, patience=60)
    throttle.too_many(0, 30)
    threading.Timer(0.1, throttle.stop).start()
    start = time.monotonic()
    with throttle:
        assert time.monotonic() - start < 5
