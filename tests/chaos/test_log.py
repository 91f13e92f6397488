"""chaos/log.py: what the server said how often, and what nobody expected."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from paceline.chaos.log import Log


@pytest.fixture
def file(tmp_path: Path) -> "Iterator[IO[bytes]]":
    with open(tmp_path / "log", "ab+", buffering=0) as opened:
        yield opened


def line(event: str, level: str = "info", **fields: object) -> bytes:
    return json.dumps({"event": event, "level": level, "text": event, **fields}).encode() + b"\n"


def test_events_are_counted_as_they_come(file: "IO[bytes]") -> None:
    log = Log(file.fileno())
    file.write(line("listening") + line("worker-died", "error")[:10])
    log.look()
    assert log.counts == {"listening": 1}
    file.write(line("worker-died", "error")[10:])
    log.look()
    assert log.counts == {"listening": 1, "worker-died": 1}


def test_since_a_moment(file: "IO[bytes]") -> None:
    log = Log(file.fileno())
    file.write(line("reloaded", number=1))
    mark = log.mark
    file.write(line("reloaded", number=2) + line("listening"))
    assert [record["number"] for record in log.since(mark, "reloaded")] == [2]
    assert [record["number"] for record in log.since(0, "reloaded")] == [1, 2]


def test_warnings_and_errors_are_taken_once(file: "IO[bytes]") -> None:
    log = Log(file.fileno())
    file.write(line("a") + line("b", "warning") + line("c", "error"))
    assert [record["event"] for record in log.take_loud()] == ["b", "c"]
    assert log.take_loud() == []


def test_what_is_no_event_is_kept_as_it_is(file: "IO[bytes]") -> None:
    log = Log(file.fileno())
    file.write(b"Traceback:\n\n[1]\n" + line("a"))
    log.look()
    assert log.others == ["Traceback:", "[1]"]
    assert log.end_of_it(2).startswith("[1]\n{")
