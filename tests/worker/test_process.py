"""worker/process.py: a worker's life, from the fork to its last word.  Each worker is a real process."""

import signal
from typing import Any

import pytest

from paceline.scoreboard.fields import WorkerState
from paceline.worker.messages import Drain
from processbed import worker_process

ECHO = """
def handler(message):
    return message
"""

CLASS = """
import atexit, threading

def say(what):
    is_main = threading.current_thread() is threading.main_thread()
    print(what, "on the main thread" if is_main else "on another", flush=True)

atexit.register(say, "atexit")

class Handler:
    framing = "line"
    def __init__(self): say("built")
    def start(self): say("start")
    def stop(self): say("stop")
    def thread_start(self): say("thread_start")
    def thread_stop(self): say("thread_stop")
    def __call__(self, message):
        say("called")
        return message
"""

SLOW = """
def handler(message):
    if message == b"slow":
        wait_at("gate")
    return message
"""


def test_it_says_what_it_serves_and_serves_it() -> None:
    with worker_process(ECHO) as worker:
        ready = worker.wait_said("ready")
        assert ready["kind"] == "message"
        assert ready["framing"] == "raw"
        assert ready["target"].endswith("app.py:handler")
        assert worker.ask(b"hello") == b"hello"
        worker.drain(10)
        ended = worker.wait_ended()
        assert ended["code"] == 0
        assert worker.said() == ["ready", "leaving"]
        assert worker.wait_said("leaving")["cut"] == 0
        assert ended["cells"]["state"] == WorkerState.GONE
        assert ended["cells"]["accepted"] == 1


@pytest.mark.parametrize(
    ("source", "setting", "value", "kind", "framing"),
    [
        (ECHO, "framing", "line", "message", "line"),
        ("def handler(conn): conn.sendall(conn.recv(100))", "as_", "connection", "connection", "raw"),
        (CLASS.replace("class Handler", "class handler"), "framing", None, "message", "line"),
        (CLASS.replace("class Handler", "class handler"), "framing", "netstring", "message", "netstring"),
    ],
    ids=["framing", "connection", "class", "class, framing overridden"],
)
def test_it_says_what_kind_it_is(source: str, setting: str, value: Any, kind: str, framing: str) -> None:
    with worker_process(source, **{setting: value}) as worker:
        ready = worker.wait_said("ready")
        assert (ready["kind"], ready["framing"]) == (kind, framing)


def test_the_hooks_run_in_order_and_where_they_should() -> None:
    with worker_process(CLASS, "Handler") as worker:
        worker.wait_said("ready")
        assert worker.ask(b"hello\n") == b"hello\n"
        worker.drain(10)
        assert worker.wait_ended()["code"] == 0
        assert worker.log.splitlines() == [
            "built on the main thread",
            "start on the main thread",
            "thread_start on another",
            "called on another",
            "thread_stop on another",
            "stop on the main thread",
            "atexit on the main thread",
        ]


# The end


def test_a_running_call_finishes_before_the_end() -> None:
    with worker_process(SLOW, gates=("gate",)) as worker:
        worker.wait_said("ready")
        with worker.connect() as client:
            client.sendall(b"slow")
            worker.wait_log("waits at gate")
            worker.drain(20)
            worker.open_gate("gate")
            assert client.recv(100) == b"slow"
            assert client.recv(100) == b""
        assert worker.wait_ended()["code"] == 0


def test_calls_that_take_too_long_are_cut_and_counted() -> None:
    with worker_process(SLOW, gates=("gate",)) as worker:
        worker.wait_said("ready")
        with worker.connect() as client:
            client.sendall(b"slow")
            worker.wait_log("waits at gate")
            worker.drain(0.1)
            ended = worker.wait_ended()
        assert ended["code"] == 4
        assert worker.wait_said("leaving")["cut"] == 1


def test_when_time_is_up_the_last_word_comes_before_the_users_code() -> None:
    """`stop` may hang, and then the supervisor still knows how many calls were cut."""
    source = """
    class Handler:
        def stop(self): wait_at("stop")
        def __call__(self, message): wait_at("gate")
    """
    with worker_process(source, "Handler", gates=("gate", "stop")) as worker:
        worker.wait_said("ready")
        with worker.connect() as client:
            client.sendall(b"slow")
            worker.wait_log("waits at gate")
            worker.drain(0.0)
            assert worker.wait_said("leaving")["cut"] == 1
            worker.open_gate("stop")
            assert worker.wait_ended()["code"] == 4


