"""The server under test: a process group of its own, a folder, a log, and what can be seen of it from outside.

It is started as a user would start it.  Its workers are seen on the scoreboard, which any process of the same user may
map through /proc; nobody is asked.  Everything is gone after `close`, whatever has happened to the server.
"""

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from paceline.addresses import Address, parse_address
from paceline.chaos import procfs, target
from paceline.chaos.log import Log
from paceline.chaos.plan import Plan
from paceline.clock import now
from paceline.errors import HostError, PacelineError, TargetError, UsageError
from paceline.host import descriptors
from paceline.scoreboard.board import Board
from paceline.settings.table import TABLE

START_S = 40.0
_BOARD = "/memfd:paceline-scoreboard"
_SERVING = ("ready", "saturated")
LATE_S = 15.0
KEPT_DESCRIPTORS = 500
"""Of each worker, for other things than connections."""
_ALONE = {"PACELINE_RUNTIME_DIR": "off"}
"""`paceline ctl` shall not find what is broken here on purpose."""
"""After a time limit of the server itself has passed: how much later it may act on a busy machine."""


@dataclass(frozen=True, slots=True)
class Post:
    """A worker, as the board shows it."""

    pid: int
    slot: int
    generation: int
    state: str

    @property
    def serves(self) -> bool:
        return self.state in _SERVING


