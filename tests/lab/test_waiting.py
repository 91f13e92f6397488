"""lab/waiting.py: each piece of work does what it says; amounts are measured out; nothing is left."""

import os
from functools import partial
from pathlib import Path

import pytest

from paceline.lab.waiting import apart, ask, base_of_names, calls, file_system_of, peers, query, work

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_each_peer_answers_each_byte() -> None:
    with peers(3, 0.001) as ours:
        for peer in ours * 2:
            ask(peer)


def test_a_peer_that_has_gone_is_noticed() -> None:
    import socket

    ours, theirs = socket.socketpair()
    with ours:
        ours.settimeout(10)
        with theirs:
            theirs.shutdown(socket.SHUT_WR)
            with pytest.raises(ConnectionError, match="the peer has gone"):
                ask(ours)


def test_each_kind_of_work_can_be_done_and_each_thread_has_its_own(tmp_path: Path) -> None:
    with peers(2, 0.0) as slow, work(str(tmp_path), slow, 0.0005) as does:
        assert {kind: len(its) for kind, its in does.items()} == {"sleep": 2, "socket": 2, "file": 2, "SQLite": 2}
        for its in does.values():
            for do in its:
                do()
    assert [path.stat().st_size for path in sorted(tmp_path.iterdir())] == [4096, 4096]


def test_each_call_can_be_made(tmp_path: Path) -> None:
    from paceline.lab.experiments.blocking import CALLS

    with calls(str(tmp_path), 0.001) as called:
        assert called.keys() == CALLS.keys()
        for call in called.values():
            call()


def test_a_query_looks_at_all_names_as_often_as_is_said() -> None:
    base = base_of_names()
    try:
        query(base, 2)
        assert base.execute("SELECT count(*) FROM names").fetchone() == (2000,)
    finally:
        base.close()


def test_the_file_system_is_that_of_the_longest_mount() -> None:
    assert file_system_of("/proc/self") == "proc"
    assert file_system_of("/") != "?"


def test_cores_are_as_before_also_after_a_failure() -> None:
    before = os.sched_getaffinity(0)

    def fail() -> None:
        with apart() as others:
            assert os.sched_getaffinity(0) == {min(before)}
            assert others == (before - {min(before)} or before)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        partial(fail)()
    assert os.sched_getaffinity(0) == before
