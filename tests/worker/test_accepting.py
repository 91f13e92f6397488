"""Taking new connections: every outcome of an accept, and every reason to take no more for now."""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from leftovers import eventually
from paceline import clock
from paceline.host import streams
from paceline.host.listeners import Listener
from paceline.worker.accepting import BURST, MOST_GONE, OUTCOMES, PAUSE_S, Accepting, Outcome
from paceline.worker.connection import Connection
from paceline.worker.crew import Member
from paceline.worker.gate import Shut
from paceline.worker.lifecycle import State
from paceline.worker.tables import MORE
from workerbed import Bed, Gate, bed

pytestmark = pytest.mark.usefixtures("nothing_left")

FD = 1_000_001
ME = cast("Member", None)
"""Nothing here asks who it is."""


def echo(message: bytes) -> bytes:
    return message


class Backlog:
    """Stands where a listening socket stands: what accept(2) says, one after the other."""

    def __init__(self, *says: int | None) -> None:
        """Each an errno, or None: a connection."""
        self.says = list(says)
        self.clients: list[socket.socket] = []

    def _accept(self) -> tuple[int, str]:
        if not self.says:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        says = self.says.pop(0)
        if says is not None:
            raise OSError(says, os.strerror(says))
        ours, theirs = socket.socketpair()
        self.clients.append(ours)
        return theirs.detach(), ""


class Door:
    """A worker without threads whose only listener is a Backlog."""

    def __init__(self, worker: Bed, backlog: Backlog, fd: int = FD) -> None:
        self.bed = worker
        self.worker = worker.worker
        self.accepting = worker.parts.accepting
        self.backlog = backlog
        self.fd = fd
        self.woken = 0
        cast("dict[int, Listener]", self.accepting.listeners)[fd] = Listener(cast("Any", backlog), "here", "tcp", 0)
        self.worker.gate.open(Shut.STARTING)
        self.worker.wake_watcher = self.wake

    def wake(self) -> None:
        self.woken += 1

    def accept(self) -> None:
        self.accepting.accept(self.fd, ME)

    def hand_in(self, listener: int = 0) -> bool:
        """One that came through the inbox."""
        ours, theirs = socket.socketpair()
        self.backlog.clients.append(ours)
        return self.accepting.admit(theirs.detach(), listener)

    @property
    def open(self) -> list[Connection]:
        return self.bed.connections()


@contextmanager
def door(*says: int | None, handler: Callable[..., Any] = echo, **settings: Any) -> Iterator[Door]:
    backlog = Backlog(*says)
    with bed(handler, run=False, **settings) as worker:
        yield Door(worker, backlog)
    for client in backlog.clients:
        client.close()


# Outcomes

OF_THE_LISTENER = [errno.EBADF, errno.EINVAL, errno.ENOTSOCK, 0, 9999]

TABLE = {
    "EAGAIN": Outcome.NOTHING,
    "EINTR": Outcome.GONE,
    "ECONNABORTED": Outcome.GONE,
    "EPROTO": Outcome.GONE,
    "EPERM": Outcome.GONE,
    "ENETDOWN": Outcome.GONE,
    "ENOPROTOOPT": Outcome.GONE,
    "EHOSTDOWN": Outcome.GONE,
    "ENONET": Outcome.GONE,
    "EHOSTUNREACH": Outcome.GONE,
    "EOPNOTSUPP": Outcome.GONE,
    "ENETUNREACH": Outcome.GONE,
    "ETIMEDOUT": Outcome.GONE,
    "ESOCKTNOSUPPORT": Outcome.GONE,
    "EPROTONOSUPPORT": Outcome.GONE,
    "EMFILE": Outcome.SHORTAGE,
    "ENFILE": Outcome.SHORTAGE,
    "ENOBUFS": Outcome.SHORTAGE,
    "ENOMEM": Outcome.SHORTAGE,
    "ENOSR": Outcome.SHORTAGE,
    "ENOSPC": Outcome.SHORTAGE,
}
"""accept(2), "Errors", "Error handling", and what it says other kernels give; all else speaks of our own mistakes.
ENOSPC is of epoll_ctl(2)."""

by_outcome = {outcome: [number for number, its in OUTCOMES.items() if its is outcome] for outcome in Outcome}


@pytest.mark.parametrize(("name", "outcome"), TABLE.items())
def test_what_accept_may_say_means(name: str, outcome: Outcome) -> None:
    assert OUTCOMES[getattr(errno, name)] is outcome


def test_the_table_has_no_other_rows() -> None:
    assert OUTCOMES.keys() == {getattr(errno, name) for name in TABLE}


def nameof(number: int) -> str:
    return errno.errorcode.get(number, str(number))


