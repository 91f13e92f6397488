"""The states of a connection: what the table says, and what must hold of any such table."""

import pytest

from paceline.errors import HostError, PeerError, UsageError
from paceline.worker.lifecycle import TABLE, Event, ImpossibleTransition, State, after

LIVING = [state for state in State if state is not State.CLOSED]


def reachable(start: State, *, without: State | None = None) -> set[State]:
    found, todo = {start}, [start]
    while todo:
        here = todo.pop()
        for (state, _), then in TABLE.items():
            if state is here and then not in found and then is not without:
                found.add(then)
                todo.append(then)
    return found


@pytest.mark.parametrize("event", Event, ids=lambda event: event.name.lower())
@pytest.mark.parametrize("state", State, ids=lambda state: state.name.lower())
def test_what_is_not_in_the_table_cannot_happen(state: State, event: Event) -> None:
    if (state, event) in TABLE:
        assert after(state, event) is TABLE[state, event]
    else:
        with pytest.raises(ImpossibleTransition, match=rf"{state.name} cannot meet {event.name}"):
            after(state, event)


def test_an_impossible_transition_is_nobodys_mistake_but_ours() -> None:
    assert ImpossibleTransition.exit_code == 1
    assert not issubclass(ImpossibleTransition, UsageError | PeerError | HostError)


def test_every_state_is_reached_by_a_connection_that_a_proxy_names_first() -> None:
    assert reachable(State.UNNAMED) == set(State)
    assert reachable(State.SECURING) == set(State) - {State.UNNAMED}
    assert reachable(State.FRESH) == set(State) - {State.UNNAMED, State.SECURING}


def test_every_state_but_the_greeting_is_reached_without_one() -> None:
    assert reachable(State.OPEN) == set(State) - {State.FRESH, State.UNNAMED, State.SECURING}


@pytest.mark.parametrize("event", Event, ids=lambda event: event.name.lower())
def test_every_event_can_happen_somewhere(event: Event) -> None:
    assert any(event is happened for _, happened in TABLE)


def test_nothing_leads_out_of_closed() -> None:
    assert not [row for row in TABLE if row[0] is State.CLOSED]


@pytest.mark.parametrize("state", LIVING, ids=lambda state: state.name.lower())
def test_whatever_it_does_a_connection_can_be_lost(state: State) -> None:
    assert after(state, Event.LOST) is State.CLOSED


def test_nothing_leads_back_so_a_connection_ends() -> None:
    rank = {
        State.UNNAMED: -2,
        State.SECURING: -1,
        State.FRESH: 0,
        State.OPEN: 1,
        State.HELD: 2,
        State.ENDING: 3,
        State.CLOSING: 3,
        State.LINGERING: 4,
        State.CLOSED: 5,
    }
    assert all(rank[then] > rank[state] or then is state for (state, _), then in TABLE.items())


def test_only_an_ending_that_was_ordered_already_changes_nothing() -> None:
    loops = {row for row, then in TABLE.items() if then is row[0]}
    assert loops == {(State.ENDING, Event.CLOSE), (State.CLOSING, Event.CLOSE)}


@pytest.mark.parametrize("state", [State.UNNAMED, State.SECURING, State.FRESH, State.OPEN, State.HELD])
def test_an_end_of_ours_always_sends_what_is_left_and_lingers(state: State) -> None:
    assert after(after(state, Event.CLOSE), Event.SENT) is State.LINGERING
    assert State.LINGERING not in reachable(State.OPEN, without=State.CLOSING)


def test_an_end_of_the_peers_is_answered_and_needs_no_lingering() -> None:
    ending = after(State.OPEN, Event.END_OF_FILE)
    assert after(ending, Event.SENT) is State.CLOSED
    assert State.LINGERING not in reachable(State.ENDING)


def test_messages_are_read_only_from_an_open_connection() -> None:
    assert [state for state, event in TABLE if event is Event.HOLD] == [State.OPEN]
    assert {state for (state, _), then in TABLE.items() if then is State.OPEN} == {State.FRESH}
