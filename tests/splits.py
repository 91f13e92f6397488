"""The ways in which the same bytes can arrive, and what every framing must do with them.

A message does not depend on how its bytes arrived.  So a test says once what some bytes mean, and `check` feeds them
whole, byte by byte, cut in two at every place, and in random pieces.
"""

import itertools
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from hypothesis import settings
from hypothesis import strategies as st

from paceline.errors import PeerError
from paceline.wire import Broken, Framing

RANDOM_SPLITS = 20

quick = settings(max_examples=150, deadline=None)
"""For Hypothesis on a machine that others use as well."""


def splits(data: bytes, seed: int = 0) -> Iterator[list[bytes]]:
    """The ways to split in which a framing is likely to differ: for n bytes, n + 1 + RANDOM_SPLITS of them."""
    if not data:
        yield []
        return
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]
    chance = random.Random(seed)
    for _ in range(RANDOM_SPLITS):
        yield split_at(data, chance.sample(range(len(data)), chance.randrange(len(data))))


def split_at(data: bytes, places: Iterable[int]) -> list[bytes]:
    """`data` cut at these places, as far as it has them; no piece is empty."""
    bounds = [0, *sorted({place for place in places if 0 < place < len(data)}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds) if end > start]


def chopped(data: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[bytes]]:
    """Bytes in pieces, for Hypothesis."""
    return st.builds(split_at, data, st.lists(st.integers(0, 200), max_size=12))


def receive(framing: Framing, pieces: Iterable[bytes], rest: object = None) -> tuple[list[bytes], object]:
    """All messages that a framing cuts from these pieces, and the rest in the end."""
    messages: list[bytes] = []
    for piece in pieces:
        cut, rest = framing.cut(rest, piece)
        messages += cut
    return messages, rest


def outcome(rest: object) -> object:
    """A rest as something to compare: None, what is kept, or the kind and the text of the error."""
    match rest:
        case Broken(error=error):
            return type(error), str(error)
        case bytearray():
            return bytes(rest)
    return rest


def check(framing: Framing, data: bytes, messages: Sequence[bytes], kept: object = None) -> None:
    """However `data` arrives, it is these messages, and `kept` is left: None, unfinished bytes, …"""
    for pieces in splits(data):
        found, rest = receive(framing, pieces)
        assert found == list(messages), pieces
        assert all(type(message) is bytes for message in found), pieces
        assert outcome(rest) == kept, pieces
        if isinstance(rest, bytes | bytearray):
            assert rest, "nothing kept is None"
            # What is kept is the whole state: a connection may go on with it in another process.
            assert receive(framing, [bytes(rest)]) == ([], rest), pieces


def check_broken(framing: Framing, data: bytes, messages: Sequence[bytes], error: type[PeerError]) -> str:
    """However `data` arrives, it is these messages, then the peer has broken the rules; nothing more is cut from it.

    Returns the text of the error, which is the same each time.
    """
    texts = set()
    for pieces in splits(data):
        found, rest = receive(framing, pieces)
        assert found == list(messages), pieces
        assert isinstance(rest, Broken), pieces
        assert type(rest.error) is error, rest
        texts.add(str(rest.error))
        later, same = framing.cut(rest, data)
        assert not later
        assert same is rest
    assert len(texts) == 1, texts
    return texts.pop()


def check_trailing(framing: Framing, messages: Sequence[bytes], encoded: Sequence[bytes]) -> None:
    """Messages, given with their encodings, are told apart from the next one however little of that has arrived."""
    stream = b"".join(encoded)
    check(framing, stream, messages)
    for size in range(1, len(encoded[-1])):
        check(framing, stream + encoded[-1][:size], messages, encoded[-1][:size])


def check_any_bytes(framing: Framing, pieces: Sequence[bytes], longest_rest: int) -> None:
    """No bytes make `cut` raise, hang or keep more than `longest_rest` bytes, and it does not matter how they came."""
    rest: object = None
    messages: list[bytes] = []
    for piece in pieces:
        cut, rest = framing.cut(rest, piece)
        messages += cut
        if isinstance(rest, bytes | bytearray):
            assert 0 < len(rest) <= longest_rest
        else:
            assert rest is None or isinstance(rest, Broken)
    data = b"".join(pieces)
    assert sum(map(len, messages)) <= len(data)
    whole, whole_rest = receive(framing, [data])
    assert (messages, outcome(rest)) == (whole, outcome(whole_rest))


def check_linear(framing: Framing, encoded: Callable[[int], bytes]) -> None:
    """A message that arrives byte by byte costs as much per byte when it is 32 times as long: 1 MiB.

    `encoded(size)` is one message of that size with its framing.  Quadratic work would cost a thousand times as much
    for the whole, linear work 32 times; the bound between them is 320.
    """

    def seconds(size: int) -> float:
        stream = encoded(size)
        pieces = [stream[at : at + 1] for at in range(len(stream))]
        began = time.thread_time()
        rest: object = None
        messages: Sequence[bytes] = ()
        for piece in pieces:
            assert not messages
            messages, rest = framing.cut(rest, piece)
        took = time.thread_time() - began
        assert rest is None
        assert [len(message) for message in messages] == [size]
        return took

    short = min(seconds(1 << 15) for _ in range(3))
    assert seconds(1 << 20) < 320 * short


def check_grows_in_place(framing: Framing, stream: bytes) -> None:
    """While bytes come one by one, a rest is copied a few times at the beginning and then never: counted, not timed."""
    rest: object = None
    copies = 0
    for at in range(len(stream) - 1):
        before = rest
        _, rest = framing.cut(rest, stream[at : at + 1])
        assert rest is not None
        copies += rest is not before
    assert copies <= 12
