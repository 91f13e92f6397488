"""The control socket, with a supervisor that is only what is asked of it.  The whole is in integration/."""

import errno
import json
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paceline.settings import Settings
from paceline.supervisor import control as room
from paceline.supervisor.control import DEAF_S, MOST_CLIENTS, Control
from paceline.supervisor.posts import Limits, Posts
from paceline.supervisor.vocabulary import Answer, DrainAsked, Event, ReloadAsked, ScaleAsked, StopAsked

pytestmark = pytest.mark.usefixtures("nothing_left")


class Scene:
    """`turn` is what the loop does when something has happened."""

    def __init__(self, folder: Path) -> None:
        self.time = 100.0
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.upgrades: list[int] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.path = str(folder / "c")
        self.listener.bind(self.path)
        self.listener.listen(64)
        self.stopping = SimpleNamespace(urgency=None)
        self.peers: list[socket.socket] = []
        server: Any = SimpleNamespace(
            now=lambda: self.time,
            log=SimpleNamespace(say=lambda event, **fields: self.said.append((event, fields))),
            roster=SimpleNamespace(posts=Posts.of(1, 2, Limits(drain_s=30.0)), stopping=self.stopping),
            seats=[],
            hands=SimpleNamespace(settings_for=lambda _generation: Settings(threads=3)),
            changing=SimpleNamespace(ask_reload=self.reload, ask_upgrade=self.upgrades.append),
        )
        self.server = server
        self.control = Control(self.listener, server)

    def reload(self, asker: int) -> Iterator[Event]:
        yield ReloadAsked(asker, Settings())

    def connect(self) -> socket.socket:
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(5)
        peer.connect(self.path)
        self.peers.append(peer)
        return peer

    def turn(self) -> list[Event]:
        """All that is ready, until nothing is."""
        events: list[Event] = []
        while True:
            sources = self.control.sources()
            poll = select.poll()
            for fd, (mask, _, _) in sources.items():
                poll.register(fd, mask)
            ready = poll.poll(0)
            before = len(events)
            for fd, _ in ready:
                events += sources[fd][1](None)
            events += self.control.on_time()
            if not ready and len(events) == before:
                return events

    def ask(self, peer: socket.socket, **request_: object) -> list[Event]:
        peer.sendall(json.dumps(request_).encode() + b"\n")
        return self.turn()

    def close(self) -> None:
        self.control.close()
        for peer in self.peers:
            peer.close()
        self.listener.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.close()


def heard(peer: socket.socket) -> dict[str, Any]:
    """The next answer."""
    line = b""
    while not line.endswith(b"\n"):
        piece = peer.recv(1)
        assert piece, f"the end, after {line!r}"
        line += piece
    found: dict[str, Any] = json.loads(line)
    return found


def test_another_program_takes_over_and_whoever_did_not_ask_for_that_hears_why(scene: Scene) -> None:
    one, other, idle = scene.connect(), scene.connect(), scene.connect()
    scene.ask(one, do="upgrade")
    scene.ask(other, do="scale", workers=1)
    scene.control.part(scene.upgrades[0])
    for peer in (other, idle):
        said = heard(peer)
        assert (said["ok"], said["is_last"]) == (False, True)
        assert said["text"] == "the server is just being upgraded in place; ask once more"
        assert peer.recv(1) == b""
    assert scene.control.fd_of(scene.upgrades[0]) >= 0, "who asked for it is kept"


def test_requests_become_events(scene: Scene) -> None:
    peer = scene.connect()
    requests: list[tuple[dict[str, object], Event]] = [
        ({"do": "reload"}, ReloadAsked(1, Settings())),
        ({"do": "scale", "workers": 3}, ScaleAsked(2, 3)),
        ({"do": "scale", "by": -1}, ScaleAsked(3, 0, -1)),
        ({"do": "drain", "slot": 1}, DrainAsked(4, 1)),
    ]
    for asker, (request_, event) in enumerate(requests, 1):
        assert scene.ask(peer, **request_) == [event]
        scene.control.on_answer(Answer(asker, "going on", is_last=False))
        scene.control.on_answer(Answer(asker, "done", "detail", ok=False))
        assert heard(peer)["is_last"] is False
        assert heard(peer) == {"version": 1, "ok": False, "is_last": True, "text": "done", "detail": "detail"}
    assert scene.ask(peer, do="upgrade") == []
    assert scene.upgrades == [5]
    who = f"process {os.getpid()} (uid {os.getuid()})"
    asked = [fields for event, fields in scene.said if event == "control-asked"]
    assert asked[1] == {"request": "scale 3", "asker": who}
    assert len(asked) == 5


def test_stop(scene: Scene) -> None:
    peer = scene.connect()
    assert scene.ask(peer, do="stop") == [StopAsked("the control socket")]
    assert heard(peer)["text"] == "the server stops; calls have 30 s to finish"
    scene.stopping.urgency = "soft"
    assert scene.ask(peer, do="stop") == []
    assert heard(peer)["text"] == "the server stops already; stop --now does not wait for the calls that run"
    assert scene.ask(peer, do="stop", now=True) == [StopAsked("the control socket (now)", at_once=True)]
    assert heard(peer)["text"] == "the server ends at once; calls that run are cut"


def test_config_is_of_the_generation_that_serves(scene: Scene) -> None:
    peer = scene.connect()
    scene.ask(peer, do="config")
    assert "\nthreads = 3 " in heard(peer)["toml"]
    of = {scene.server.roster.posts.generation: Settings(threads=9, target="caf\udce9")}
    scene.server.hands.settings_for = of.__getitem__
    scene.ask(peer, do="config")
    assert not heard(peer)["ok"], "what TOML cannot hold is said, not a bug"


