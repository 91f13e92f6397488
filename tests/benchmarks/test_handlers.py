"""The handlers that are served: what they answer."""

import os
import socket
import threading
import time

import pytest

from benchmarks import handlers
from benchmarks.peers import Handler


@pytest.mark.parametrize(
    "handler", [handlers.echo, handlers.block, handlers.rarely_block, handlers.burn, handlers.gated]
)
def test_those_that_answer_with_the_message(handler: Handler) -> None:
    assert handler(b"quick") == b"quick"


def test_capitals() -> None:
    assert handlers.upper(b"q0a") == b"Q0A"


def test_only_a_slow_message_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    assert handlers.rarely_block(b"q1") == b"q1"
    assert slept == []
    assert handlers.rarely_block(b"s1") == b"s1"
    assert slept == [handlers.RARE_BLOCK_S]


def test_who_answers_is_said_at_the_length_of_the_question() -> None:
    answer = handlers.gated(b"w" + b"." * 31)
    assert len(answer) == 32
    assert int(answer) == os.getpid()


def test_a_slow_message_is_held_until_the_gate_hangs_up() -> None:
    replies: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        slow = b"s %d ..." % listener.getsockname()[1]
        held = threading.Thread(target=lambda: replies.append(handlers.gated(slow)))
        held.start()
        gate, _ = listener.accept()
        assert replies == []
        gate.close()
        held.join(5)
    assert replies == [slow]
