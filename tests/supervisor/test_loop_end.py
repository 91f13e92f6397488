"""The supervisor with real forks and sockets and stub workers (stage.py): signals, the end, and what is passed on."""

import signal
import socket
from pathlib import Path

import pytest

from supervisor.stage import Stage, connect, stop, wait_gone

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
"""The test runner has a thread for its time limit; the supervisor has none."""

TERM, INT, QUIT, KILL = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL


@pytest.mark.parametrize("number", [TERM, INT])
def test_a_stop_drains_and_ends_with_0(serving: Stage, number: int) -> None:
    serving.send(number)
    assert serving.wait_for("stopping")["signal"] == signal.Signals(number).name
    assert serving.wait_ended() == 0
    assert {line["slot"] for line in serving.all_said("told-to-drain")} == {0, 1}
    assert len(serving.all_said("worker-left")) == 2
    assert serving.all_said("stopped")
    assert serving.all_said("ended")[0]["children"] == "none"


def test_nobody_can_connect_any_more_once_it_stops() -> None:
    with Stage(main="stubborn", workers=1, drain_timeout=0.5) as stage:
        listening = stage.wait_for("listening")
        stage.send(TERM)
        stage.wait_for("told-to-drain")
        stage.wait_ended()
        with pytest.raises(ConnectionRefusedError):
            connect(listening)


def test_calls_that_were_cut_are_the_exit_code() -> None:
    with Stage(main="cut", workers=2) as stage:
        stage.wait_for("worker-ready", 2)
        stage.send(TERM)
        assert stage.wait_ended() == 4
        assert stage.all_said("cut")[0]["cut"] == 4


def test_a_worker_that_ignores_the_drain_is_ended_and_its_call_counted() -> None:
    with Stage(main="stubborn", workers=1, drain_timeout=0.1) as stage:
        stage.wait_for("worker-ready")
        stage.send(TERM)
        start = stage.wait_for("stopping")["at"]
        assert stage.wait_ended() == 4
        assert stage.all_said("stopped")[0]["at"] - start < 10, "after a second, if the machine is not busy"
        assert stage.all_said("worker-killed")[0]["why"] == "it still ran calls when the drain time was over"
        assert stage.all_said("cut")[0]["cut"] == 1


def test_a_second_signal_does_not_wait_for_the_drain() -> None:
    with Stage(main="stubborn", workers=2, drain_timeout=600.0) as stage:
        stage.wait_for("worker-ready", 2)
        stage.send(TERM)
        start = stage.wait_for("stopping")["at"]
        stage.send(INT)
        assert stage.wait_ended() == 4
        assert stage.all_said("stopped")[0]["at"] - start < 10, "within a second, if the machine is not busy"
        for slot in (0, 1):
            told = [line["within_s"] for line in stage.all_said("told-to-drain") if line["slot"] == slot]
            assert told == [600.0, 0.0]


def test_quit_ends_at_once(serving: Stage) -> None:
    serving.send(QUIT)
    assert serving.wait_ended() == 0, "no call was running"
    assert serving.all_said("told-to-drain") == []


def test_a_stop_during_the_boot_does_not_wait_for_it() -> None:
    with Stage(main="hangs", boot_timeout=600.0) as stage:
        stage.wait_for("worker-started")
        stage.send(INT)
        assert stage.wait_ended() == 0
        assert stage.all_said("start-failed") == []


def test_signals_that_mean_nothing_change_nothing(serving: Stage) -> None:
    for number in (signal.SIGWINCH, signal.SIGCHLD, signal.SIGCONT) * 50:
        serving.send(number)
    before = len(serving.lines)
    serving.send(signal.SIGUSR1)
    serving.wait_for("reopened")
    assert [line["event"] for line in serving.lines[before:]] == ["reopened"]
    stop(serving)


def test_a_worker_that_closed_its_channel_is_told_by_term() -> None:
    with Stage(main="deaf", workers=2) as stage:
        stage.wait_for("worker-ready", 2)
        stage.send(TERM)
        assert stage.wait_ended() == 0
        assert {line["cause"] for line in stage.all_said("worker-died")} == {"was killed by SIGTERM"}


def test_a_worker_that_closes_its_channel_as_it_is_told_is_told_by_term() -> None:
    with Stage(main="deafens", workers=2) as stage:
        stage.wait_for("worker-ready", 2)
        stage.send(TERM)
        assert stage.wait_ended() == 0
        assert {line["cause"] for line in stage.all_said("worker-died")} == {"was killed by SIGTERM"}


