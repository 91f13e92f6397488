"""What Paceline promises, each promise the name of a test or of several, held against the real server.

    1  A blocked handler never stops the others from being served.
    2  A thread exists only because a handler blocked.
    3  A worker takes new work only when it has a free thread; what waits moves to an idle sibling.
    4  A dead worker costs only its own connections.
    5  A reload drops no connection that can move and loses no accepted message; broken new code never replaces it.
    6  A stuck handler is found, its stack is shown, its neighbours finish, its process is replaced.
    7  Everything is bounded by default.
    and: idle workers share the connections.

Handlers block at a gate that the test opens, so nothing depends on how long anything takes.  That something has *not*
happened is shown by an order: each reply says in which process it was made, and as which one there (gates.py).
"""

import os
import re
import resource
import signal
import socket
from collections import Counter
from contextlib import ExitStack, suppress

import pytest

from gates import (
    FILES,
    LINES,
    Gate,
    answer,
    ask,
    block_all_threads,
    is_quiet,
    peak_memory_of,
    peers_of_all,
    threads_that_exist,
    threads_that_serve,
    wait_reset,
)
from leftovers import eventually, wait_gone
from testbed import run_to_end, running

pytestmark = pytest.mark.usefixtures("nothing_left")

# 1


@pytest.mark.parametrize("kind", [LINES, ("app.py:whole", "--as", "connection")], ids=["message", "connection"])
def test_1_a_blocked_handler_never_stops_the_others_from_being_served(kind: tuple[str, ...]) -> None:
    with running(*kind, "--workers", "1", files=FILES) as server, Gate(server) as gate:
        slow, other = server.connect(), server.connect()
        ask(other)
        slow.send(b"wait gate\n")
        gate.wait_reached()
        before = [ask(other)[1] for _ in range(10)]
        fresh = ask(server.connect())[1]
        assert is_quiet(slow)
        gate.open()
        assert answer(slow)[1] > fresh > max(before)


def test_1_all_but_one_blocked_is_enough_to_serve() -> None:
    with running(*LINES, "-w", "1", "-t", "8", files=FILES) as server, Gate(server) as gate:
        slow = [server.connect() for _ in range(7)]
        for peer in slow:
            peer.send(b"wait gate\n")
        gate.wait_reached(7)
        last = [ask(server.connect())[1] for _ in range(10)][-1]
        gate.open()
        assert min(answer(peer)[1] for peer in slow) > last


def test_1_code_that_keeps_the_gil_stops_its_own_worker_only() -> None:
    with running(*LINES, "-w", "2", files=FILES) as server, Gate(server) as gate:
        (stuck, its_peer), (free, peer) = peers_of_all(server, 2).items()
        its_peer.send(b"hold gate\n")
        gate.wait_reached()
        assert [ask(peer)[0] for _ in range(10)] == [free] * 10
        assert is_quiet(its_peer)
        gate.open()
        assert answer(its_peer)[0] == stuck


def test_1_a_worker_whose_gil_is_kept_is_replaced() -> None:
    with running(*LINES, "-w", "2", "--heartbeat", "3s", files=FILES) as server, Gate(server):
        (stuck, its_peer), (free, peer) = peers_of_all(server, 2).items()
        its_peer.send(b"hold gate\n")
        server.wait_for_log(f"(pid {stuck}) is killed")
        assert its_peer.ended()
        assert ask(peer)[0] == free
        assert peers_of_all(server, 2).keys() ^ {stuck, free} >= {stuck}


# 2


def test_2_ten_thousand_quiet_connections_need_one_thread() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    count = 10_000 if most == resource.RLIM_INFINITY else min(10_000, most - 500)
    assert count > 1_000, f"the limit on descriptors is {most}"
    with more_descriptors(count + 500), running(*LINES, "-w", "1", files=FILES) as server, ExitStack() as stack:
        first = server.connect()
        pid, _ = ask(first)
        quiet = []
        for n in range(count - 1):
            peer = stack.enter_context(socket.create_connection(server.address, 5))
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # leaves no port behind
            quiet.append(peer)
            if n % 500 == 0:  # the queue of those that wait to be accepted is bounded
                assert say(peer) == pid
        # On a busy machine one may be made for a call that only seemed to block; as nobody needs it, it ends.
        eventually(lambda: threads_that_serve(first) == 1, 30)
        assert {say(peer) for peer in quiet[::50]} == {pid}
        eventually(lambda: threads_that_serve(first) == 1, 30)


def say(peer: socket.socket) -> int:
    peer.sendall(b"who\n")
    return int(peer.recv(100).split()[0])


class more_descriptors:  # noqa: N801 - reads as a verb
    """For a while, this process and those it starts may have so many."""

    def __init__(self, wanted: int) -> None:
        self.before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.wanted = wanted

    def __enter__(self) -> None:
        soft, hard = self.before
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, self.wanted), hard))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self.before)


