"""bench/run.py and below, against real servers: every way to load, every way to fail; nothing is left behind."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bench.loads import APP, load, load_place
from leftovers import children_of
from paceline.bench.plan import ANY
from paceline.bench.result import Result
from paceline.bench.troubles import Kind
from paceline.errors import (
    BadFrame,
    ConnectFailed,
    ConnectionClosed,
    HostError,
    MessageTooLarge,
    PacelineError,
    Refused,
    TimedOut,
    UsageError,
)
from testbed import COMMAND, Ended, Server, run_to_end, running

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture(scope="module")
def echo() -> Iterator[Server]:
    with running("echo", "-w", "1", "-b", "127.0.0.1:0", "-b", "unix:echo.sock") as server:
        yield server


@pytest.fixture(scope="module")
def lines() -> Iterator[Server]:
    with running("echo", "-w", "1", "--framing", "line") as server:
        yield server


def sound(result: Result, count: int = 1000) -> Result:
    """All was answered, once, and measured."""
    tally = result.tally
    assert not tally.errors
    assert (tally.sent, tally.answered, tally.latencies.total) == (count, count, count)
    assert result.seconds > 0
    assert result.gone is None
    assert tally.latencies.least_ns > 0
    return result


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"check": True},
        {"in_flight": 16},
        {"in_flight": 16, "check": True, "connections": 3},
        {"processes": 2},
        {"connections": 300},
        {"new_connection": True},
        {"new_connection": True, "rate": 5000.0},
        {"rate": 5000.0},
        {"rate": 5000.0, "processes": 2, "in_flight": 3},
        {"reply_size": ANY},
        {"warmup_s": 0.05},
        {"size": 100_000, "count": 100, "check": True},
        {"size": 300_000, "count": 64, "in_flight": 8},
        {"size": 1, "in_flight": 2},
    ],
    ids=str,
)
def test_all_is_sent_answered_and_measured(echo: Server, changed: dict[str, Any]) -> None:
    result = sound(load(echo, **changed), changed.get("count", 1000))
    size = changed.get("size", 64)
    assert result.tally.sent_bytes == result.tally.received_bytes == result.tally.sent * size
    assert result.tally.connections == (1000 if changed.get("new_connection") else 0)
    assert len(result.efforts) == changed.get("processes", 1)


@pytest.mark.parametrize("in_flight", [1, 5])
def test_messages_of_a_file_in_turn(lines: Server, in_flight: int) -> None:
    sound(load(lines, framing="line", messages=(b"one", b"", b"three words"), check=True, in_flight=in_flight))


def test_unix(echo: Server) -> None:
    sound(load_place(f"unix:{echo.folder}/echo.sock", connections=100))


def test_a_duration_ends_and_what_is_under_way_is_waited_for(echo: Server) -> None:
    told: list[tuple[float, int, int]] = []
    result = load(echo, count=None, duration_s=1.2, on_progress=lambda *progress: told.append(progress), connections=2)
    sound(result, result.tally.sent)
    assert result.seconds == pytest.approx(1.2, abs=0.12)
    assert 0 <= result.tally.answered - result.tally.in_time <= 2
    assert told
    assert 0 < told[-1][1] <= result.tally.answered


def test_replies_may_differ(tmp_path: Any) -> None:
    with running("app.py:numbered", "-w", "1", "--framing", "line", files={"app.py": APP}) as server:
        sound(load(server, framing="line", in_flight=3))


def test_a_framing_of_ones_own(lines: Server, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("from paceline.wire import Lines\nprint('loaded')\nframing = Lines(limit=999)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    sound(load(lines, framing="mine.py:framing", check=True))
    with pytest.raises(UsageError, match=r"mine\.py"):
        load(lines, framing="mine.py:framings")


def test_a_slow_client_takes_its_time(echo: Server) -> None:
    """4 × 8,000 bytes at 16,000 a second each: half a second, and the server is not asked for more."""
    result = sound(load(echo, size=8000, count=4, slow_bytes_s=16_000), 4)
    assert result.seconds >= 0.4


def test_what_comes_after_the_end_is_in_no_rate(echo: Server) -> None:
    """4,096 bytes at 2,048 a second: the reply is there after the end, and only what was read before it counts."""
    result = load(echo, connections=1, size=4096, slow_bytes_s=2048, count=None, duration_s=0.5, timeout_s=3.5)
    assert result.tally.in_time == 0
    assert 0 < result.to_json()["per_second"]["received_bytes"] <= 2048


def test_an_open_loop_counts_from_when_a_message_was_due(tmp_path: Any) -> None:
    """A stall of 0.5 s at 1,000 a second delays the 500 due within it, by 250 ms on average; one connection or not."""
    with running("app.py:hundredth_stalls", "-w", "1", files={"app.py": APP}) as server:
        result = sound(load(server, rate=1000.0, connections=1))
    many = result.tally.latencies
    assert many.most_ns >= 500e6
    assert many.percentile(95) >= 400e6  # 100 ms of those due in the stall came for the last fifth of it
    assert many.percentile(75) >= 200e6
    assert many.mean_ns >= 120e6
    assert result.tally.waited >= 400
    assert any("waited over a millisecond" in warning for warning in result.warnings)


# What goes wrong


def test_nobody_listens() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # bound, so that nobody else listens there
        place = f"127.0.0.1:{sock.getsockname()[1]}"
        with pytest.raises(Refused, match=rf"cannot load {place}: nobody listened there; is the server running"):
            load_place(place)
        with pytest.raises(PacelineError) as caught:  # found out only when a message needs its connection
            raise_if_nothing(load_place(place, new_connection=True, warmup_s=0.1))
        assert isinstance(caught.value, Refused)


def raise_if_nothing(result: Result) -> None:
    assert not result.tally.answered


@pytest.mark.parametrize(
    ("place", "error", "said"),
    [
        ("unix:/nowhere/x.sock", Refused, "nobody listened there"),
        ("no-such-host.invalid:1", ConnectFailed, "the host .no-such-host.invalid. "),
        ("fd://3", UsageError, "inherited"),
        ("127.0.0.1:0", UsageError, "nobody listens on port 0"),
    ],
)
def test_places_where_nobody_can_be(place: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        load_place(place)


@pytest.mark.parametrize(
    ("handler", "changed", "error", "said"),
    [
        ("close", {}, ConnectionClosed, "ended the connection .*--new-connection"),
        ("silent", {"timeout_s": 0.3}, TimedOut, r"no reply within the time of 0\.3 s; does the server speak"),
        ("big", {"max_message": 1000}, MessageTooLarge, "a reply was over the limit .*--max-message"),
        ("twice", {}, BadFrame, "more replies came than messages were sent"),
        ("big", {"framing": "netstring"}, BadFrame, "the bytes are no reply of this framing"),
    ],
)
def test_a_server_that_answers_nothing_of_use_is_told_before_it_is_measured(
    handler: str, changed: dict[str, Any], error: type[Exception], said: str
) -> None:
    served = "raw" if "framing" in changed else "line"
    with (
        running(f"app.py:{handler}", "-w", "1", "--framing", served, files={"app.py": APP}) as server,
        pytest.raises(error, match=said),
    ):
        load(server, **{"framing": "line", "warmup_s": 0.1, "connections": 2, **changed})


def test_wrong_replies_are_counted_and_cost_no_connection() -> None:
    with running("app.py:shout", "-w", "1", files={"app.py": APP}) as server:
        result = load(server, check=True)
    assert result.tally.errors == {Kind.WRONG: 1000}
    assert result.tally.connections == 0
    assert result.tally.example.startswith("sent b'abc")


@pytest.mark.parametrize("changed", [{}, {"rate": 2000.0}, {"in_flight": 4}], ids=str)
def test_broken_connections_are_counted_and_made_again(changed: dict[str, Any]) -> None:
    with running("app.py:each_hundredth_closes", "-w", "1", "--framing", "line", files={"app.py": APP}) as server:
        result = load(server, framing="line", **changed)
    tally = result.tally
    assert tally.sent == 1000
    assert tally.errors[Kind.CLOSED] + tally.errors[Kind.RESET] in range(
        7, 11
    )  # every 100th that arrived; some were lost with others
    assert tally.answered + tally.errors[Kind.UNANSWERED] == 1000
    assert tally.connections >= 7
    assert any("no reply" in warning for warning in result.warnings)


def test_a_server_that_goes_away_ends_the_run() -> None:
    """However it was loaded.  Each run gives up after the same time: they wait for it side by side."""
    ways: list[dict[str, Any]] = [{}, {"rate": 500.0}, {"new_connection": True}]
    lock, under_way = threading.Lock(), set[str]()
    with running("echo", "-w", "1", exit_code=None) as server:

        def loaded(changed: dict[str, Any]) -> Result:
            def kill(_seconds: float, answered: int, _errors: int) -> None:
                with lock:
                    under_way.update([str(changed)] if answered else [])
                    if len(under_way) == len(ways) and server.process.poll() is None:
                        for pid in (server.pid, *server.pids()):
                            os.kill(pid, signal.SIGKILL)
                        server.wait()

            return load(server, kill, count=None, duration_s=30.0, timeout_s=1.0, **changed)

        with ThreadPoolExecutor(len(ways)) as pool:
            results = list(pool.map(loaded, ways))
    for changed, result in zip(ways, results, strict=True):
        assert result.gone is Kind.REFUSED, changed
        assert result.tally.answered > 0, changed
        assert result.tally.errors[Kind.REFUSED] > 0, changed
        assert any("given up" in warning and "nobody listened" in warning for warning in result.warnings), changed
        assert result.seconds < 15, changed


def test_a_load_process_that_is_killed_is_named(echo: Server) -> None:
    before = set(children_of(os.getpid()))

    def kill(*_: object) -> None:
        os.kill(next(pid for pid in children_of(os.getpid()) if pid not in before), signal.SIGKILL)

    with pytest.raises(
        HostError, match=r"load process \d of 2 \(pid \d+\) was killed by SIGKILL before it had a result"
    ):
        load(echo, kill, count=None, duration_s=30.0, processes=2)


@pytest.mark.parametrize("how", [["-c", "200"], ["-c", "200", "--new-connection", "-m", "x", "--reply-size", "any"]])
def test_out_of_descriptors(echo: Server, how: list[str]) -> None:
    ended = limited("ulimit -n 60", echo.places[0], *how, "--warmup", "100ms", "-d", "200ms")
    assert ended.code == 3
    assert "out of descriptors (EMFILE)" in ended.log + ended.output
    assert "ulimit -n" in ended.log + ended.output


def limited(limit: str, *words: str) -> Ended:
    """`paceline bench` under a limit of the shell's, which only it has."""
    return run_to_end("bench", "--quiet", *words, command=["/bin/sh", "-c", f'{limit}; exec "$@"', "sh", *COMMAND])