def test_signals_that_were_blocked_by_whoever_started_us_are_heard() -> None:
    with Stage(workers=1, blocked=[TERM, INT]) as stage:
        stage.wait_for("worker-ready")
        stop(stage)


def test_what_the_caller_has_printed_is_written_once() -> None:
    with Stage(main="flushes", workers=3, printed='{"event": "printed"}\n') as stage:
        stage.wait_for("worker-ready", 3)
        stop(stage)
        assert len(stage.all_said("printed")) == 1


def test_a_bug_before_the_first_worker_is_ready_leaves_nobody_behind() -> None:
    with Stage(main="hangs", log_fails_at="worker-started") as stage:
        assert stage.wait_ended() == 1
        assert stage.all_said("escaped")
        assert stage.all_said("ended")[0]["children"] == "none"


def test_the_files_of_unix_sockets_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with Stage(workers=1, bind=[f"unix:{path}"]) as stage:
        stage.wait_for("worker-ready")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        stop(stage)
    assert not path.exists()


@pytest.mark.parametrize("main", ["calm", "hangs", "stubborn"])
def test_nobody_outlives_a_supervisor_that_is_killed(main: str) -> None:
    with Stage(main=main, workers=1, boot_timeout=600.0) as stage:
        worker = stage.wait_for("worker-started")["pid"]
        if main != "hangs":
            stage.wait_for("worker-ready")
        stage.process.kill()
        wait_gone(worker)


# Connections between workers


def test_connections_in_the_inbox_of_a_dead_worker_go_to_another() -> None:
    with Stage(main="passes", workers=3, threads=1) as stage:
        listening = stage.wait_for("listening")
        clients = [connect(listening) for _ in range(3)]
        stage.wait_for("passed", n=2)
        stage.send(KILL, stage.all_said("sits")[0]["pid"])
        assert answers(clients) == [b"record 0", b"record 1", b"record 2"], "each once, unread"
        stage.send(QUIT)
        stage.wait_ended()


def test_connections_wait_for_the_next_ready_worker_when_there_is_none() -> None:
    with Stage(main="passes", workers=2, threads=1) as stage:
        listening = stage.wait_for("listening")
        clients = [connect(listening) for _ in range(3)]
        stage.wait_for("passed", n=2)
        stage.send(signal.SIGSTOP)  # so that it finds all of them dead
        for line in stage.all_said("worker-started"):
            stage.send(KILL, line["pid"])
            wait_gone(line["pid"])
        stage.send(signal.SIGCONT)
        assert answers(clients) == [b"record 0", b"record 1", b"record 2"]
        stop(stage)


def answers(clients: list[socket.socket]) -> list[bytes]:
    """The record that came with each client, as whoever has it says."""
    said = []
    for client in clients:
        with client:
            said.append(client.recv(100)[-8:])
    return sorted(said)


def test_a_connection_passed_to_an_empty_seat_is_found() -> None:
    with Stage(main="strays", workers=2, threads=1) as stage:
        listening = stage.wait_for("listening")
        with connect(listening) as client:
            assert client.recv(100).endswith(b"has stray")
        stop(stage)


def test_workers_are_nudged_when_nobody_takes_what_waits() -> None:
    with Stage(workers=2, threads=1, fast=True) as stage:
        listening = stage.wait_for("listening")
        with connect(listening):
            assert {stage.wait_for("nudged")["slot"], stage.wait_for("nudged")["slot"]} <= {0, 1}
        stop(stage)


# As PID 1


def test_orphans_are_reaped_and_never_taken_for_workers() -> None:
    with Stage(main="orphans", workers=2, threads=1, is_init=True) as stage:
        stage.wait_for("orphan-reaped", 40)
        stage.send(KILL, stage.all_said("worker-started")[0]["pid"])
        stage.wait_for("worker-died")
        stage.wait_for("orphan-reaped", 20)
        stop(stage)
        causes = {line["cause"] for line in stage.all_said("orphan-reaped")}
        assert causes == {f"exited with code {code}" for code in range(20)}
        assert len(stage.all_said("worker-died")) == 1


def test_somebody_elses_child_is_not_waited_for_unless_we_are_pid_1() -> None:
    with Stage(main="orphans", workers=1, threads=1) as stage:
        stage.wait_for("worker-ready")
        stop(stage)
        assert stage.all_said("orphan-reaped") == []