@pytest.mark.parametrize("number", by_outcome[Outcome.GONE], ids=nameof)
def test_one_that_went_away_is_passed_over(number: int) -> None:
    with door(number, None) as here:
        here.accept()
        assert len(here.open) == 1
        assert not here.worker.gate.reasons
        assert not here.bed.log.said


@pytest.mark.parametrize("number", by_outcome[Outcome.NOTHING], ids=nameof)
def test_where_a_sibling_was_quicker_nothing_happens(number: int) -> None:
    with door(number, None) as here:
        here.accept()
        assert not here.open
        assert here.backlog.says == [None]
        assert not here.worker.gate.reasons
        assert not here.bed.log.said


@pytest.mark.parametrize("number", by_outcome[Outcome.SHORTAGE], ids=nameof)
def test_where_nothing_is_left_accepting_pauses(number: int) -> None:
    with door(None, number, None) as here:
        here.accept()
        assert len(here.open) == 1
        assert here.backlog.says == [None]
        assert here.worker.gate.reasons == {Shut.PAUSED}
        assert here.bed.cell("accept_pauses") == 1
        assert here.woken  # the watcher, which may sleep longer than the pause
        assert here.bed.log.find("accept-paused") == [{"error": os.strerror(number), "seconds": PAUSE_S, "open": 1}]
        assert here.worker.resume_accepting_at is not None
        assert 0 <= here.worker.resume_accepting_at - clock.now() <= PAUSE_S
        here.accept()  # an event of the same batch
        assert here.backlog.says == [None]


@pytest.mark.parametrize("number", OF_THE_LISTENER, ids=nameof)
def test_what_nobody_foresaw_is_said_and_does_not_spin(number: int) -> None:
    with door(number, None) as here:
        here.accept()
        assert not here.open
        assert here.worker.gate.reasons == {Shut.PAUSED}
        assert here.bed.cell("accept_errors") == 1
        assert here.bed.log.find("accept-failed") == [{"error": os.strerror(number), "seconds": PAUSE_S}]


def test_a_listener_that_the_drain_has_closed_is_no_failure() -> None:
    """The watcher closes it while the leader is at it."""
    with door(errno.EBADF) as here:
        here.worker.leaving = True
        here.accept()
        assert not here.bed.log.said
        assert here.bed.cell("accept_errors") == 0


def test_an_event_takes_sixteen_at_the_most() -> None:
    with door(*[None] * 40) as here:
        for left in (24, 8, 0, 0):
            here.accept()
            assert len(here.backlog.says) == left
        assert here.bed.cell("accepted") == here.bed.cell("connections") == 40


def test_those_that_went_away_count_for_that() -> None:
    """A flood of them does not keep the leader from the others."""
    with door(*[errno.ECONNABORTED] * 40) as here:
        here.accept()
        assert len(here.backlog.says) == 40 - BURST


@pytest.mark.parametrize("number", by_outcome[Outcome.GONE], ids=nameof)
def test_where_nobody_comes_any_more_but_those_who_go_it_does_not_spin(number: int) -> None:
    """As under a rule that forbids every accept: the listener would stay ready, and each try would fail."""
    with door(*[number] * (MOST_GONE + 5), None) as here:
        while not here.worker.gate.reasons:
            here.accept()
        assert len(here.backlog.says) == 6
        assert here.worker.gate.reasons == {Shut.PAUSED}
        assert here.bed.cell("accept_errors") == 1
        assert here.bed.log.find("accept-failed") == [{"error": os.strerror(number), "seconds": PAUSE_S}]
        here.worker.gate.open(Shut.PAUSED)
        here.accept()
        assert len(here.open) == 1


def test_those_that_went_away_between_others_are_no_reason_to_stop() -> None:
    with door(*[errno.ECONNABORTED, None] * MOST_GONE) as here:
        while here.backlog.says:
            here.accept()
        assert len(here.open) == MOST_GONE
        assert not here.bed.log.said


@pytest.mark.parametrize("reason", [reason for reason in Shut if reason is not Shut.STARTING])
def test_shut_in_the_middle_of_a_burst_it_takes_no_more(reason: Shut) -> None:
    with door(None, None, None) as here:
        enter = here.accepting.enter

        def enter_and_shut(connection: Connection) -> bool:
            here.worker.gate.shut(reason)
            return enter(connection)

        here.accepting.enter = enter_and_shut  # type: ignore[method-assign]
        here.accept()
        assert len(here.open) == 1


def test_a_worker_of_whole_connections_takes_one_while_another_waits_for_a_thread() -> None:
    """Also when it comes by another listener."""
    with door(None, None, None, handler=lambda conn: None, as_="connection") as here:
        other = Door(here.bed, Backlog(None), FD + 1)
        here.accept()
        assert len(here.open) == 1
        other.accept()
        here.accept()
        assert len(here.open) == 1
        here.worker.tables.ready.clear()  # it got its thread
        other.accept()
        assert len(here.open) == 2
        for client in other.backlog.clients:
            client.close()


