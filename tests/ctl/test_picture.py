"""What two looks at a scoreboard show."""

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctl.picturebed import LAYOUT, NOW, SECOND, pictured, seated, thread
from paceline.ctl.picture import Picture, Worker
from paceline.ctl.rendering import status_text
from paceline.scoreboard.fields import THREAD_FIELDS, WORKER_FIELDS, Field

OLD = NOW - 11 * SECOND
FULL = [thread(0, index, "calling", calls=5) for index in range(8)]
DOCS = Path(__file__).parents[2] / "docs" / "operating.md"


def one(picture: Picture) -> Worker:
    (worker,) = picture.workers
    return worker


def test_a_worker_is_what_its_row_and_its_threads_say() -> None:
    before = [seated(3, slot=1, connections=7, threads=3, generation=4, connections_limit=100)]
    threads = [thread(3, 0, "polling", calls=9, messages=9), thread(3, 1, "peer", calls=1, messages=40, errors=2)]
    later = [*before, *threads, thread(3, 2, "calling", calls=30, messages=30)]
    worker = one(pictured(before, later))
    assert (worker.slot, worker.seat, worker.pid, worker.generation, worker.state) == (1, 3, 103, 4, "ready")
    assert (worker.age_s, worker.heartbeat_age_s) == (90.0, 0.5)
    assert (worker.connections, worker.connections_limit) == (7, 100)
    assert (worker.threads, worker.threads_busy, worker.threads_limit) == (3, 2, 8)
    assert (worker.calls, worker.calls_per_s, worker.messages, worker.errors) == (40, 80.0, 79, 2)
    assert (worker.long_calls, worker.oldest_call_s, worker.rss_bytes) == (0, None, 21 << 20)


def test_a_call_that_is_in_both_looks_is_as_old_as_the_time_between_at_least() -> None:
    row = seated(0)
    goes_on, ended = thread(0, 0, "calling", calls=5), thread(0, 1, "calling", calls=3)
    begun = thread(0, 1, "calling", calls=4)
    worker = one(pictured([row, goes_on, ended], [row, goes_on, begun]))
    assert (worker.long_calls, worker.oldest_call_s) == (1, 0.5)


def test_who_waits_for_his_peer_is_in_no_long_call() -> None:
    worker = one(pictured([seated(0), thread(0, 0, "peer", calls=5)]))
    assert (worker.threads_busy, worker.long_calls) == (1, 0)


@pytest.mark.parametrize(
    ("cells", "process", "state", "is_serving"),
    [
        ({}, "S", "ready", True),
        ({}, "R", "ready", True),
        ({}, "D", "ready", True),
        ({}, "?", "ready", True),
        ({"saturated": 1}, "S", "saturated", True),
        ({"heartbeat_ns": OLD}, "S", "silent", False),
        ({"state": 4, "heartbeat_ns": OLD}, "S", "silent", False),
        ({"state": 1, "heartbeat_ns": OLD}, "S", "booting", False),
        ({"state": 6}, "S", "standby", False),
        ({"state": 4}, "S", "draining", False),
        ({}, "T", "stopped", False),
        ({"heartbeat_ns": OLD}, "t", "stopped", False),
        ({}, "Z", "dead", False),
        ({}, "", "dead", False),
        ({"state": 77}, "S", "77", False),
    ],
)
def test_the_state_is_what_keeps_it_from_running_if_anything_does(
    cells: dict[str, int], process: str, state: str, is_serving: bool
) -> None:
    worker = one(
        pictured(
            [seated(0, "ready", 0, **cells)] if "state" not in cells else [_with_state(cells)], states={0: process}
        )
    )
    assert (worker.state, worker.is_serving) == (state, is_serving)


def _with_state(cells: dict[str, int]) -> dict[int, int]:
    others = {name: value for name, value in cells.items() if name != "state"}
    written = seated(0, "ready", 0, **others)
    written[LAYOUT.worker_index(0) + LAYOUT.worker_cell["state"]] = cells["state"]
    return written


def test_workers_come_by_slot_and_those_that_serve_first() -> None:
    rows = [
        seated(0, "draining", slot=1, generation=1),
        seated(1, slot=1, generation=2),
        seated(2, slot=0, generation=1),
        seated(3, "standby", slot=0, generation=2),
        seated(4, "gone", slot=2),
    ]
    assert [worker.seat for worker in pictured(rows).workers] == [2, 3, 1, 0]


# Health


def test_one_worker_that_serves_is_enough() -> None:
    picture = pictured([seated(0), seated(1, "booting"), seated(2), seated(3)], states={2: "T", 3: "Z"})
    assert picture.unhealthy_because == ""
    assert picture.health == "healthy: 1 worker serves; worker 2 is stopped; worker 3 is dead"


def test_nobody_to_replace_the_dead_is_no_illness_yet() -> None:
    picture = pictured([seated(0), seated(1)], supervisor="stopped")
    assert picture.health == "healthy: 2 workers serve; the supervisor is stopped"
    assert "kill -CONT 99" in picture.warnings[0]


@pytest.mark.parametrize(
    ("rows", "states", "why"),
    [
        ([], {}, "there is no worker"),
        ([seated(0, "booting")], {}, "no worker serves: worker 0 boots"),
        (
            [seated(0, "draining"), seated(1, "standby"), seated(2, heartbeat_ns=OLD), seated(3)],
            {3: "T"},
            (
                "no worker serves: worker 0 drains, worker 1 waits until its whole generation is ready, worker 2 has "
                "shown no sign of life for 11 s, worker 3 is stopped"
            ),
        ),
        (
            [seated(0, saturated=1), *FULL],
            {},
            "all threads of the one worker that serves are inside calls, and no call has ended within 0.5 s",
        ),
    ],
)
def test_unhealthy(rows: list[dict[int, int]], states: dict[int, str], why: str) -> None:
    picture = pictured(rows, states=states)
    assert picture.unhealthy_because == why
    assert picture.health == f"unhealthy: {why}"
    assert picture.warnings[-1] == picture.health