class Rig:
    """One server, from its start to its end.

    exit_code   None while it runs; negative: by that signal
    version     of the application in the box, as it stands in its file
    """

    def __init__(self, plan: Plan, version: int = 1) -> None:
        self.plan, self.version = plan, version
        self.exit_code: int | None = None
        self._board: Board | None = None
        self.base: dict[int, int] = {}
        self.folder = tempfile.mkdtemp(prefix="paceline-chaos-")
        try:
            self._log_file = open(os.path.join(self.folder, "log"), "ab+")  # noqa: SIM115
            self.log = Log(self._log_file.fileno())
            if plan.is_ours:
                self.write(target.good(version))
            self._process = self._start()
        except OSError as error:
            self._remove()
            raise HostError(
                f"the server could not be started: {error.strerror} ({error.filename or 'fork'})"
            ) from error
        try:
            self.address = self._wait_listening()
        except BaseException:
            self.close()
            raise

    # Start and end

    def _start(self) -> subprocess.Popen[bytes]:
        plan = self.plan
        words = [sys.executable, "-P", "-m", "paceline", "serve", plan.target or target.TARGET]
        options = {
            "config": os.devnull,
            "workers": plan.workers,
            "max-workers": 4 * plan.workers + 4,
            "heartbeat": f"{plan.heartbeat_s}s",
            "drain-timeout": f"{plan.drain_s}s",
            "boot-timeout": f"{plan.boot_s}s",
            "log-format": "json",
            "control": os.path.join(self.folder, "control"),
        }
        if plan.is_framing_told:
            options["framing"] = plan.framing
        if plan.is_ours:
            probe, reply = rf"{target.PROBE}\n", rf"{target.PROBE_REPLY}\n"
            options |= {
                "max-rss": plan.max_rss_bytes,
                "threads": plan.threads,
                "timeout": f"{plan.timeout_s}s",
                "probe": probe,
                "probe-reply": reply,
            }
        if plan.attackers:
            options["max-connections"] = min(plan.most_connections(), descriptors.most_allowed() - KEPT_DESCRIPTORS)
        options |= dict(need.format(**plan.needs()).split("=", 1) for fault in plan.faults for need in fault.needs)
        words += ["--bind=127.0.0.1:0", f"--bind=unix:{self.path}"]
        words += [f"--{name}={value}" for name, value in options.items()]
        ours = {"PACELINE_CONFIG", *(row.variable for row in TABLE)}
        folder = self.folder if plan.is_ours else plan.where or os.getcwd()
        with descriptors.allowed(plan.most_connections() + KEPT_DESCRIPTORS if plan.attackers else 0):
            return subprocess.Popen(
                [*words, *plan.settings],
                stdin=subprocess.DEVNULL,
                stdout=self._log_file,
                stderr=self._log_file,
                cwd=folder,
                env={**{name: text for name, text in os.environ.items() if name not in ours}, **_ALONE, "PWD": folder},
                process_group=0,
            )

    def _wait_listening(self) -> Address:
        deadline = now() + START_S
        while True:
            is_over = self.has_ended()
            for record in self.log.since(0, "listening"):
                return parse_address(str(record["addresses"]).partition(", ")[0])
            if is_over:
                raise self._why_not_started()
            if now() > deadline:
                raise HostError(f"the server did not listen within {START_S:g} s; is the machine overloaded?")
            self.pause(0.005)

    def _why_not_started(self) -> PacelineError:
        said = [str(record.get("why")) for record in self.log.since(0, "start-failed")]
        plain = [re.sub("^paceline: ", "", line) for line in self.log.others[-1:]]
        text = f"the server did not start: {(said or plain or ['it does not say why'])[0]} (exit code {self.exit_code})"
        kind = {2: UsageError, 3: TargetError if said else HostError}.get(self.exit_code or 0, HostError)
        return kind(text)

    def close(self) -> None:
        """Nothing is left of it: processes, descriptors, files.  May be called again."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGCONT)
        self.has_ended(wait=True)
        self._remove()

    def _remove(self) -> None:
        if self._board is not None:
            self._board.close()
            self._board = None
        if not self._log_file.closed:
            self._keep_log()
            self._log_file.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _keep_log(self) -> None:
        """Behind that of earlier servers."""
        if self.plan.log_path:
            self._log_file.seek(0)
            with suppress(OSError), open(self.plan.log_path, "ab") as kept:
                shutil.copyfileobj(self._log_file, kept)

    # What can be seen of it

    @property
    def path(self) -> str:
        """Of the Unix socket where it listens, too."""
        return os.path.join(self.folder, "socket")

    @property
    def pid(self) -> int:
        """The supervisor's."""
        return self._process.pid

    def has_ended(self, *, wait: bool = False) -> bool:
        """Reaps it if so.  While it is not reaped, the number of its process group is nobody else's."""
        if self.exit_code is None:
            self.exit_code = self._process.wait() if wait else self._process.poll()
        return self.exit_code is not None

    def pause(self, seconds: float) -> None:
        """Wait so long, or until the server has ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def posts(self) -> list[Post]:
        """The workers that there are, in the order of their seats."""
        board = self._attached()
        if board is None:
            return []
        words, layout = board.words, board.layout
        cell = layout.worker_cell
        codes = layout.worker_fields[cell["state"]].codes
        found = []
        for seat in range(layout.seats):
            row = layout.worker_index(seat)
            state = words[row + cell["state"]]
            if state:
                word = codes[state] if state < len(codes) else str(state)
                post = Post(words[row + cell["pid"]], words[row + cell["slot"]], words[row + cell["generation"]], word)
                if post.state != "gone":
                    found.append(post)
        return found

    def total(self, name: str) -> int:
        """A cell of the board, of all workers together."""
        board = self._attached()
        if board is None:
            return 0
        words, layout = board.words, board.layout
        return sum(words[layout.worker_index(seat) + layout.worker_cell[name]] for seat in range(layout.seats))

    def note_base(self) -> None:
        """How many descriptors each worker has while nobody is connected: so many it has to have again."""
        self.base = {post.pid: procfs.descriptors_of(post.pid) for post in self.serving()}

    def workers_changed(self) -> list[str]:
        """Which workers have more open than when nobody was connected, of those that have been there since.

        One that had none left may have fewer for a while: it gives those away that it keeps in reserve.
        """
        found = ((pid, before, procfs.descriptors_of(pid)) for pid, before in self.base.items())
        return [
            f"worker {pid} had {before} descriptors before, and has {after} afterwards"
            for pid, before, after in found
            if after > before
        ]

    def serving(self) -> list[Post]:
        """Those that serve, of the newest generation that does."""
        serving = [post for post in self.posts() if post.serves]
        newest = max((post.generation for post in serving), default=0)
        return [post for post in serving if post.generation == newest]

    def look_anew(self) -> None:
        """After an upgrade: its board may be another one."""
        if self._board is not None:
            self._board.close()
            self._board = None

    def _attached(self) -> Board | None:
        if self._board is None:
            with suppress(OSError, UsageError):
                path = procfs.descriptor_to(self.pid, _BOARD)
                if path is not None:
                    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                    try:
                        self._board = Board.attach(fd)
                    except BaseException:
                        os.close(fd)
                        raise
        return self._board

    def workers_alive(self) -> list[int]:
        """Children of the supervisor that are no zombies."""
        return [seen.pid for seen in procfs.children_of(self.pid) if seen.state not in "ZX"]

    def is_port_free(self) -> bool:
        """Whether somebody else could listen there."""
        with socket.socket() as port, suppress(OSError):
            port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            port.bind((self.address.host, self.address.port))
            port.listen()
            return True
        return False

    # What can be done to it

    def write(self, source: str) -> None:
        """The application's file; in one step, so that nobody reads half of it."""
        path = Path(self.folder, target.NAME)
        path.with_suffix(".new").write_text(source)
        path.with_suffix(".new").rename(path)

    def signal(self, number: int, pid: int | None = None) -> bool:
        """To the supervisor, or to this worker; False: it is not there any more."""
        if self.has_ended():
            return False
        if pid is not None:  # its number may be somebody else's by now
            seen = procfs.look(pid)
            if seen is None or seen.parent != self.pid:
                return False
        with suppress(ProcessLookupError):
            os.kill(self.pid if pid is None else pid, number)
            return True
        return False


def wait_ended(pids: list[int], within_s: float, meanwhile: Callable[[], None]) -> list[int]:
    """Wait until these processes have ended, reaped or not; those that have not in time."""
    deadline = now() + within_s
    left = []
    for pid in pids:
        try:
            watch = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            poll = select.poll()
            poll.register(watch, select.POLLIN)  # readable when the process has ended (pidfd_open(2))
            while not (ended := poll.poll(5)) and now() < deadline:
                meanwhile()
        finally:
            os.close(watch)
        seen = procfs.look(pid)
        if not ended and seen is not None and seen.state not in "ZX":
            left.append(pid)
    return left
