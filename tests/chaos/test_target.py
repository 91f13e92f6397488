"""chaos/target.py: the application in the box does as it is told, and each broken version is broken in its way."""

import os
import signal
import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from paceline import Close
from paceline.chaos.target import BROKEN, PROBE, PROBE_REPLY, good


def loaded(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "app"}
    before = signal.getsignal(signal.SIGPIPE)
    with warnings.catch_warnings():
        try:
            exec(compile(source, "app.py", "exec"), names)
        finally:
            signal.signal(signal.SIGPIPE, before)  # it takes what the interpreter has set
    return names


def test_it_answers_with_who_and_which_version_and_counts_by_the_state_of_the_connection() -> None:
    answer = loaded(good(7))["answer"]
    connection = SimpleNamespace(state=None)
    assert answer(b"3.1.abc", connection) == b"3.1.abc %d 7 1" % os.getpid()
    assert answer(b"3.2.abc", connection) == b"3.2.abc %d 7 2" % os.getpid()
    assert connection.state == 2


def test_it_answers_the_probe_and_who() -> None:
    answer = loaded(good(3))["answer"]
    connection = SimpleNamespace(state=None)
    assert answer(PROBE.encode(), connection) == PROBE_REPLY.encode()
    assert answer(b"!who", connection) == b"%d 3" % os.getpid()
    assert answer(b"!many 3", connection) == [b"x" * 1000] * 3
    assert connection.state is None, "what it is told is not counted"


def test_large_replies_and_the_end() -> None:
    answer = loaded(good(1))["answer"]
    connection = SimpleNamespace(state=None)
    assert sum(map(len, answer(b"!stream 100000", connection))) == 4 * (32 << 10), "whole pieces"
    early = answer(b"!early 5", connection)
    assert isinstance(early, Close)
    assert early.reply == b"xxxxx"
    assert isinstance(answer(b"!close", connection), Close)


def test_more_memory_than_there_is() -> None:
    with pytest.raises((MemoryError, OverflowError)):
        loaded(good(1))["answer"](b"!allocate %d" % (1 << 62), SimpleNamespace(state=None))


@pytest.mark.parametrize("how", ["syntax", "import", "raise", "sys.exit"])
def test_broken_when_it_is_loaded(how: str) -> None:
    with pytest.raises((SyntaxError, ImportError, RuntimeError, SystemExit)):
        loaded(BROKEN[how])


def test_broken_in_what_it_holds() -> None:
    assert "answer" not in loaded(BROKEN["missing"])
    assert loaded(BROKEN["probe"])["answer"](PROBE.encode(), None) != PROBE_REPLY.encode()