def test_2_a_handler_that_does_not_block_gets_no_second_thread() -> None:
    with running(*LINES, "-w", "1", files=FILES) as server:
        peers = [server.connect() for _ in range(20)]
        for _ in range(50):
            for peer in peers:
                peer.send(b"who\n" * 5)
            for peer in peers:
                peer.lines(5)
        # On a busy machine one may be made for a call that only seemed to block; as nobody needs it, it ends.
        eventually(lambda: threads_that_serve(peers[0]) == 1, 30)


def test_2_each_blocked_handler_has_a_thread_and_one_more_leads() -> None:
    with running(*LINES, "-w", "1", files=FILES) as server, Gate(server) as gate:
        other = server.connect()
        eventually(lambda: threads_that_serve(other) == 1, 30)
        slow = [server.connect() for _ in range(5)]
        for peer in slow:
            peer.send(b"wait gate\n")
        gate.wait_reached(5)
        # One leads; and whoever is asked may have been promoted, too.  What was made beyond need ends.
        assert threads_that_serve(other) >= 5 + 1
        eventually(lambda: threads_that_serve(other) <= 5 + 2, 30)
        gate.open()
        for peer in slow:
            answer(peer)


# 3


@pytest.mark.parametrize("threads", [1, 3])
def test_3_a_worker_takes_new_work_only_when_it_has_a_free_thread(threads: int) -> None:
    with running(*LINES, "-w", "2", "-t", str(threads), files=FILES) as server, Gate(server) as gate:
        busy, idle = peers_of_all(server, 2)
        slow = block_all_threads(server, busy, threads)
        gate.wait_reached(threads)
        server.wait_for_log("the only thread is inside a call" if threads == 1 else f"all {threads} threads are inside")
        fresh = [server.connect() for _ in range(40)]
        assert Counter(ask(peer)[0] for peer in fresh) == {idle: 40}
        gate.open()
        assert {answer(peer)[0] for peer in slow} == {busy}


@pytest.mark.parametrize("threads", [1, 4])
def test_3_what_waits_in_a_saturated_worker_moves_to_an_idle_sibling(threads: int) -> None:
    """Also who was served there before, and who is in the middle of a message."""
    with running(*LINES, "-w", "2", "-t", str(threads), files=FILES) as server, Gate(server) as gate:
        (busy, peer), (idle, _) = peers_of_all(server, 2).items()
        kept = [peer]
        while len(kept) < 10:
            other = server.connect()
            if ask(other)[0] == busy:
                kept.append(other)
        for halfway in kept[:5]:
            halfway.send(b"wh")
        slow = block_all_threads(server, busy, threads)
        gate.wait_reached(threads)
        for halfway in kept[:5]:
            halfway.send(b"o\n")
        assert {answer(halfway)[0] for halfway in kept[:5]} == {idle}
        assert {ask(quiet)[0] for quiet in kept[5:]} == {idle}
        gate.open()
        assert {answer(blocked)[0] for blocked in slow} == {busy}


def test_3_not_even_in_the_moment_before_the_others_know() -> None:
    """What an idle worker has just passed on to one that is busy from now on must not wait there."""
    with running(*LINES, "-w", "2", "-t", "1", files=FILES) as server, Gate(server) as gate:
        busy, idle = peers_of_all(server, 2)
        (slow,) = block_all_threads(server, busy, 1)
        fresh = [server.connect() for _ in range(40)]
        assert Counter(ask(peer)[0] for peer in fresh) == {idle: 40}
        gate.wait_reached()
        gate.open()
        assert answer(slow)[0] == busy


def test_3_while_all_workers_are_busy_new_connections_wait_and_none_is_lost() -> None:
    with running(*LINES, "-w", "2", "-t", "1", files=FILES) as server, Gate(server) as gate:
        busy = peers_of_all(server, 2)
        for peer in busy.values():
            peer.send(b"wait gate\n")
        gate.wait_reached(2)
        fresh = [server.connect() for _ in range(40)]
        for peer in fresh:
            peer.send(b"who\n")
        gate.open()
        last = {pid: answer(peer)[1] for pid, peer in busy.items()}
        for peer in fresh:
            pid, number = answer(peer)
            assert number > last[pid]


# 4


