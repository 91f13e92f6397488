"""lab/children.py: each job is done in a process of its own, and no process is left."""

import os
import signal
from collections.abc import Iterator

import pytest

from paceline.errors import HostError
from paceline.lab.children import Children

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def never() -> Iterator[int]:
    """A descriptor from which nothing can be read before the test is over."""
    readable, writable = os.pipe()
    yield readable
    os.close(readable)
    os.close(writable)


def test_each_answers_in_the_order_of_the_jobs() -> None:
    with Children([lambda: [1, os.getpid()], lambda: [2, os.getpid()]]) as children:
        pids = children.pids
        assert children.answers(30) == [[1, pids[0]], [2, pids[1]]]
    assert os.getpid() not in pids


def test_an_answer_may_be_longer_than_a_pipe() -> None:
    with Children([lambda: "x" * 300_000]) as children:
        assert children.answers(30) == ["x" * 300_000]


def test_one_that_fails_is_told_and_says_why(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(HostError, match="a process failed"), Children([lambda: 1 // 0, lambda: 2]) as children:
        children.answers(30)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_one_that_does_not_answer_is_not_waited_for_for_ever(never: int) -> None:
    with (
        Children([lambda: os.read(never, 1).decode()]) as children,
        pytest.raises(HostError, match="1 of 1 processes had not answered"),
    ):
        children.answers(0.01)


def test_an_interrupt_leaves_nobody(never: int) -> None:
    def interrupted() -> None:
        with Children([lambda: os.read(never, 1).decode()] * 3) as children:
            os.kill(os.getpid(), signal.SIGINT)
            children.answers(30)

    with pytest.raises(KeyboardInterrupt):
        interrupted()


def test_when_not_all_can_be_made_those_that_were_are_ended(never: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fork, left = os.fork, iter([True, False])

    def failing() -> int:
        if next(left):
            return fork()
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", failing)
    children = Children([lambda: os.read(never, 1).decode()] * 2)
    with pytest.raises(HostError, match="could not be made: Resource temp"):
        children.__enter__()
