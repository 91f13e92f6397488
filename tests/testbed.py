"""The rig of the integration tests: the real server as a subprocess, on a free port, and clients for it.

    with running("app.py:shout", "--framing", "line", files={"app.py": SHOUT}) as server:
        peer = server.connect()
        peer.send(b"hello\\n")
        assert peer.line() == b"HELLO\\n"

At the end of the `with` the server has stopped cleanly and nothing of it is left: no process, descriptor or thread.  A
test that fails leaves nothing behind either; its exception carries the server's log as a note.  Every wait has a
deadline.  `run_to_end` is for starts that are to end by themselves: `--check`, `--print-config`, bad input.
"""

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from leftovers import Belongings, adopt_orphans, belongings, children_of, end_processes, is_alive, wait_gone
from paceline.clock import now
from peer import PEER_S, Peer

COMMAND = (sys.executable, "-P", "-m", "paceline")
"""-P: the folder is not put on the path, as it is not for the installed command."""
UNPRIVILEGED = (
    sys.executable,
    "-c",
    """if True:
    import ctypes, os, sys
    for capability in range(64):
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP: what root gains by exec (capabilities(7))
    os.execv(sys.argv[1], sys.argv[1:])""",
)
"""Before a command: it runs as the same user, but a root has no capability any more: ports, modes and limits hold."""
START_S = 30.0
STOP_S = 15.0
"""Time-outs: ten times and more what they wait for takes."""

KEPT_ROOT = " run as root (uid 0): "
"""In the warning that each server of tests that run as root gives."""
WORDS = re.compile(r" \((?:IPv[46]|TLS)[^)]*\)")
"""What a place serves, for people."""
LISTENING = re.compile(r"listening on (?P<places>\S.*?) · ")


class _Lines:
    """What a process writes into pipes, line by line, collected by a thread that ends when it is told to."""

    def __init__(self, *pipes: IO[bytes]) -> None:
        self.lines: dict[int, list[str]] = {pipe.fileno(): [] for pipe in pipes}  # guarded by changed
        self.at_end = False  # guarded by changed
        self.changed = threading.Condition()
        self._asked = self._collected = 0  # guarded by changed
        self._look, self._stop = os.eventfd(0, os.EFD_CLOEXEC), os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._collect, name="testbed log")
        self._thread.start()

    def close(self) -> None:
        """What is in the pipes by now is still collected; a process that holds them open does not matter."""
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        os.close(self._look)
        os.close(self._stop)

    def of(self, fd: int) -> list[str]:
        """The whole lines from this pipe: all that were written before this call, though its reader be late."""
        with self.changed:
            if not self.at_end:
                self._asked = asked = self._asked + 1
                os.eventfd_write(self._look, 1)
                is_there = self.changed.wait_for(lambda: self.at_end or self._collected >= asked, PEER_S)
                assert is_there, f"the log was not read within {PEER_S} s"
            return self.lines[fd].copy()

    def _collect(self) -> None:
        poll = select.poll()
        rests = dict.fromkeys(self.lines, b"")
        for fd in (*rests, self._look, self._stop):
            poll.register(fd, select.POLLIN)
        while rests:
            with self.changed:
                asked = self._asked  # what had been written then is in the pipes; one read takes all that a pipe holds
            ready = {fd for fd, _ in poll.poll(0 if asked > self._collected else None)}
            if self._look in ready:
                os.eventfd_read(self._look)
            for fd in ready & rests.keys():
                piece = os.read(fd, 65536)
                *complete, rest = (rests[fd] + piece).split(b"\n")
                if not piece:
                    poll.unregister(fd)
                    del rests[fd]
                    complete = [rest] if rest else []
                else:
                    rests[fd] = rest
                with self.changed:
                    self.lines[fd] += [line.decode(errors="backslashreplace") for line in complete]
                    self.changed.notify_all()
            with self.changed:
                self._collected = asked
                self.changed.notify_all()
            if self._stop in ready and not ready & rests.keys():
                break
        with self.changed:
            self.at_end = True
            self.changed.notify_all()


