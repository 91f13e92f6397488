"""The handlers that are served: what they answer."""

import time

import pytest

from benchmarks import handlers
from benchmarks.peers import Handler


@pytest.mark.parametrize("handler", [handlers.echo, handlers.block, handlers.rarely_block, handlers.burn])
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
