"""wire/framing.py, and what all framings in the box have in common"""

from typing import Any

import pytest

import paceline.wire
from paceline.errors import BadFrame, PeerError, Truncated, UsageError
from paceline.wire import (
    BadReply,
    Broken,
    Delimited,
    Fixed,
    Framing,
    LengthPrefixed,
    Lines,
    Netstring,
    Raw,
    truncated,
)
from paceline.wire.framing import grow, size_text
from splits import receive, split_at, splits

IN_THE_BOX: list[Framing] = [
    Raw(limit=8),
    Lines(limit=8),
    Delimited(b"\r\n", limit=8),
    LengthPrefixed(2, limit=8),
    Fixed(8),
    Netstring(limit=8),
]
WITH_LIMIT: list[tuple[Any, tuple[Any, ...]]] = [
    (Raw, ()),
    (Lines, ()),
    (Delimited, (b"\0",)),
    (LengthPrefixed, (4,)),
    (Netstring, ()),
]


@pytest.mark.parametrize(("framing", "arguments"), WITH_LIMIT)
def test_there_is_no_framing_without_a_limit(framing: Any, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="limit"):
        framing(*arguments)
    with pytest.raises(TypeError, match="positional"):
        framing(*arguments, *(["big"] if framing is LengthPrefixed else []), 8)


@pytest.mark.parametrize(("framing", "arguments"), WITH_LIMIT)
@pytest.mark.parametrize("limit", [0, -1, 1.5, "64k", None, True])
def test_a_limit_that_is_none_is_refused(framing: Any, arguments: tuple[Any, ...], limit: object) -> None:
    with pytest.raises(UsageError, match=rf"{framing.__name__}\(limit=.*: the limit is .*limit=65536"):
        framing(*arguments, limit=limit)


@pytest.mark.parametrize("framing", IN_THE_BOX, ids=repr)
def test_nothing_changes_nothing(framing: Framing) -> None:
    messages, rest = framing.cut(None, b"")
    assert list(messages) == []
    assert rest is None
    _, kept = framing.cut(None, b"1")
    if kept is not None:
        messages, same = framing.cut(kept, b"")
        assert list(messages) == []
        assert same == kept
    assert framing.join([]) == b""


@pytest.mark.parametrize("framing", IN_THE_BOX, ids=repr)
def test_a_framing_keeps_nothing_about_a_connection(framing: Framing) -> None:
    """Three connections at once, each with its own rest, piece by piece in turn."""
    stream = framing.join([b"12345678", b"abcdefgh"])
    alone, _ = receive(framing, [stream[at : at + 3] for at in range(0, len(stream), 3)])
    found: list[list[bytes]] = [[], [], []]
    rests: list[object] = [None, None, None]
    for at in range(0, len(stream), 3):
        for which in range(3):
            messages, rests[which] = framing.cut(rests[which], stream[at : at + 3])
            found[which] += messages
    assert found == [alone] * 3
    assert rests == [None] * 3
    assert not hasattr(framing, "__dict__"), "there is no room for state"


def test_truncated_says_how_much_had_arrived() -> None:
    for part in (b"12345", bytearray(b"12345")):
        error = truncated(part)
        assert type(error) is Truncated
        assert (
            str(error) == "the peer ended the connection inside a message, after 5 bytes of it; that part was dropped"
        )
    assert str(truncated(["of", "a", "framing", "of your own"])) == (
        "the peer ended the connection inside a message; that part was dropped"
    )


def test_a_broken_peer_is_not_truncated_as_well() -> None:
    error = BadFrame("no")
    assert truncated(Broken(error)) is error
    assert repr(Broken(error)) == "Broken(BadFrame('no'))"


def test_a_bad_reply_is_the_callers_fault_not_the_peers() -> None:
    error = BadReply("too long", 3)
    assert isinstance(error, UsageError)
    assert not isinstance(error, PeerError)
    assert (str(error), error.index) == ("too long", 3)


def test_a_rest_grows_in_place_once_it_is_its_own() -> None:
    kept = b"some"
    grown = grow(kept, b"thing")
    assert kept == b"some"
    assert bytes(grown) == b"something"
    assert grow(grown, b"!") is grown
    assert grown == b"something!"


def test_sizes_are_texts() -> None:
    assert [size_text(size) for size in (0, 1, 65536)] == ["0 bytes", "1 byte", "65,536 bytes"]


def test_all_names_are_there() -> None:
    assert all(hasattr(paceline.wire, name) for name in paceline.wire.__all__)


def test_the_generator_of_splits_gives_every_place() -> None:
    data = b"12345"
    found = list(splits(data))
    assert all(b"".join(pieces) == data and b"" not in pieces for pieces in found)
    assert found[0] == [data]
    assert found[1] == [b"1", b"2", b"3", b"4", b"5"]
    assert found[2:6] == [[b"1", b"2345"], [b"12", b"345"], [b"123", b"45"], [b"1234", b"5"]]
    assert len({tuple(pieces) for pieces in found}) > 8
    assert list(splits(b"")) == [[]]
    assert split_at(b"abc", [9, 2, 0, 2]) == [b"ab", b"c"]
