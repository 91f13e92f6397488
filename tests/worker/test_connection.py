"""One connection: what a handler may keep with it, what it says about its peer, and what it costs while it is quiet."""

import enum
import os
import socket
import sys
from collections import OrderedDict, deque, namedtuple
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import paceline
from paceline.errors import UsageError
from paceline.host import streams
from paceline.worker.connection import STATE_BYTES, STATE_DEPTH, Connection, WayIn
from paceline.worker.deadlines import Owes
from paceline.worker.lifecycle import State

WAY_IN = WayIn(0, "127.0.0.1:8888")
NOWHERE = 1 << 20
"""A number that no descriptor has."""


def connection(fd: int = NOWHERE, phase: State = State.OPEN) -> Connection:
    return Connection(fd, WAY_IN, phase)


def nested(depth: int) -> object:
    value: object = "at the bottom"
    for _ in range(depth):
        value = [value]
    return value


def containing_itself(make: Callable[[list[object]], object]) -> object:
    held: list[object] = []
    held.append(make(held))
    return held


def woven(depth: int) -> object:
    """A few lists, and yet 2^depth paths through them."""
    value: object = []
    for _ in range(depth):
        value = [value, value]
    return value


# state


def test_at_first_there_is_none() -> None:
    assert connection().state is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -1,
        10**100,
        0.1,
        float("nan"),
        "text €",
        "\ud800",
        b"\x00\xff",
        [],
        (1, "a", b"b"),
        {1, 2},
        frozenset({"a"}),
        {"name": "ada", 3: [1.5, None], (1, 2): {"deep": b""}},
        [[1], [1]],
        nested(STATE_DEPTH),
        "x" * (STATE_BYTES - 5),
        [0] * 3000,
    ],
    ids=lambda value: f"{type(value).__name__} {str(value)[:20]!r}",
)
def test_builtin_values_may_be_kept(value: object) -> None:
    kept = connection()
    kept.state = value
    assert kept.state is value


class Colour(enum.IntEnum):
    RED = 1


class Text(str):
    __slots__ = ()


Point = namedtuple("Point", "x y")  # noqa: PYI024 - as users write it


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (object(), "builtins.object"),
        (Colour.RED, ".Colour"),
        (Text("x"), ".Text"),
        (Point(1, 2), ".Point"),
        (bytearray(b"x"), "builtins.bytearray"),
        (memoryview(b"x"), "builtins.memoryview"),
        (1j, "builtins.complex"),
        (range(3), "builtins.range"),
        (deque([1]), "collections.deque"),
        (OrderedDict(a=1), "collections.OrderedDict"),
        (print, "builtin_function_or_method"),
        (int, "builtins.type"),
        (..., "builtins.ellipsis"),
        ([1, [2, {"a": (3, object())}]], "builtins.object"),
        ({Colour.RED: 1}, ".Colour"),
        ({"a": Colour.RED}, ".Colour"),
        ({Text("x")}, ".Text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_anything_else_is_refused_by_name(value: object, named: str) -> None:
    kept = connection()
    kept.state = "before"
    with pytest.raises(UsageError, match=r"connection\.state holds .*can travel to another process") as refused:
        kept.state = value
    assert f"{named}; only" in str(refused.value)
    assert kept.state == "before"


@pytest.mark.parametrize(
    "value",
    ["x" * STATE_BYTES, b"x" * STATE_BYTES, ["x" * 100] * 10 + list(map(str, range(5000))), 1 << 8 * STATE_BYTES],
    ids=["str", "bytes", "list", "int"],
)
def test_more_than_16_kib_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match=r"takes \d\d,\d\d\d bytes; at most 16,384 can travel"):
        connection().state = value


def test_the_limit_counts_bytes_as_they_travel() -> None:
    kept = connection()
    kept.state = b"x" * (STATE_BYTES - 5)  # marshal adds its type and length
    with pytest.raises(UsageError, match="takes 16,385 bytes"):
        kept.state = b"x" * (STATE_BYTES - 4)


def test_too_deep_is_refused() -> None:
    with pytest.raises(UsageError, match="nested more than 32 deep"):
        connection().state = nested(STATE_DEPTH + 1)


@pytest.mark.parametrize(
    "make",
    [lambda held: held, lambda held: (held,), lambda held: {"a": held}, lambda held: [1, 2, [held]]],
    ids=["itself", "tuple", "dict", "list"],
)
def test_what_contains_itself_is_refused(make: Callable[[list[object]], object]) -> None:
    with pytest.raises(UsageError, match="or contains itself"):
        connection().state = containing_itself(make)


def test_a_few_lists_with_many_paths_through_them_do_not_take_for_ever() -> None:
    with pytest.raises(UsageError, match="holds more than 16,384 values"):
        connection().state = woven(STATE_DEPTH)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(values)
def test_whatever_is_made_of_builtins_may_be_kept(value: object) -> None:
    kept = connection()
    kept.state = value
    assert kept.state is value


@given(values, st.integers(0, 3))
def test_a_stranger_is_found_wherever_it_hides(value: object, depth: int) -> None:
    hidden: object = Colour.RED
    for _ in range(depth):
        hidden = [value, hidden, value]
    with pytest.raises(UsageError, match="Colour"):
        connection().state = hidden


