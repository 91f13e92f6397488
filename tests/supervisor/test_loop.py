"""The supervisor with real forks and sockets and stub workers (stage.py); what it decides is in test_roster.py."""

import os
import signal
import socket
import time
from dataclasses import replace
from itertools import pairwise

import pytest

from paceline.errors import HostError
from paceline.host import processes
from paceline.supervisor.hands import Hands
from paceline.supervisor.loop import Supervisor, supervise
from paceline.supervisor.posts import SeatState
from paceline.supervisor.roster import Roster
from paceline.supervisor.vocabulary import Command, Event, Kill, SeatEmptied, TimePassed, Vacate
from supervisor.scene import Log
from supervisor.stage import Stage, connect, stop, wait_gone

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
"""The test runner has a thread for its time limit; the supervisor has none."""

TERM, INT, QUIT, KILL = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL


# The start


def test_it_says_where_it_listens_and_with_whom() -> None:
    with Stage(workers=3, threads=5, bind=["127.0.0.1:0", "127.0.0.1:0"]) as stage:
        listening = stage.wait_for("listening")
        first, second = listening["addresses"].split(", ")
        assert listening["text"] == f"listening on {first}, {second} · 3 workers × up to 5 threads · pid {stage.pid}"
        assert not first.endswith(":0"), "the port is resolved"
        connect(listening).close()
        assert len(stage.all_said("worker-ready")) == 3
        stop(stage)


def test_more_workers_than_cores_are_allowed_and_told() -> None:
    many = len(os.sched_getaffinity(0)) + 1
    with Stage(workers=many, threads=1) as stage:
        assert f"{many} workers on " in stage.wait_for("more-workers-than-cores")["text"]
        stop(stage)


@pytest.mark.parametrize(("user", "warned"), [(None, 1), (str(os.geteuid()), 0)])
def test_root_is_warned_of_once_unless_it_is_meant(user: str | None, warned: int) -> None:
    with Stage(workers=1, threads=1, is_root=True, user=user) as stage:
        stage.wait_for("listening")
        stop(stage)
        assert len(stage.all_said("root-kept")) == warned


def test_the_first_worker_is_ready_before_the_second_is_made(serving: Stage) -> None:
    events = [line["event"] for line in serving.lines]
    assert events[:5] == ["worker-started", "worker-ready", "worker-started", "worker-ready", "listening"]


def test_a_target_that_cannot_be_loaded_is_one_clear_error() -> None:
    with Stage(main="fails", workers=4) as stage:
        assert stage.wait_ended() == 3
        (failed,) = stage.all_said("start-failed")
        assert failed["text"] == "cannot start: no module named 'hallo'"
        assert "ImportError: hallo" in failed["detail"]
        assert len(stage.all_said("worker-started")) == 1
        assert stage.all_said("listening") == stage.all_said("stopped") == []


def test_a_first_worker_that_crashes_shows_where() -> None:
    with Stage(main="crashes", workers=4) as stage:
        assert stage.wait_ended() == 3
        (failed,) = stage.all_said("start-failed")
        assert failed["why"].startswith("the worker was killed by SIGSEGV")
        assert "in crashes" in failed["detail"]


def test_a_first_worker_that_hangs_shows_where() -> None:
    with Stage(main="hangs", workers=4, boot_timeout=0.3) as stage:
        assert stage.wait_ended() == 3
        (failed,) = stage.all_said("start-failed")
        assert failed["why"] == "the worker was not ready after 0.3 s (--boot-timeout)"
        assert "in hangs" in failed["detail"]


def test_a_first_worker_that_cannot_even_be_aborted_is_killed() -> None:
    with Stage(main="hangs_beyond_abort", boot_timeout=0.1) as stage:
        assert stage.wait_ended() == 3
        (failed,) = stage.all_said("start-failed")
        assert failed["why"] == "the worker was not ready after 0.1 s (--boot-timeout)"


@pytest.mark.parametrize("main", ["raises", "returns"])
def test_a_worker_main_that_ends_never_becomes_a_second_supervisor(main: str) -> None:
    with Stage(main=main) as stage:
        code = stage.wait_ended()
        (failed,) = stage.all_said("start-failed")
        assert len(stage.all_said("ended")) == 1
    if main == "raises":
        assert code == 1
        assert failed["why"] == "a bug in Paceline: ValueError: never mind"
        assert "in raises" in failed["detail"]


def test_a_busy_port_is_refused_before_anything_is_forked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Stage(bind=["127.0.0.1:0", f"127.0.0.1:{port}"]) as stage:
            assert stage.wait_ended() == 3
            (refused,) = stage.all_said("refused")
            assert refused["kind"] == "HostError"
            assert f"127.0.0.1:{port}" in refused["text"]
            assert stage.all_said("worker-started") == []