def test_with_start_data_a_connection_waits_without_a_thread() -> None:
    with door(None, None, handler=lambda conn: None, as_="connection", start="data") as here:
        here.accept()
        assert len(here.open) == 2
        assert not here.worker.tables.ready


# Becoming ours


def test_it_is_watched_and_parked() -> None:
    with door(None) as here:
        here.accept()
        (connection,) = here.open
        assert here.worker.tables.parked == {connection.fd: connection}
        assert connection.polled
        assert not os.get_blocking(connection.fd)
        assert not os.get_inheritable(connection.fd)
        assert connection.listener == "a socket pair"
        here.backlog.clients[0].sendall(b"x")
        assert here.worker.poller.wait(1, 8)[-1][0] == connection.fd


def test_an_event_before_it_was_parked_is_not_lost() -> None:
    """It is registered first, and another thread may poll meanwhile."""
    with door(None) as here:
        tables = here.worker.tables
        add = here.worker.poller.add_connection

        class Poller:
            def add_connection(self, fd: int) -> None:
                add(fd)
                tables.pending.add(fd)

        poller, here.worker.poller = here.worker.poller, cast("Any", Poller())
        here.accept()
        here.worker.poller = poller
        (connection,) = here.open
        assert list(tables.ready) == [(connection.fd, MORE)]
        assert tables.parked == {connection.fd: connection}
        assert not tables.pending


class Host:
    def connected(self, connection: Connection) -> bytes:
        return b"welcome"

    def __call__(self, message: bytes) -> bytes:
        return message


def test_one_that_is_to_be_greeted_is_served_at_once() -> None:
    with door(None, handler=Host) as here:
        here.accept()
        (connection,) = here.open
        assert connection.phase is State.FRESH
        assert list(here.worker.tables.ready) == [(connection.fd, MORE)]
        assert here.hand_in()  # whoever polls has to be told


@pytest.mark.parametrize("setting", ["first_byte_timeout", "idle_timeout"])
def test_with_such_a_time_out_even_a_quiet_one_is_timed(setting: str) -> None:
    settings: dict[str, Any] = {setting: 5.0}
    with door(None, **settings) as here:
        here.accept()
        (connection,) = here.open
        assert here.worker.tables.timed == {connection.fd: connection}


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOMEM, "accept-paused"), (errno.ENOSPC, "accept-paused"), (errno.EIO, "accept-failed")]
)
def test_one_that_cannot_be_watched_is_closed(number: int, said: str) -> None:
    """epoll_ctl(2) may refuse; then the client is told at once, and the next ones wait in the backlog."""
    with door(None, None) as here:

        class Poller:
            def add_connection(self, fd: int) -> None:
                raise OSError(number, os.strerror(number))

        poller, here.worker.poller = here.worker.poller, cast("Any", Poller())
        here.accept()
        here.worker.poller = poller
        assert not here.open
        assert here.backlog.clients[0].recv(1) == b""
        assert here.worker.gate.reasons == {Shut.PAUSED}
        assert here.bed.cell("closed") == here.bed.cell("closed_error") == 1
        assert here.bed.log.find(said)
        assert here.backlog.says == [None]


def test_one_from_a_listener_that_we_do_not_know_is_served() -> None:
    with door() as here:
        here.hand_in(7)
        (connection,) = here.open
        assert connection.listener == "listener 7"


class Sibling:
    """Stands where Passing stands."""

    def __init__(self, *takes: bool) -> None:
        self.takes = list(takes)
        self.asked: list[int] = []

    def try_pass(self, fd: int, listener: int, phase: State = State.OPEN) -> bool:
        self.asked.append(listener)
        taken = self.takes.pop(0)
        if taken:
            os.close(fd)
        return taken


def test_what_a_sibling_takes_is_not_ours() -> None:
    with door(None, None, None) as here:
        sibling = Sibling(True, False, True)
        here.accepting.giving = cast("Any", sibling)
        here.accept()
        assert len(here.open) == 1
        assert here.bed.cell("accepted") == 3
        assert sibling.asked == [0, 0, 0]


def test_what_came_from_a_sibling_is_not_passed_on() -> None:
    with door() as here:
        here.accepting.giving = cast("Any", Sibling())
        here.hand_in()
        assert len(here.open) == 1


# As many as may be


def test_at_the_limit_it_takes_no_more() -> None:
    with door(None, None, None, None, max_connections=2) as here:
        here.accept()
        assert len(here.open) == 2
        assert here.worker.gate.reasons == {Shut.FULL}
        here.hand_in()  # one that was on its way to us
        assert here.bed.log.find("connections-full") == [{"open": 2}]


