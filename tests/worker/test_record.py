"""worker/record.py: what travels beside a connection, whoever reads it."""

import json
import os
import pickle
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.worker.connection import STATE_BYTES, checked_state
from paceline.worker.record import INLINE_BYTES, Kind, MalformedRecord, Record, decode, dumped, encode, loaded
from splits import quick

FULL = Record(
    listener=3,
    passes=2,
    greeted=True,
    is_new=True,
    messages=17,
    peer="192.0.2.7:50312",
    is_proxied=True,
    generation=4,
    framing="line",
    state={"user": 7, "seen": frozenset({1, 2}), "path": (b"\x00\xff", None, 1.5, True, "é")},
    rest=b"half a mess",
    kind=Kind.BYTEARRAY,
    owes=2,
    since=1234.5,
    credit=11,
)


def test_what_was_written_is_read() -> None:
    assert decode(encode(FULL)) == FULL


@pytest.mark.parametrize("listener", [0, 1, 255, 10**6])
def test_a_fresh_one_is_short(listener: int) -> None:
    fresh = Record(listener=listener)
    assert decode(encode(fresh)) == fresh
    assert fresh.is_fresh
    assert len(encode(fresh)) < 32


@pytest.mark.parametrize(
    "used", [{"greeted": True}, {"messages": 1}, {"rest": b"x"}, {"state": 0}], ids=lambda used: next(iter(used))
)
def test_what_something_was_done_with_is_not_fresh(used: dict[str, Any]) -> None:
    assert not Record(listener=0, **used).is_fresh


def test_what_a_newer_version_adds_is_ignored() -> None:
    assert decode(b'{"listener": 2, "protocol": "http", "more": [1, 2]}\n') == Record(listener=2)


def test_what_an_older_version_does_not_say_has_its_default() -> None:
    """Its record was a line without an end."""
    assert decode(b'{"listener": 2, "passes": 3}') == Record(listener=2, passes=3)


@pytest.mark.parametrize(
    "field",
    [
        '"passes": -1',
        '"passes": true',
        '"messages": "7"',
        '"greeted": 1',
        '"new": 1',
        '"peer": 5',
        '"since": Infinity',
        '"owes": []',
    ],
)
def test_a_field_that_makes_no_sense_has_its_default(field: str) -> None:
    assert decode(b'{"listener": 2, %s}\n' % field.encode()) == Record(listener=2)


def test_a_long_rest_travels_beside_it() -> None:
    record = Record(listener=0, rest=os.urandom(INLINE_BYTES + 1), state="here")
    encoded = encode(record, in_memory=True)
    assert len(encoded) < 200
    arrived = decode(encoded, record.rest)
    assert (arrived.rest, arrived.state) == (record.rest, "here")
    assert arrived.is_in_memory
    for wrong in (None, b"", record.rest[1:], record.rest + b"x"):
        with pytest.raises(MalformedRecord):
            decode(encoded, wrong)


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"7",
        b"null",
        b"{}",
        b'{"listener": null}',
        b'{"listener": "0"}',
        b'{"listener": 1.5}',
        b'{"listener": true}',
        b'{"listener": -1}',
        b'{"listener": Infinity}',
        b'{"listener": [0]}',
        b'{"listener": 0, "state": 5}\n1234',
        b'{"listener": 0, "rest": 5}\n1234',
        b'{"listener": 0, "rest": 3}\n1234',
        b'{"listener": 0, "rest": 4, "kind": "picture"}\n1234',
        b'{"listener": 0, "rest": 4, "kind": []}\n1234',
        b'{"listener": 0, "state": 4}\n1234',
        b'{"listener": 0, "state": 2}\n' + b"K\x01",
        b"[" * 100_000,
    ],
    ids=lambda record: record[:40].decode(errors="replace"),
)
def test_what_cannot_be_read_is_refused(record: bytes) -> None:
    with pytest.raises(MalformedRecord, match=r"a record"):
        decode(record)


@quick
@given(st.binary(max_size=200))
def test_no_bytes_do_worse_than_be_refused(record: bytes) -> None:
    for encoded in (record, b'{"listener": 0, "state": %d}\n' % len(record) + record):
        try:
            found = decode(encoded)
        except MalformedRecord:
            continue
        assert found.listener >= 0


@quick
@given(st.binary(max_size=60))
def test_a_damaged_one_is_refused_or_read(noise: bytes) -> None:
    encoded = bytearray(encode(FULL))
    for at, byte in enumerate(noise):
        encoded[(at * 7919 + byte * 31) % len(encoded)] ^= byte
    with suppress(MalformedRecord):
        decode(bytes(encoded))


# What a state may be

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
        | st.frozensets(st.integers() | st.text(max_size=5), max_size=4)
        | st.sets(st.binary(max_size=5), max_size=4)
    ),
    max_leaves=20,
)


@quick
@given(plain)
def test_every_state_that_may_be_assigned_travels(state: object) -> None:
    checked_state(state)
    arrived = decode(encode(Record(listener=0, state=state))).state
    assert arrived == state
    assert repr(arrived) == repr(state) or isinstance(state, set | frozenset | dict | list | tuple)


def test_the_largest_state_fits_into_a_record() -> None:
    for state in (b"x" * (STATE_BYTES - 16), ["ab"] * 3000, [str(n) for n in range(2000)], list(range(3000))):
        checked_state(state)
        assert len(encode(Record(listener=0, state=state, rest=bytes(64 * 1024), peer="x" * 60))) <= 96 * 1024


def test_a_large_number_travels() -> None:
    assert decode(encode(Record(listener=0, state=10**9000))).state == 10**9000


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("false",)


@pytest.mark.parametrize(
    "value",
    [Hostile(), Record(listener=0), os.path.join, dict, [1, Hostile()], complex(1, 2), slice(1)],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_reading_runs_no_code(value: object, protocol: int) -> None:
    with pytest.raises(MalformedRecord, match=r"holds values only|cannot be read"):
        loaded(pickle.dumps(value, protocol))


def test_a_bytearray_of_a_framing_travels_and_stays_one() -> None:
    found = loaded(dumped([bytearray(b"abc"), 5]))
    assert found == [b"abc", 5]
    assert type(found[0]) is bytearray


def test_pickle_is_imported_only_where_there_is_a_state() -> None:
    program = (
        "import sys\n"
        "from paceline.worker.record import Record, decode, encode\n"
        "decode(encode(Record(listener=0, messages=5, rest=b'x')))\n"
        "print('pickle' in sys.modules)\n"
        "decode(encode(Record(listener=0, state=5)))\n"
        "print('pickle' in sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True)
    assert ran.stdout.split() == ["False", "True"]


def test_the_first_line_is_json_for_people_who_look() -> None:
    line, _, _ = encode(FULL).partition(b"\n")
    assert json.loads(line)["framing"] == "line"
