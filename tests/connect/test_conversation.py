"""connect/conversation.py: a real connection, a test that types, and a screen that remembers."""

import io
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from leftovers import eventually
from paceline.addresses import parse_address
from paceline.connect import conversation as module
from paceline.connect.conversation import Conversation
from paceline.connect.framed import Framed
from paceline.connect.session import Reply, State
from paceline.errors import ConnectionReset, Refused, Truncated, UsageError
from paceline.wire import framing_from_text

pytestmark = pytest.mark.usefixtures("nothing_left")

DEADLINE_S = 10.0


class Screen:
    """What is shown, as it comes."""

    def __init__(self) -> None:
        self.replies: list[bytes] = []
        self.times: list[int | None] = []
        self.notes: list[str] = []
        self.troubles: list[str] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def show(self, replies: Sequence[Reply]) -> None:
        assert self.may_go_on.wait(DEADLINE_S)
        self.replies += [reply.message for reply in replies]
        self.times += [reply.took_ns for reply in replies]

    def say(self, text: str) -> None:
        self.notes.append(text)

    def complain(self, text: str) -> None:
        self.troubles.append(text)

    def on_change(self) -> None:
        pass


class Scene:
    """A listener, the conversation with it, and its end of the connection."""

    def __init__(self, listener: socket.socket, framing: str, timeout_s: float | None) -> None:
        self.listener = listener
        self.screen = Screen()
        self.place = f"127.0.0.1:{listener.getsockname()[1]}"
        framed = Framed(framing_from_text(framing, 1 << 20), framing)
        self.talk = Conversation(
            parse_address(self.place), framed, self.screen, timeout_s=timeout_s, is_line=framing == "line"
        )
        self.server = self.accept()

    def accept(self) -> socket.socket:
        connection, _ = self.listener.accept()
        connection.settimeout(DEADLINE_S)
        return connection

    def wait(self, check: Callable[[], Any]) -> None:
        eventually(check, DEADLINE_S)


@contextmanager
def scene(framing: str = "line", timeout_s: float | None = DEADLINE_S, *, starts: bool = True) -> Iterator[Scene]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_S)
        made = Scene(listener, framing, timeout_s)
        if starts:
            made.talk.start()
        try:
            yield made
        finally:
            made.screen.may_go_on.set()
            made.talk.close()
            made.server.close()


def test_replies_and_their_times() -> None:
    with scene() as s:
        s.talk.send(b"one")
        s.talk.send(b"two")
        s.wait(lambda: s.server.recv(100, socket.MSG_PEEK) == b"one\ntwo\n")
        s.server.sendall(b"ONE\nTWO\nnews\n")
        s.wait(lambda: s.screen.replies == [b"ONE", b"TWO", b"news"])
        assert [took is not None for took in s.screen.times] == [True, True, False]


def test_a_connection_that_nobody_talked_over_is_closed_too() -> None:
    with scene(starts=False) as s:
        s.talk.close()
        assert s.server.recv(1) == b""
        s.talk = type(s.talk)(parse_address(s.place), s.talk.framed, s.screen, timeout_s=1)  # for the scene to close


def test_nobody_listens() -> None:
    with scene() as s:
        s.listener.close()
        with pytest.raises(Refused):
            Conversation(parse_address(s.place), s.talk.framed, s.screen, timeout_s=1)


def test_our_end_comes_behind_all_that_was_sent() -> None:
    with scene() as s:
        s.talk.send(b"x" * 100_000)
        s.talk.end()
        got = b"".join(iter(lambda: s.server.recv(65536), b""))
        assert got == b"x" * 100_000 + b"\n"
        s.wait(lambda: s.talk.state is State.ENDED)
        s.server.sendall(b"last\n")
        s.server.close()
        assert s.talk.over.wait(DEADLINE_S)
        assert (s.screen.replies, s.talk.failure) == ([b"last"], None)
        assert s.screen.notes == [f"{s.place} closed the connection"]


@pytest.mark.parametrize(
    ("came", "is_reset", "kind", "said"),
    [
        (b"par", False, Truncated, "closed the connection inside a reply, after 3 bytes of it"),
        (b"", True, ConnectionReset, "reset the connection"),
    ],
)
def test_a_bad_end_is_told_and_another_connection_offered(came: bytes, is_reset: bool, kind: type, said: str) -> None:
    with scene() as s:
        s.server.sendall(came)
        if is_reset:
            s.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.server.close()
        s.wait(lambda: s.screen.notes)
        assert isinstance(s.talk.failure, kind)
        assert said in s.screen.troubles[0]
        assert s.screen.notes == ["/reconnect makes another one"]
        assert s.talk.state is State.CLOSED
        assert not s.talk.over.is_set()
        s.talk.send(b"lost")
        s.wait(lambda: "not sent: the connection has ended" in s.screen.troubles[-1])
        s.talk.reconnect()
        s.server = s.accept()
        s.wait(lambda: s.screen.notes[-1] == f"connected to {s.place}")
        assert (s.talk.state, s.talk.failure) == (State.OPEN, None)
        s.talk.send(b"again")
        assert s.server.recv(100) == b"again\n"
        s.server.sendall(b"x\n")  # nothing of the reply that was cut off is left
        s.wait(lambda: s.screen.replies == [b"x"])


