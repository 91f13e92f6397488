"""The log says events; prints come out in whole lines; neither waits."""

import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from paceline.events import TABLE, Level
from paceline.host.outlet import Outlet
from paceline.host.output import PART_BYTES, LineStream, Log, local_stamp, utc_stamp

WALL = 1_795_538_521.1239


class Reading:
    """A log file and what is in it."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT)
        self.outlet = Outlet.open(self.fd)
        self.now = 100.0

    def log(self, **options: Any) -> Log:
        return Log("supervisor", outlet=self.outlet, now=lambda: self.now, wall_seconds=lambda: WALL, **options)

    def text(self) -> str:
        return os.pread(self.fd, 1 << 22, 0).decode()

    def close(self) -> None:
        self.outlet.close()
        os.close(self.fd)


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Reading]:
    made = Reading(tmp_path / "log")
    yield made
    made.close()


@pytest.fixture
def full() -> Iterator[int]:
    fd = os.open("/dev/full", os.O_WRONLY)
    yield fd
    os.close(fd)


# the log


def test_an_event_is_one_stamped_line(reading: Reading) -> None:
    reading.log().say("stopped", uptime="3 s", calls=7)
    assert reading.text() == f"{local_stamp(WALL)} info supervisor: stopped after 3 s; 7 calls served\n"


def test_as_json_it_is_one_object_a_line(reading: Reading) -> None:
    log = reading.log(fmt="json")
    log.say("stopped", uptime="3 s", calls=7)
    log.say("bug", where="loop", error="E · \udc80", detail="a\nb")
    first, second = (json.loads(line) for line in reading.text().splitlines())
    assert first["time"] == utc_stamp(WALL)
    assert (first["event"], first["calls"], first["level"]) == ("stopped", 7, "info")
    assert second["error"] == "E · \udc80"


def test_stamps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert utc_stamp(0.0) == "1970-01-01T00:00:00.000Z"
    assert utc_stamp(WALL) == "2026-11-24T16:42:01.123Z"
    assert local_stamp(WALL)[-6:] == "01.123"
    assert len(local_stamp(WALL)) == len("2026-11-24 17:22:01.123")


def test_debug_events_are_said_only_when_asked_for(reading: Reading) -> None:
    assert TABLE["drained"].level is Level.DEBUG
    reading.log().say("drained")
    assert reading.text() == ""
    reading.log(debug=True).say("drained")
    assert "debug supervisor: drained" in reading.text()


def test_an_event_without_a_row_cannot_be_said(reading: Reading) -> None:
    with pytest.raises(KeyError):
        reading.log().say("no-such-event")


def test_fields_may_have_any_name(reading: Reading) -> None:
    log = reading.log(fmt="json")
    log.say("bug", where="x", error="y", self=1, event=2, who=3, kind=4)
    record = json.loads(reading.text())
    assert (record["self"], record["kind"], record["event"], record["who"]) == (1, 4, "bug", "supervisor")


def test_a_frequent_event_is_held_back_and_counted(reading: Reading) -> None:
    log = reading.log()
    assert TABLE["accept-paused"].every_s == 1.0
    fields = {"error": "EMFILE", "seconds": 0.1, "open": 900}
    for now in (100.0, 100.1, 100.9, 100.99):
        reading.now = now
        log.say("accept-paused", **fields)
    log.say("bug", where="x", error="y")  # others are not held back
    assert reading.text().count("accepting pauses") == 1
    reading.now = 101.0
    log.say("accept-paused", **fields)
    assert "(3 more like this were not written)" in reading.text().splitlines()[-1]
    reading.now = 102.5
    log.say("accept-paused", **fields)
    assert "more like this" not in reading.text().splitlines()[-1]


def test_the_next_line_that_gets_through_says_how_many_were_lost() -> None:
    reader, writer = os.pipe()
    log = Log("worker 0", fd=writer)
    while not log.dropped:
        log.say("bug", where="x", error="y" * 1000)
    log.say("bug", where="x", error="y" * 1000)
    assert log.dropped == 2
    os.read(reader, 1 << 20)
    log.say("stopped", uptime="2 s", calls=1)
    log.say("stopped", uptime="3 s", calls=1)
    first, second = os.read(reader, 1 << 20).decode().splitlines()
    assert first.endswith("(2 lines before this one were lost: standard error did not take them)")
    assert second.endswith("1 call served")
    log.close()
    os.close(reader)
    os.close(writer)


def test_a_burst_is_said_whole_and_then_held_back(reading: Reading) -> None:
    log = reading.log()
    kind = TABLE["handler-failed"]
    assert (kind.every_s, kind.burst) == (1.0, 20)
    fields = {"error": "ValueError: no", "message": 1, "peer": "p"}
    for _ in range(25):
        log.say("handler-failed", **fields)
    assert reading.text().count("ValueError") == 20
    reading.now += 1.0
    log.say("handler-failed", **fields)
    assert "(5 more like this were not written)" in reading.text().splitlines()[-1]


def test_what_was_held_back_is_still_told_when_its_line_is_lost() -> None:
    now = 0.0
    reader, writer = os.pipe()
    log = Log("worker 0", fd=writer, now=lambda: now)
    fields = {"error": "e", "seconds": 0.1}
    log.say("accept-failed", **fields)
    log.say("accept-failed", **fields)
    while not log.dropped:
        log.say("bug", where="x", error="y")
    now = 1.0
    log.say("accept-failed", **fields)
    now = 2.0
    os.read(reader, 1 << 20)
    log.say("accept-failed", **fields)
    text = os.read(reader, 1 << 20).decode()
    assert "(1 more like this was not written) (2 lines before" in text
    log.close()
    os.close(reader)
    os.close(writer)


def test_a_full_standard_error_costs_lines_only(full: int) -> None:
    log = Log("worker 0", fd=full)
    for _ in range(10):
        log.say("bug", where="x", error="y")
    assert log.dropped == 10
    log.close()
    log.say("bug", where="x", error="y")
    assert log.dropped == 11


def test_a_child_has_its_own_name_counts_and_limits(reading: Reading) -> None:
    log = reading.log(fmt="json")
    fields = {"error": "EMFILE", "seconds": 0.1, "open": 900}
    log.say("accept-paused", **fields)
    child = log.child("worker 3")
    child.say("accept-paused", **fields)
    assert [json.loads(line)["who"] for line in reading.text().splitlines()] == ["supervisor", "worker 3"]
    assert child.dropped == 0


@pytest.mark.parametrize(
    ("environment", "colored"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)],
)
def test_colour_is_for_terminals_that_want_it(
    environment: dict[str, str], colored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    master, slave = os.openpty()
    log = Log("worker 0", fd=slave)
    log.say("bug", where="x", error="y")
    assert (b"\x1b[31merror" in os.read(master, 1000)) == colored
    log.close()
    os.close(master)
    os.close(slave)


def test_lines_of_many_threads_stay_whole(reading: Reading) -> None:
    log = reading.log()

    def say() -> None:
        for _ in range(100):
            log.say("bug", where="w" * 50, error="e" * 50)

    in_threads(say, 8)
    lines = reading.text().splitlines()
    assert len(lines) == 800
    assert len(set(lines)) == 1


def in_threads(do: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=do) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# prints


@pytest.fixture
def stream(reading: Reading) -> LineStream:
    return LineStream(reading.outlet, "<stdout>", 1)


def test_a_line_is_written_when_it_ends(reading: Reading, stream: LineStream) -> None:
    print("a", 1, end="", file=stream)
    print(",", end="", file=stream)
    assert reading.text() == ""
    print("b", "c", file=stream)
    assert reading.text() == "a 1,b c\n"
    stream.write("d\ne\nf")
    assert reading.text() == "a 1,b c\nd\ne\n"
    stream.flush()
    stream.flush()
    assert reading.text() == "a 1,b c\nd\ne\nf"


def test_a_flushed_part_goes_on_unless_somebody_came_between(reading: Reading, stream: LineStream) -> None:
    for _ in range(3):
        print(".", end="", file=stream, flush=True)
    reading.log().say("stopped", uptime="3 s", calls=7)
    print(".", end="", file=stream, flush=True)
    print("done", file=stream)
    first, _, last = reading.text().splitlines()
    assert (first, last) == ("...", ".done")


def test_what_threads_print_at_the_same_time_comes_out_in_lines(reading: Reading, stream: LineStream) -> None:
    def talk() -> None:
        for n in range(100):
            print("one", "two", n, sep="+", file=stream)

    in_threads(talk, 8)
    assert sorted(reading.text().splitlines()) == sorted([f"one+two+{n}" for n in range(100)] * 8)


def test_each_thread_has_a_line_of_its_own(reading: Reading, stream: LineStream) -> None:
    stream.write("mine ")
    in_threads(lambda: print("theirs", file=stream), 1)
    stream.write("too\n")
    assert reading.text() == "theirs\nmine too\n"


def test_at_the_end_all_parts_are_written_as_lines(reading: Reading, stream: LineStream) -> None:
    in_threads(lambda: print("theirs", end="", file=stream), 1)
    stream.write("mine")
    stream.buffer.flush_all()
    stream.buffer.flush_all()
    assert sorted(reading.text().splitlines()) == ["mine", "theirs"]
    assert reading.text().endswith("\n")


def test_a_part_is_bounded_and_growing_it_is_linear(reading: Reading, stream: LineStream) -> None:
    for _ in range(PART_BYTES + 10):
        stream.write("x")
    assert reading.text() == "x" * PART_BYTES
    stream.write("\n")
    assert reading.text() == "x" * (PART_BYTES + 10) + "\n"


def test_bytes_and_text_of_a_thread_stay_in_order(reading: Reading, stream: LineStream) -> None:
    stream.write("a ")
    assert stream.buffer.write(b"b ") == 2
    assert stream.buffer.write(memoryview(b"\xffc\n")) == 3
    stream.writelines(["d", "e\n"])
    assert os.pread(reading.fd, 100, 0) == b"a b \xffc\nde\n"


def test_encoding_never_raises(reading: Reading, stream: LineStream) -> None:
    assert stream.write("é \udc80\n") == 4
    assert reading.text() == "é \\udc80\n"


@pytest.mark.parametrize("wrong", [b"bytes", 5, None])
def test_only_text_is_written(wrong: Any, stream: LineStream) -> None:
    with pytest.raises(TypeError, match="must be str"):
        stream.write(wrong)
    not_bytes: Any = "text" if wrong == b"bytes" else wrong
    with pytest.raises(TypeError):
        stream.buffer.write(not_bytes)


def test_it_behaves_like_the_stream_it_replaces(reading: Reading, stream: LineStream) -> None:
    stream.reconfigure(encoding="latin-1", line_buffering=False)
    assert isinstance(stream, io.TextIOBase)
    assert (stream.encoding, stream.errors, stream.name, stream.mode) == ("utf-8", "backslashreplace", "<stdout>", "w")
    assert (stream.writable(), stream.readable(), stream.seekable()) == (True, False, False)
    assert (stream.fileno(), stream.buffer.fileno()) == (1, 1)
    assert stream.isatty() == stream.buffer.isatty() == os.isatty(1)
    with pytest.raises(io.UnsupportedOperation):
        stream.read()
    wrapper = io.TextIOWrapper(stream.buffer, encoding="utf-8", line_buffering=True)
    wrapper.write("wrapped\n")
    del wrapper
    stream.close()
    assert not stream.closed
    with stream:
        stream.write("after\n")
    stream.write("and after\n")
    assert reading.text() == "wrapped\nafter\nand after\n"


def test_logging_writes_whole_lines_through_it(reading: Reading, stream: LineStream) -> None:
    handler = logging.StreamHandler(stream)
    record = logging.makeLogRecord({"msg": "hello %s", "args": ("you",)})
    in_threads(lambda: handler.emit(record), 4)
    assert reading.text() == "hello you\n" * 4


def test_lost_prints_are_counted_and_told() -> None:
    reader, writer = os.pipe()
    log = Log("worker 0", fd=writer)
    stream = LineStream(log.outlet, "<stdout>", 1)
    while not log.dropped:
        print("x" * 1000, file=stream)
    print("x" * 1000, file=stream)
    assert log.dropped == 2
    os.read(reader, 1 << 20)
    print("part", end="", flush=True, file=stream)
    print("heard", file=stream)
    assert os.read(reader, 1 << 20).decode().splitlines() == [
        "paceline: 2 lines before this one were lost: standard error did not take them",
        "part",
        "heard",
    ]
    log.close()
    os.close(reader)
    os.close(writer)


# a whole process


def run(script: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run([sys.executable, "-c", script], timeout=30, check=False, env=environment, **options)


REDIRECTED = """
import os, subprocess, sys
print("inherited", end="")  # waits in the buffer of the stream that is replaced
from paceline.host.output import Log, redirect_prints
prints = redirect_prints(Log("worker 0"))
import logging
print("printed")
print("to stderr", file=sys.stderr)
logging.warning("logged")
sys.stdout.buffer.write(b"bytes\\n")
subprocess.run(["echo", "by a child"], check=True)
os.write(1, b"by number\\n")
sys.__stdout__.write("original\\n")
print("no end", end="")
prints.flush_all()
os._exit(0)
"""


def test_a_workers_prints_all_go_to_standard_error() -> None:
    done = run(REDIRECTED, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.decode().splitlines() == [
        "printed", "to stderr", "WARNING:root:logged", "bytes", "by a child", "by number", "original", "no end",
    ]  # fmt: skip


UNREAD = """
import logging, os, sys, threading
from paceline.host.output import Log, redirect_prints
log = Log("worker 0")
prints = redirect_prints(log)
def talk():
    for _ in range(200):
        print("x" * 1000)
        print("y" * 1000, file=sys.stderr, flush=True)
        logging.error("z" * 1000)
        log.say("bug", where="x", error="y" * 1000)
