"""chaos/messages.py: numbered messages, and what a reply says of them."""

import pytest

from paceline.chaos.messages import Reply, Wrong, message_of, read_echo, read_ours

SENT = message_of(3, 12, 0xABC)


def test_what_a_message_looks_like() -> None:
    assert SENT == b"3.12.00000abc"
    assert message_of(3, 12, 0xABC, 4) == b"3.12.00000abc----"


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (SENT + b" 4711 2 5", Reply(4711, 2)),
        (b"3.11.00000001 4711 2 5", Wrong.DUPLICATE),
        (b"3.13.00000001 4711 2 5", Wrong.ORDER),
        (b"3.12.00000001 4711 2 5", Wrong.ORDER),  # the number, and another nonce
        (b"4.12.00000abc 4711 2 5", Wrong.FOREIGN),
        (SENT + b" 4711 2 4", Wrong.COUNT),
        (SENT + b" 4711 2 6", Wrong.COUNT),
        (SENT, Wrong.GARBLED),
        (SENT[:-1], Wrong.GARBLED),
        (b"", Wrong.GARBLED),
        (SENT + b" 4711 2 5 ", Wrong.GARBLED),
    ],
)
def test_the_application_in_the_box(reply: bytes, found: object) -> None:
    assert read_ours(reply, 3, SENT, 5) == found


def test_a_long_message_is_wholly_compared() -> None:
    sent = message_of(3, 12, 1, 100)
    assert read_ours(sent + b" 1 1 1", 3, sent, 1) == Reply(1, 1)
    assert read_ours(sent[:-1] + b" 1 1 1", 3, sent, 1) == Wrong.ORDER


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (b"hello" + SENT, Reply()),
        (b"hello3.11.00000001", Wrong.DUPLICATE),
        (b"hello3.13.00000001", Wrong.ORDER),
        (b"hello5.12.00000abc", Wrong.FOREIGN),
        (b"hello", Wrong.GARBLED),
        (b"HELLO" + SENT, Wrong.GARBLED),
    ],
)
def test_a_target_that_echoes(reply: bytes, found: object) -> None:
    assert read_echo(reply, 3, b"hello" + SENT, b"hello") == found