@pytest.mark.parametrize(
    ("death", "cause"),
    [
        (f"die {signal.SIGKILL:d}", "was killed by SIGKILL"),
        (f"die {signal.SIGSEGV:d}", "was killed by SIGSEGV"),
        (f"die {signal.SIGABRT:d}", "was killed by SIGABRT"),
        ("exit 9", "exited with code 9"),
    ],
)
def test_4_a_dead_worker_costs_only_its_own_connections(death: str, cause: str) -> None:
    with running(*LINES, "-w", "2", files=FILES) as server:
        (doomed, its_peer), (other, peer) = peers_of_all(server, 2).items()
        its_peer.send(death.encode() + b"\n")
        assert its_peer.ended()
        assert ask(peer)[0] == other
        server.wait_for_log(re.compile(rf"worker \d \(pid {doomed}\) {cause} "))
        for _ in range(10):
            assert ask(server.connect())[0] != doomed
        again = peers_of_all(server, 2)
        assert other in again, "the other worker is the same as before"
        assert doomed not in again, "and the dead one was replaced"
        assert ask(peer)[0] == other


def test_4_connections_that_wait_survive_the_worker() -> None:
    with running(*LINES, "-w", "1", "-t", "1", files=FILES) as server, Gate(server) as gate:
        busy = server.connect()
        doomed, _ = ask(busy)
        busy.send(b"wait gate\n")
        gate.wait_reached()
        waiting = [server.connect() for _ in range(20)]
        for peer in waiting:
            peer.send(b"who\n")
        os.kill(doomed, signal.SIGKILL)
        assert busy.ended()
        pids = {answer(peer)[0] for peer in waiting}
        assert len(pids) == 1
        assert doomed not in pids


# 5


def test_5_a_reload_drops_no_connection_and_loses_no_message() -> None:
    with running(*LINES, "-w", "2", files=FILES) as server, Gate(server) as gate:
        old = peers_of_all(server, 2)
        slow, quiet, halfway = (server.connect() for _ in range(3))
        slow.send(b"wait gate\n")
        gate.wait_reached()
        halfway.send(b"wh")
        server.send_signal(signal.SIGHUP)
        server.wait_for_log("generation 2 serves")
        halfway.send(b"o\n")
        new = {answer(halfway)[0], ask(quiet)[0], *(ask(peer)[0] for peer in old.values())}
        assert not new & old.keys()
        gate.open()
        assert answer(slow)[0] in old, "a call that runs is finished where it is"
        assert ask(slow)[0] not in old, "and then its connection moves, too"
        wait_gone(list(old))


def test_5_broken_new_code_never_replaces_working_old_code() -> None:
    with running(*LINES, "-w", "2", files=FILES) as server:
        old = peers_of_all(server, 2)
        good = (server.folder / "app.py").read_text()
        for broken in ("def answer(", "import nothing_of_this_name", "import os; os._exit(0)"):
            (server.folder / "app.py").write_text(broken)
            since = server.log_length()
            server.send_signal(signal.SIGHUP)
            server.wait_for_log("the reload failed and nothing has changed", since=since)
        assert {ask(peer)[0] for peer in old.values()} == old.keys()
        assert sorted(server.pids()) == sorted(old)
        (server.folder / "app.py").write_text(good)


# 6


def test_6_a_stuck_handler_is_found_and_shown_its_neighbours_go_on_and_its_process_is_replaced() -> None:
    with running(*LINES, "-w", "1", "--timeout", "500ms", files=FILES) as server, Gate(server) as gate:
        stuck, neighbour = server.connect(), server.connect()
        old, _ = ask(neighbour)
        stuck.send(b"wait gate\n")
        gate.wait_reached()
        server.wait_for_log(f"a call for {stuck.name} has run for ")
        server.wait_for_log("in wait_at")
        server.wait_for_log("is replaced")
        assert all(ask(neighbour) for _ in range(10)), "it is still connected, to whichever of the two"
        assert stuck.ended()
        wait_gone([old])
        assert ask(neighbour)[0] != old


# 7


def test_7_everything_is_bounded_connections() -> None:
    with running(*LINES, "-w", "1", "--max-connections", "3", files=FILES) as server:
        first, second, third = (server.connect() for _ in range(3))
        for peer in (first, second, third):
            ask(peer)
        server.wait_for_log("3 connections are open, which is the limit (--max-connections)")
        fourth = server.connect()
        fourth.send(b"who\n")
        _, before = ask(first)
        second.close()
        assert answer(fourth)[1] > before
        assert ask(third)[1] > before


def test_7_everything_is_bounded_threads() -> None:
    with (
        running(*LINES, "-w", "1", "-t", "2", files=FILES) as server,
        Gate(server, "one") as one,
        Gate(server, "two") as two,
    ):
        first, second, third = (server.connect() for _ in range(3))
        for peer in (first, second, third):
            pid, _ = ask(peer)
        beside = threads_that_exist(pid) - 1
        first.send(b"wait one\n")
        second.send(b"wait two\n")
        one.wait_reached()
        two.wait_reached()
        third.send(b"who\n")
        server.wait_for_log("all 2 threads are inside calls")
        assert threads_that_exist(pid) <= beside + 2
        one.open()
        assert answer(third)[1] > answer(first)[1], "the third call began when the first was over"
        assert is_quiet(second)
        assert threads_that_exist(pid) <= beside + 2