def test_a_full_worker_whose_calls_end_is_healthy() -> None:
    another = [seated(0, saturated=1), *FULL, thread(0, 3, "calling", calls=6)]
    picture = pictured([seated(0, saturated=1), *FULL], another)
    assert picture.health == "healthy: 1 worker serves"
    assert "worker 0 (pid 100) is saturated: all its 8 threads are inside calls" in picture.warnings[0]
    beside = pictured([seated(0, saturated=1), *FULL, seated(1)])
    assert beside.health == "healthy: 2 workers serve"


def test_a_worker_full_of_conversations_is_healthy() -> None:
    rows = [seated(0, saturated=1), *FULL[:-1], thread(0, 7, "peer", calls=5)]
    picture = pictured(rows)
    assert picture.health == "healthy: 1 worker serves"
    assert (picture.workers[0].threads_busy, picture.workers[0].threads_peer) == (8, 1)
    received = pictured(
        [seated(0, saturated=1), *FULL], [seated(0, saturated=1), *FULL, thread(0, 0, "calling", calls=5, messages=1)]
    )
    assert received.unhealthy_because == ""


def test_without_a_supervisor_it_is_about_to_end() -> None:
    picture = pictured([seated(0)], supervisor="gone")
    assert picture.health == "unhealthy: its supervisor is gone, so its workers are about to leave"


# Warnings


def test_a_healthy_server_has_none() -> None:
    assert pictured([seated(0), seated(1)]).warnings == []


def test_generations_side_by_side_are_told() -> None:
    rows = [seated(0), seated(1, "standby", generation=2), seated(2, "draining", generation=3)]
    assert pictured(rows).warnings == [
        "generations 1, 2 and 3 are there at the same time: a reload goes on, or calls of old code do"
    ]
    assert pictured(rows).generation == 1


def test_a_worker_that_waits_for_a_call_before_it_leaves_says_so() -> None:
    rows = [seated(0), seated(1, "draining"), thread(1, 0, "calling", calls=5)]
    assert pictured(rows).warnings == [
        "worker 1 (pid 101) drains, and waits for 1 call that goes on; they are cut after --drain-timeout"
    ]


@pytest.mark.parametrize(
    ("state", "cells", "said"),
    [("T", {}, "kill -CONT 100"), ("Z", {}, "is dead"), ("S", {"heartbeat_ns": OLD}, "11 s")],
)
def test_each_thing_that_is_wrong_is_told_of_its_worker(state: str, cells: dict[str, int], said: str) -> None:
    (first, *_) = pictured([seated(0, "ready", 0, **cells)], states={0: state}).warnings
    assert first.startswith("worker 0 (pid 100) ")
    assert said in first


WORD = st.one_of(st.integers(0, 12), st.integers(0, (1 << 64) - 1))


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(WORKER_FIELDS), WORD)), st.data())
def test_whatever_a_scoreboard_holds_can_be_shown(rows: list[tuple[int, Field, int]], data: st.DataObject) -> None:
    """Words are copied while they change, and may be those of another version."""
    threads = data.draw(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7), st.sampled_from(THREAD_FIELDS), WORD)))
    cells = {LAYOUT.worker_index(seat) + LAYOUT.worker_cell[field.name]: word for seat, field, word in rows}
    cells |= {LAYOUT.thread_index(seat, at) + LAYOUT.thread_cell[field.name]: word for seat, at, field, word in threads}
    earlier = {index: word for index, word in cells.items() if data.draw(st.booleans())}
    picture = pictured([earlier], [cells], states=dict.fromkeys(range(6), data.draw(st.sampled_from(["S", "T", ""]))))
    json.dumps(picture.to_json())
    assert picture.health.startswith(("healthy: ", "unhealthy: "))
    assert len(status_text(picture, 80).splitlines()) >= 1


# JSON


def test_the_json_has_all_of_it() -> None:
    record = json.loads(json.dumps(pictured([seated(0), *FULL]).to_json()))
    assert (record["version"], record["healthy"], record["generation"], record["started"]) == (1, True, 1, None)
    (worker,) = record["workers"]
    assert list(worker) == [field.name for field in fields(Worker)]
    assert (worker["long_calls"], worker["oldest_call_s"], worker["age_s"]) == (8, 0.5, 90.0)
    assert record["counters"]["calls"] == 40


def test_the_manual_names_every_field_of_the_json() -> None:
    record = pictured([seated(0)]).to_json()
    named = set(re.findall(r"^\| `(\w+)` \|", DOCS.read_text("utf-8"), re.MULTILINE))
    assert {*record, *(field.name for field in fields(Worker))} <= named


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("", "IPv4 and IPv6", ""), "127.0.0.1:1, [::]:2 (IPv4 and IPv6), unix:s"),
        ((), "127.0.0.1:1, [::]:2, unix:s"),
        (("IPv4 only",), "127.0.0.1:1, [::]:2, unix:s"),
    ],
)
def test_what_addresses_serve_is_said_where_it_is_known(words: tuple[str, ...], said: str) -> None:
    picture = replace(pictured([seated(0)]), addresses=("127.0.0.1:1", "[::]:2", "unix:s"), words=words)
    assert picture.places == said
    assert status_text(picture).replace("\n", " ").startswith(f"{said} · app.py:answer")
    record = picture.to_json()
    assert (record["addresses"], record["families"]) == (["127.0.0.1:1", "[::]:2", "unix:s"], list(words))