# The peer


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_peer_is_named_by_its_address(family: socket.AddressFamily, host: str) -> None:
    with socket.create_server((host, 0), family=family) as server, socket.socket(family) as client:
        client.connect(server.getsockname())
        fd = streams.accept(server)
        made = connection(fd)
        port = client.getsockname()[1]
        text = f"[::1]:{port}" if family is socket.AF_INET6 else f"127.0.0.1:{port}"
        assert made.peer == text
        assert made.listener == "127.0.0.1:8888"
        made.messages = 3
        assert repr(made) == f"<paceline.Connection {text} via 127.0.0.1:8888, 3 messages>"
        streams.close(fd)


def test_the_peer_of_a_unix_socket_is_named_by_its_process() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert connection(ours.fileno()).peer == f"unix pid {os.getpid()} uid {os.getuid()}"


def test_a_peer_that_has_reset_the_connection_is_named_without_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        fd = streams.accept(server)
        streams.abort(client.detach())
        assert connection(fd).peer == "a peer that is gone"
        streams.close(fd)


def test_after_its_end_a_connection_does_not_name_the_next_one_with_its_number() -> None:
    """A handler may keep the object, in a list of guests, say."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        gone = connection(ours.fileno(), State.CLOSED)
        assert gone.is_closed
        assert gone.peer == "a peer that is gone"
        assert "a peer that is gone" in repr(gone)


# Whose process it is


def test_the_credentials_are_those_of_a_unix_socket_alone() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.create_server(("127.0.0.1", 0)) as server:
        who = connection(ours.fileno()).credentials
        assert who == streams.Credentials(os.getpid(), os.geteuid(), os.getegid())
        assert who is not None
        assert (who.pid, who.uid, who.gid) == (os.getpid(), os.geteuid(), os.getegid())
        with socket.create_connection(server.getsockname()):
            fd = streams.accept(server)
            assert connection(fd).credentials is None
            streams.close(fd)
    assert connection().credentials is None


def test_they_cannot_be_changed() -> None:
    who = streams.Credentials(1, 2, 3)
    with pytest.raises(AttributeError):
        who.uid = 0  # type: ignore[misc]
    assert not hasattr(who, "__dict__")
    assert paceline.Credentials is streams.Credentials


def test_the_credentials_of_a_proxy_are_not_the_peers() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert Connection(ours.fileno(), WAY_IN.proxied).credentials is None
        assert Connection(ours.fileno(), WAY_IN).credentials is not None


def test_after_its_end_a_connection_does_not_have_those_of_the_next_one_with_its_number() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert connection(ours.fileno(), State.CLOSED).credentials is None


def test_nor_when_it_ends_while_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """By another thread, which closes it: what the kernel says then may be of the next one."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ending = connection(ours.fileno())
        asked = streams.peer_credentials

        def slowly(fd: int) -> streams.Credentials | None:
            ending.phase = State.CLOSED
            return asked(fd)

        monkeypatch.setattr(streams, "peer_credentials", slowly)
        assert ending.credentials is None


def test_what_connections_of_proxies_share_is_one_too() -> None:
    proxied = WAY_IN.proxied
    assert proxied is WAY_IN.proxied is proxied.proxied
    assert (proxied.index, proxied.text, proxied.push) == (WAY_IN.index, WAY_IN.text, WAY_IN.push)
    assert proxied.is_proxied
    assert not WAY_IN.is_proxied


# What it owes


def made(phase: State = State.OPEN, **has: object) -> Connection:
    found = connection(phase=phase)
    for name, value in has.items():
        setattr(found, name, value)
    return found


@pytest.mark.parametrize(
    ("found", "owes"),
    [
        (made(), Owes.FIRST_BYTE),
        (made(State.FRESH), Owes.FIRST_BYTE),
        (made(messages=1), Owes.NOTHING),
        (made(rest=b"half"), Owes.REST_OF_MESSAGE),
        (made(rest=b"half", messages=1), Owes.REST_OF_MESSAGE),
        (made(out=b"reply", messages=1), Owes.WRITING),
        (made(out=b"reply", rest=b"half"), Owes.WRITING),
        (made(State.CLOSING, out=b"reply"), Owes.WRITING),
        (made(State.ENDING, out=b"reply"), Owes.WRITING),
        (made(State.LINGERING, messages=1), Owes.LINGERING),
        (made(State.LINGERING), Owes.LINGERING),
    ],
    ids=lambda value: value.name if isinstance(value, Owes) else value.phase.name,
)
def test_what_a_connection_owes(found: Connection, owes: Owes) -> None:
    assert found.owes is owes


def test_progress_is_what_the_peer_takes_or_the_messages_it_sends() -> None:
    assert made(messages=5, sent=7).progress == 12, "or what is sent to it, while it owes nothing"
    assert made(messages=5, sent=7, rest=b"x").progress == 5
    assert made(messages=0, sent=7).progress == 0
    assert made(messages=5, sent=7, out=b"x").progress == 7


def test_a_quiet_connection_is_small() -> None:
    """DESIGN's figure is three quarters of a KiB with its places in the tables; this is the object alone."""
    quiet = made(messages=1)
    assert sys.getsizeof(quiet) <= 256
    assert not hasattr(quiet, "__dict__")
    assert quiet.way_in is WAY_IN  # shared


@pytest.mark.parametrize("phase", State)
def test_the_fast_path_touches_only_what_is_open(phase: State) -> None:
    assert connection(phase=phase).busy == (phase is not State.OPEN)