def test_7_everything_is_bounded_message_size() -> None:
    with running(*LINES, "-w", "1", files=FILES) as server:
        other, greedy = server.connect(), server.connect()
        pid, _ = ask(other)
        before = peak_memory_of(pid)
        greedy.send(b"who\n")
        answer(greedy)
        with suppress(ConnectionError):
            while True:
                greedy.send(b"x" * 65536)
        assert peak_memory_of(pid) - before < 16 * 1024**2
        server.wait_for_log(f"{greedy.name} is disconnected after message 1: the peer sent a line over the limit of")
        ask(other)


def test_7_everything_is_bounded_buffers() -> None:
    """Of those who do not read: of one with an endless reply, and of one who goes on asking."""
    with running(*LINES, "-w", "1", "--write-timeout", "300ms", files=FILES) as server:
        other, deaf, talkative = (server.connect() for _ in range(3))
        pid, _ = ask(other)
        before = peak_memory_of(pid)
        deaf.send(b"endless\n")
        talkative.send(b"large 100000\n" * 5000)
        wait_reset(deaf)
        wait_reset(talkative)
        assert peak_memory_of(pid) - before < 16 * 1024**2
        server.wait_for_log(
            " is disconnected: it took nothing of the reply that waits for it for 0.3 s (--write-timeout)"
        )
        ask(other)


def test_7_everything_is_bounded_batches() -> None:
    """Whoever sends 20,000 messages at once takes turns with the one who sends one."""
    with running(*LINES, "-w", "1", "-t", "1", files=FILES) as server, Gate(server) as gate:
        first, greedy, modest = (server.connect() for _ in range(3))
        for peer in (first, greedy, modest):
            ask(peer)
        first.send(b"wait gate\n")
        gate.wait_reached()
        greedy.send(b"who\n" * 20_000)
        modest.send(b"who\n")
        gate.open()
        number = answer(modest)[1]
        begun = answer(first)[1]
        assert number - begun <= 2 * 256, "a batch has at most 256 calls"
        numbers = [answer(greedy)[1] for _ in range(20_000)]
        assert numbers == sorted(numbers)
        assert numbers[-1] > number


@pytest.mark.parametrize(
    ("option", "lines"),
    [
        ("--first-byte-timeout", b""),
        ("--message-timeout", b"wh"),
        ("--idle-timeout", b"who\n"),
    ],
)
def test_7_everything_is_bounded_time_of_peers(option: str, lines: bytes) -> None:
    with running(*LINES, "-w", "1", option, "100ms", "--min-rate", "off", files=FILES) as server:
        late = server.connect()
        late.send(lines)
        server.wait_for_log(re.compile(rf"{late.name} is disconnected: .*0\.1 s .*\({option}\)"))
        try:
            late.receive_all()
        except ConnectionResetError:
            assert option != "--idle-timeout", "one that owes nothing is told by an end-of-file"
        ask(server.connect())


def test_7_everything_is_bounded_time_of_a_stop() -> None:
    options = ("-w", "1", "--drain-timeout", "300ms")
    with running(*LINES, *options, files=FILES, exit_code=4) as server, Gate(server) as gate:
        peer, other = server.connect(), server.connect()
        ask(other)
        peer.send(b"wait gate\n")
        gate.wait_reached()
        assert server.stop() == 4
        assert other.ended()
        assert peer.ended()
        server.wait_for_log("1 call was cut")


def test_7_everything_is_bounded_time_of_a_start() -> None:
    module = "import threading\nthreading.Event().wait()\n"
    ended = run_to_end("serve", "app:f", "-b", "127.0.0.1:0", "--boot-timeout", "300ms", files={"app.py": module})
    assert ended.code == 3
    assert "the worker was not ready after 0.3 s (--boot-timeout)" in ended.log
    assert 'app.py", line 2 in <module>' in ended.log, "where it hangs is shown"


# balance


@pytest.mark.parametrize("burst", [False, True], ids=["paced", "burst"])
def test_four_idle_workers_share_200_connections(burst: bool) -> None:
    with running(*LINES, "-w", "4", files=FILES) as server:
        ready = peers_of_all(server, 4)
        for peer in ready.values():
            peer.half_close()
            assert peer.ended()  # each worker has closed its own
        clients = []
        for _ in range(200):
            peer = server.connect()
            clients.append(peer)
            if not burst:
                ask(peer)
        shares = Counter(ask(peer)[0] for peer in clients)
        assert shares.keys() == ready.keys()
        assert all(40 <= share <= 60 for share in shares.values()), shares
