"""connect/framed.py: a framing in a client's words; connect/endings.py is in test_endings.py."""

from collections.abc import Sequence
from typing import Any

import pytest

from paceline.connect.framed import Framed
from paceline.errors import BadFrame, MessageTooLarge, UsageError
from paceline.wire import BadReply, framing_from_text


def framed(text: str, limit: int = 100) -> Framed:
    return Framed(framing_from_text(text, limit), text)


class Odd:
    """A framing of the user's own, with mistakes."""

    def cut(self, rest: Any, data: bytes) -> tuple[Sequence[bytes], Any]:
        raise ZeroDivisionError("oops")

    def join(self, replies: Sequence[bytes]) -> bytes:
        if replies == [b"no"]:
            raise BadReply("not this one", 0)
        raise KeyError("oops")


def test_it_passes_on_what_is_right() -> None:
    line = framed("line")
    assert line.joined(b"a") == b"a\n"
    assert line.cut(None, b"a\nb") == ([b"a"], b"b")
    assert line.complaint("here", b"b") is None
    assert not line.is_raw
    assert framed("raw").is_raw
    assert Framed(framing_from_text("fixed:4", 9)).text == "fixed:4"


@pytest.mark.parametrize(
    ("text", "message", "said"),
    [
        ("fixed:4", b"abc", "a message of fixed:4 has 4 bytes, and this one has 3"),
        ("length:1", b"a" * 256, "a message of 256 bytes is too long for the framing length:1"),
        ("delimiter:|", b"a|b", "a message of delimiter:| cannot have the delimiter in it"),
    ],
)
def test_what_cannot_be_a_message(text: str, message: bytes, said: str) -> None:
    with pytest.raises(UsageError, match="^" + said.replace("|", r"\|")):
        framed(text, 1000).joined(message)


def test_a_framing_of_the_users_own_that_fails_is_named() -> None:
    own = Framed(Odd())
    assert own.text.endswith(".Odd")
    with pytest.raises(UsageError, match=r"Odd is at fault: its join raised KeyError: 'oops'"):
        own.joined(b"a")
    with pytest.raises(UsageError, match=r"Odd is at fault: its cut raised ZeroDivisionError: oops"):
        own.cut(None, b"a")
    with pytest.raises(UsageError, match=r"this cannot be a message of the framing .*Odd: not this one"):
        own.joined(b"no")


@pytest.mark.parametrize(
    ("text", "data", "kind", "said"),
    [
        ("netstring", b"x", BadFrame, "what here sent is no reply of the framing netstring: the peer sent b'x'"),
        (
            "line",
            b"a" * 101,
            MessageTooLarge,
            "a reply of here is too large: the peer sent a line over the limit of 100",
        ),
    ],
)
def test_what_is_no_reply(text: str, data: bytes, kind: type, said: str) -> None:
    it = framed(text)
    complaint = it.complaint("here", it.cut(None, data)[1])
    assert type(complaint) is kind
    assert str(complaint).startswith(said)
    assert "--framing" in str(complaint)
