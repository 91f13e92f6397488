"""examples/kv.py: its framing, which makes the same requests of the same bytes however they arrive."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import loaded
from paceline.errors import BadFrame
from paceline.handlers import examine
from paceline.wire import Broken, as_framing, truncated
from splits import check_grows_in_place, chopped, outcome, quick, split_at, splits
from splits import receive as receive_bytes

example = loaded("kv")
RESP = example.Resp()
SMALL = example.Resp(most_words=4, most_bytes=640, most_line=40)


def receive(framing: Any, pieces: list[bytes]) -> tuple[Any, Any]:
    """Requests are no bytes, as the messages of the framings in the box are."""
    return receive_bytes(framing, pieces)


def encoded(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


def check(framing: Any, data: bytes, requests: list[list[bytes]], *, is_whole: bool = True) -> None:
    """However `data` arrives, it is these requests, and something is kept of a next one or not: the same each time."""
    rests = []
    for pieces in splits(data):
        found, rest = receive(framing, pieces)
        assert found == requests, pieces
        assert (rest is None) is is_whole, pieces
        rests.append(rest)
    assert all(rest == rests[0] for rest in rests)


def check_broken(framing: Any, data: bytes, requests: list[list[bytes]], what: str) -> None:
    """However `data` arrives, it is these requests, then what was wrong with the rest, for the peer and for the log."""
    why = f"Protocol error: {what}"
    for pieces in splits(data):
        found, rest = receive(framing, pieces)
        assert found == [*requests, why], pieces
        assert outcome(rest) == (BadFrame, why), pieces
        assert framing.cut(rest, data) == ([], rest), "nothing more is cut from it"


@pytest.mark.parametrize(
    ("data", "requests"),
    [
        (b"", []),
        (encoded(b"PING"), [[b"PING"]]),
        (encoded(b"SET", b"name", b"Ada") + encoded(b"GET", b"name"), [[b"SET", b"name", b"Ada"], [b"GET", b"name"]]),
        (encoded(b"SET", b"", b""), [[b"SET", b"", b""]]),
        (encoded(b""), [[b""]]),
        (encoded(b"ECHO", b"\r\n$3\r\nGET\r\n*1\r\n\0\xff"), [[b"ECHO", b"\r\n$3\r\nGET\r\n*1\r\n\0\xff"]]),
        (encoded(b"ECHO", b"\r") + encoded(b"ECHO", b"\n"), [[b"ECHO", b"\r"], [b"ECHO", b"\n"]]),
        (b"*0\r\n*-1\r\n*-9\r\n" + encoded(b"PING"), [[b"PING"]]),
        (b"PING\r\nping\nGET  name \r\n\r\n \n", [[b"PING"], [b"ping"], [b"GET", b"name"]]),
        (encoded(b"PING") + b"PING\n" + encoded(b"PING"), [[b"PING"]] * 3),
        (encoded(*[b"%d" % n for n in range(40)]), [[b"%d" % n for n in range(40)]]),
        (encoded(b"ECHO", b"x" * 5000), [[b"ECHO", b"x" * 5000]]),
    ],
)
def test_requests(data: bytes, requests: list[list[bytes]]) -> None:
    if len(data) < 1000:
        check(RESP, data, requests)
    else:
        for pieces in ([data], split_at(data, range(len(data))), split_at(data, (3, 9, 4000, len(data) - 1))):
            assert receive(RESP, pieces) == (requests, None)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (b"SET name 'Ada Lovelace'", [b"SET", b"name", b"Ada Lovelace"]),
        (rb'SET "a\x00\xfFb" "\n\r\t\b\a\\\"\q"', [b"SET", b"a\0\xffb", b'\n\r\t\b\a\\"q']),
        (rb"""ECHO 'no \n here "either"' """, [b"ECHO", rb'no \n here "either"']),
        (b"SET name ''", [b"SET", b"name", b""]),
        (b'SET name ""', [b"SET", b"name", b""]),
    ],
)
def test_words_in_quotes(typed: bytes, words: list[bytes]) -> None:
    check(RESP, typed + b"\r\n", [words])


@pytest.mark.parametrize("typed", [b'GET "name', b"GET 'name", b'GET "name"x', b'GET na"me"', b"'", b'GET "\\"'])
def test_quotes_that_do_not_fit(typed: bytes) -> None:
    check_broken(RESP, b"PING\r\n" + typed + b"\r\nPING\r\n", [[b"PING"]], "unbalanced quotes in request")


def test_each_beginning_of_a_request_is_kept() -> None:
    for following in (encoded(b"SET", b"a\r\nb", b""), b"GET name\r\n"):
        for size in range(1, len(following)):
            check(RESP, encoded(b"PING") + following[:size], [[b"PING"]], is_whole=False)


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (b"*x\r\n", "invalid multibulk length"),
        (b"*\r\n", "invalid multibulk length"),
        (b"*1\n", "invalid multibulk length"),
        (b"*01\r\n", "invalid multibulk length"),
        (b"*+1\r\n", "invalid multibulk length"),
        (b"* 1\r\n", "invalid multibulk length"),
        (b"*1 \r\n", "invalid multibulk length"),
        ("*\N{ARABIC-INDIC DIGIT THREE}\r\n".encode(), "invalid multibulk length"),
        (b"*5\r\n", "invalid multibulk length"),
        (b"*99999999999999999999\r\n", "invalid multibulk length"),
        (b"*1\r\nPING\r\n", "expected '$', got 'P'"),
        (b"*1\r\n*1\r\n", "expected '$', got '*'"),
        (b"*1\r\n\r\n", r"expected '$', got '\x0d'"),
        (b"*2\r\n$4\r\nECHO\r\n:1\r\n", "expected '$', got ':'"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$x\r\n", "invalid bulk length"),
        (b"*1\r\n$04\r\nPING\r\n", "invalid bulk length"),
        (b"*1\r\n$99999999999999999999\r\n", "invalid bulk length"),
        (b"*1\r\n$700\r\n", "invalid bulk length"),
        (b"*3\r\n$300\r\n" + b"x" * 300 + b"\r\n$0\r\n\r\n$320\r\n", "invalid bulk length"),
        (b"*1\r\n$4\r\nPINGPONG\r\n", "expected CRLF behind 4 bytes, got 'PO'"),
        (b"*1\r\n$4\r\nPING\n\r\n", r"expected CRLF behind 4 bytes, got '\x0a\x0d'"),
        (b"*1\r\n$0\r\nx\r\n", r"expected CRLF behind 0 bytes, got 'x\x0d'"),
        (b"x" * 41, "too big inline request"),
        (b"x" * 40 + b"\n", "too big inline request"),
        (b"*" + b"1" * 50, "too big mbulk count string"),
        (b"*1\r\n$" + b"1" * 50, "too big bulk count string"),
    ],
)
def test_what_is_no_request_is_refused_in_the_words_of_redis(bad: bytes, what: str) -> None:
    check_broken(SMALL, bad, [], what)
    check_broken(SMALL, encoded(b"PING") + bad + encoded(b"PING"), [[b"PING"]], what)


def test_what_is_just_within_the_limits_passes() -> None:
    check(SMALL, encoded(b"a", b"b", b"c", b"d"), [[b"a", b"b", b"c", b"d"]])
    check(SMALL, b"x" * 39 + b"\n", [[b"x" * 39]])
    longest = b"x" * (640 - len(b"*1\r\n$628\r\n\r\n"))
    assert len(encoded(longest)) == 640
    check(SMALL, encoded(longest), [[longest]])
    check_broken(SMALL, encoded(longest + b"x"), [], "invalid bulk length")


def test_a_limit_on_all_words_together_holds_on_the_quick_way_too() -> None:
    words = [b"x" * 200] * 4
    check_broken(SMALL, encoded(*words), [], "invalid bulk length")
    tight = example.Resp(most_words=64, most_bytes=2048)
    check_broken(tight, encoded(*[b"x" * 53] * 40), [], "invalid bulk length")
    check(tight, encoded(*[b"x" * 53] * 32), [[b"x" * 53] * 32])


def test_work_is_linear() -> None:
    """As in splits.check_linear: byte by byte, 32 times as much costs less than 320 times as long."""

    def seconds(data: bytes) -> float:
        pieces = [data[at : at + 1] for at in range(len(data))]
        began = time.thread_time()
        requests, rest = receive(RESP, pieces)
        took = time.thread_time() - began
        assert (len(requests), rest) == (1, None)
        return took

    def one_word(size: int) -> bytes:
        return encoded(b"SET", b"name", bytes(size))

    def many_words(count: int) -> bytes:
        return encoded(*[b"x"] * count)

    assert seconds(one_word((1 << 20) - 64)) < 320 * min(seconds(one_word(1 << 15)) for _ in range(3))
    assert seconds(many_words(9984)) < 320 * min(seconds(many_words(9984 // 32)) for _ in range(3))
    check_grows_in_place(RESP, one_word(5000))


def test_a_pipe_full_of_requests_is_cut_in_one_go() -> None:
    """Quick requests, typed ones, and words with CRLF in them: all that was looked at once is not looked at again."""
    requests = [b"PING\r\n", encoded(b"ECHO", b"\r\n"), encoded(b"GET", b"name")] * 1000
    data = b"".join(requests)

    def seconds(repeat: int) -> float:
        began = time.thread_time()
        found, rest = RESP.cut(None, data * repeat)
        assert (len(found), rest) == (3000 * repeat, None)
        return time.thread_time() - began

    assert seconds(16) < 160 * min(seconds(1) for _ in range(3))


class Counting(example.Resp):  # type: ignore[misc,name-defined]
    """Counts the steps, and the bytes that are skimmed."""

    steps, skimmed = 0, 0

    def step(self, *given: Any) -> Any:
        self.steps += 1
        return super().step(*given)

    def skim(self, data: bytes, at: int, end: int, requests: Any) -> Any:
        self.skimmed += min(end, len(data)) - at
        return super().skim(data, at, end, requests)


@pytest.mark.parametrize("odd", [b"PING\r\n", encoded(b"ECHO", b"\r\n")])
def test_one_odd_request_does_not_slow_those_behind_it(odd: bytes) -> None:
    framing, plain = Counting(), encoded(b"GET", b"name")
    found, rest = framing.cut(None, plain * 3 + odd + plain * 3000)
    assert (len(found), rest) == (3004, None)
    assert framing.steps <= 50


def test_odd_requests_that_alternate_are_not_skimmed_over_and_over() -> None:
    framing, data = Counting(), (b"PING\r\n" + encoded(b"GET", b"name")) * 3000
    found, rest = framing.cut(None, data)
    assert (len(found), rest) == (6000, None)
    assert framing.skimmed <= len(data) + 3000 * (example.NEAR + 1)


WORDS = st.binary(max_size=12) | st.text("\r\n*$1 'a").map(str.encode)
REQUESTS = st.lists(st.lists(WORDS, min_size=1, max_size=5))


@quick
@given(REQUESTS, st.data())
def test_what_a_client_writes_is_cut_again(requests: list[list[bytes]], data: st.DataObject) -> None:
    stream = b"".join(encoded(*words) for words in requests)
    pieces = data.draw(chopped(st.just(stream)))
    assert receive(RESP, pieces) == (requests, None)


def kept_bytes(rest: Any) -> int:
    return 0 if rest is None or isinstance(rest, Broken) else len(rest["kept"]) + sum(map(len, rest["words"]))


NEARLY = st.lists(
    st.sampled_from(
        [b"*1\r\n", b"*2\r\n", b"$1\r\n", b"$4\r\n", b"a\r\n", b"PING\r\n", b"\n", b"'", b"*0\r\n", b"$0\r\n"]
    )
).map(b"".join)


@quick
@given(chopped(NEARLY | st.text('*$\r\n0123-x"\\').map(str.encode) | st.binary()))
def test_any_bytes(pieces: list[bytes]) -> None:
    """No bytes make `cut` raise or keep more than the limits, and it does not matter how they came."""
    rest: Any = None
    requests = []
    for piece in pieces:
        cut, rest = SMALL.cut(rest, piece)
        requests += cut
        assert kept_bytes(rest) <= 640
    whole, whole_rest = receive(SMALL, [b"".join(pieces)])
    assert (requests, outcome(rest)) == (whole, outcome(whole_rest))
    complaints = [request for request in requests if isinstance(request, str)]
    assert complaints == ([str(rest.error)] if isinstance(rest, Broken) else [])


def test_an_end_inside_a_request_can_be_told() -> None:
    _, rest = RESP.cut(None, b"*2\r\n$4\r\nECHO\r\n")
    assert "inside a message" in str(truncated(rest))


def test_the_handler_brings_its_framing() -> None:
    handler = examine(example.store, "kv:store")
    assert handler.kind == "message"
    assert as_framing(handler.marks.framing, 1 << 20) is example.Store.framing
    assert set(handler.hooks) == {"start", "thread_start", "thread_stop"}
    replies = [handler.call([b"PING"]), handler.call("Protocol error: too bad")]
    assert RESP.join(replies) == b"+PONG\r\n-ERR Protocol error: too bad\r\n"
