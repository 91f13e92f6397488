"""What one program leaves to the next: written and read back, and every way in which it can be wrong is named."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.errors import HostError
from paceline.supervisor import testament
from paceline.supervisor.testament import (
    VERSION,
    FileLeft,
    ListenerLeft,
    SeatLeft,
    WorkerLeft,
    decode,
    encode,
    fixed_changes,
)

WORKER = WorkerLeft(
    pid=100, control=20, slot=0, generation=3, state="READY", forked_at=1.5, ready_at=2.5, is_current=True,
    outbox=('{"is": "nudge"}',),
)  # fmt: skip
SEATS = (SeatLeft(number=0, reader=10, writer=11, faults=12, worker=WORKER), SeatLeft(number=1, reader=13, writer=14, faults=15))  # noqa: E501  # fmt: skip
FULL = testament.Testament(
    pid=77,
    start_ticks=12345,
    paceline="1.2.3",
    board=9,
    seats=SEATS,
    listeners=(
        ListenerLeft(fd=7, index=0, text="127.0.0.1:80", kind="tcp"),
        ListenerLeft(fd=8, index=1, text="unix:/s", kind="unix", path="/s", device=5, inode=6),
    ),
    workers=1,
    generation=3,
    newest=4,
    started_at=0.5,
    gap_s=7.25,
    written_at=8.5,
    reloads=2,
    settings={"bind": '["127.0.0.1:80", "unix:/s"]'},
    passed={"3": "web"},
    files=(FileLeft(role="pid", path="/p", fd=21, device=1, inode=2),),
    asker=22,
)


def test_it_is_read_as_it_was_written() -> None:
    assert decode(encode(FULL)) == FULL


def test_what_must_be_kept() -> None:
    assert sorted(FULL.descriptors()) == [7, 8, 9, 10, 11, 12, 13, 14, 15, 20, 21, 22]
    assert replace(FULL, asker=-1, files=(), listeners=()).descriptors() == [9, 10, 11, 12, 20, 13, 14, 15]


def test_files_are_found_by_their_role() -> None:
    found = FULL.file("pid")
    assert found is not None
    assert found.path == "/p"
    assert FULL.file("control") is None


def edited(path: str, value: object) -> bytes:
    """It, with one value replaced, added, or (...) taken away."""
    record: Any = json.loads(encode(FULL))
    *way, last = path.split(".")
    at = record
    for step in way:
        at = at[int(step)] if isinstance(at, list) else at[step]
    if value is ...:
        del at[last]
    elif isinstance(at, list):
        at[int(last)] = value
    else:
        at[last] = value
    return json.dumps(record).encode()


@pytest.mark.parametrize("path", ["colour", "seats.0.colour", "seats.0.worker.colour", "listeners.1.colour"])
def test_fields_of_a_newer_version_are_dropped(path: str) -> None:
    assert decode(edited(path, [1, {"a": None}])) == FULL
    assert decode(edited("version", VERSION + 1)) == replace(FULL, version=VERSION + 1)


@pytest.mark.parametrize(
    ("path", "default"),
    [
        ("gap_s", 0.0),
        ("written_at", 0.0),
        ("reloads", 0),
        ("settings", {}),
        ("passed", {}),
        ("files", ()),
        ("asker", -1),
    ],
)
def test_fields_that_an_older_version_did_not_write_have_their_defaults(path: str, default: object) -> None:
    assert getattr(decode(edited(path, ...)), path) == default


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("readable_from", VERSION + 1, f"keeps its state in a newer form ({VERSION + 1}) than this version reads"),
        ("readable_from", ..., "keeps its state in a newer form (None)"),
        ("is", "something", "it is something else"),
        ("pid", ..., "state.pid is missing"),
        ("pid", "77", "state.pid is '77'"),
        ("pid", True, "state.pid is True"),
        ("pid", 0, "makes no sense: a process id is none"),
        ("seats", {}, "state.seats is {}"),
        ("seats", [], "makes no sense: there are no seats"),
        ("seats.1", 5, "state.seats[1] is no object"),
        ("seats.1.number", 7, "makes no sense: the seats are in disorder"),
        ("seats.1.reader", 10, "makes no sense: a descriptor is there twice"),
        ("seats.1.reader", 2, "makes no sense: a descriptor is none"),
        ("seats.0.worker.pid", 1 << 40, "makes no sense: a process id is none"),
        ("seats.0.worker.slot", 1, "makes no sense: a slot is none"),
        ("seats.0.worker.ready_at", "now", "state.seats[0].worker.ready_at is 'now'"),
        ("seats.0.worker.outbox", [1], "state.seats[0].worker.outbox[0] is 1"),
        ("workers", 0, "makes no sense: a slot is none"),
        ("settings", {"bind": 5}, "state.settings[bind] is 5"),
        ("listeners.0.text", None, "state.listeners[0].text is None"),
    ],
)
def test_what_is_wrong_is_named(path: str, value: object, why: str) -> None:
    with pytest.raises(testament.TestamentError) as caught:
        decode(edited(path, value))
    assert why in str(caught.value)
    assert isinstance(caught.value, HostError)


def test_two_workers_in_one_slot() -> None:
    second = replace(SEATS[1], worker=replace(WORKER, pid=101, control=23))
    with pytest.raises(testament.TestamentError, match="a slot has two workers"):
        decode(encode(replace(FULL, seats=(SEATS[0], second))))
    assert decode(encode(replace(FULL, seats=(SEATS[0], replace(second, worker=replace(WORKER, control=23, is_current=False))))))  # noqa: E501  # fmt: skip


@given(st.binary() | st.text().map(str.encode) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_bytes_are_refused_and_nothing_else_happens(text: bytes) -> None:
    with pytest.raises(testament.TestamentError, match="the state of the running server cannot be read"):
        decode(text)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(testament.TestamentError):
        decode(b"[" * 200_000)


def test_settings_that_only_a_restart_changes() -> None:
    before = {"bind": ":80", "backlog": "5", "gone": "x"}
    assert fixed_changes(before, {"bind": ":81", "backlog": "5", "new": "y"}) == ["bind was :80 and is :81"]
