"""A snapshot of any words shows the rows that were used, by name, and adds them up.  No memory is mapped here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.errors import HostError, UsageError
from paceline.scoreboard.fields import (
    THREAD_FIELDS,
    THREAD_STATES,
    WORKER_FIELDS,
    WORKER_STATES,
    Field,
    FieldKind,
)
from paceline.scoreboard.layout import Layout
from paceline.scoreboard.snapshot import Call, Part, Snapshot, describe_threads, first_seen, same_calls
from paceline.stats.histogram import CELLS, Histogram, bucket_of, record

LAYOUT = Layout(3, 5)
Cells = dict[int, int]


def seated(seat: int, *, state: str = "ready", layout: Layout = LAYOUT, **cells: int) -> Cells:
    row = layout.worker_index(seat)
    cells = {"state": WORKER_STATES[state], **cells}
    return {row + layout.worker_cell[name]: value for name, value in cells.items()}


def thread(seat: int, index: int, state: str = "none", layout: Layout = LAYOUT, **cells: int) -> Cells:
    row = layout.thread_index(seat, index)
    cells = {"state": THREAD_STATES[state], **cells}
    return {row + layout.thread_cell[name]: value for name, value in cells.items()}


def sampled(seat: int, index: int, *durations_ns: int, layout: Layout = LAYOUT) -> Cells:
    cells = [0] * layout.histogram_cells
    for ns in durations_ns:
        record(cells, 0, ns)
    return {layout.histogram_index(seat, index) + cell: n for cell, n in enumerate(cells) if n}


def snapshot(*written: Cells, layout: Layout = LAYOUT) -> Snapshot:
    """One word a part: the most holes there can be."""
    words = {index: value for cells in written for index, value in cells.items()}
    return Snapshot.of(layout, [(index, [words[index]]) for index in sorted(words)])


# What is there


def test_a_board_that_nobody_used_has_its_seats_and_nothing_else() -> None:
    empty = snapshot()
    assert [seat.index for seat in empty.seats] == [0, 1, 2]
    assert {seat.state for seat in empty.seats} == {"free"}
    assert not any(seat.threads or seat.samples for seat in empty.seats)
    assert empty.occupied == []
    assert (empty.calls, empty.messages, empty.histogram().count) == (0, 0, 0)


def test_rows_are_read_by_name_and_codes_as_words() -> None:
    seen = snapshot(seated(1, pid=4711, slot=6), thread(1, 4, "calling", calls=9))
    seat = seen.seats[1]
    assert (seat.state, seat.worker["pid"], seat.worker["slot"], seat.worker["tick"]) == ("ready", 4711, 6, 0)
    assert list(seat.threads) == [4]
    assert seat.threads[4].word("state") == "calling"
    assert dict(seat.threads[4]) == {field.name: 0 for field in THREAD_FIELDS} | {"state": 4, "calls": 9}


def test_a_row_as_plain_values_has_every_field_and_words_for_codes() -> None:
    plain = snapshot(seated(0, state="saturated", pid=7)).seats[0].worker.plain()
    assert list(plain) == [field.name for field in WORKER_FIELDS]
    assert (plain["state"], plain["pid"], plain["threads"]) == ("saturated", 7, 0)


def test_an_unknown_field_is_missed_by_name_and_a_maybe_is_asked_with_get() -> None:
    row = snapshot().seats[0].worker
    with pytest.raises(KeyError, match="no_such"):
        row["no_such"]
    assert row.get("no_such", 5) == 5
    assert "'state': 'free'" in repr(row)


def test_a_code_without_a_word_is_shown_as_its_number() -> None:
    seen = snapshot(seated(0) | {LAYOUT.worker_index(0) + LAYOUT.worker_cell["state"]: 77})
    assert seen.seats[0].state == "77"
    assert seen.seats[0].is_occupied


@pytest.mark.parametrize(("state", "occupied"), [(state, state not in {"free", "gone"}) for state in WORKER_STATES])
def test_a_seat_is_occupied_while_a_worker_may_live_there(state: str, occupied: bool) -> None:
    seen = snapshot(seated(2, state=state, pid=1))
    assert [seat.index for seat in seen.occupied] == ([2] if occupied else [])


words = st.lists(st.integers(0, 3) | st.integers(0, (1 << 64) - 1), min_size=1, max_size=80)


@given(st.lists(st.tuples(st.integers(0, 700), words), max_size=6))
def test_it_shows_the_same_however_the_copy_was_cut_into_parts(gaps: list[tuple[int, list[int]]]) -> None:
    layout = Layout(2, 3, histogram_cells=16, histogram_scheme="short")
    whole = [0] * (layout.size_bytes // 8)
    parts: list[Part] = []
    at = layout.workers_at
    for gap, copied in gaps:
        start = at + gap
        copied = copied[: max(0, len(whole) - start)]
        if copied:
            whole[start : start + len(copied)] = copied
            parts.append((start, copied))
            at = start + len(copied)
    assert Snapshot.of(layout, parts) == Snapshot.of(layout, [(0, whole)])


@given(st.sets(st.tuples(st.integers(0, 2), st.integers(0, 4))))
def test_exactly_the_used_rows_are_there(used: set[tuple[int, int]]) -> None:
    seen = snapshot(*(thread(*where, calls=1) | sampled(*where, 5_000) for where in used))
    assert {(seat.index, index) for seat in seen.seats for index in seat.threads} == used
    assert {(seat.index, index) for seat in seen.seats for index in seat.samples} == used


def test_what_another_version_wrote_is_read_by_its_own_tables() -> None:
    shade = Field("shade", FieldKind.CODE, "", "a code of theirs", ("light", "dark"))
    mood = Field("mood", FieldKind.COUNTER, "moods", "a counter of theirs")
    theirs = Layout(1, 2, (shade, *WORKER_FIELDS[:4]), (mood, *THREAD_FIELDS[:1]), "their scheme", 8)
    cells = {theirs.worker_index(0): 1, theirs.thread_index(0, 1): 12, theirs.histogram_index(0, 1): 3}
    seen = snapshot(cells, layout=theirs)
    assert seen.seats[0].worker.word("shade") == "dark"
    assert seen.total("mood") == 12
    assert seen.counters() == {"mood": 12}
    with pytest.raises(HostError, match=r"their scheme.*belongs to the running server"):
        seen.histogram()
    with pytest.raises(UsageError, match="calls"):
        _ = seen.calls


# Sums


def test_totals_run_over_every_row_that_was_ever_used_also_of_free_seats() -> None:
    seen = snapshot(
        seated(0, accepted=5, connections=3),
        seated(1, state="free", accepted=7),
        thread(0, 0, calls=10, messages=11),
        thread(0, 4, calls=20, messages=22),
        thread(1, 2, calls=300, messages=333),
    )
    assert (seen.calls, seen.messages, seen.total("accepted"), seen.total("connections")) == (330, 366, 12, 3)
    assert [seat.total("calls") for seat in seen.seats] == [30, 300, 0]
    assert [seat.total("accepted") for seat in seen.seats] == [5, 7, 0]


def test_all_counters_at_once_are_what_each_is_alone() -> None:
    seen = snapshot(seated(0, accepted=5, pid=99, connections=1), thread(2, 3, "polling", calls=4))
    counters = {field.name for field in WORKER_FIELDS + THREAD_FIELDS if field.kind is FieldKind.COUNTER}
    assert seen.counters() == {name: seen.total(name) for name in counters}
    assert {name: n for name, n in seen.counters().items() if n} == {"accepted": 5, "calls": 4}


@pytest.mark.parametrize("name", ["pid", "state", "started_ns", "fd", "no_such"])
def test_what_cannot_be_added_is_refused(name: str) -> None:
    seen = snapshot(seated(0))
    with pytest.raises(UsageError, match=f"'{name}' is no counter or gauge"):
        seen.total(name)
    with pytest.raises(UsageError, match=f"'{name}' is no counter or gauge"):
        seen.seats[0].total(name)


def test_histograms_are_those_of_the_threads_together() -> None:
    seen = snapshot(sampled(0, 0, 2_000, 3_000_000), sampled(0, 3, 2_000), sampled(2, 1, 70_000_000))
    assert seen.seats[0].histogram() == Histogram.of([2_000, 2_000, 3_000_000])
    assert seen.seats[1].histogram() == Histogram()
    assert seen.histogram() == Histogram.of([2_000, 2_000, 3_000_000, 70_000_000])
    assert Histogram(seen.seats[2].samples[1]).cells[bucket_of(70_000_000)] == 1
    assert len(seen.seats[2].samples[1]) == CELLS


# Calls that go on


@pytest.mark.parametrize(("leader", "doing"), [(2 + 1, "serving"), (0, "calling"), (1, "calling")])
def test_who_serves_and_lost_the_lead_is_in_a_call(leader: int, doing: str) -> None:
    seen = snapshot(seated(0, pid=7, leader=leader), thread(0, 2, "serving", calls=5), thread(0, 0, "waiting"))
    assert seen.seats[0].doing(2) == doing
    assert len(seen.running()) == (doing == "calling")
    assert seen.seats[0].threads[2].word("state") == "serving"


def test_running_are_the_threads_inside_the_handler() -> None:
    states = dict(enumerate(["calling", "polling", "peer", "waiting"]))
    rows = [thread(1, index, state, calls=index + 10, messages=1) for index, state in states.items()]
    assert snapshot(seated(1, pid=4711), *rows).running() == {Call(1, 0, 4711, 10, 1)}


@pytest.mark.parametrize("state", ["free", "gone"])
def test_nothing_runs_where_no_worker_lives(state: str) -> None:
    assert snapshot(seated(0, state=state), thread(0, 0, "calling", calls=1)).running() == frozenset()


BEFORE = {"pid": 7, "state": "calling", "calls": 5, "messages": 8}


@pytest.mark.parametrize(
    ("after", "same"),
    [
        ({}, True),
        ({"calls": 6}, False),
        ({"messages": 9}, False),
        ({"pid": 8}, False),
        ({"state": "polling"}, False),
        ({"state": "peer"}, False),
    ],
    ids=["unchanged", "another-call", "it-received", "another-worker", "over", "waits-for-its-peer"],
)
def test_a_call_is_the_same_while_nothing_of_it_changed(after: dict[str, int | str], same: bool) -> None:
    def look(pid: int, state: str, calls: int, messages: int) -> Snapshot:
        return snapshot(seated(2, pid=pid), thread(2, 1, state, calls=calls, messages=messages))

    before, now = look(**BEFORE), look(**(BEFORE | after))  # type: ignore[arg-type]
    assert same_calls(before, now) == ({Call(2, 1, 7, 5, 8)} if same else frozenset())


def test_the_age_of_a_call_counts_from_the_first_look_that_showed_it() -> None:
    def look(*calls: int) -> Snapshot:
        return snapshot(seated(0, pid=7), *(thread(0, index, "calling", calls=n) for index, n in enumerate(calls)))

    seen: dict[Call, int] = {}
    seen = first_seen(seen, look(1, 1), now_ns=100)
    seen = first_seen(seen, look(1, 2, 1), now_ns=200)
    seen = first_seen(seen, look(1, 2), now_ns=300)
    assert seen == {Call(0, 0, 7, 1, 0): 100, Call(0, 1, 7, 2, 0): 200}


# What the threads did


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ([], "no thread had started"),
        (["none", "none"], "no thread had started"),
        (["calling"], "1 thread was in a call"),
        (["polling", "calling", "calling"], "2 threads were in calls, 1 was polling"),
        (["serving", "peer", "waiting", "peer"],
         "2 threads were waiting for their peers in calls, 1 was serving, 1 was waiting for work"),
        (["starting", "none", "waiting", "waiting"], "1 thread was starting, 2 were waiting for work"),
    ],
)  # fmt: skip
def test_a_sentence_says_what_the_threads_of_a_seat_did(states: list[str], text: str) -> None:
    rows = [thread(1, index, state, calls=1) for index, state in enumerate(states)]
    seen = snapshot(seated(1, leader=1), *rows, thread(0, 0, "calling"))
    assert describe_threads(seen, 1) == text


def test_every_state_but_none_is_said_in_words() -> None:
    for state in THREAD_STATES.keys() - {"none"}:
        assert "in state" not in describe_threads(snapshot(seated(0, leader=1), thread(0, 0, state)), 0)


def test_a_state_of_another_version_is_said_as_it_is_called() -> None:
    row = LAYOUT.thread_index(0, 0) + LAYOUT.thread_cell["state"]
    assert (
        describe_threads(snapshot({row: 99, **thread(0, 1, "polling")}), 0) == "1 thread was polling, 1 was in state 99"
    )
