"""worker/process.py: handlers that make processes.  A child keeps nothing of the worker's, and never serves."""

import os
import signal
import socket
from contextlib import suppress

import pytest

from processbed import worker_process
from rigbed import DEADLINE_S

RETURNS = {
    "a message": """
    import os
    def handler(message):
        if message == b"fork" and os.fork() == 0:
            return b"from the child"
        return message
    """,
    "a reply in pieces": """
    import os
    def handler(message):
        yield b""
        if message == b"fork" and os.fork() == 0:
            yield b"from the child"
        else:
            yield message
    """,
    "an exception": """
    import os, sys
    def handler(message):
        if message == b"fork" and os.fork() == 0:
            sys.exit(0)
        return message
    """,
    "a greeting": """
    import os
    class handler:
        def connected(self, connection):
            os.fork()
        def __call__(self, message):
            return message
    """,
    "a farewell": """
    import os
    class handler:
        def disconnected(self, connection):
            os.fork()
        def __call__(self, message):
            return message
    """,
}


@pytest.mark.parametrize("way", RETURNS)
def test_a_child_that_comes_back_into_our_code_is_ended(way: str) -> None:
    with worker_process(RETURNS[way]) as worker:
        worker.wait_said("ready")
        for _ in range(3):
            assert worker.ask(b"fork") == b"fork", "the parent's reply, once"
        worker.wait_log("returned into the server's code")
        worker.drain(10)
        assert worker.wait_ended()["code"] == 0


def test_a_child_that_comes_back_from_a_whole_connection_call_is_ended() -> None:
    source = """
    import os
    def handler(conn):
        data = conn.recv(100)
        if os.fork() == 0:
            conn.sendall(b"child")
            return
        os.wait()
        conn.sendall(data)
    """
    with worker_process(source, as_="connection") as worker:
        worker.wait_said("ready")
        for _ in range(3):
            assert worker.ask(b"parent") == b"childparent"
        worker.drain(10)
        assert worker.wait_ended()["code"] == 0


def test_a_child_that_leaves_by_itself_is_nobodys_business() -> None:
    source = """
    import os
    def handler(message):
        pid = os.fork()
        if pid == 0:
            os._exit(7)
        return b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    """
    with worker_process(source) as worker:
        worker.wait_said("ready")
        assert worker.ask(b"x") == b"7"
        assert worker.ask(b"x") == b"7"
        assert worker.log == ""


def test_a_child_keeps_nothing_of_the_worker_open() -> None:
    """No listener, no channel, no inbox, no epoll set: what is left are the standard three, and connections."""
    source = """
    import os
    def handler(message):
        reader, writer = os.pipe()
        if os.fork() == 0:
            kinds = []
            for number in os.listdir("/proc/self/fd"):
                try:
                    kinds.append(os.readlink(f"/proc/self/fd/{number}"))
                except OSError:
                    pass
            listening = [line.split()[9] for line in open("/proc/net/tcp") if line.split()[3] == "0A"]
            mine = [kind for kind in kinds if kind.startswith("socket:") and kind[8:-1] in listening]
            polls = [kind for kind in kinds if "eventpoll" in kind]
            sockets = [kind for kind in kinds if kind.startswith("socket:")]
            os.write(writer, repr((len(polls), len(mine), len(sockets))).encode())
            os._exit(0)
        os.close(writer)
        with open(reader, "rb") as result:
            return result.read()
    """
    with worker_process(source) as worker:
        worker.wait_said("ready")
        assert worker.ask(b"x") == b"(0, 0, 1)", "the one socket is the client's connection"


def test_the_port_is_free_when_the_worker_is_gone_though_a_child_lives_on() -> None:
    source = """
    import os
    def handler(message):
        if os.fork() == 0:
            wait_at("gate")
            os._exit(0)
        return message
    """
    with worker_process(source, gates=("gate",)) as worker:
        worker.wait_said("ready")
        client = worker.connect()
        with client:
            client.sendall(b"x")
            assert client.recv(100) == b"x"
            client.shutdown(socket.SHUT_WR)
            assert client.recv(100) == b"", "the end arrives, though the child has a copy of the connection"
        worker.wait_log("waits at gate")
        worker.drain(10)
        assert worker.wait_ended()["code"] == 0
        assert {"control": "end"} in worker.records, "nor has it a copy of the channel"
        with pytest.raises(ConnectionRefusedError):
            worker.connect()
        worker.open_gate("gate")


@pytest.mark.parametrize("where", ["import", "start"])
def test_a_process_started_before_the_worker_serves_keeps_nothing_open_either(where: str) -> None:
    """A pool of processes that is made with the module, or in `start`."""
    source = f"""
    import os
    def make():
        if os.fork() == 0:
            wait_at("gate")
            os._exit(0)
    class Handler:
        def start(self):
            if {where!r} == "start": make()
        def __call__(self, message):
            return message
    if {where!r} == "import": make()
    """
    with worker_process(source, "Handler", gates=("gate",)) as worker:
        worker.wait_said("ready")
        assert worker.ask(b"x") == b"x"
        worker.wait_log("waits at gate")
        worker.drain(10)
        assert worker.wait_ended()["code"] == 0
        assert {"control": "end"} in worker.records
        with pytest.raises(ConnectionRefusedError):
            worker.connect()
        worker.open_gate("gate")