@pytest.mark.parametrize("bind", [["fd://{}"], ["127.0.0.1:0", "fd://{}"]])
@pytest.mark.parametrize("number", [3, 4, 5, 7])
def test_an_inherited_socket_is_never_one_of_our_own_descriptors(bind: list[str], number: int) -> None:
    with Stage(workers=1, threads=1, bind=[text.format(number) for text in bind]) as stage:
        assert stage.wait_ended() == 3
        (refused,) = stage.all_said("refused")
        assert refused["text"].startswith(f"cannot listen on fd://{number}: descriptor {number} is not open; ")


def test_an_inherited_socket_keeps_its_place_among_the_addresses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        port, number = inherited.getsockname()[1], inherited.fileno()
        with Stage(workers=1, threads=1, bind=["127.0.0.1:0", f"fd://{number}"], pass_fds=[number]) as stage:
            first, second = stage.wait_for("listening")["addresses"].split(", ")
            assert second == f"127.0.0.1:{port}" != first
            stop(stage)


def test_too_many_seats_for_the_machine_are_refused_and_leave_nothing_open() -> None:
    with Stage(workers=40, descriptors=64) as stage:
        assert stage.wait_ended() == 3
        (refused,) = stage.all_said("refused")
        assert refused["kind"] == "HostError"
        assert refused["text"].startswith("cannot make room for the workers (322 seats of 3 descriptors each): ")
        assert refused["text"].endswith("lower --max-workers, or raise the limit on open files (ulimit -n)")
        assert stage.all_said("ended")[0]["fds"] <= 4


def test_what_a_worker_is_born_with() -> None:
    with Stage(main="shows", workers=2, threads=2) as stage:
        stage.wait_for("worker-ready", 2)
        for shown in stage.all_said("shown"):
            extra = {int(fd): name for fd, name in shown["fds"].items() if int(fd) not in shown["expected"]}
            assert extra == {}, "the supervisor's descriptors, and those of siblings, are closed"
            assert len(shown["fds"]) == len(set(shown["expected"])), "and its own are open"
            blocked = set(shown["blocked"])
            assert blocked >= {TERM, INT, QUIT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1}
            assert not blocked & set(shown["faults"])
            assert shown["parent"]
            assert shown["wakeup_fd"] == -1
            assert shown["state"], "its row on the board is taken"
            assert shown["pid"]
        stop(stage)


# Deaths


def test_a_killed_worker_is_replaced_at_once_and_the_cause_is_told(serving: Stage) -> None:
    victim = serving.all_said("worker-started")[1]
    start = time.monotonic()
    serving.send(KILL, victim["pid"])
    died = serving.wait_for("worker-died")
    assert died["text"].startswith(f"worker 1 (pid {victim['pid']}) was killed by SIGKILL after ")
    assert died["text"].endswith(" while 1 thread was polling; replaced at once")
    ready = serving.wait_for("worker-ready", slot=1)
    assert ready["pid"] != victim["pid"]
    assert ready["at"] - start < 0.5, "accepting again within 50 ms, if the machine is not busy"
    stop(serving)


def test_all_workers_killed_in_the_same_moment_are_all_replaced() -> None:
    with Stage(workers=6, threads=1) as stage:
        stage.wait_for("worker-ready", 6)
        stage.send(signal.SIGSTOP)  # so that it finds them dead together
        for line in stage.all_said("worker-started"):
            stage.send(KILL, line["pid"])
            wait_gone(line["pid"])
        stage.send(signal.SIGCONT)
        stage.wait_for_total("worker-ready", 12)
        assert len(stage.all_said("worker-died")) == 6
        stop(stage)


def test_a_crash_after_ready_shows_where_and_what_was_running() -> None:
    with Stage(main="crashes_on_drain", workers=1, threads=2) as stage:
        stage.wait_for("worker-ready")
        stage.send(TERM)
        assert stage.wait_ended() == 0
        (died,) = stage.all_said("worker-died")
        assert "was killed by SIGSEGV" in died["cause"]
        assert died["doing"] == "1 thread was in a call"
        assert "in crashes_on_drain" in died["detail"]
        assert died["next"] == "not replaced, the server stops"


def test_200_deaths_leak_nothing_and_are_called_degraded() -> None:
    with Stage(main="brief", workers=8, threads=1) as stage:
        stage.wait_for("worker-died", 20)
        before = stage.count_fds()
        stage.wait_for("worker-died", 200)
        # Each living worker has two descriptors of ours: at any moment none, some or all live.
        assert abs(stage.count_fds() - before) <= 2 * 8
        died = stage.all_said("worker-died")
        assert {line["cause"] for line in died} == {"exited with code 7"}
        assert len(stage.all_said("degraded")) == 1
        stage.send(TERM)
        assert stage.wait_ended() == 0
        (ended,) = stage.all_said("ended")
        assert ended["fds"] <= 5
        assert ended["children"] == "none"


