"""wire/: what the bytes of a peer cost, in time and memory, whatever they are and however they arrive.

Time: of a message that is many times as long, in as small pieces, it is as many times as much, and not its square.
What is asserted is far from that, for machines that are busy; PACELINE_LONG=1 goes on to 1 MiB, and judges the figure.

Memory: what is kept of an unfinished message is about what has arrived.  Of small whole messages most is the objects
that they are: the worker cuts no more than CUT_BYTES at once.
"""

import os
import tracemalloc
from collections.abc import Callable

import pytest

from paceline import clock
from paceline.wire import Broken, framing_from_text
from paceline.worker.serving import CUT_BYTES

IS_LONG = os.environ.get("PACELINE_LONG", "") not in ("", "0")
LIMIT = 1 << 24
KIB = 1024

Bytes = Callable[[int], bytes]

UNFINISHED: dict[str, tuple[str, Bytes]] = {
    "a line": ("line", lambda n: b"x" * n),
    "a line of returns": ("line", lambda n: b"\r" * n),
    "half a delimiter, again and again": ("delimiter:|+", lambda n: b"|" * n),
    "nearly a delimiter, again and again": ("delimiter:ababababac", lambda n: b"ab" * (n // 2)),
    "a length, and less": ("length:4", lambda n: n.to_bytes(4, "big") + b"x" * (n - 4)),
    "a netstring": ("netstring", lambda n: b"%d:" % n + b"x" * (n - 8)),
    "a fixed length": (f"fixed:{LIMIT}", lambda n: b"x" * n),
}
SMALL: dict[str, tuple[str, Bytes]] = {
    "empty lines": ("line", lambda n: b"\n" * n),
    "lines of two": ("line", lambda n: b"ab\n" * (n // 3)),
    "delimited ones of two": ("delimiter:|", lambda n: b"ab|" * (n // 3)),
    "ones of two, with a length": ("length:1", lambda n: b"\2ab" * (n // 3)),
    "netstrings of two": ("netstring", lambda n: b"2:ab," * (n // 5)),
    "fixed ones of two": ("fixed:2", lambda n: b"ab" * (n // 2)),
    "raw bytes": ("raw", lambda n: b"x" * n),
}
ALL = UNFINISHED | SMALL


def cost_ns(framing: str, data: bytes, piece: int) -> int:
    """Processor time to take it all in; the least of three."""
    cut = framing_from_text(framing, LIMIT).cut
    found = []
    for _ in range(3):
        rest = None
        begun = clock.thread_cpu_ns()
        for at in range(0, len(data), piece):
            _messages, rest = cut(rest, data[at : at + piece])
        found.append(clock.thread_cpu_ns() - begun)
        assert not isinstance(rest, Broken)
    return min(found)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("piece", [1, 1460])
@pytest.mark.parametrize("kind", ALL)
def test_the_time_for_a_message_is_proportional_to_its_length(kind: str, piece: int) -> None:
    framing, make = ALL[kind]
    least, times = (512 * KIB, 2) if IS_LONG else (4 * KIB * (1 if piece == 1 else 32), 16)
    small, large = (cost_ns(framing, make(size), piece) for size in (least, times * least))
    print(
        f"{least:,} bytes in pieces of {piece}: {small / 1e6:.2f} ms; {times} times as many: {large / small:.2f} × that"
    )
    assert large / small < (2.5 if IS_LONG else 4 * times)


@pytest.mark.parametrize("piece", [1, 1460, 65_536])
@pytest.mark.parametrize("kind", UNFINISHED)
def test_an_unfinished_message_takes_about_the_memory_that_it_has(kind: str, piece: int) -> None:
    framing, make = UNFINISHED[kind]
    data, cut = make(128 * KIB), framing_from_text(framing, LIMIT).cut
    tracemalloc.start()
    try:
        rest = None
        for at in range(0, len(data), piece):
            messages, rest = cut(rest, data[at : at + piece])
            assert not messages
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rest is not None
    assert kept <= 2 * len(data)
    assert most <= 8 * len(data) + 64 * KIB


@pytest.mark.parametrize("kind", SMALL)
def test_small_messages_take_so_many_times_their_bytes_and_no_more(kind: str) -> None:
    """Each is an object.  Up to 28 times, of messages of two bytes: what a peer can make of one part that is cut."""
    framing, make = SMALL[kind]
    data, cut = make(CUT_BYTES), framing_from_text(framing, LIMIT).cut
    tracemalloc.start()
    try:
        messages, _rest = cut(None, data)
        kept, _most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    print(f"{len(data):,} bytes, {len(list(messages)):,} messages: {kept:,} bytes, {kept / len(data):.1f} ×")
    assert kept <= 8 * len(data) + 64 * KIB


def test_messages_of_eight_bytes_take_less_than_eight_times_that() -> None:
    data, cut = b"eight by\n" * (CUT_BYTES // 9), framing_from_text("line", LIMIT).cut
    tracemalloc.start()
    try:
        messages, _rest = cut(None, data)
        kept, _most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(messages) == CUT_BYTES // 9
    assert kept <= 8 * len(data)
