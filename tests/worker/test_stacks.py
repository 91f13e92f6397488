"""worker/stacks.py: stacks of threads that go on, from the user's first line on, bounded; whose connection it is."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from paceline.worker import stacks
from workerbed import Gate, bed


@contextmanager
def frame_inside(depth: int) -> Iterator[FrameType]:
    """A thread that waits so many calls deep."""
    gate = Gate()

    def dig(left: int) -> None:
        if left:
            dig(left - 1)
        else:
            gate.wait()

    thread = threading.Thread(target=dig, args=(depth,))
    thread.start()
    try:
        gate.wait_entered()
        assert thread.ident is not None
        yield stacks.frames_now()[thread.ident]
    finally:
        gate.open()
        thread.join()


def test_it_reads_as_a_traceback_and_begins_at_the_users_line() -> None:
    with frame_inside(0) as frame:
        text = stacks.text_of(stacks.walk(frame))
    first, second, *_ = text.splitlines()
    assert first.startswith(f'  File "{__file__}", line ')
    assert first.endswith(", in dig")
    assert second == "    gate.wait()"
    assert "threading.py" in text.splitlines()[-2], "where it waits, in the standard library, comes last"


def test_of_a_deep_stack_the_two_ends_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "MOST_OUTER", 3)
    monkeypatch.setattr(stacks, "MOST_INNER", 4)
    with frame_inside(50) as frame:
        text = stacks.text_of(stacks.walk(frame))
    assert text.count(", line ") == 7
    assert "frames left out …" in text
    assert "gate.wait()" in text


def test_a_stack_without_end_is_not_walked_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "MOST_WALKED", 45)
    with frame_inside(100) as frame:
        walked = stacks.walk(frame)
        assert len(walked) == 45
        assert "5 or more frames left out" in stacks.text_of(walked)


def test_a_stack_in_which_nothing_is_the_users_is_shown_whole() -> None:
    with bed(lambda message: message) as worker:
        member = worker.worker.crew.members[0]
        assert member.thread is not None
        assert member.thread.ident is not None
        text = stacks.text_of(stacks.walk(stacks.frames_now()[member.thread.ident]))
    assert ", in lead" in text
    assert "threading.py" in text


@pytest.mark.parametrize("as_", ["message", "connection"])
def test_whose_connection_a_thread_has_in_hand(as_: str) -> None:
    gate = Gate()

    def handler(_it: object) -> None:
        gate.wait()

    with bed(handler, as_=as_) as worker:
        client = worker.connect()
        client.sendall(b"x")
        gate.wait_entered()
        (connection,) = worker.connections()
        found = [stacks.connection_of(stacks.walk(frame)) for frame in stacks.frames_now().values()]
        assert [c for c in found if c is not None] == [connection]
        gate.open()


def test_it_is_not_the_one_that_the_thread_had_before() -> None:
    gate = Gate()

    def handler(message: bytes) -> bytes:
        if message == b"wait":
            gate.wait()
        return message

    with bed(handler) as worker:
        one, other = worker.connect(), worker.connect()
        for _ in range(3):  # at least the last one by the fast path, which is slow in forgetting
            one.sendall(b"x")
            assert one.recv(1) == b"x"
        worker.worker.sample_due = True  # the next one goes the careful way
        other.sendall(b"wait")
        gate.wait_entered()
        found = [stacks.connection_of(stacks.walk(frame)) for frame in stacks.frames_now().values()]
        assert [c for c in found if c is not None] == [worker.connections()[1]]
        gate.open()


def test_an_empty_stack_is_no_text() -> None:
    assert stacks.walk(None) == []
    assert stacks.text_of([]) == ""
    assert stacks.connection_of([]) is None