def test_one_that_is_closed_in_the_same_moment_is_seen() -> None:
    """Its owner saw an open gate, and so opened none; we must look again after shutting it."""
    with door(None, None, max_connections=2) as here:
        worker = here.worker
        shut = worker.gate.shut

        def close_and_shut(reason: Shut) -> None:
            fd, connection = next(iter(worker.tables.open.items()))
            worker.tables.forget(fd)
            assert Shut.FULL not in worker.gate.reasons
            streams.close(connection.fd)
            shut(reason)

        worker.gate.shut = close_and_shut  # type: ignore[method-assign]
        here.accept()
        assert len(here.open) == 1
        assert not worker.gate.reasons


def test_the_drain_is_not_disturbed_by_the_limit() -> None:
    with door(max_connections=1) as here:
        here.worker.leaving = True
        here.hand_in()
        assert not here.worker.gate.reasons
        assert not here.bed.log.said


# With a real listener, threads, and the watcher


def said_so(client: socket.socket, message: bytes) -> bytes:
    client.sendall(message)
    return client.recv(len(message))


def test_max_connections_shuts_the_door_and_a_close_opens_it() -> None:
    with bed(echo, listen=True, max_connections=2) as worker:
        first, second = worker.call_in(), worker.call_in()
        assert said_so(first, b"1") == b"1"
        assert said_so(second, b"2") == b"2"
        assert worker.worker.gate.reasons == {Shut.FULL}
        third = worker.call_in()  # waits in the backlog
        third.sendall(b"3")
        assert said_so(first, b"4") == b"4"
        assert worker.cell("accepted") == 2
        second.close()
        assert third.recv(1) == b"3"
        assert worker.cell("accepted") == 3
        assert len(worker.log.find("connections-full")) == 2


def wait_paused(worker: Bed, times: int) -> None:
    def has_paused() -> bool:
        return worker.cell("accept_pauses") == times

    eventually(has_paused)


def test_without_descriptors_it_pauses_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is open stays served, nothing spins, and the one that waited is taken when there is room."""
    tried: list[bool] = []
    accept = streams.accept
    is_full = False

    def accept_if_there_is_room(listening: socket.socket) -> int:
        tried.append(is_full)
        if is_full:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept(listening)

    monkeypatch.setattr(streams, "accept", accept_if_there_is_room)
    with bed(echo, listen=True) as worker:
        client = worker.call_in()
        assert said_so(client, b"1") == b"1"
        is_full = True
        waiting = worker.call_in()
        waiting.sendall(b"?")
        for pause in range(1, 4):
            wait_paused(worker, pause)
            assert worker.worker.gate.reasons == {Shut.PAUSED}
            assert said_so(client, b"2") == b"2"
            assert said_so(client, b"3") == b"3"
            assert tried.count(True) == pause
            if pause == 3:
                is_full = False
            # The pause is over.
            assert worker.worker.resume_accepting_at is not None
            worker.now = worker.worker.resume_accepting_at
            worker.tick()
        assert waiting.recv(1) == b"?"
        assert worker.worker.resume_accepting_at is None
        assert not worker.worker.gate.reasons


def test_a_pause_is_not_over_before_its_time() -> None:
    with door(errno.EMFILE) as here:
        here.accept()
        until = here.worker.resume_accepting_at
        assert until is not None
        here.bed.now = until - 1
        here.bed.tick()
        assert here.worker.gate.reasons == {Shut.PAUSED}
        here.bed.now = until
        here.bed.tick()
        assert not here.worker.gate.reasons


def test_saturated_it_takes_nothing_and_free_again_what_waited() -> None:
    gate = Gate()

    def handler(message: bytes) -> bytes:
        if message == b"slow":
            gate.wait()
        return message

    with bed(handler, listen=True, threads=1) as worker:
        slow = worker.call_in()
        slow.sendall(b"slow")
        gate.wait_entered()

        def is_saturated() -> bool:
            worker.tick()  # as many as it takes to see that the call waits, and does not queue for a processor
            return worker.worker.gate.reasons == {Shut.SATURATED}

        eventually(is_saturated)
        late = worker.call_in()
        late.sendall(b"late")
        gate.open()
        assert slow.recv(100) == b"slow"
        assert late.recv(100) == b"late"
        assert not worker.worker.gate.reasons


def test_accepting_knows_its_listeners_by_index() -> None:
    with bed(echo, listen=True, run=False) as worker:
        accepting: Accepting = worker.parts.accepting
        (listener,) = worker.plan.listeners
        assert accepting.ways_in[0].text == listener.text
