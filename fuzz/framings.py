"""Bytes for every framing of the box, cut in pieces: the first byte chooses the framing, the second where it is cut.

However they arrive they are the same messages, or the same error; nothing is kept that is longer than the limit and
a few bytes; what was cut can be joined, and cut again (but for a line whose last character is a carriage return, which
is taken for a part of its end); after an error nothing more is cut.
"""

from fuzzing import run

from paceline.wire import BadReply, Broken, Framing, Lines, framing_from_text

LIMIT = 64
FRAMINGS = [
    framing_from_text(text, LIMIT)
    for text in ("line", "netstring", "length:1", "length:2", "length:4", "fixed:5", "delimiter:aa", r"delimiter:\r\n")
]
SLACK = 16
"""A rest may be that much longer than a message: a delimiter, digits, a carriage return."""


def cut(framing: Framing, pieces: list[bytes]) -> tuple[list[bytes], object]:
    messages: list[bytes] = []
    rest: object = None
    for piece in pieces:
        was_broken = isinstance(rest, Broken)
        found, rest = framing.cut(rest, piece)
        assert not (was_broken and found), "cut behind an error"
        messages += found
        if isinstance(rest, bytes | bytearray):
            assert 0 < len(rest) <= LIMIT + SLACK, "too much is kept"
        else:
            assert rest is None or isinstance(rest, Broken)
    match rest:
        case Broken(error=error):
            return messages, str(error)
        case bytes() | bytearray():
            return messages, bytes(rest)
    return messages, None


def check(data: bytes) -> None:
    if len(data) < 2:
        return
    framing, step, data = FRAMINGS[data[0] % len(FRAMINGS)], 1 + data[1] % 16, data[2:]
    whole = cut(framing, [data])
    assert cut(framing, [data[at : at + step] for at in range(0, len(data), step)]) == whole
    messages = whole[0]
    assert sum(map(len, messages)) <= len(data)
    assert all(len(message) <= LIMIT for message in messages)
    if isinstance(framing, Lines) and any(message.endswith(b"\r") for message in messages):
        return
    try:
        joined = framing.join(messages)
    except BadReply:  # as it came: with another delimiter in it
        return
    assert cut(framing, [joined]) == (messages, None)


if __name__ == "__main__":
    run("framings", check)