threads = [threading.Thread(target=talk) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
prints.flush_all()
os._exit(0 if log.dropped > 3000 else 1)
"""


def test_a_pipe_that_nobody_reads_stops_nobody() -> None:
    reader, writer = os.pipe()
    try:
        assert run(UNREAD, stderr=writer, stdout=writer).returncode == 0
        text = os.read(reader, 1 << 20).decode()
        assert {len(line) for line in text.splitlines() if line[0] in "xyz"} == {1000}
    finally:
        os.close(reader)
        os.close(writer)


def test_without_standard_error_prints_are_dropped_and_counted() -> None:
    script = """
import os
from paceline.host.output import Log, redirect_prints
log = Log("worker 0")
redirect_prints(log)
print("lost")
log.say("bug", where="x", error="y")
os._exit(0 if log.dropped == 2 else 1)
"""
    command = ["sh", "-c", 'exec "$0" "$@" >&- 2>&-', sys.executable, "-c", script]
    assert subprocess.run(command, timeout=30, check=False).returncode == 0


FORKING = """
import os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads: what handlers do
from paceline.host.output import redirect_prints
prints = redirect_prints()
begun, done = threading.Event(), threading.Event()
def begin():
    print("begun ", end="")
    begun.set()
    done.wait()
    print("and done")
thread = threading.Thread(target=begin)
thread.start()
begun.wait()
pid = os.fork()
if not pid:
    print("child")
    prints.flush_all()
    os._exit(0)
os.waitpid(pid, 0)
done.set()
thread.join()
os._exit(0)
"""


def test_a_forked_child_does_not_print_what_others_had_begun() -> None:
    done = run(FORKING, capture_output=True)
    assert done.stderr.decode().splitlines() == ["child", "begun and done"]
