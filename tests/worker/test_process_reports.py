"""A worker as a process: it reports calls that take too long, shows its stacks when asked, and follows its log."""

import os

import pytest

from leftovers import eventually
from paceline.host import processes
from paceline.host.signals import STACKS
from paceline.worker.messages import Drain, Dump, Reopen
from processbed import worker_process


def shown_by(pid: int) -> str:
    """What its faulthandler has written so far."""
    folder = f"/proc/{pid}/fd"
    (fd,) = (name for name in os.listdir(folder) if os.readlink(f"{folder}/{name}").startswith("/memfd:fault"))
    with open(f"{folder}/{fd}") as file:
        return file.read()


GATED = """
import paceline

@paceline.message(timeout="200ms")
def handler(message):
    if message == b"wait":
        wait_at("gate")
    return message
"""


def test_a_late_call_is_said_once_and_its_stack_is_in_the_log() -> None:
    with worker_process(GATED, gates=("gate",)) as worker:
        worker.wait_said("ready")
        with worker.connect() as client:
            client.sendall(b"wait")
            stuck = worker.wait_said("stuck")
            peer = "{}:{}".format(*client.getsockname())
            assert (stuck["limit_s"], stuck["peer"]) == (0.2, peer)
            assert 0.2 < stuck["seconds"] < 2
            assert f"a call for {peer} has run for " in worker.log
            assert "longer than the 0.2 s that are allowed by the handler (--timeout overrides it)" in worker.log
            assert "; it goes on; the supervisor is told as long as it does, and replaces this worker " in worker.log
            assert 'wait_at("gate")' in worker.log
            assert worker.ask(b"others go on") == b"others go on"
            worker.open_gate("gate")
            assert client.recv(100) == b"wait"
        worker.wait_log("the call that was too long in thread ")
        assert worker.log.count(" has run for ") == 1
        worker.drain(5)
        assert worker.wait_ended()["code"] == 0


def test_a_setting_overrides_the_handler() -> None:
    with worker_process(GATED, gates=("gate",), timeout=None) as worker:
        worker.wait_said("ready")
        with worker.connect() as client:
            client.sendall(b"wait")
            worker.wait_log("waits at gate")
            worker.send(Dump(3))
            assert "in a call" in worker.wait_said("dumped")["text"]
            worker.open_gate("gate")
            assert client.recv(100) == b"wait"
        assert "stuck" not in worker.said()


def test_a_wrong_limit_of_the_handler_is_a_failed_start() -> None:
    source = "import paceline\nhandler = paceline.message(timeout='soon')(lambda message: message)"
    with worker_process(source) as worker:
        failed = worker.wait_said("failed")
        assert "says timeout='soon': must be a time from 10ms to 7d" in failed["why"]
        assert not failed["traceback"]


def test_who_hands_over_leaves_a_late_call_behind_at_once() -> None:
    with worker_process(GATED, gates=("gate",)) as worker:
        worker.wait_said("ready")
        with worker.connect() as client:
            client.sendall(b"wait")
            worker.wait_said("stuck")
            worker.send(Drain(300.0, hand_over=True))
            assert worker.wait_said("leaving")["cut"] == 1
            assert worker.wait_ended()["code"] == 4


def test_in_a_stop_a_late_call_has_the_time_that_all_calls_have() -> None:
    with worker_process(GATED, gates=("gate",)) as worker:
        worker.wait_said("ready")
        with worker.connect() as client:
            client.sendall(b"wait")
            worker.wait_said("stuck")
            worker.drain(300)
            worker.open_gate("gate")
            assert client.recv(100) == b"wait"
        assert worker.wait_said("leaving")["cut"] == 0


def test_it_shows_where_its_threads_are() -> None:
    with worker_process(GATED, gates=("gate",)) as worker:
        worker.wait_said("ready")
        with worker.connect() as client:
            client.sendall(b"wait")
            worker.wait_said("stuck")
            worker.send(Dump(7))
            dumped = worker.wait_said("dumped")
            first, *_ = dumped["text"].splitlines()
            assert dumped["asker"] == 7
            assert first.startswith("thread 0 · in a call for ")
            assert first.endswith(" · peer {}:{} · stuck".format(*client.getsockname()))
            worker.open_gate("gate")
            assert client.recv(100) == b"wait"


@pytest.mark.parametrize("change", ["signal.SIG_IGN", "signal.SIG_DFL", "lambda *_: None"])
def test_its_c_code_shows_them_too_whatever_the_import_did_to_the_signal(change: str) -> None:
    source = f"""
    import ctypes
    import signal
    signal.signal(signal.SIGRTMIN + 1, {change})

    def handler(message):
        print("keeps the GIL")
        ctypes.PyDLL(None).sleep(3600)
    """
    with worker_process(source) as worker:
        worker.wait_said("ready")
        assert processes.catches(worker.pid, STACKS)
        with worker.connect() as client:
            client.sendall(b"x")
            worker.wait_log("keeps the GIL")
            worker.send_signal(STACKS)
            eventually(lambda: "in handler" in shown_by(worker.pid), 10)


def test_it_follows_its_log_when_that_was_moved() -> None:
    with worker_process("def handler(message): print(message); return message") as worker:
        worker.wait_said("ready")
        assert worker.ask(b"before") == b"before"
        os.rename(worker.folder / "log", worker.folder / "log.1")
        assert worker.ask(b"between") == b"between"
        worker.send(Reopen())
        eventually((worker.folder / "log").exists, 5)
        assert worker.ask(b"after") == b"after"
        eventually(lambda: "after" in worker.log, 5)
        old = (worker.folder / "log.1").read_text()
        assert "before" in old
        assert "between" in old
        assert "after" not in old
        worker.drain(5)
        assert worker.wait_ended()["code"] == 0
