"""wire/lines.py"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.errors import MessageTooLarge, UsageError
from paceline.wire import Broken, Lines
from splits import (
    check,
    check_any_bytes,
    check_broken,
    check_grows_in_place,
    check_linear,
    check_trailing,
    chopped,
    quick,
    receive,
)

LINES = Lines(limit=8)


@pytest.mark.parametrize(
    ("data", "messages", "kept"),
    [
        (b"", [], None),
        (b"\n", [b""], None),
        (b"one\n", [b"one"], None),
        (b"one\ntwo\n", [b"one", b"two"], None),
        (b"\n\n\n", [b"", b"", b""], None),
        (b"one", [], b"one"),
        (b"one\ntw", [b"one"], b"tw"),
        (b"one\r\ntwo\r\n", [b"one", b"two"], None),
        (b"one\ntwo\r\nthree\n", [b"one", b"two", b"three"], None),
        (b"\r\n", [b""], None),
        (b"\r", [], b"\r"),
        (b"one\r", [], b"one\r"),
        (b"a\rb\n", [b"a\rb"], None),
        (b"\ra\n", [b"\ra"], None),
        (b"one\r\r\ntwo\n", [b"one\r", b"two"], None),
        (b"\n\r\n\r", [b"", b""], b"\r"),
        (b"\0\xff\x85\x0b\n", [b"\0\xff\x85\x0b"], None),
    ],
)
def test_lines_end_in_lf_or_crlf(data: bytes, messages: list[bytes], kept: bytes | None) -> None:
    check(LINES, data, messages, kept)


def test_each_beginning_of_a_next_line_is_kept() -> None:
    check_trailing(LINES, [b"one", b"", b"three"], [b"one\n", b"\r\n", b"three\r\n"])


def test_a_line_of_the_limit_passes_and_one_byte_more_does_not() -> None:
    check(LINES, b"12345678\n", [b"12345678"])
    check(LINES, b"12345678\r\n", [b"12345678"])
    check(LINES, b"ok\n12345678", [b"ok"], b"12345678")
    check(LINES, b"ok\n12345678\r", [b"ok"], b"12345678\r")
    for over in (b"123456789", b"123456789\n", b"12345678\r9", b"12345678\r\r\n", b"123456789\r\nmore\n"):
        check_broken(LINES, b"ok\n" + over, [b"ok"], MessageTooLarge)


def test_the_error_names_the_limit_and_what_arrived() -> None:
    text = check_broken(Lines(limit=1), b"GET / HTTP/1.1\r\n", [], MessageTooLarge)
    assert text == (
        "the peer sent a line over the limit of 1 byte (--max-message, or limit= where the framing is made); "
        "it begins b'GE'"
    )
    text = check_broken(Lines(limit=30), b"GET /a/path/that/is/long HTTP/1.1\r\n", [], MessageTooLarge)
    assert "the limit of 30 bytes" in text
    assert text.endswith("it begins b'GET /a/path/that'")


def test_a_chunk_over_the_limit_may_hold_many_lines_within_it() -> None:
    data = b"12345678\n" * 5
    check(LINES, data, [b"12345678"] * 5)
    check_broken(LINES, data + b"123456789\n" + data, [b"12345678"] * 5, MessageTooLarge)


def test_replies_get_the_ending() -> None:
    assert LINES.join([]) == b""
    assert LINES.join([b"one"]) == b"one\n"
    assert LINES.join([b"one", b"", b"three"]) == b"one\n\nthree\n"
    assert Lines(limit=8, end=b"\r\n").join((b"one", b"two")) == b"one\r\ntwo\r\n"


def test_a_reply_with_line_endings_is_several_lines() -> None:
    assert receive(LINES, [LINES.join([b"one\ntwo", b"three"])]) == ([b"one", b"two", b"three"], None)


@pytest.mark.parametrize("end", [b"", b"\r", b"\0", b"\n\n", "\n", None])
def test_other_endings_are_refused(end: bytes) -> None:
    with pytest.raises(UsageError, match="Delimited"):
        Lines(limit=8, end=end)


def test_it_says_what_it_is() -> None:
    assert repr(Lines(limit=8, end=b"\r\n")) == r"Lines(limit=8, end=b'\r\n')"


def test_work_is_linear() -> None:
    check_linear(Lines(limit=1 << 20), lambda size: bytes(size) + b"\n")
    check_grows_in_place(Lines(limit=1 << 20), b"x" * 5000 + b"\r\n")


@quick
@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line and line[-1:] != b"\r")), st.data())
def test_what_is_joined_is_cut_again(lines: list[bytes], data: st.DataObject) -> None:
    framing = Lines(limit=20, end=data.draw(st.sampled_from([b"\n", b"\r\n"])))
    pieces = data.draw(chopped(st.just(framing.join(lines))))
    assert receive(framing, pieces) == (lines, None)


def reference(data: bytes, limit: int) -> tuple[list[bytes], bool]:
    """The lines of `data` and whether it breaks, byte after byte as the rule says it."""
    lines, line = [], b""
    for at in range(len(data)):
        byte = data[at : at + 1]
        if byte == b"\n":
            lines.append(line[:-1] if line.endswith(b"\r") else line)
            line = b""
        else:
            line += byte
        if len(line) > limit + line.endswith(b"\r"):
            return lines, True
    return lines, False


@quick
@given(chopped(st.text("\r\n\n\nab").map(str.encode)), st.integers(1, 6))
def test_any_bytes(pieces: list[bytes], limit: int) -> None:
    framing = Lines(limit=limit)
    check_any_bytes(framing, pieces, limit + 1)
    messages, rest = receive(framing, pieces)
    assert (messages, isinstance(rest, Broken)) == reference(b"".join(pieces), limit)
