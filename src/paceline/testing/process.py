"""A server in processes of its own, as `paceline serve` starts it.

The interpreter, its sys.path, the current directory and the environment are those of the test, so that the server
imports what the test would; only the PACELINE_* settings are taken out, and no configuration file is looked for.

**The log** is an unnamed file: the server never waits for a reader, and nobody has to read.

**The end.**  The server has a process group of its own: Ctrl-C in the terminal of the tests does not reach it, and what
must be killed is killed at once, the workers with it.  It is signalled and reaped only here, so its number is its own
until then.  A test process that dies without a word (SIGKILL, a crash) takes the server with it: its end of a pipe, the
lifeline, is closed, for which the kernel sends the supervisor SIGTERM (fcntl(2), F_SETSIG).  Nobody else has that end:
a process that the test forks closes its copy at once.
"""

import fcntl
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from contextlib import ExitStack, suppress
from io import FileIO
from typing import IO, Any

from paceline import clock
from paceline.addresses import parse_address
from paceline.errors import HostError, PacelineError, SettingError, TargetError, UsageError
from paceline.handlers import MARK, Marks
from paceline.host import processes
from paceline.host.runtime import VARIABLE
from paceline.settings.table import TABLE
from paceline.testing.aim import Aim
from paceline.testing.server import LOOK_S, Server, reachable
from paceline.testing.terms import Terms
from paceline.wire import framing_from_text

STARTED_FOR = "_PACELINE_TESTING"
"""The variable that tells a server's workers what they were started for, and by which process."""

_BOOT = """\
import os, sys
sys.path[:] = {path!r}
os.environ[{variable!r}] = {identity!r} + str(os.getpid())
{tie}
from paceline.cli import main
sys.exit(main())
"""
"""What the interpreter runs first.  sys.path as a whole: in PYTHONPATH it would stand before the standard library."""

_TIE = """\
import fcntl, select, signal
fcntl.fcntl({lifeline}, fcntl.F_SETOWN, os.getpid())
fcntl.fcntl({lifeline}, fcntl.F_SETSIG, signal.SIGTERM)
fcntl.fcntl({lifeline}, fcntl.F_SETFL, fcntl.fcntl({lifeline}, fcntl.F_GETFL) | os.O_ASYNC)
os.set_inheritable({lifeline}, False)
if select.select([{lifeline}], [], [], 0)[0]:
    sys.exit("the process that started this server is gone")
"""
"""It ends with the process of the test."""

_LISTENING = re.compile(r" supervisor: listening on (?P<places>.+) · [^·]* · pid (?P<pid>\d+)$")
_START_FAILED = re.compile(r" cannot start: (?P<why>.+)$")
_REFUSED = re.compile(r"paceline: (?P<why>.+)$")
_CHECKED = re.compile(r"^ok: .* is a (?:connection handler|message handler, framing (?P<framing>.+))$", re.MULTILINE)

_NO_FILE = f"--config={os.devnull}"


