"""Handlers that do not come back, on a real server: they are found, shown, and cost nobody else anything."""

import re
import signal

from leftovers import wait_gone
from paceline.clock import now
from peer import Peer
from testbed import Server, running

LINES = ("--framing", "line", "--workers", "1")

APP = {
    "app.py": '''
    import os
    import threading
    import time

    never = threading.Lock()
    never.acquire()

    def answer(line):
        """In which process."""
        match line:
            case b"hang":
                never.acquire()
            case b"spin":
                while True:
                    pass
            case b"nap":
                time.sleep(1.5)
        return b"%d" % os.getpid()
    '''
}


def who(server: Server) -> int:
    with server.connect() as peer:
        peer.send(b"who\n")
        return int(peer.line())


def test_a_call_that_hangs_is_shown_and_its_worker_replaced() -> None:
    with running("app.py:answer", *LINES, "--timeout", "500ms", files=APP) as server:
        (old,) = server.pids()
        with server.connect() as hanging:
            begun = now()
            hanging.send(b"hang\n")
            said = server.wait_for_log(f"a call for {hanging.name} has run for ")
            seconds = re.search(r"has run for ([0-9.]+) s in thread [0-9]+, longer than the 0.5 s", said)
            assert seconds is not None
            assert 0.5 <= float(seconds[1]) <= now() - begun < 10
            server.wait_for_log("never.acquire()")
            server.wait_for_log(re.compile(r"supervisor: worker 0 \(pid [0-9]+\) is replaced: a call "))
            assert hanging.ended(), "its worker has left, and took the one call along"
        wait_gone([old])
        assert who(server) != old
        assert server.log.count("has run for") == 2, "the worker and the supervisor said it once each"
    assert "Traceback" not in server.log


def on_each_worker(server: Server) -> dict[int, Peer]:
    """A connection to each, by its pid."""
    found: dict[int, Peer] = {}
    while len(found) < len(server.pids()):
        peer = server.connect()
        peer.send(b"who\n")
        found.setdefault(int(peer.line()), peer)
    return found


def test_two_workers_whose_calls_hang_are_replaced_one_after_the_other() -> None:
    with running("app.py:answer", "--framing", "line", "--workers", "2", "--timeout", "500ms", files=APP) as server:
        quiet, hanging = on_each_worker(server), on_each_worker(server)
        for peer in hanging.values():
            peer.send(b"hang\n")
        for pid, peer in hanging.items():
            server.wait_for_log(f"(pid {pid}) is replaced: a call of {peer.name} has run for ")
        wait_gone(list(hanging))
        for peer in hanging.values():
            assert peer.ended()
        now_there = server.pids()
        for peer in quiet.values():
            peer.send(b"who\n")
            assert int(peer.line()) in now_there, "who was quiet has moved"
        replaced = [line for line in server.log.splitlines() if " is replaced: " in line]
        assert len(replaced) == 2, "each is told once"


def test_a_supervisor_that_was_stopped_replaces_them_when_it_goes_on() -> None:
    with running("app.py:answer", "--framing", "line", "--workers", "2", "--timeout", "500ms", files=APP) as server:
        hanging = on_each_worker(server)
        server.send_signal(signal.SIGSTOP)
        try:
            for peer in hanging.values():
                peer.send(b"hang\n")
            for peer in hanging.values():
                server.wait_for_log(f"a call for {peer.name} has run for ")
        finally:
            server.send_signal(signal.SIGCONT)
        wait_gone(list(hanging))
        for pid, peer in hanging.items():
            server.wait_for_log(f"(pid {pid}) is replaced: a call of {peer.name} has run for ")
            assert peer.ended()
        assert server.log.count(" is replaced: ") == 2, "each once"
        assert who(server) not in hanging


def test_all_threads_of_a_worker_hang() -> None:
    """Nobody of it leads any more; it is the watcher that sees and says it."""
    options = ("--timeout", "500ms", "--threads", "3")
    with running("app.py:answer", *LINES, *options, files=APP) as server:
        (old,) = server.pids()
        peers = [server.connect() for _ in range(3)]
        for peer in peers:
            peer.send(b"hang\n")
        server.wait_for_log("is replaced")
        assert who(server) != old
        for peer in peers:
            assert peer.ended()
        wait_gone([old])
        reported = [line for line in server.log.splitlines() if "warning worker 0: a call for " in line]
        assert len(reported) == 3
        assert server.log.count("never.acquire()") <= 3


def test_a_call_that_computes_for_ever_is_found_too() -> None:
    with running("app.py:answer", *LINES, "--timeout", "500ms", files=APP) as server:
        (old,) = server.pids()
        with server.connect() as spinning:
            spinning.send(b"spin\n")
            server.wait_for_log("has run for")
            server.wait_for_log("is replaced")
            assert spinning.ended()
        wait_gone([old])
        assert who(server) != old


def test_calls_within_their_time_are_nothing_to_talk_about() -> None:
    with running("app.py:answer", *LINES, files=APP) as server:
        (old,) = server.pids()
        with server.connect() as peer:
            peer.send(b"nap\n")
            assert int(peer.line()) == old
        assert server.pids() == [old]
    assert server.warnings == []


def test_a_limit_of_memory_below_what_a_new_worker_has_replaces_nobody_at_once() -> None:
    with running("app.py:answer", *LINES, "--max-rss", "16MiB", files=APP) as server:
        (pid,) = server.pids()
        server.wait_for_log("MiB in memory, more than the 16 MiB of --max-rss: such workers are replaced after 10 min")
        assert who(server) == pid
    assert "is replaced:" not in server.log
