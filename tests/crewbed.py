"""Some workers as processes, with one board and real inboxes, under a stand-in for the supervisor; for handover.

    with crew(SOURCE, framing="line") as workers:
        first = workers.start()
        ...
        second = workers.start(standby=True)
        workers.tell(second, Serve())
        workers.tell(first, Drain(10, True))
        assert workers.wait_ended(first)["code"] == 0

Nothing is decided here: the test says which worker starts, and what it is told.  The stand-in is this file, run as a
program, for the reasons that rigbed.py gives.  As the supervisor does, it moves the inbox of a worker that has
ended to the others.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from paceline import clock
from paceline.worker.messages import Message, encode
from rigbed import DEADLINE_S, Onlooker, stand_in, tell, write_app

SEATS = 6


class Workers(Onlooker):
    """The workers, as a test sees them; each is named by its seat."""

    def __init__(self, rig: "subprocess.Popen[bytes]", folder: Path) -> None:
        super().__init__(rig, folder)
        self.port: int = self.wait_for("port")["port"]
        self._seats = 0
        self.clients: list[socket.socket] = []

    def start(self, *, generation: int = 1, standby: bool = False, wait: bool = True, **more: Any) -> int:
        """A new worker; its seat, when it is ready."""
        seat, self._seats = self._seats, self._seats + 1
        self.order(do="start", seat=seat, generation=generation, standby=standby, **more)
        if wait:
            self.wait_said(seat, "ready")
        return seat

    def write(self, source: str) -> None:
        """The code that those have who start from now on."""
        write_app(self.folder, source)

    def tell(self, seat: int, message: Message) -> None:
        self.order(do="tell", seat=seat, message=encode(message).decode())

    def kill(self, seat: int, number: int = signal.SIGKILL) -> None:
        os.kill(self.wait_for("pid", seat)["pid"], number)

    def pid(self, seat: int) -> int:
        return int(self.wait_for("pid", seat)["pid"])

    def cells(self, seat: int) -> dict[str, int]:
        """Its row of the scoreboard, as it is now."""
        asked = sum("cells" in record for record in self.records)
        self.order(do="cells", seat=seat)
        deadline = clock.now() + DEADLINE_S
        while sum("cells" in record for record in self.records) == asked:
            assert self.read_record(deadline), self.records
        cells: dict[str, int] = [record["cells"] for record in self.records if "cells" in record][-1]
        return cells

    def wait_said(self, seat: int, kind: str) -> dict[str, Any]:
        return self.wait_for("said", seat, kind)

    def wait_ended(self, seat: int) -> dict[str, Any]:
        """Its exit `code` (negative: by this signal), and `messages`: in which it said how it leaves."""
        return self.wait_for("code", seat)

    def has_ended(self, seat: int) -> bool:
        """Without waiting."""
        while self.read_record(clock.now()):
            pass
        return any("code" in record and record["seat"] == seat for record in self.records)

    def connect(self) -> socket.socket:
        """A new client; it is closed at the end."""
        client = socket.create_connection(("127.0.0.1", self.port), DEADLINE_S)
        self.clients.append(client)
        return client


@contextmanager
def crew(source: str, attribute: str = "handler", **settings: Any) -> Iterator[Workers]:
    """No worker yet.  At the end those that still run are killed, and nothing of them is left."""
    with stand_in(__file__, source, attribute, settings=settings) as (rig, folder):
        workers = Workers(rig, folder)
        try:
            yield workers
        finally:
            for client in workers.clients:
                client.close()


# The stand-in


class Rig:
    def __init__(self, config: dict[str, Any]) -> None:
        from paceline.addresses import parse_address
        from paceline.host.listeners import open_listener
        from paceline.scoreboard.board import Board
        from paceline.settings import Settings
        from paceline.supervisor.seats import open_seats

        self.settings = Settings(**config["settings"])
        self.target = config["target"]
        self.listeners = (open_listener(parse_address("127.0.0.1:0"), 0, 1024, None),)
        self.board = Board.create(SEATS, self.settings.threads)
        self.seats = open_seats(SEATS)
        self.poll = select.poll()
        self.poll.register(0, select.POLLIN)
        tell(port=int(self.listeners[0].text.rpartition(":")[2]))

    def run(self) -> NoReturn:
        while True:
            ready = {fd for fd, _ in self.poll.poll(100)}
            for seat in self.seats:
                if seat.is_taken:
                    self.look_at(seat)
                elif seat.has_waiting():
                    seat.move_inbox([other for other in self.seats if other.is_taken])
            if 0 in ready:
                self.obey()

    def obey(self) -> None:
        from paceline.worker.messages import decode

        lines = os.read(0, 65536)
        if not lines:
            for seat in self.seats:
                if seat.is_taken:
                    os.kill(seat.pid, signal.SIGKILL)
                    os.waitpid(seat.pid, 0)
            os._exit(0)
        for line in lines.splitlines():
            command = json.loads(line)
            seat = self.seats[command["seat"]]
            match command["do"]:
                case "start":
                    self.start(seat, command)
                case "tell":
                    message = decode(command["message"].encode())
                    assert message is not None
                    seat.tell(message)
                case "cells":
                    from paceline.scoreboard.fields import WORKER

                    row = self.board.layout.worker_index(seat.number)
                    tell(seat=seat.number, cells={name: self.board.words[row + cell] for name, cell in WORKER.items()})

    def start(self, seat: Any, command: dict[str, Any]) -> None:
        from dataclasses import replace

        from paceline.supervisor import child
        from paceline.worker import process
        from paceline.worker.plan import Plan

        theirs = seat.open_control()
        mine = [fd for other in self.seats if other is not seat for fd in other.private_fds()]
        plan = Plan(
            settings=replace(self.settings, **command.get("settings", {})),
            target=self.target,
            listeners=self.listeners,
            inboxes=tuple(other.inbox for other in self.seats),
            board=self.board,
            control=theirs,
            fault_fd=seat.fault_fd,
            seat=seat.number,
            slot=seat.number,
            generation=command["generation"],
            supervisor_pid=os.getpid(),
            close_fds=(*mine, seat.control.fileno()),
            standby=command["standby"],
            probe=command.get("probe", False),
        )
        pid = child.start(plan, process.main)
        theirs.close()
        seat.sit(pid, os.pidfd_open(pid))
        self.poll.register(seat.pidfd, select.POLLIN)
        self.poll.register(seat.control, select.POLLIN)
        tell(seat=seat.number, pid=pid)

    def look_at(self, seat: Any) -> None:
        from paceline.worker.messages import encode as encoded

        for message in seat.hear():
            said = json.loads(encoded(message))
            tell(seat=seat.number, said=said.pop("is"), **said)
        pid, status = os.waitpid(seat.pid, os.WNOHANG)
        if pid:
            for message in seat.hear():
                said = json.loads(encoded(message))
                tell(seat=seat.number, said=said.pop("is"), **said)
            self.poll.unregister(seat.pidfd)
            self.poll.unregister(seat.control)
            seat.leave()
            self.board.leave(seat.number)
            seat.move_inbox([other for other in self.seats if other.is_taken])
            tell(seat=seat.number, code=os.waitstatus_to_exitcode(status))
        elif seat.is_deaf:
            self.poll.modify(seat.control, 0)


if __name__ == "__main__":
    Rig(json.loads(sys.argv[1])).run()