class ProcessServer(Server):
    """The supervisor and its workers."""

    def __init__(self, aim: Aim, terms: Terms) -> None:
        """Start it, and wait until it listens.  Raises as `running` says; then nothing is left."""
        super().__init__(terms)
        if os.environ.get(STARTED_FOR) == f"{aim.identity}{os.getppid()}":
            raise UsageError(
                f"a server of {aim.target} is started while {aim.target} is imported, which would never end; put what "
                f'starts it into a test or a function, or under `if __name__ == "__main__":`'
            )
        self.aim = aim
        self._stack = ExitStack()
        self._kept: bytes | None = None  # the log, after the end
        self._ended: int | None = None
        self._asked = False
        self._framing_found: object = None
        self._reaping = threading.RLock()
        with self._stack:
            try:
                self._log: IO[bytes] = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
                self._process = self._run()
                self._stack.callback(self._kill)
                self._pidfd = processes.open_pidfd(self._process.pid)
            except OSError as error:
                raise HostError(f"no process can be made for the server: {error.strerror}") from error
            self._stack.callback(os.close, self._pidfd)
            try:
                self._wait_until_it_listens()
            except PacelineError as error:
                self._kill()
                self.annotate(error)
                raise
            self._stack = self._stack.pop_all()

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> int:
        self._asked = True
        if not self._is_over():
            within_s = self.terms.stop_timeout_s
            try:
                processes.send_signal(self._pidfd, signal.SIGTERM)
                self._wait_until_over(within_s)
                in_time = self._is_over()
            finally:
                self._kill()
            if not in_time:
                raise HostError(
                    f"the server (pid {self.pid}) did not stop within {within_s:g} s (stop_timeout) after SIGTERM, and "
                    f"was killed; raise stop_timeout, or lower drain_timeout, if calls may take that long"
                )
        assert self._ended is not None
        return self._ended

    def on_forked_child(self) -> None:
        """In a process that the test has forked: the server does not live as long as that one."""
        self._lifeline.close()

    # Start

    def _run(self) -> subprocess.Popen[bytes]:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        self._lifeline = FileIO(writer, "w")
        self._stack.callback(self._lifeline.close)
        _running.add(self)
        # Not one of the standard numbers, which may be free here, and are not in the server.
        lifeline = fcntl.fcntl(reader, fcntl.F_DUPFD_CLOEXEC, 3)
        os.close(reader)
        inherited = [found.fd for found in map(parse_address, self.terms.settings.bind) if found.fd >= 0]
        try:
            return subprocess.Popen(
                self._command(_TIE.format(lifeline=lifeline)),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env=_without_settings(os.environ),
                pass_fds=(lifeline, *inherited),
                process_group=0,
            )
        finally:
            os.close(lifeline)

    def _command(self, tie: str, *more: str) -> list[str]:
        """How the server is called, with these further options."""
        path = [os.path.abspath(place) for place in sys.path if isinstance(place, str)]
        code = _BOOT.format(path=path, variable=STARTED_FOR, identity=self.aim.identity, tie=tie)
        words = ["serve", _NO_FILE, *more, *self.terms.options(), "--", self.terms.settings.target]
        return [sys.executable, "-P", "-c", code, *words]

    def _wait_until_it_listens(self) -> None:
        deadline = clock.now() + self.terms.start_timeout_s
        at, rest = 0, ""
        while True:
            is_over = self._is_over()
            piece = self._logged(at)
            at += len(piece)
            *lines, rest = (rest + piece.decode("utf-8", "backslashreplace")).split("\n")
            for line in lines:
                if (places := self._places_in(line)) is not None:
                    self.addresses = tuple(places)
                    return
            if is_over:
                raise self._why_not_started()
            left = deadline - clock.now()
            if left <= 0:
                raise HostError(
                    f"the server did not listen within {self.terms.start_timeout_s:g} s (start_timeout), and was "
                    f"killed; see what its import does, or raise start_timeout"
                )
            self._wait_until_over(min(LOOK_S, left))

    def _places_in(self, line: str) -> list[str] | None:
        """Where the server says that it listens, if this is that line."""
        if self.terms.settings.log_format == "json":
            record = _record_in(line)
            if record.get("event") == "listening" and record.get("pid") == self.pid:
                return self._places(str(record.get("addresses")))
        elif (found := _LISTENING.search(line)) is not None and int(found["pid"]) == self.pid:
            return self._places(found["places"])
        return None

    def _places(self, text: str) -> list[str]:
        """The addresses of the line, in the order of `bind`; a path may hold what separates them."""
        places, settings = [], self.terms.settings
        for bind in settings.bind:
            said = bind if bind.startswith("unix:") and text.startswith(bind) else text.partition(", ")[0]
            text = text[len(said) :].removeprefix(", ")
            said = said if said.startswith("unix:") else said.partition(" (")[0]  # which families, for people
            try:
                parse_address(said)
            except SettingError as error:  # so many that the line was shortened
                raise HostError(f"the server's log does not tell where it listens ({error}); bind fewer") from None
            places.append(reachable(said, settings.chdir or ""))
        return places

    def _why_not_started(self) -> PacelineError:
        """The error that the exit code and the log tell of."""
        code = self._ended or 0
        found = next(filter(None, map(self._failure_in, self.log.split("\n"))), None)
        said, is_of_target = found or ("the server could not start", False)
        why = f"{said} ({_how(code)})"
        match code:
            case 1:
                return PacelineError(why)
            case 2:
                return UsageError(why)
            case 3 if is_of_target:
                return TargetError(why)
        return HostError(why)

    def _failure_in(self, line: str) -> tuple[str, bool] | None:
        """Why it could not start, and whether that was the handler, if this line says so."""
        if self.terms.settings.log_format == "json":
            record = _record_in(line)
            if record.get("event") == "start-failed":
                return str(record.get("why")), True
        elif (started := _START_FAILED.search(line)) is not None:
            return started["why"], True
        refused = _REFUSED.match(line)  # before there was a log
        return None if refused is None else (refused["why"], False)

    # What the base asks for

    def _logged(self, at: int) -> bytes:
        if self._kept is not None:
            return self._kept[at:]
        pieces = []
        while piece := os.pread(self._log.fileno(), 1 << 20, at):
            pieces.append(piece)
            at += len(piece)
        return b"".join(pieces)

    def _code(self) -> int | None:
        self._is_over()
        return self._ended

    def _is_asked(self) -> bool:
        return self._asked

    def _is_over(self) -> bool:
        if self._ended is None and _is_readable(self._pidfd, 0):
            self._reap()
        return self._ended is not None

    def _wait_until_over(self, timeout_s: float) -> None:
        if self._ended is None:
            _is_readable(self._pidfd, timeout_s)

    def _reap(self) -> None:
        with self._reaping:
            if self._ended is not None:
                return
            with suppress(ChildProcessError):  # somebody reaps whatever there is
                ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
                if ended is not None and ended.si_code != os.CLD_EXITED:
                    # It could not end its workers.  Until it is reaped the number of the group is nobody else's.
                    with suppress(ProcessLookupError, PermissionError):
                        os.killpg(self.pid, signal.SIGKILL)
            self._ended = self._process.wait()

    def _kill(self) -> None:
        """The whole group, if it is still there."""
        with self._reaping:
            if self._ended is None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, signal.SIGKILL)
                self._reap()

    def _give_back(self) -> None:
        if self._kept is None:
            self._kill()
            self._kept = self._logged(0)
            self._stack.close()

    def _framing(self) -> object:
        if self._framing_found is None:
            self._framing_found = self._find_framing()
        return self._framing_found

    def _find_framing(self) -> object:
        """What was asked for, or the mark of the handler; else what the server itself would say."""
        settings, handler = self.terms.settings, self.aim.handler
        if settings.framing is not None:
            return settings.framing
        marks = getattr(handler, MARK, None)
        marked = marks.framing if isinstance(marks, Marks) else None
        if marked is not None and settings.as_ != "connection":
            return marked
        if not isinstance(handler, str | type):
            return "raw"
        said = self._ask("--check")
        found = _CHECKED.search(said)
        text = (found["framing"] or "raw") if found else ""
        text = "line" if text.startswith("line,") else text  # a client's lines may end either way
        try:
            framing_from_text(text, settings.max_message)
        except SettingError:
            own = getattr(handler, "framing", None)
            if callable(getattr(own, "cut", None)):
                return own
            raise UsageError(
                f"the framing of {self.terms.settings.target} is known to the server only "
                f"({text or said.strip() or 'it does not say which'}); give it: server.client(framing=…)"
            ) from None
        return text

    def _ask(self, option: str) -> str:
        """What the command says with this option, instead of serving."""
        try:
            done = subprocess.run(
                self._command("", option),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_without_settings(os.environ),
                timeout=self.terms.start_timeout_s,
                process_group=0,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout.decode("utf-8", "backslashreplace")


def _without_settings(environment: "os._Environ[str]") -> dict[str, str]:
    ours = {"PACELINE_CONFIG", *(row.variable for row in TABLE)}
    # Else `paceline ctl`, which is there for the real server, would find that of a test as well (host/runtime.py).
    return {VARIABLE: "off", **{name: value for name, value in environment.items() if name not in ours}}


def _record_in(line: str) -> dict[str, Any]:
    """What a line of a JSON log says; nothing, if it is what somebody has printed."""
    with suppress(ValueError, RecursionError):
        record: Any = json.loads(line)
        if isinstance(record, dict):
            return record
    return {}


def _how(code: int) -> str:
    return f"it was killed by signal {-code}" if code < 0 else f"exit code {code}"


def _is_readable(fd: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


_running: "weakref.WeakSet[ProcessServer]" = weakref.WeakSet()


def _let_go() -> None:
    for server in list(_running):
        server.on_forked_child()


os.register_at_fork(after_in_child=_let_go)