@pytest.mark.parametrize("error", ["ValueError('no')", "SystemExit(7)", "KeyboardInterrupt()"])
def test_a_stop_that_raises_is_logged_and_the_end_is_clean(error: str) -> None:
    source = f"""
    class Handler:
        def stop(self): raise {error}
        def __call__(self, message): return message
    """
    with worker_process(source, "Handler") as worker:
        worker.wait_said("ready")
        worker.drain(10)
        assert worker.wait_ended()["code"] == 0
        assert "stop raised" in worker.log
        assert "def stop(self): raise" in worker.log


def test_a_terminate_signal_asks_for_the_order_to_drain() -> None:
    with worker_process(SLOW, gates=("gate",)) as worker:
        worker.wait_said("ready")
        with worker.connect() as client:
            client.sendall(b"slow")
            worker.wait_log("waits at gate")
            worker.send_signal(signal.SIGTERM)
            worker.wait_said("terminated")
            worker.send(Drain(30.0))
            worker.open_gate("gate")
            assert client.recv(100) == b"slow"
            assert client.recv(100) == b""
        assert worker.wait_ended()["code"] == 0
        assert worker.said() == ["ready", "terminated", "leaving"]


def test_a_channel_that_ends_is_an_order_to_drain() -> None:
    with worker_process(SLOW, gates=("gate",)) as worker:
        worker.wait_said("ready")
        with worker.connect() as client:
            client.sendall(b"slow")
            worker.wait_log("waits at gate")
            worker.hang_up()
            worker.wait_log("the supervisor is gone")
            worker.open_gate("gate")
            assert client.recv(100) == b"slow"
            assert client.recv(100) == b""
        assert worker.wait_ended()["code"] == 0


def test_a_supervisor_that_dies_takes_no_call_with_it() -> None:
    """What runs is finished, then the worker leaves, and nobody can connect any more."""
    with worker_process(SLOW, gates=("gate",)) as worker:
        worker.wait_said("ready")
        with worker.connect() as client:
            client.sendall(b"slow")
            worker.wait_log("waits at gate")
            worker.rig.kill()
            worker.wait_log("the supervisor is gone")
            with pytest.raises(ConnectionRefusedError):
                worker.connect()
            worker.open_gate("gate")
            assert client.recv(100) == b"slow"
            assert client.recv(100) == b""
        assert worker.lose_supervisor() == 0


def test_a_supervisor_that_dies_while_the_worker_boots_ends_it() -> None:
    with worker_process("wait_at('boot')\n" + ECHO, gates=("boot",)) as worker:
        worker.wait_log("waits at boot")
        assert worker.lose_supervisor() == signal.SIGKILL


def test_a_worker_that_cannot_run_python_ends_when_nobody_else_can_end_it() -> None:
    """The handler keeps the GIL, and the supervisor is gone: a timer of the C library is all that is left."""
    source = """
    import ctypes
    def handler(message):
        print("holds the GIL", flush=True)
        ctypes.PyDLL(None).sleep(60)
    """
    with worker_process(source, heartbeat=0.05, drain_timeout=0.0) as worker:
        worker.wait_said("ready")
        with worker.connect() as client:
            client.sendall(b"x")
            worker.wait_log("holds the GIL")
            status = worker.lose_supervisor()
        assert status == 1 << 8


# Signals


IGNORED = ("SIGINT", "SIGHUP", "SIGQUIT", "SIGTTIN", "SIGTTOU", "SIGTSTP", "SIGUSR1", "SIGUSR2", "SIGPIPE", "SIGCHLD")


def test_signals_to_the_whole_group_do_not_touch_it() -> None:
    with worker_process(ECHO) as worker:
        worker.wait_said("ready")
        for name in IGNORED:
            worker.send_signal(signal.Signals[name])
            assert worker.ask(name.encode()) == name.encode()


def test_a_signal_that_comes_while_it_boots_is_not_lost() -> None:
    with worker_process("wait_at('boot')\n" + ECHO, gates=("boot",)) as worker:
        worker.wait_log("waits at boot")
        worker.send_signal(signal.SIGTERM)
        worker.send_signal(signal.SIGINT)
        worker.open_gate("boot")
        worker.wait_said("terminated")
        worker.send(Drain(30.0))
        assert worker.wait_ended()["code"] == 0
        assert worker.said() == ["ready", "terminated", "leaving"]


