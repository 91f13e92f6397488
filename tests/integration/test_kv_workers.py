"""examples/kv.py: several processes that share one file: they count together, die, and find it locked or broken."""

import os
import signal
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from kvbed import (
    CLIENT_S,
    EXAMPLE,
    ask,
    encoded,
    needs_redis,
    one_of_each,
    pid_of,
    redis_benchmark,
    reply_of,
    store,
    two_workers,
)
from leftovers import wait_gone
from peer import Peer
from testbed import run_to_end

# several processes, one store


def count_up(peer: Peer, count: int, in_flight: int = 1) -> list[int]:
    """INCR so many times; what was answered."""
    answers = []
    for _ in range(count // in_flight):
        peer.send(encoded(b"INCR", b"n") * in_flight)
        answers += [int(line.strip(b":\r\n")) for line in peer.lines(in_flight)]
    return answers


@pytest.mark.parametrize("in_flight", [1, 10])
def test_no_increment_is_lost_between_two_workers(in_flight: int) -> None:
    clients, each = 24, 100
    with two_workers() as server:
        peers = [server.connect(timeout=CLIENT_S) for _ in range(clients)]
        assert {pid_of(peer) for peer in peers} == set(server.pids()), "both have clients"
        answers: list[int] = []
        threads = [
            threading.Thread(target=lambda p=peer: answers.extend(count_up(p, each, in_flight))) for peer in peers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == list(range(1, clients * each + 1)), "each number was given once"
        assert ask(peers[0], b"GET", b"n") == b"%d" % (clients * each)


def test_a_worker_that_is_killed_takes_only_its_own_connections_along() -> None:
    with two_workers() as server:
        peers = [server.connect() for _ in range(16)]
        servers = [pid_of(peer) for peer in peers]
        victim = servers[0]
        assert len(set(servers)) == 2
        for number, peer in enumerate(peers):
            assert ask(peer, b"SET", b"key %d" % number, b"value %d" % number) == b"+OK"
        os.kill(victim, signal.SIGKILL)
        wait_gone([victim], 5)
        others = [server.connect()]
        for peer, pid in zip(peers, servers, strict=True):
            if pid == victim:
                assert peer.ended()
            else:
                others.append(peer)
        for number in range(len(peers)):
            for peer in others:
                assert ask(peer, b"GET", b"key %d" % number) == b"value %d" % number


def test_no_increment_that_was_answered_is_lost_with_a_worker() -> None:
    clients, each = 12, 150
    with two_workers() as server:
        answered = threading.Semaphore(0)
        answers: list[int] = []
        cut: list[Peer] = []

        def count() -> None:
            peer = server.connect(timeout=CLIENT_S)
            for _ in range(each):
                try:
                    answers.append(count_up(peer, 1)[0])
                except (AssertionError, ConnectionError):
                    cut.append(peer)  # the reply is lost; nobody knows whether it was counted
                    peer = server.connect(timeout=CLIENT_S)
                answered.release()

        threads = [threading.Thread(target=count) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for victim in server.pids():
            for _ in range(clients * each // 4):
                answered.acquire()
            os.kill(victim, signal.SIGKILL)
        for thread in threads:
            thread.join()
        assert cut, "the workers died in the middle"
        assert len(set(answers)) == len(answers) == clients * each - len(cut), "no number was given twice"
        final = int(ask(server.connect(), b"GET", b"n") or b"0")
        assert max(answers) <= final
        assert len(answers) <= final <= len(answers) + len(cut)


def times_emptied(log: Path) -> int:
    """How often SQLite has begun the write-ahead log anew, from a start at random (fileformat2.html, "Salt-1")."""
    with log.open("rb") as file:
        return int.from_bytes(file.read(20)[16:])


COUNTED = """
class Most:
    def __init__(self, work):
        self.work, self.lock, self.now, self.most = work, threading.Lock(), 0, 0

    def __call__(self, *words):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            return self.work(*words)
        finally:
            with self.lock:
                self.now -= 1

asking, writing, query = Most(Store.write), Most(Store.query), Store.query
Store.write = lambda *words: asking(*words)
Store.query = lambda self, sql, *values: (query if sql.startswith("SELECT") else writing)(self, sql, *values)
COMMANDS[b"ASKING"] = (lambda _store: number(asking.most), 0, 0)
COMMANDS[b"WRITING"] = (lambda _store: number(writing.most), 0, 0)
"""
"""Commands for how many threads of a worker have wanted to write, and have been at the file, at the same time."""


@needs_redis
def test_a_crowd_that_writes_does_not_keep_the_log_from_being_emptied() -> None:
    with two_workers(COUNTED) as server:
        ask(server.connect(), b"SET", b"n", b"1")
        log = server.folder / "kv.sqlite-wal"
        before = times_emptied(log)
        redis_benchmark(server, "set", "-c", "100", "-P", "16", "-r", "10000", "-d", "4000", "-n", "8000")
        with one_of_each(server) as peers:
            for peer in peers:
                assert int((ask(peer, b"ASKING") or b"")[1:]) >= 4, "there was a crowd"
                assert ask(peer, b"WRITING") == b":1", "and of each worker one at a time was at the file"
        assert (times_emptied(log) - before) % 2**32 >= 1, "so it was emptied; how often is the machine's affair"


ONE_BY_ONE = """
import fcntl

stop = Store.thread_stop

def stop_in_turn(self):
    with open("turn", "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        stop(self)

Store.thread_stop = stop_in_turn
"""
"""SQLite removes its log with the last connection; of two that are closed at once, neither may be the last."""


def test_what_was_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "pairs.sqlite"
    for expected in (b":1", b":2"):
        with store(text=EXAMPLE + ONE_BY_ONE, KV_PATH=str(path)) as server:
            assert ask(server.connect(), b"INCR", b"starts") == expected
        assert [file.name for file in tmp_path.iterdir()] == ["pairs.sqlite"], "each thread has closed its connection"


# a database that cannot be used


def test_a_database_that_others_lock_is_waited_for_and_then_named() -> None:
    impatient = EXAMPLE.replace("PATIENCE_S = 5.0", "PATIENCE_S = 0.1")
    assert impatient != EXAMPLE
    with store(text=impatient, workers=1) as server:
        peer = server.connect()
        assert ask(peer, b"SET", b"n", b"1") == b"+OK"
        with closing(sqlite3.connect(server.folder / "kv.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            busy = b"-BUSY kv.sqlite has been locked for 0.1 s by others that write; try again"
            for request in ((b"INCR", b"n"), (b"SET", b"n", b"5"), (b"DEL", b"n")):
                assert ask(peer, *request) == busy
            assert ask(server.connect(), b"GET", b"n") == b"1", "reading goes on"
            crowd = [server.connect() for _ in range(12)]
            for each in crowd:
                each.send(encoded(b"INCR", b"n"))
            assert {reply_of(each) for each in crowd} == {busy}, "nobody waits for the patience of all before"
            other.execute("COMMIT")
        assert ask(peer, b"INCR", b"n") == b":2"
        assert "Traceback" not in server.log


def test_a_database_that_breaks_is_an_error_and_not_the_end() -> None:
    with store(workers=1) as server:
        peer = server.connect()
        with closing(sqlite3.connect(server.folder / "kv.sqlite")) as other:
            other.execute("DROP TABLE pairs")
        assert ask(peer, b"GET", b"n") == b"-ERR kv.sqlite: no such table: pairs"
        assert ask(peer, b"PING") == b"+PONG"


@pytest.mark.parametrize(
    ("path", "why"),
    [("no/such/folder/kv.sqlite", "unable to open database file"), ("kv.py", "file is not a database")],
)
def test_a_file_that_cannot_be_used_is_named_at_the_start(path: str, why: str) -> None:
    words = ("serve", "kv.py:store", "--bind", "127.0.0.1:0", "--workers", "2")
    ended = run_to_end(*words, files={"kv.py": EXAMPLE}, env={"KV_PATH": path})
    assert ended.code == 3
    assert "KV_PATH: nothing can be kept in /" in ended.log
    assert f"{path}: {why}" in ended.log
