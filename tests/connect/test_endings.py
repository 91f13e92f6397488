"""connect/endings.py: how a connection ended, in a sentence."""

import errno
import os

import pytest

from paceline.connect import endings
from paceline.errors import ConnectionClosed, ConnectionReset, PeerError, TimedOut, Truncated


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (
            errno.ECONNRESET,
            ConnectionReset,
            "here reset the connection with 1 byte unsent: what it had not read is lost",
        ),
        (errno.EPIPE, ConnectionClosed, "here closed the connection with 1 byte unsent; its log should say why"),
        (errno.ETIMEDOUT, TimedOut, "here is not heard of any more"),
        (errno.EHOSTUNREACH, ConnectionReset, "the connection to here broke: No route to host"),
    ],
)
def test_broken_off(number: int, kind: type[PeerError], said: str) -> None:
    error = endings.broken_off("here", OSError(number, os.strerror(number)), 1)
    assert type(error) is kind
    assert str(error).startswith(said)
    assert error.exit_code == 5


def test_an_end_is_in_good_order_unless_it_comes_inside_a_reply() -> None:
    assert endings.ended("here", None) is None
    error = endings.ended("here", b"abc")
    assert isinstance(error, Truncated)
    assert str(error).startswith("here closed the connection inside a reply, after 3 bytes of it")
    assert "inside a reply; is" in str(endings.ended("here", [1]))


def test_an_end_before_a_line_has_ended_leaves_it_unsent() -> None:
    error = endings.closed_inside_a_line("here", 3)
    assert str(error) == (
        "here closed the connection before standard input ended; a line that has not ended is unsent (3 bytes so far)"
    )
    assert error.exit_code == 5


def test_notes() -> None:
    assert endings.closed("here", 0) == "here closed the connection"
    assert endings.closed("here", 2) == "here closed the connection before it answered 2 messages"
    assert endings.not_answered(0.5, 1, is_raw=True).startswith("no reply to 1 message within 0.5 s; ")
    assert "--framing" in endings.not_answered(0.5, 1, is_raw=False)


def test_silence() -> None:
    assert str(endings.silent("here", 10)).startswith("here was silent for 10 s after the end of the input; --timeout")
    assert "(a part of a reply has come)" in str(endings.silent("here", 10, rest=b"x"))
    assert "has read nothing for 10 s, 3 bytes" in str(endings.not_read("here", 10, 3))
