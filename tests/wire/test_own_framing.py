"""examples/own_framing.py: the framing that teaches how to write one keeps what those in the box keep."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import loaded
from paceline.errors import BadFrame
from paceline.handlers import examine
from paceline.wire import as_framing, truncated
from splits import check, check_broken, check_grows_in_place, check_linear, chopped, outcome, quick, receive

example = loaded("own_framing")
FRAMING = example.StxEtx(limit=8)


@pytest.mark.parametrize(
    ("data", "messages", "kept"),
    [
        (b"", [], None),
        (b"\x02\x03", [b""], None),
        (b"\x02one\x03\x02two\x03", [b"one", b"two"], None),
        (b"\x02", [], [b"", False]),
        (b"\x02one", [], [b"one", False]),
        (b"\x02one\x10", [], [b"one", True]),
        (b"\x02\x10\x02\x10\x03\x10\x10\x03", [b"\x02\x03\x10"], None),
        (b"\x02\x10\x10\x03\x02\x10", [b"\x10"], [b"", True]),
        (b"\x02\x10a\x03", [b"a"], None),
        (b"\x0212345678\x03", [b"12345678"], None),
        (b"\x021234567\x10\x03\x03", [b"1234567\x03"], None),
    ],
)
def test_messages_stand_between_stx_and_etx(data: bytes, messages: list[bytes], kept: object) -> None:
    check(FRAMING, data, messages, kept)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"hello", "the peer sent 0x68 where a message begins with STX"),
        (b"\x03", "the peer sent 0x03 where a message begins with STX"),
        (b"\x02a\x02b\x03", "STX inside a message"),
        (b"\x02123456789", "a message of more than 8 bytes"),
        (b"\x0212345678\x10\x03\x03", "a message of more than 8 bytes"),
    ],
)
def test_a_peer_that_breaks_the_rules_is_refused(bad: bytes, why: str) -> None:
    assert why in check_broken(FRAMING, b"\x02ok\x03" + bad, [b"ok"], BadFrame)


def test_work_is_linear() -> None:
    check_linear(example.StxEtx(limit=1 << 20), lambda size: b"\x02" + bytes(size) + b"\x03")
    check_grows_in_place(FRAMING, b"\x0212345678")


@quick
@given(st.lists(st.text("\x02\x03\x10ab", max_size=8).map(str.encode)), st.data())
def test_what_is_joined_is_cut_again(replies: list[bytes], data: st.DataObject) -> None:
    pieces = data.draw(chopped(st.just(FRAMING.join(replies))))
    assert receive(FRAMING, pieces) == (replies, None)


@quick
@given(chopped(st.text("\x02\x02\x03\x03\x10ab").map(str.encode)))
def test_any_bytes(pieces: list[bytes]) -> None:
    messages, rest = receive(FRAMING, pieces)
    whole, whole_rest = receive(FRAMING, [b"".join(pieces)])
    assert (messages, outcome(rest)) == (whole, outcome(whole_rest))


def test_an_end_inside_a_message_can_be_told() -> None:
    _, rest = FRAMING.cut(None, b"\x02half")
    assert "inside a message" in str(truncated(rest))


def test_the_handler_brings_its_framing() -> None:
    handler = examine(example.scale, "own_framing:scale")
    assert handler.kind == "message"
    framing = as_framing(handler.marks.framing, 1 << 20)
    messages, rest = framing.cut(None, b"\x02W 12500 g\x03\x02T 20 C\x03\x02W 1e3 g\x03")
    assert rest is None
    assert framing.join([handler.call(message) for message in messages]) == (
        b"\x02OK 12.500 kg\x03\x02ERROR T 20 C\x03\x02ERROR W 1e3 g\x03"
    )
    longest = b"W " + b"9" * 252 + b" g"
    assert handler.call(longest).startswith(b"OK 9999")