def test_reconnecting_ends_the_connection_that_is() -> None:
    with scene() as s:
        s.talk.reconnect()
        with s.server:
            assert s.server.recv(1) == b""
        s.server = s.accept()
        s.wait(lambda: s.screen.notes == [f"connected to {s.place}"])
        s.listener.close()
        s.talk.reconnect()
        s.wait(lambda: s.screen.troubles)
        assert s.screen.troubles[0].startswith(f"nobody listens on {s.place}")
        assert s.talk.state is State.CLOSED


def test_what_is_no_reply_ends_the_connection() -> None:
    with scene("netstring") as s:
        s.server.sendall(b"1:a,x")
        s.wait(lambda: s.screen.troubles)
        assert s.screen.replies == [b"a"]
        assert "is no reply of the framing netstring" in s.screen.troubles[0]
        assert s.server.recv(1) == b""


def test_a_server_that_does_not_read_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 1000)
    with scene(starts=False) as s:
        s.talk.send(b"x" * 5000)  # one is always taken
        with pytest.raises(UsageError, match="does not read: 5,001 bytes wait for it already; this is not sent"):
            s.talk.send(b"y")
        s.talk.start()
        assert len(s.server.recv(10_000)) > 0
        s.wait(lambda: s.talk._waiting == 0)
        s.talk.send(b"y")


def test_while_the_screen_takes_nothing_no_more_is_read() -> None:
    with scene("raw") as s:
        s.screen.may_go_on.clear()
        s.server.setblocking(False)
        sent = 0
        with suppress(BlockingIOError):
            while True:
                sent += s.server.send(b"x" * 65536)
        s.screen.may_go_on.set()
        s.wait(lambda: sum(map(len, s.screen.replies)) == sent)


@pytest.mark.parametrize(("framing", "awaited"), [("raw", 1), ("line", 2)])
def test_a_file_goes_as_it_is(framing: str, awaited: int) -> None:
    content = b"one\ntwo\n"
    with scene(framing) as s:
        file = io.BytesIO(content)
        s.talk.send_file(file, "it.txt")
        assert s.server.recv(100) == content
        s.wait(lambda: s.screen.notes == ["sent 8 bytes of it.txt"])
        assert file.closed
        assert s.talk._session.awaited == awaited


def test_a_large_file_goes_as_the_server_takes_it(tmp_path: Path) -> None:
    content = bytes(range(256)) * 40_000
    (tmp_path / "it").write_bytes(content)
    with scene("raw") as s:
        s.talk.send_file((tmp_path / "it").open("rb"), "it")
        s.talk.send(b"behind")
        got = bytearray()
        while len(got) < len(content) + 6:
            got += s.server.recv(1 << 20)
        assert got == content + b"behind"


def test_a_file_that_is_under_way_when_the_connection_ends_is_closed(tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(bytes(10 << 20))
    file = (tmp_path / "it").open("rb")
    with scene("raw") as s:
        s.talk.send_file(file, "it")
        assert s.server.recv(1)
        s.server.close()
        s.wait(lambda: s.screen.troubles)
        assert "the connection with " in s.screen.troubles[0]
        assert " unsent" in s.screen.troubles[0]
        assert file.closed


def test_what_waits_for_the_time_out_is_told_once_and_given_up() -> None:
    with scene(timeout_s=0.05) as s:
        s.talk.send(b"hello")
        s.wait(lambda: s.screen.notes)
        assert s.screen.notes[0].startswith("no reply to 1 message within 0.05 s; a later one is still shown")
        s.server.sendall(b"late\n")
        s.wait(lambda: s.screen.times == [None])
        assert len(s.screen.notes) == 1


def test_a_bug_ends_it_and_is_there_for_whoever_types(monkeypatch: pytest.MonkeyPatch) -> None:
    with scene() as s:
        monkeypatch.setattr(s.screen, "show", lambda _replies: 1 / 0)
        s.server.sendall(b"x\n")
        assert s.talk.over.wait(DEADLINE_S)
        assert isinstance(s.talk.bug, ZeroDivisionError)
        assert s.talk.state is State.CLOSED
