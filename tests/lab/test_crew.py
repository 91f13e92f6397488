"""lab/crew.py: nobody begins before the gate is open; answers in order; nobody is left."""

import threading

import pytest

from paceline.errors import HostError
from paceline.lab.crew import Crew

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_answers_come_in_the_order_of_the_jobs() -> None:
    first_may_end = threading.Event()

    def first() -> str:
        assert first_may_end.wait(10)
        return "first"

    def second() -> str:
        first_may_end.set()
        return "second"

    with Crew([first, second]) as crew:
        crew.begin()
        assert crew.answers() == ["first", "second"]


def test_nobody_begins_when_the_gate_was_never_opened() -> None:
    begun: list[int] = []
    with Crew([lambda: begun.append(1)] * 3):
        pass
    assert begun == []


def test_who_goes_on_until_told_is_told_at_the_end_also_of_a_failure() -> None:
    went_on: list[bool] = []
    begun = threading.Event()

    def job() -> None:
        begun.set()
        went_on.append(crew.ended.wait(10))

    crew = Crew([job])

    def interrupted() -> None:
        with crew:
            crew.begin()
            assert begun.wait(10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert went_on == [True]


def test_what_a_job_raised_is_raised_where_answers_are_asked_for() -> None:
    def job() -> None:
        raise HostError("no more of it")

    with Crew([int, job]) as crew:
        crew.begin()
        with pytest.raises(HostError, match="no more of it"):
            crew.answers()


def test_a_thread_that_cannot_be_made_takes_the_others_along(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def scarce(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    with pytest.raises(HostError, match="a thread could not be made: can't start new thread"), Crew([int] * 3):
        pass
    assert not any(thread.is_alive() for thread in started)
