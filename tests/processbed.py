"""A worker as a process of its own, under a stand-in for the supervisor; for tests of worker/process.py.

    with worker_process("def handler(message): return message") as worker:
        assert worker.wait_said("ready")["kind"] == "message"
        ...
        worker.drain(5)
        assert worker.wait_ended()["code"] == 0

The stand-in is this file, run as a program (rigbed.py): it forks the worker as the supervisor does
(supervisor/child.py), tells what it hears, and does what it is told.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from leftovers import wait_gone
from paceline.worker.messages import Message, encode
from rigbed import DEADLINE_S, Onlooker, stand_in, tell

GATE = """
import os

def wait_at(name):
    print(f"waits at {name}", flush=True)
    with open(name) as gate:
        gate.read()
"""
"""For the sources of tests: wait until `WorkerProcess.open_gate(name)`."""


class WorkerProcess(Onlooker):
    """The worker, as a test sees it."""

    def __init__(self, rig: "subprocess.Popen[bytes]", folder: Path) -> None:
        super().__init__(rig, folder)
        begun = self.wait_for("pid")
        self.pid: int = begun["pid"]
        self.port: int = begun["port"]

    def wait_said(self, kind: str) -> dict[str, Any]:
        """The first message of this kind that it sent to its supervisor."""
        return self.wait_for("said", value=kind)

    def wait_ended(self) -> dict[str, Any]:
        """How it ended: `code` (negative: by this signal), `fault` (what faulthandler wrote), `cells`."""
        return self.wait_for("code")

    def said(self) -> list[str]:
        return [record["said"] for record in self.records if "said" in record]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), DEADLINE_S)

    def ask(self, message: bytes) -> bytes:
        """One message on a connection of its own, and all that is replied to it, up to the end."""
        with self.connect() as client:
            client.sendall(message)
            client.shutdown(socket.SHUT_WR)
            received = b""
            while piece := client.recv(65536):
                received += piece
            return received

    def open_gate(self, name: str) -> None:
        """Whoever waits there goes on."""
        self.wait_log(f"waits at {name}")
        with open(self.folder / name, "w"):
            pass

    def drain(self, within_s: float) -> None:
        self.order(do="drain", within_s=within_s)

    def send(self, message: Message) -> None:
        """The supervisor says this."""
        self.order(do="send", datagram=encode(message).decode())

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def hang_up(self) -> None:
        """The supervisor closes the channel."""
        self.order(do="hang up")

    def lose_supervisor(self) -> int:
        """The supervisor is killed; returns the wait status of the worker when it has ended as well."""
        self.rig.kill()
        self.rig.wait()
        wait_gone([self.pid], DEADLINE_S)
        return os.waitpid(self.pid, 0)[1]  # it has come to us (leftovers.adopt_orphans)


@contextmanager
def worker_process(
    source: str, attribute: str = "handler", *, check: bool = False, gates: tuple[str, ...] = (), **settings: Any
) -> Iterator[WorkerProcess]:
    """A worker that serves `attribute` of this source (dedented); `gates` are named pipes in its folder.

    At the end it is killed if it still runs, and nothing of it is left.
    """
    rigged = stand_in(__file__, GATE + textwrap.dedent(source), attribute, gates, check=check, settings=settings)
    with rigged as (rig, folder):
        yield WorkerProcess(rig, folder)


# The stand-in


def run_rig(config: dict[str, Any]) -> NoReturn:
    from paceline.addresses import parse_address
    from paceline.host import memory, passing
    from paceline.host.listeners import open_listener
    from paceline.scoreboard.board import Board
    from paceline.scoreboard.fields import WORKER
    from paceline.settings import Settings
    from paceline.supervisor import child
    from paceline.worker import messages, process
    from paceline.worker.plan import Inbox, Plan

    settings = Settings(**config["settings"])
    is_check = config["check"]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    inboxes = () if is_check else tuple(Inbox(*passing.pair()) for _ in range(3))
    listeners = () if is_check else (open_listener(parse_address("127.0.0.1:0"), 0, 64, None),)
    board = Board.create(3, settings.threads)
    fault_fd = memory.create_growing("fault")
    plan = Plan(
        settings=settings,
        target=config["target"],
        listeners=listeners,
        inboxes=inboxes,
        board=board,
        control=theirs,
        fault_fd=fault_fd,
        seat=1 if inboxes else 0,
        slot=0,
        generation=1,
        supervisor_pid=os.getpid(),
        close_fds=(ours.fileno(),),
        check=is_check,
    )
    pid = child.start(plan, process.main)
    theirs.close()
    for listener in listeners:
        listener.socket.close()
    tell(pid=pid, port=int(listeners[0].text.rpartition(":")[2]) if listeners else 0)
    pidfd = os.pidfd_open(pid)
    poll = select.poll()
    for fd in (0, ours.fileno(), pidfd):
        poll.register(fd, select.POLLIN)
    is_connected = True

    def hear() -> None:
        nonlocal is_connected
        while is_connected:
            try:
                datagram = ours.recv(messages.MOST_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except ConnectionResetError:
                datagram = b""
            if not datagram:
                poll.unregister(ours)
                is_connected = False
                tell(control="end")
                return
            said = json.loads(datagram)
            tell(said=said.pop("is"), **said)

    while True:
        ready = {fd for fd, _ in poll.poll()}
        if ours.fileno() in ready:
            hear()
        if pidfd in ready:
            status = os.waitpid(pid, 0)[1]
            hear()
            row = board.layout.worker_index(plan.seat)
            tell(
                code=os.waitstatus_to_exitcode(status),
                fault=memory.read(fault_fd, 0, memory.size_of(fault_fd)).decode(errors="replace"),
                cells={name: board.words[row + cell] for name, cell in WORKER.items()},
            )
            os._exit(0)
        if 0 in ready:
            lines = os.read(0, 65536)
            if not lines:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                os._exit(0)
            for line in lines.splitlines():
                command = json.loads(line)
                if command["do"] == "drain":
                    ours.send(messages.encode(messages.Drain(command["within_s"])))
                elif command["do"] == "send":
                    ours.send(command["datagram"].encode())
                elif is_connected:
                    poll.unregister(ours)
                    ours.close()
                    is_connected = False


if __name__ == "__main__":
    run_rig(json.loads(sys.argv[1]))
