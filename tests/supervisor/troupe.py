"""The process of the supervisor on a `Stage` (stage.py), and how its stub workers live.

Run as a script with options in JSON: `main` names one of the lives below; the others are in `play`, and settings.  What
is logged, and what the workers note, goes to standard output as one JSON object a line.
"""

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn


def note(event: str, **fields: object) -> None:
    os.write(1, json.dumps({"event": event, **fields}).encode() + b"\n")


class Recorder:
    """A log for `System.open_log`."""

    fails_at = ""

    def __init__(self, who: str, fmt: str) -> None:
        self.who, self.fmt = who, fmt

    def say(self, event: str, /, **fields: object) -> None:
        from paceline.events import TABLE, sentence_of

        if event == self.fails_at:
            raise ZeroDivisionError("a bug")
        note(event, text=sentence_of(TABLE[event], fields), at=time.monotonic(), **fields)

    def reopen(self) -> None:
        note("reopened")

    def close(self) -> None:
        note("closed")


class Life:
    """What a well-behaved worker does, in steps that the stubs leave out or bend."""

    def __init__(self, plan: Any) -> None:
        from paceline.scoreboard.fields import THREAD, THREAD_STATES, WORKER, WORKER_STATES

        self.plan = plan
        self.control = plan.control
        self.words = plan.board.words
        self.row = plan.board.layout.worker_index(plan.seat)
        self.worker_cells, self.worker_states = WORKER, WORKER_STATES
        self.thread = plan.board.layout.thread_index(plan.seat, 0)
        self.thread_cells, self.thread_states = THREAD, THREAD_STATES

    def say(self, message: object) -> None:
        from paceline.worker.messages import encode

        self.control.send(encode(message))  # type: ignore[arg-type]

    def ready(self) -> None:
        from paceline.host import processes
        from paceline.worker.messages import Ready

        assert processes.die_with_parent(self.plan.supervisor_pid, signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.words[self.row + self.worker_cells["state"]] = self.worker_states["ready"]
        self.say(Ready("message", "raw", "stub"))
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def does(self, state: str) -> None:
        self.words[self.thread + self.thread_cells["state"]] = self.thread_states[state]

    def wait(self, *, drains: bool = True, beats: bool = True) -> None:
        """Hear what the supervisor says and take what is passed, until a Drain or its end."""
        from paceline.host.descriptors import Spare
        from paceline.host.passing import receive_connection
        from paceline.worker.messages import Drain, Nudge, decode

        inbox = self.plan.inboxes[self.plan.seat].reader
        spare = Spare()
        while True:
            if beats:
                self.words[self.row + self.worker_cells["heartbeat_ns"]] = time.monotonic_ns()
            for end in select.select([self.control, inbox], [], [], 0.02 if beats else None)[0]:
                if end is inbox:
                    while (arrived := receive_connection(inbox, spare)) is not None:
                        fd, record, _ = arrived
                        os.write(fd, f"slot {self.plan.slot} has {record.decode()}".encode())
                        os.close(fd)
                    continue
                datagram = self.control.recv(65536)
                if not datagram:
                    note("supervisor-gone", slot=self.plan.slot)
                    os._exit(0)
                match decode(datagram):
                    case Drain(within_s):
                        note("told-to-drain", slot=self.plan.slot, within_s=within_s)
                        if drains:
                            return
                    case Nudge():
                        note("nudged", slot=self.plan.slot)

    def leave(self, cut: int = 0) -> NoReturn:
        from paceline.worker.messages import Leaving

        self.say(Leaving(cut))
        os._exit(4 if cut else 0)


def calm(life: Life) -> None:
    life.does("polling")
    life.ready()
    life.wait()
    life.leave()


def cut(life: Life) -> None:
    life.ready()
    life.wait()
    life.leave(cut=2)


def stubborn(life: Life) -> None:
    """Is in a call for ever."""
    life.does("calling")
    life.ready()
    life.wait(drains=False)


def deaf(life: Life) -> None:
    """The user's code has closed every descriptor; TERM still ends it."""
    life.ready()
    life.control.close()
    signal.pause()


def deafens(life: Life) -> None:
    """Closes its channel in the moment in which it is told something."""
    life.ready()
    select.select([life.control], [], [])
    life.control.close()
    signal.pause()


def mute(life: Life) -> None:
    """Never shows itself."""
    life.ready()
    life.wait(beats=False)


def fails(life: Life) -> None:
    from paceline.worker.messages import Failed

    life.say(Failed("no module named 'hallo'", "Traceback (most recent call last):\n  …\nImportError: hallo\n"))
    os._exit(3)


def fails_after_first(life: Life) -> None:
    """The first worker of all is well; nobody gets ready after it."""
    (calm if life.plan.slot == 0 else fails)(life)


def checked(life: Life, code: int = 0, kind: str = "message") -> None:
    from paceline.worker.messages import Ready

    assert life.plan.check
    assert not life.plan.listeners
    assert not life.plan.inboxes
    life.say(Ready(kind, "lines", "stub"))
    os._exit(code)


def checked_connection(life: Life) -> None:
    checked(life, kind="connection")


def crashes_checked(life: Life) -> None:
    """In its stop hook, say."""
    checked(life, 5)


def raises(life: Life) -> None:
    raise ValueError("never mind")


def returns(life: Life) -> None:
    pass


def crashes(life: Life) -> None:
    ctypes.string_at(0)


def crashes_on_drain(life: Life) -> None:
    life.does("calling")
    life.ready()
    life.wait()
    ctypes.string_at(0)


def hangs(life: Life) -> None:
    note("hangs", pid=os.getpid())
    while True:
        signal.pause()


def hangs_beyond_abort(life: Life) -> None:
    signal.signal(signal.SIGABRT, signal.SIG_IGN)
    hangs(life)


def brief(life: Life) -> None:
    """Ready, and gone."""
    life.ready()
    os._exit(7)


def shows(life: Life) -> None:
    """What it was given."""
    from paceline.host import signals

    fds = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the listing's own
            target = os.readlink(f"/proc/self/fd/{name}")
            if int(name) == life.plan.board.fd or "paceline-scoreboard" not in target:  # a mapping has one of its own
                fds[int(name)] = target
    plan = life.plan
    note(
        "shown",
        slot=plan.slot,
        fds=fds,
        expected=[
            0, 1, 2, plan.control.fileno(), plan.board.fd, plan.fault_fd, plan.inboxes[plan.seat].reader.fileno(),
            *(listener.fileno() for listener in plan.listeners), *(inbox.writer.fileno() for inbox in plan.inboxes),
        ],
        blocked=sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        faults=list(signals.FAULTS),
        parent=os.getppid() == plan.supervisor_pid,
        wakeup_fd=signal.set_wakeup_fd(-1),
        state=life.words[life.row + life.worker_cells["state"]] == life.worker_states["booting"],
        pid=life.words[life.row + life.worker_cells["pid"]] == os.getpid(),
    )  # fmt: skip
    calm(life)


def passes(life: Life) -> None:
    """Who sits in seat 0 first passes three connections to seat 1, where nobody takes any; all others are calm."""
    from paceline.host.passing import send_connection

    # A counter of seat 0: it stays when the worker is gone.
    passed = life.plan.board.layout.worker_index(0) + life.worker_cells["passed"]
    if life.plan.seat == 1 and not life.words[passed]:
        life.ready()
        note("sits", pid=os.getpid())
        while True:
            signal.pause()
    if life.plan.seat != 0 or life.words[passed]:
        calm(life)
    life.ready()
    listener = life.plan.listeners[0].socket
    for n in range(3):
        select.select([listener], [], [])
        connection, _ = listener.accept()
        assert send_connection(life.plan.inboxes[1].writer, connection.fileno(), b"record %d" % n)
        connection.close()
        life.words[passed] += 1
        note("passed", n=n)
    life.wait()
    life.leave()


def strays(life: Life) -> None:
    """Slot 0 passes one connection to a seat where nobody sits."""
    from paceline.host.passing import send_connection

    if life.plan.slot == 0:
        listener = life.plan.listeners[0].socket
        life.ready()
        select.select([listener], [], [])
        connection, _ = listener.accept()
        assert send_connection(life.plan.inboxes[-1].writer, connection.fileno(), b"stray")
        connection.close()
        life.wait()
        life.leave()
    calm(life)


def flushes(life: Life) -> None:
    """What a worker finds in its standard output's buffer, it writes."""
    sys.stdout.flush()
    calm(life)


def orphans(life: Life) -> None:
    """Makes processes whose parent is gone, then is calm."""
    for code in range(20):
        if os.fork() == 0:
            if os.fork() == 0:
                os._exit(code)
            os._exit(0)
        os.wait()
    calm(life)


def play(options: dict[str, Any]) -> int:
    from paceline.errors import PacelineError
    from paceline.host import processes
    from paceline.settings import Settings
    from paceline.supervisor import loop
    from paceline.supervisor.check import check_with
    from paceline.supervisor.system import System

    life: Callable[[Life], None] = globals()[options.pop("main", "calm")]
    refusals = options.pop("refusals", 0)
    is_init = options.pop("is_init", False)
    is_root = options.pop("is_root", False)
    is_check = options.pop("check", False)
    buggy = options.pop("buggy", 0)
    Recorder.fails_at = options.pop("log_fails_at", "")
    signal.pthread_sigmask(signal.SIG_BLOCK, options.pop("blocked", ()))
    sys.stdout.write(options.pop("printed", ""))
    if limit := options.pop("descriptors", 0):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    if options.pop("fast", False):
        loop.TICK_S = 0.02
    if is_init:
        PR_SET_CHILD_SUBREAPER = 36  # noqa: N806 - the kernel's name; orphans of our descendants come to us
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def main(plan: Any) -> NoReturn:
        life(Life(plan))
        os._exit(9)

    def fork() -> int:
        nonlocal refusals
        refusals -= 1
        if refusals >= 0:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return processes.fork()

    def random() -> float:
        nonlocal buggy
        buggy -= 1
        if buggy >= 0:
            raise ZeroDivisionError("a bug")
        return 0.0

    options["bind"] = tuple(options.get("bind", ["127.0.0.1:0"]))
    settings = Settings(**options)
    system = System(main, fork=fork, random=random, open_log=Recorder, is_init=is_init, is_root=lambda: is_root)
    try:
        return (check_with if is_check else loop.supervise)(settings, None, system)
    except PacelineError as error:
        note("refused", kind=type(error).__name__, text=str(error))
        return error.exit_code
    except (ZeroDivisionError, KeyboardInterrupt) as error:
        note("escaped", kind=type(error).__name__)
        return 1


if __name__ == "__main__":
    code = play(json.loads(sys.argv[1]))
    children = "none"
    with suppress(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        children = "some"
    note(
        "ended",
        code=code,
        children=children,
        fds=len(os.listdir("/proc/self/fd")),
        handlers=[signal.getsignal(number) == signal.SIG_DFL for number in (signal.SIGTERM, signal.SIGTTIN)],
        wakeup_fd=signal.set_wakeup_fd(-1),
    )
    sys.exit(code)
