"""The control channel's messages: each comes back as it was, and nothing that arrives can raise."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.worker.messages import (
    MOST_BYTES,
    Drain,
    Dump,
    Dumped,
    Failed,
    Leaving,
    Message,
    Nudge,
    Ready,
    Reopen,
    Serve,
    Stuck,
    decode,
    encode,
)

EACH = [
    Ready("message", "lines"),
    Ready("connection", "raw", "hello:handle"),
    Failed("no module named 'hallo'"),
    Failed("it raised", "Traceback …\n  ValueError: 7\n", 1),
    Leaving(),
    Leaving(cut=3),
    Drain(30.0),
    Drain(within_s=0.0),
    Drain(30.0, hand_over=True),
    Nudge(),
    Serve(),
    Reopen(),
    Dump(7),
    Dumped(7, "thread 0 · leads\n"),
    Stuck(3, 30.2, 30.0, "192.0.2.7:50312"),
]


@pytest.mark.parametrize("message", EACH, ids=repr)
def test_comes_back_as_it_was(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.text(), st.text(), st.integers(0, 255))
def test_any_text_comes_back(why: str, traceback: str, code: int) -> None:
    assert decode(encode(Failed(why, traceback, code))) == Failed(why, traceback, code)


@pytest.mark.parametrize("character", ["x", "ö", "🚲", "\ud800", "\n", '"'])
def test_a_long_traceback_loses_its_middle_and_never_its_last_line(character: str) -> None:
    message = Failed(character * 100_000, "first line\n" + character * 1_000_000 + "\nValueError: the cause")
    datagram = encode(message)
    assert len(datagram) <= MOST_BYTES
    shorter = decode(datagram)
    assert isinstance(shorter, Failed)
    assert shorter.traceback.startswith("first line\n")
    assert "\n  …\n" in shorter.traceback
    assert shorter.traceback.endswith("\nValueError: the cause")
    assert shorter.why.startswith(character)


def test_what_just_fits_is_whole() -> None:
    empty = len(encode(Failed("", "")))
    message = Failed("", "x" * (MOST_BYTES - empty))
    assert len(encode(message)) == MOST_BYTES
    assert decode(encode(message)) == message


def test_a_field_of_a_later_version_is_dropped() -> None:
    assert decode(b'{"is": "leaving", "cut": 2, "mood": "good"}') == Leaving(2)


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b'"ready"',
        b"null",
        b"{}",
        b'{"is": "dance"}',
        b'{"is": ["ready"]}',
        b'{"is": "ready"}',
        b'{"is": "ready", "kind": "message"}',
        b'{"is": "ready", "kind": 7, "framing": "raw"}',
        b'{"is": "failed", "why": "x", "exit_code": "3"}',
        b'{"is": "failed", "why": null}',
        b'{"is": "leaving", "cut": true}',
        b'{"is": "leaving", "cut": 1.5}',
        b'{"is": "drain"}',
        b'{"is": "drain", "within_s": "soon"}',
        b"\xff\xfe\x00",
        b"[" * 60_000,
        b'{"is": "leaving", "cut": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda datagram: repr(datagram[:40]),
)
def test_nonsense_is_none(datagram: bytes) -> None:
    assert decode(datagram) is None


@given(st.binary(max_size=200))
def test_no_bytes_raise(datagram: bytes) -> None:
    decode(datagram)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner),
)


@given(ANYTHING, st.sampled_from(["ready", "failed", "leaving", "drain", "nudge"]))
def test_no_shape_raises(anything: object, kind: str) -> None:
    decode(json.dumps({"is": kind, "kind": anything, "why": anything, "cut": anything, "within_s": anything}).encode())
    decode(json.dumps({"is": anything}).encode())


def test_a_whole_number_is_a_time() -> None:
    assert decode(b'{"is": "drain", "within_s": 3}') == Drain(3)
