"""Whether the worker accepts: reasons against it in every order, and what the kernel is told."""

import errno
import itertools
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.host.poller import IN, Poller
from paceline.worker.gate import Gate, Shut
from workerbed import DEADLINE_S

FDS = (5, 6)
OTHERS = [reason for reason in Shut if reason is not Shut.STARTING]


class FakePoller:
    """As strict as the kernel: what is in cannot be added, what is out cannot be removed."""

    def __init__(self) -> None:
        self.inside: set[int] = set()
        self.added: list[int] = []
        self.refuses: set[int] = set()
        self.entered = threading.Event()
        self.go_on: threading.Event | None = None

    def add_listener(self, fd: int) -> None:
        if self.go_on is not None:
            self.entered.set()
            assert self.go_on.wait(DEADLINE_S)
        if fd in self.refuses:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        assert fd not in self.inside, "EEXIST"
        self.inside.add(fd)
        self.added.append(fd)

    def remove(self, fd: int) -> None:
        self.inside.discard(fd)


@pytest.fixture
def poller() -> FakePoller:
    return FakePoller()


def is_in(poller: FakePoller) -> bool:
    assert poller.inside in (set(), set(FDS)), "all or none"
    return bool(poller.inside)


def test_it_begins_shut(poller: FakePoller) -> None:
    gate = Gate(poller, FDS)
    assert not is_in(poller)
    assert gate.reasons == {Shut.STARTING}
    gate.open(Shut.STARTING)
    assert is_in(poller)
    assert not gate.reasons


@pytest.mark.parametrize("reason", OTHERS)
def test_each_reason_shuts_it_and_opens_it(poller: FakePoller, reason: Shut) -> None:
    gate = Gate(poller, FDS)
    gate.open(Shut.STARTING)
    for _ in range(2):  # said twice it counts once
        gate.shut(reason)
        assert not is_in(poller)
    for _ in range(2):
        gate.open(reason)
        assert is_in(poller)


@pytest.mark.parametrize("order", list(itertools.permutations([Shut.SATURATED, Shut.FULL, Shut.PAUSED])), ids=str)
def test_the_last_reason_to_go_opens_it(poller: FakePoller, order: tuple[Shut, ...]) -> None:
    gate = Gate(poller, FDS)
    gate.open(Shut.STARTING)
    for reason in (Shut.SATURATED, Shut.FULL, Shut.PAUSED):
        gate.shut(reason)
    for left, reason in zip((2, 1, 0), order, strict=True):
        gate.open(reason)
        assert is_in(poller) == (left == 0)


@given(st.lists(st.tuples(st.sampled_from(["shut", "open", "nudge"]), st.sampled_from(Shut))))
def test_the_listeners_are_in_exactly_while_no_reason_speaks_against_it(steps: list[tuple[str, Shut]]) -> None:
    poller = FakePoller()
    gate = Gate(poller, FDS)
    reasons = {Shut.STARTING}
    for what, reason in steps:
        if what == "nudge":
            gate.nudge()
        elif what == "shut":
            gate.shut(reason)
            reasons.add(reason)
        else:
            gate.open(reason)
            reasons.discard(reason)
        assert gate.reasons == reasons
        assert is_in(poller) == (not reasons)


def test_what_was_never_shut_is_not_added_again(poller: FakePoller) -> None:
    gate = Gate(poller, FDS)
    gate.open(Shut.STARTING)
    gate.open(Shut.FULL)
    assert poller.added == list(FDS)


def test_a_nudge_looks_anew(poller: FakePoller) -> None:
    gate = Gate(poller, FDS)
    gate.nudge()
    assert poller.added == []  # shut is shut
    gate.open(Shut.STARTING)
    gate.nudge()
    assert poller.added == [*FDS, *FDS]


def test_a_listener_that_cannot_be_added_is_added_by_the_next_nudge(poller: FakePoller) -> None:
    gate = Gate(poller, FDS)
    poller.refuses = {5}
    gate.open(Shut.STARTING)  # does not raise: the thread that leads would die of it
    assert poller.inside == {6}
    poller.refuses = set()
    gate.nudge()
    assert poller.inside == {5, 6}


def test_two_changes_do_not_overtake_each_other(poller: FakePoller) -> None:
    """One thread opens and is stopped before the kernel knows; another shuts meanwhile: it waits, and shut it stays."""
    gate = Gate(poller, FDS)
    poller.go_on = threading.Event()
    opener = threading.Thread(target=gate.open, args=(Shut.STARTING,))
    shutter = threading.Thread(target=gate.shut, args=(Shut.DRAINING,))
    opener.start()
    assert poller.entered.wait(DEADLINE_S)
    shutter.start()
    poller.go_on.set()
    for thread in (opener, shutter):
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    assert gate.reasons == {Shut.DRAINING}
    assert not is_in(poller)


# With the kernel


@pytest.fixture
def real() -> Iterator[tuple[Poller, socket.socket]]:
    poller = Poller()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield poller, listening
    poller.close()


def test_what_queued_up_while_it_was_shut_is_seen_at_once(real: tuple[Poller, socket.socket]) -> None:
    poller, listening = real
    gate = Gate(poller, [listening.fileno()])
    with socket.create_connection(listening.getsockname(), DEADLINE_S):
        assert poller.wait(0, 8) == []
        gate.open(Shut.STARTING)
        assert poller.wait(DEADLINE_S, 8) == [(listening.fileno(), IN)]
        gate.shut(Shut.FULL)
        assert poller.wait(0, 8) == []
        gate.open(Shut.FULL)
        assert poller.wait(DEADLINE_S, 8) == [(listening.fileno(), IN)]


def test_shut_it_wakes_a_sibling_instead(real: tuple[Poller, socket.socket]) -> None:
    poller, listening = real
    sibling = Poller()
    try:
        ours, theirs = Gate(poller, [listening.fileno()]), Gate(sibling, [listening.fileno()])
        ours.open(Shut.STARTING)
        theirs.open(Shut.STARTING)
        ours.shut(Shut.SATURATED)
        with socket.create_connection(listening.getsockname(), DEADLINE_S):
            assert sibling.wait(DEADLINE_S, 8) == [(listening.fileno(), IN)]
            assert poller.wait(0, 8) == []
    finally:
        sibling.close()


def test_a_thread_that_polls_already_is_woken_when_it_opens(real: tuple[Poller, socket.socket]) -> None:
    poller, listening = real
    gate = Gate(poller, [listening.fileno()])
    seen: list[tuple[int, int]] = []
    with socket.create_connection(listening.getsockname(), DEADLINE_S):
        waiting = threading.Thread(target=lambda: seen.extend(poller.wait(DEADLINE_S, 8)))
        waiting.start()
        gate.open(Shut.STARTING)
        waiting.join(DEADLINE_S)
    assert seen == [(listening.fileno(), IN)]