def test_one_request_at_a_time(scene: Scene) -> None:
    peer = scene.connect()
    peer.sendall(b'{"do": "reload"}\n{"do": "ping"}\n{"do": "scale", "by": 1}\n')
    assert scene.turn() == [ReloadAsked(1, Settings())]
    assert scene.control.next_at is None
    scene.control.on_answer(Answer(1, "done"))
    assert scene.control.next_at == 0.0, "the next one waits for nothing"
    assert scene.turn() == [ScaleAsked(3, 0, 1)]
    assert [heard(peer)["text"][:4] for _ in range(2)] == ["done", "Pace"]


def test_an_answer_to_nobody(scene: Scene) -> None:
    scene.control.on_answer(Answer(7, "done"))
    peer = scene.connect()
    assert scene.ask(peer, do="reload") == [ReloadAsked(1, Settings())]
    peer.close()
    scene.turn()
    assert scene.control.fds() == []
    scene.control.on_answer(Answer(1, "done"))


def test_a_client_cannot_keep_the_others_waiting(scene: Scene) -> None:
    peer, other = scene.connect(), scene.connect()
    scene.turn()
    peer.sendall(b'{"do": "ping"}\n' * 1000)
    other.sendall(b'{"do": "ping"}\n')
    sources = scene.control.sources()
    for fd in scene.control.fds():
        assert list(sources[fd][1](None)) == []
    assert heard(other)["ok"]
    assert scene.control.next_at == 0.0, "there is more to do for the first"
    peer.setblocking(False)
    answers = b""
    while answers.count(b"\n") < 1000:
        scene.turn()
        answers += peer.recv(1 << 20)


def test_one_too_many(scene: Scene) -> None:
    peers = [scene.connect() for _ in range(MOST_CLIENTS + 1)]
    scene.turn()
    assert heard(peers[-1])["text"].startswith("busy: 16 clients are connected")
    assert peers[-1].recv(1) == b""
    peers[0].close()
    scene.turn()
    late = scene.connect()
    scene.turn()
    scene.ask(late, do="ping")
    assert heard(late)["ok"]


def test_another_user_is_refused(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_peer_of", lambda connection: (7, 4711))
    peer = scene.connect()
    scene.turn()
    assert heard(peer)["text"].endswith("only that user and root may ask, and you are uid 4711")
    assert peer.recv(1) == b""


def test_without_a_descriptor_nobody_is_taken_for_a_while(scene: Scene) -> None:
    def refuse() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    listener = scene.control.listener
    scene.control.listener = SimpleNamespace(accept=refuse, fileno=scene.listener.fileno)  # type: ignore[assignment]
    peer = scene.connect()
    assert scene.turn() == []
    assert scene.control.sources() == {}, "else the loop would spin"
    assert scene.control.next_at == scene.time + DEAF_S
    scene.control.listener = listener
    scene.time += DEAF_S
    scene.turn()
    scene.ask(peer, do="ping")
    assert heard(peer)["ok"]
    assert scene.control.next_at is None


def test_a_bug_of_ours_costs_the_client(scene: Scene) -> None:
    scene.server.changing.ask_upgrade = lambda asker: 1 // 0
    peer, other = scene.connect(), scene.connect()
    assert scene.ask(peer, do="upgrade") == []
    assert peer.recv(1) == b""
    (fields,) = [fields for event, fields in scene.said if event == "supervisor-bug"]
    assert fields["where"] == "the control socket"
    assert "ZeroDivisionError" in fields["detail"]
    scene.ask(other, do="ping")
    assert heard(other)["ok"]


def test_silence_in_the_middle_of_a_line(scene: Scene) -> None:
    peer = scene.connect()
    peer.sendall(b'{"do')
    scene.turn()
    assert scene.control.next_at == scene.time + 10.0
    scene.time += 10.0
    scene.turn()
    assert "in the middle of a line" in heard(peer)["text"]
    assert peer.recv(1) == b""
    assert scene.control.fds() == []


def test_the_connection_of_whoever_asked_for_an_upgrade_is_kept(scene: Scene) -> None:
    peer, other = scene.connect(), scene.connect()
    scene.ask(other, do="ping")
    scene.ask(peer, do="upgrade")
    assert scene.control.fd_of(0) == scene.control.fd_of(77) == -1
    fd = os.dup(scene.control.fd_of(2))  # as by an exec: all else is gone
    scene.control.close()
    assert scene.control.adopt(-1) == 0
    asker = scene.control.adopt(fd)
    scene.control.on_answer(Answer(asker, "done"))
    assert "has taken over in process" in heard(peer)["text"]
    assert heard(peer)["text"] == "done"
    scene.ask(peer, do="ping")
    assert heard(peer)["ok"]
    assert heard(other)["ok"]
    assert other.recv(1) == b""


def test_without_a_socket_it_costs_nothing() -> None:
    server: Any = SimpleNamespace(now=lambda: 0.0)
    control = Control(None, server)
    assert (control.sources(), control.next_at, list(control.on_time()), control.fds()) == ({}, None, [], [])
    control.on_answer(Answer(1, "done"))
    control.close()


def test_at_the_end_what_can_be_sent_is_sent(scene: Scene) -> None:
    peer = scene.connect()
    scene.ask(peer, do="reload")
    scene.control.on_answer(Answer(1, "the server stops", ok=False))
    scene.control.close()
    assert heard(peer)["text"] == "the server stops"
    assert peer.recv(1) == b""