class Server:
    """A server that runs, or has run.

    places   where it listens, as it says: `["127.0.0.1:40123"]`
    folder   its working directory, with the test's files in it
    """

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.folder = folder
        self.places: list[str] = []
        self._output_fd, self._log_fd = process.stdout.fileno(), process.stderr.fileno()
        self._lines = _Lines(process.stdout, process.stderr)
        self._peers: list[Peer] = []

    @property
    def pid(self) -> int:
        """The supervisor's."""
        return self.process.pid

    def pids(self) -> list[int]:
        """The workers': the supervisor's children that are alive, oldest first."""
        return [pid for pid in children_of(self.pid) if is_alive(pid)]

    @property
    def address(self) -> tuple[str, int]:
        """(host, port) of the first TCP place."""
        host, _, port = next(place for place in self.places if not place.startswith("unix:")).rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def log(self) -> str:
        """All it has written to standard error until now."""
        return "\n".join(self._lines.of(self._log_fd))

    @property
    def warnings(self) -> list[str]:
        """The lines of the log that are warnings, but for the one that the tests run as root."""
        return [line for line in self.log.splitlines() if " warning " in line and KEPT_ROOT not in line]

    @property
    def output(self) -> str:
        """All it has written to standard output until now."""
        return "\n".join(self._lines.of(self._output_fd))

    def log_length(self) -> int:
        """How many lines the log has by now; for `since` of wait_for_log."""
        return len(self._lines.of(self._log_fd))

    def wait_for_log(self, text: str | re.Pattern[str], timeout: float = 10, *, since: int = 0) -> str:
        """The first log line (of those from `since` on) that has this text, or matches; AssertionError without one."""
        deadline = now() + timeout
        seen = since
        with self._lines.changed:
            lines = self._lines.lines[self._log_fd]
            while True:
                for line in lines[seen:]:
                    if text in line if isinstance(text, str) else text.search(line):
                        return line
                seen = max(seen, len(lines))
                left = deadline - now()
                if left <= 0 or self._lines.at_end:
                    why = "the log has ended" if self._lines.at_end else f"{timeout} s have passed"
                    raise AssertionError(f"{why} without {text!r}:\n" + "\n".join(lines))
                self._lines.changed.wait(left)

    def connect(self, place: str | None = None, timeout: float = PEER_S) -> Peer:
        """A new client of this place (default: the first); it is closed at the end, at the latest."""
        where = place or self.places[0]
        if where.startswith("unix:"):
            where = f"unix:{self.folder / where.removeprefix('unix:')}"
        peer = Peer(where, timeout)
        self._peers.append(peer)
        return peer

    def send_signal(self, signum: int) -> None:
        """To the supervisor."""
        self.process.send_signal(signum)

    def wait(self, timeout: float = STOP_S) -> int:
        """The exit code, as soon as it has ended (-9: by signal 9); AssertionError when it does not in time."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server has not ended within {timeout} s") from None

    def stop(self, signum: int = signal.SIGTERM, timeout: float = STOP_S) -> int:
        """Ask it to stop; the exit code."""
        self.send_signal(signum)
        return self.wait(timeout)

    def _close(self) -> None:
        """Give back what the rig holds; the process must have ended."""
        for peer in self._peers:
            peer.close()
        self._lines.close()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


@contextmanager
def running(
    target: str | None = "echo",
    *options: str,
    env: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    exit_code: int | None = 0,
    command: Sequence[str] = COMMAND,
) -> Iterator[Server]:
    """`paceline serve TARGET OPTIONS`, listening, in a new folder with these files (their text is dedented).

    A target of None is not written: something else says it.
    Without `--bind` among the options it gets a free port of 127.0.0.1.  If it still runs at the end it is stopped by
    SIGTERM and must end with `exit_code` (None: whichever).  Then no process of it may be left, at once; after a test
    that killed it, within five seconds.
    """
    with _folder(files) as folder, _nothing_left() as ending:
        bind = () if {"-b", "--bind"} & {option.partition("=")[0] for option in options} else ("--bind", "127.0.0.1:0")
        words = [*command, "serve", *([] if target is None else [target]), *bind, *options]
        server = Server(_start(words, folder, env, pass_fds), folder)
        try:
            found = LISTENING.search(server.wait_for_log(LISTENING, START_S))
            assert found is not None
            server.places = WORDS.sub("", found["places"]).split(", ")
            yield server
            for peer in server._peers:
                peer.close()
            if server.process.poll() is None:
                code = server.stop()
                assert exit_code in (None, code), f"the server ended with {code}, not {exit_code}"
        except BaseException as error:
            error.add_note(f"The server's log:\n{textwrap.indent(server.log, '    ')}")
            raise
        finally:
            if server.process.poll() is None:
                server.process.kill()
            if server.process.wait() == -signal.SIGKILL:
                ending.patience_s = PEER_S
            server._close()


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it wrote to standard output and standard error."""

    code: int
    output: str
    log: str