@pytest.mark.parametrize("where", ["import", "start"])
def test_a_child_that_comes_back_before_the_worker_serves_is_ended(where: str) -> None:
    source = f"""
    import os
    class Handler:
        def start(self):
            if {where!r} == "start": os.fork()
        def __call__(self, message):
            return b"%d" % os.getpid()
    if {where!r} == "import": os.fork()
    """
    with worker_process(source, "Handler") as worker:
        worker.wait_said("ready")
        worker.wait_log("returned into the server's code")
        assert {worker.ask(b"x") for _ in range(10)} == {b"%d" % worker.pid}
        worker.drain(10)
        assert worker.wait_ended()["code"] == 0
        assert worker.said() == ["ready", "leaving"]


def test_multiprocessing_by_fork_works_in_a_handler() -> None:
    source = """
    import multiprocessing
    context = multiprocessing.get_context("fork")
    def work(connection, number):
        connection.send(number * 2)
    def handler(message):
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, int(message)))
        process.start()
        theirs.close()
        result = ours.recv()
        process.join()
        return b"%d %d" % (result, process.exitcode)
    """
    with worker_process(source) as worker:
        worker.wait_said("ready")
        for number in range(5):
            assert worker.ask(b"%d" % number) == b"%d 0" % (number * 2)
        worker.drain(10)
        assert worker.wait_ended()["code"] == 0


@pytest.mark.parametrize("when", ["at once", "later"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"])
def test_a_forked_process_can_be_terminated(name: str, when: str) -> None:
    """Our own handlers, which do nothing but tell the worker to drain, or nothing at all, are not for it."""
    source = f"""
    import multiprocessing, os, signal
    context = multiprocessing.get_context("fork")
    def run(said):
        said.set()
        wait_at("gate")
    def handler(message):
        said = context.Event()
        process = context.Process(target=run, args=(said,))
        process.start()
        if {when!r} == "later": said.wait()
        os.kill(process.pid, signal.{name})
        process.join(20)
        return b"%d" % process.exitcode
    """
    with worker_process(source, gates=("gate",)) as worker:
        worker.wait_said("ready")
        for _ in range(5):
            assert worker.ask(b"x") == b"%d" % -signal.Signals[name]
        assert worker.said() == ["ready"], "nor did the worker take it for itself"
        worker.drain(10)
        assert worker.wait_ended()["code"] == 0


def test_a_subprocess_gets_the_standard_three_only() -> None:
    source = """
    import subprocess, sys
    program = "import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd')))"
    def handler(message):
        return subprocess.run([sys.executable, "-c", program], close_fds=False, stdout=subprocess.PIPE).stdout
    """
    with worker_process(source) as worker:
        worker.wait_said("ready")
        assert worker.ask(b"x") == b"[0, 1, 2, 3]\n", "3 is the listing itself"


def test_a_subprocess_can_be_terminated_and_is_told_of_its_children() -> None:
    """It inherits the mask of the thread that starts it: nothing may be blocked there."""
    source = """
    import subprocess
    def handler(message):
        status = subprocess.run(["cat", "/proc/self/status"], stdout=subprocess.PIPE, text=True).stdout
        blocked = [line for line in status.splitlines() if line.startswith("SigBlk")]
        sleeper = subprocess.Popen(["sleep", "1000"])
        sleeper.terminate()
        return f"{blocked} {sleeper.wait(20)}".encode()
    """
    with worker_process(source) as worker:
        worker.wait_said("ready")
        assert worker.ask(b"x") == b"['SigBlk:\\t0000000000000000'] -15"


def test_threads_of_the_users_have_nothing_blocked() -> None:
    source = """
    import threading
    masks = []
    def look():
        masks.extend(line for line in open("/proc/thread-self/status") if line.startswith("SigBlk"))
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    def handler(message):
        return "".join(masks).encode()
    """
    with worker_process(source) as worker:
        worker.wait_said("ready")
        assert worker.ask(b"x") == b"SigBlk:\t0000000000000000\n"


def test_a_handler_that_ends_the_process_ends_this_one_only() -> None:
    with worker_process("import os\ndef handler(message): os._exit(9)") as worker:
        worker.wait_said("ready")
        with worker.connect() as client:
            client.sendall(b"x")
            assert worker.wait_ended()["code"] == 9
            client.settimeout(DEADLINE_S)
            with suppress(ConnectionResetError):
                assert client.recv(100) == b""
        assert os.path.exists(worker.folder), "and nothing else"