@pytest.mark.parametrize("where", ["module", "start"])
def test_what_the_users_code_does_to_signals_is_undone(where: str) -> None:
    change = """
        import faulthandler, os, signal, sys
        for name in ("SIGPIPE", "SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"):
            signal.signal(signal.Signals[name], signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        faulthandler.enable()
        faulthandler.cancel_dump_traceback_later()
        sys.setswitchinterval(5)
        """
    source = f"""
    def change():{change}
    class Handler:
        def start(self):
            if {where!r} == "start": change()
        def __call__(self, message):
            import os, signal, sys
            blocked = [line for line in open("/proc/thread-self/status") if line.startswith("SigBlk")]
            is_default = signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
            return f"{{sys.getswitchinterval():.3f}} {{is_default}} {{blocked}}".encode()
    if {where!r} == "module": change()
    """
    with worker_process(source, "Handler") as worker:
        worker.wait_said("ready")
        assert worker.ask(b"x") == b"0.001 True ['SigBlk:\\t0000000000000000\\n']"
        for name in ("SIGINT", "SIGHUP", "SIGUSR1", "SIGPIPE"):
            worker.send_signal(signal.Signals[name])
            worker.ask(b"x")
        worker.send_signal(signal.SIGTERM)
        worker.wait_said("terminated")
        worker.send(Drain(30.0))
        assert worker.wait_ended()["code"] == 0


def test_a_program_that_a_handler_starts_can_be_interrupted() -> None:
    """What a process ignores, the programs that it starts ignore, too."""
    source = """
    import signal, subprocess
    def handler(message):
        status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, check=True).stdout
        ignored = int(next(line for line in status.splitlines() if line.startswith(b"SigIgn")).split()[1], 16)
        return " ".join(number.name for number in signal.valid_signals() if ignored >> (number - 1) & 1
                        if isinstance(number, signal.Signals)).encode() + b"."
    """
    with worker_process(source) as worker:
        assert sorted(worker.ask(b"x").rstrip(b".").split()) == [b"SIGTSTP", b"SIGTTIN", b"SIGTTOU"]


@pytest.mark.parametrize(
    ("how", "number", "said"),
    [
        ("import ctypes; ctypes.string_at(0)", signal.SIGSEGV, "Segmentation fault"),
        ("import os; os.abort()", signal.SIGABRT, "Aborted"),
    ],
    ids=["segmentation fault", "abort"],
)
def test_a_crash_leaves_its_stack_behind(how: str, number: int, said: str) -> None:
    source = f"""
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    def handler(message):
        {how}
    """
    with worker_process(source) as worker:
        worker.wait_said("ready")
        with worker.connect() as client:
            client.sendall(b"x")
            ended = worker.wait_ended()
        assert ended["code"] == -number
        assert said in ended["fault"]
        assert "in handler" in ended["fault"]


def test_an_abort_from_outside_shows_all_threads() -> None:
    with worker_process(SLOW, gates=("gate",)) as worker:
        worker.wait_said("ready")
        with worker.connect() as client:
            client.sendall(b"slow")
            worker.wait_log("waits at gate")
            worker.send_signal(signal.SIGABRT)
            ended = worker.wait_ended()
        assert ended["code"] == -signal.SIGABRT
        assert "in wait_at" in ended["fault"]
        assert "watcher.py" in ended["fault"]


# What is printed


def test_prints_and_logging_go_to_standard_error_in_whole_lines() -> None:
    source = """
    import logging, os, sys
    logging.basicConfig(format="%(levelname)s %(message)s")
    print("printed at import")
    def handler(message):
        print("printed", message.decode())
        print("to stderr", file=sys.stderr)
        logging.warning("logged")
        os.write(1, b"written to 1\\n")
        sys.stdout.write("without an end")
        return message
    """
    with worker_process(source) as worker:
        worker.wait_said("ready")
        assert worker.ask(b"hello") == b"hello"
        worker.drain(10)
        assert worker.wait_ended()["code"] == 0
        assert worker.log.splitlines() == [
            "printed at import",
            "printed hello",
            "to stderr",
            "WARNING logged",
            "written to 1",
            "without an end",
        ]