def run_to_end(
    *words: str,
    env: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    timeout: float = START_S,
    command: Sequence[str] = COMMAND,
) -> Ended:
    """`paceline WORDS` in a new folder with these files; AssertionError if it does not end in time."""
    with _folder(files) as folder, _nothing_left():
        process = _start([*command, *words], folder, env)
        try:
            output, log = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            output, log = process.communicate()
            raise AssertionError(f"{words} did not end within {timeout} s:\n{log.decode()}") from None
        finally:
            with suppress(ProcessLookupError):
                process.kill()
        return Ended(process.returncode, output.decode(), log.decode())


def _start(
    words: Sequence[str],
    folder: Path,
    env: Mapping[str, str] | None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    settings = {name for name in os.environ if name.startswith("PACELINE_")} - {"PACELINE_RUNTIME_DIR"}
    environment = {name: value for name, value in os.environ.items() if name not in settings}
    environment |= {"PWD": str(folder), "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}
    return subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=environment,
        pass_fds=pass_fds,
        process_group=0,  # a Ctrl-C meant for the tests does not reach it
    )


@contextmanager
def _folder(files: Mapping[str, str] | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="paceline-test-"))
    try:
        for name, text in (files or {}).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        yield folder
    finally:
        shutil.rmtree(folder)


class _Ending:
    """How much is forgiven: processes of a server that was killed may take a moment to notice."""

    patience_s = 0.0


@contextmanager
def _nothing_left() -> Iterator[_Ending]:
    """Nothing of what is started inside may be left.  Its orphans come to us: they are told of, killed and reaped."""
    before = belongings()
    adopted_before = adopt_orphans(True)
    ending = _Ending()
    try:
        yield ending
    except BaseException as error:
        for problem in _sweep(before, ending):
            error.add_note(f"Besides, {problem}")
        raise
    else:
        problems = _sweep(before, ending)
        assert not problems, "the server left something behind:\n  " + "\n  ".join(problems)
    finally:
        adopt_orphans(adopted_before)


def _sweep(before: Belongings, ending: _Ending) -> list[str]:
    """End what is left, and say what it was."""
    strays = _strays(before)
    if ending.patience_s:
        with suppress(AssertionError):
            wait_gone(strays, ending.patience_s)
        end_processes([pid for pid in strays if not is_alive(pid)])  # only reaped: its parent was not there to do it
    problems = [change for change in belongings().beyond(before) if change.startswith("child")]
    while strays := _strays(before):  # the children of those that are killed come to us next
        end_processes(strays)
    return problems + belongings().beyond(before)


def _strays(before: Belongings) -> list[int]:
    return [pid for pid in children_of(os.getpid()) if pid not in before.children]
