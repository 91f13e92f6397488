"""The table of a worker's states: what it allows, and that nothing else can happen."""

import pytest

from paceline.supervisor.lifecycle import TABLE, State, Worker
from paceline.supervisor.vocabulary import Abort, Forked, Kill
from paceline.worker.messages import Drain, Leaving, Nudge, Ready, Serve

CAUSES = {cause for _, cause in TABLE} | {Nudge}


@pytest.mark.parametrize("state", State)
def test_what_has_no_row_in_the_table_changes_nothing(state: State) -> None:
    for cause in CAUSES:
        worker = Worker(slot=0, seat=0, state=state)
        moved = worker.advance(cause)
        assert moved == ((state, cause) in TABLE)
        assert worker.state is TABLE.get((state, cause), state)


def test_killed_is_the_last_state_and_reached_from_all() -> None:
    assert not any(state is State.KILLED for state, _ in TABLE)
    assert {state for state, cause in TABLE if cause is Kill} == set(State) - {State.FORKING, State.KILLED}


def test_a_good_life() -> None:
    worker = Worker(slot=0, seat=0)
    for cause, state in (
        (Forked, State.BOOTING),
        (Ready, State.STANDBY),
        (Serve, State.READY),
        (Drain, State.DRAINING),
        (Leaving, State.LEAVING),
    ):
        assert worker.advance(cause)
        assert worker.state is state


def test_a_bad_end() -> None:
    worker = Worker(slot=0, seat=0, state=State.READY)
    assert worker.advance(Abort)
    assert not worker.advance(Ready)
    assert not worker.advance(Leaving)
    assert worker.advance(Kill)
    assert worker.state is State.KILLED