def test_workers_that_fail_to_boot_later_back_off_and_the_healthy_one_goes_on() -> None:
    with Stage(main="fails_after_first", workers=2, threads=1) as stage:
        stage.wait_for("worker-failed", 4)
        started = [line["at"] for line in stage.all_said("worker-started") if line["slot"] == 1]
        gaps = [later - earlier for earlier, later in pairwise(started)]
        assert [gap >= least for gap, least in zip(gaps, (0.05, 0.1, 0.2), strict=False)] == [True] * 3
        assert stage.all_said("worker-failed")[0]["why"] == "no module named 'hallo'"
        assert {line["slot"] for line in stage.all_said("worker-failed")} == {1}
        stop(stage)
        assert stage.all_said("worker-died") == []


def test_a_stopped_worker_is_found_and_replaced() -> None:
    with Stage(workers=2, threads=1, heartbeat=0.3, fast=True) as stage:
        stage.wait_for("worker-ready", 2)
        victim = stage.all_said("worker-started")[1]["pid"]
        stage.send(signal.SIGSTOP, victim)
        killed = stage.wait_for("worker-killed")
        assert killed["pid"] == victim
        assert killed["why"].startswith("it showed no sign of life for ")
        assert stage.wait_for("worker-died")["cause"] == "was killed by SIGKILL"
        stage.wait_for("worker-ready", slot=1)
        stop(stage)


def test_a_worker_whose_watcher_hangs_shows_where() -> None:
    with Stage(main="mute", workers=1, threads=1, heartbeat=0.3, fast=True) as stage:
        stage.wait_for("worker-killed")
        died = stage.wait_for("worker-died")
        assert died["cause"].startswith("was killed by SIGABRT")
        assert "in wait" in died["detail"]


def test_a_fork_that_fails_is_tried_again() -> None:
    with Stage(workers=2, refusals=2) as stage:
        assert "Resource temporarily unavailable" in stage.wait_for("fork-failed")["text"]
        stage.wait_for("worker-ready", 2)
        assert len(stage.all_said("fork-failed")) == 2
        stop(stage)


def test_a_bug_in_the_loop_is_told_and_the_loop_goes_on() -> None:
    with Stage(main="fails_after_first", workers=2, buggy=2) as stage:
        bug = stage.wait_for("supervisor-bug")
        assert bug["error"] == "ZeroDivisionError('a bug')"
        assert "in _gone_before_ready" in bug["detail"]
        stage.wait_for("worker-failed")
        stop(stage)


def test_what_goes_wrong_costs_one_command_and_not_the_others(
    hands: Hands, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = Supervisor(hands)
    supervisor.roster.posts.is_serving = True
    done: list[Command] = []

    def carry_out(_hands: Hands, command: Command) -> Event | None:
        done.append(command)
        if command == Kill(0):
            raise ZeroDivisionError("a bug")
        return SeatEmptied(2) if command == Vacate(2) else None

    def on(_roster: Roster, event: Event, now: float) -> list[Command]:
        return [Kill(0), Kill(0), Vacate(2)] if isinstance(event, TimePassed) else [Kill(1)]

    monkeypatch.setattr(Hands, "carry_out", carry_out)
    monkeypatch.setattr(Roster, "on", on)
    supervisor.react(TimePassed())
    assert done == [Kill(0), Kill(0), Vacate(2), Kill(1)]
    assert [event for event, _ in log.said] == ["supervisor-bug"] * 2
    assert supervisor.is_wary
    supervisor.wait()
    assert not supervisor.is_wary


# Without the loop


def test_a_kernel_without_pidfds_is_refused_at_once(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(processes, "open_pidfd", refuse)
    with pytest.raises(HostError, match=r"pidfd_open.*Function not implemented.*Linux must be 5\.3"):
        supervise(hands.settings, None, hands.system)


def test_a_machine_that_slept_takes_no_time(hands: Hands) -> None:
    readings = iter([1000.0, 1000.0, *[9000.0] * 10])
    hands.system = replace(hands.system, now=lambda: next(readings))
    supervisor = Supervisor(hands)  # first reading
    supervisor.wait()  # second; then it sleeps for two hours
    assert supervisor.now() == 1000.0


def test_every_tick_looks_for_memory_that_ran_out(hands: Hands) -> None:
    supervisor = Supervisor(hands)
    supervisor.inquest.oom.count = iter([1, 2]).__next__
    list(supervisor.on_tick(5.0))
    list(supervisor.on_tick(6.0))
    assert supervisor.inquest.oom.at == 6.0


def test_a_seat_whose_emptying_was_forgotten_is_emptied_with_the_next_tick(hands: Hands) -> None:
    supervisor = Supervisor(hands)
    supervisor.roster.posts.seats[2] = SeatState.EMPTYING
    assert SeatEmptied(2) in list(supervisor.on_tick(5.0))
