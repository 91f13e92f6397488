"""Servers for the time of an experiment: one of peers.py, or a real Paceline, each a new Python, gone with the block.

They belong to the process group of whoever measures, so whatever ends that ends them, too.  The listening socket is
made here and given to the server: its address is known, and clients may come at once.
"""

import os
import select
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from paceline.clock import now, sleep
from paceline.errors import HostError
from paceline.host.processes import open_pidfd, send_signal, stat_of
from paceline.host.runtime import VARIABLE
from paceline.host.strangers import process_numbers
from paceline.lab import machine, peers
from paceline.lab.memory import memory_of
from paceline.settings.table import TABLE

START_S = 20.0
STOP_S = 3.0

_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); from paceline.cli import main; sys.exit(main())"


@dataclass
class Serving:
    """A server that runs: its address, and its first process."""

    address: tuple[str, int]
    pid: int

    def pids(self) -> list[int]:
        """Its process and all below it; those that nobody has reaped yet are among them."""
        parents: dict[int, list[int]] = {}
        for number in process_numbers():
            with suppress(OSError):
                parents.setdefault(int(stat_of(number)[1]), []).append(number)
        found = [self.pid]
        for pid in found:  # grows meanwhile
            found += parents.get(pid, [])
        return found

    def pss_bytes(self) -> int:
        """The memory of all its processes (PSS, proc_pid_smaps(5)); 0: it is not told.

        A page that several processes share counts in part to each, be they of this server or of another one.
        """
        return sum(memory_of(pid).get("pss_bytes", 0) for pid in self.pids())

    def cpu_s(self) -> float:
        """How much processor time all its processes have had; those that have ended do not count."""
        ticks = 0
        for pid in self.pids():
            with suppress(OSError):
                ticks += sum(map(int, stat_of(pid)[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def threads(self) -> int:
        """How many all its processes have now."""
        count = 0
        for pid in self.pids():
            with suppress(OSError):
                count += int(stat_of(pid)[17])
        return count

    def connect(self, within_s: float = START_S) -> socket.socket:
        return socket.create_connection(self.address, within_s)


def ask(connection: socket.socket, message: bytes) -> int | None:
    """The process that answers; None: the connection has ended.  Raises OSError when no answer comes in time."""
    with suppress(ConnectionError):
        connection.sendall(message + b"\n")
        line = receive_line(connection)
        return int(line) if line else None
    return None


def receive_line(connection: socket.socket) -> bytes:
    """The next line, without its end; empty when the connection has ended.  One answer is under way at the most."""
    line = b""
    with suppress(ConnectionError):
        while not line.endswith(b"\n"):
            piece = connection.recv(1024)
            if not piece:
                return b""
            line += piece
    return line.rstrip(b"\n")


def peer(name: str, *sizes: int) -> "_Start":
    """A server of peers.py, by the name of its function."""
    command = [*machine.fresh_python(), peers.__file__, name, "{fd}", *map(str, sizes)]
    return _Start(command, 1 + sum(sizes[:1]), own_sockets=name == "own_listeners")


def paceline(workers: int, threads: int) -> "_Start":
    """Paceline itself, which serves the same handler."""
    import json

    command = [*machine.fresh_python(), "-c", _BOOT, json.dumps(machine.module_path())]
    command += ["serve", f"--config={os.devnull}"]
    command += [f"--workers={workers}", f"--threads={threads}", "--framing=line", "--bind=fd://{fd}"]
    return _Start([*command, "--drain-timeout=500ms", "--", f"{peers.__file__}:answer"], 1 + workers, is_polite=True)


@dataclass(frozen=True)
class _Start:
    """How a server is started: {fd} stands for its listening socket.

    processes   how many it has when it is up
    is_polite   asked to end, it ends its other processes itself
    """

    command: Sequence[str]
    processes: int
    own_sockets: bool = False
    is_polite: bool = False


@contextmanager
def serving(start: _Start) -> Iterator[Serving]:
    """Start it, and wait until it is up, and answers.  Raises HostError when it does not, with what it has said."""
    with tempfile.TemporaryFile() as log:
        process = None
        try:
            with socket.create_server(
                ("127.0.0.1", 0), backlog=peers.BACKLOG, reuse_port=start.own_sockets
            ) as listener:
                fd, address = listener.fileno(), listener.getsockname()
                process = subprocess.Popen(
                    [word.replace("{fd}", str(fd)) for word in start.command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[fd],
                    env=_without_settings(),
                )
            served = Serving(address, process.pid)
            why = _why_not_up(served, process, start.processes)
            if why:
                log.seek(0)
                raise HostError(f"a server {why}: {log.read()[-2000:].decode(errors='replace').strip()}")
            yield served
        except OSError as error:
            raise HostError(f"a server or a connection to it failed: {error}") from error
        finally:
            if process is not None:
                _end(Serving(("", 0), process.pid), process, start.is_polite)


def _why_not_up(served: Serving, process: "subprocess.Popen[bytes]", processes: int) -> str:
    """Empty as soon as it has answered, and has so many processes."""
    until_s = now() + START_S
    with served.connect() as connection:
        connection.sendall(b"quick\n")
        while not select.select([connection], [], [], 0.25)[0]:
            if process.poll() is not None:
                return "could not start"
            if now() > until_s:
                return f"had not answered after {START_S:g} s"
        if not receive_line(connection):
            return "ended the connection"
    while len(served.pids()) < processes:
        if now() > until_s:
            return f"had not made its processes after {START_S:g} s"
        sleep(0.005)
    return ""


def _end(served: Serving, process: "subprocess.Popen[bytes]", is_polite: bool) -> None:
    """Politely, if it can be asked, then at once; returns when all of its processes are gone."""
    ended: list[int] = []
    try:
        if not is_polite:
            process.send_signal(signal.SIGSTOP)  # so that it does not fork while those whom it forked are looked for
        for pid in served.pids():
            with suppress(OSError):
                ended.append(open_pidfd(pid))
        if is_polite:
            process.send_signal(signal.SIGTERM)
            _wait_for(ended, STOP_S)
    finally:
        for fd in ended:
            send_signal(fd, signal.SIGKILL)
        process.kill()
        process.wait()
        _wait_for(ended, STOP_S)
        for fd in ended:
            os.close(fd)


def _wait_for(ended: Sequence[int], within_s: float) -> None:
    """Until all of them have ended."""
    until_s = now() + within_s
    for fd in ended:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll(max(0, until_s - now()) * 1000)


def _without_settings() -> dict[str, str]:
    ours = {"PACELINE_CONFIG", *(row.variable for row in TABLE)}
    return {VARIABLE: "off", **{name: value for name, value in os.environ.items() if name not in ours}}
