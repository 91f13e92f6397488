"""The faults: what each does, what may be lost by it, what the server may say of it.  Pure.

A row is a promise: whatever is lost beyond `loses` breaks it.  The files killing.py, stopping.py and so on hold, under
the same names, how it is done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from paceline.errors import UsageError


class Loses(StrEnum):
    """What may be lost by a fault."""

    NOTHING = "nothing"
    VICTIMS = "what the process had that it hit"
    ALL = "all that had not been sent before: the server ends"


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault.

    does       for people: what it does
    loses      its promise
    weight     how often it comes, compared with the others
    says       warnings and errors that the server may log because of it; all others are unexpected
    ours       it needs an application that does as it is told: not for the user's own target
    is_default part of a run that names no faults
    ends       the server has ended afterwards, and another one is started
    attackers  it is an abuse, and has so many clients of its own unless it is told how many
    needs      settings of the server for it; {deadline} and {connections} are the plan's
    """

    name: str
    does: str
    loses: Loses
    weight: int
    says: frozenset[str] = frozenset()
    ours: bool = False
    is_default: bool = True
    ends: bool = False
    attackers: int = 0
    needs: tuple[str, ...] = ()


def _says(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _abuse(
    name: str, does: str, attackers: int, says: frozenset[str] = frozenset(), needs: tuple[str, ...] = ()
) -> Fault:
    """Nobody but the attackers loses anything."""
    row = Fault(name, does, Loses.NOTHING, 1, says, ours=True, is_default=False)
    return replace(row, attackers=attackers, needs=needs)


# ruff: noqa: E501 - a row is one line, however long its sentence
_DIED = "worker-died degraded recovered fork-failed"
_KILLED = "worker-died worker-killed degraded recovered"
_RELOAD = "reload-failed worker-failed worker-killed worker-died"

ROWS: tuple[Fault, ...] = (
    Fault("kill", "a worker is killed (SIGKILL)", Loses.VICTIMS, 4, _says(_DIED)),
    Fault("segv", "a handler crashes its worker (a null pointer by ctypes; SIGSEGV to a target of yours)", Loses.VICTIMS, 2, _says(_DIED)),
    Fault("abort", "a worker is aborted (SIGABRT)", Loses.VICTIMS, 1, _says(_DIED)),
    Fault("massacre", "all workers are killed at the same moment", Loses.VICTIMS, 1, _says(_DIED), is_default=False),
    Fault("stop", "a worker is stopped (SIGSTOP) until the server replaces it", Loses.VICTIMS, 1, _says(_KILLED)),
    Fault("pause", "the server and all workers are stopped for a moment, and go on", Loses.NOTHING, 1),
    Fault("hang", "a handler blocks for ever; its call is over the time limit", Loses.NOTHING, 1, _says(f"{_KILLED} quarantined call-stuck saturated"), ours=True),
    Fault("saturate", "all threads of a worker are inside calls, and nothing is left for the others", Loses.NOTHING, 1, _says("saturated"), ours=True),
    Fault("gil", "a handler holds the interpreter in C, for longer than the heartbeat", Loses.VICTIMS, 1, _says(f"{_KILLED} quarantined call-stuck saturated"), ours=True),
    Fault("memory", "a handler asks for more memory than its worker may have (RLIMIT_AS)", Loses.NOTHING, 1, _says("handler-failed thread-refused"), ours=True),
    Fault("descriptors", "a worker has no descriptors left (RLIMIT_NOFILE), and clients come", Loses.NOTHING, 1, _says("accept-paused accept-failed")),
    Fault("fork", "no process can be made while a worker is killed (EAGAIN, ENOMEM by strace; a control group's limit)", Loses.VICTIMS, 1, _says(f"{_DIED} thread-refused"), is_default=False),
    Fault("reload", "the code is reloaded (SIGHUP), in a new version", Loses.NOTHING, 4),
    Fault("broken", "the code is reloaded, and broken: syntax, import, hanging import, exit, wrong answer to the probe", Loses.NOTHING, 2, _says(_RELOAD), ours=True),
    Fault("storm", "reloads are asked for a thousand times within a second", Loses.NOTHING, 1, _says("reload-refused")),
    Fault("scale", "a worker more, or one fewer (SIGTTIN, SIGTTOU)", Loses.NOTHING, 2, _says("scale-refused")),
    Fault("recycle", "a worker has grown beyond --max-rss, or all have, and is replaced", Loses.NOTHING, 2, ours=True),
    Fault("term", "a worker alone is told to leave (SIGTERM to it), and is replaced", Loses.NOTHING, 1, _says("worker-died")),
    Fault("upgrade", "the server replaces itself in place (SIGUSR2), half of the times by broken code", Loses.NOTHING, 1, _says(f"upgrade-failed {_RELOAD}")),
    Fault("signals", "a hundred random signals to the server and its workers, TERM among these", Loses.NOTHING, 1, _says("scale-refused reload-refused reload-failed upgrade-failed worker-died worker-failed"), is_default=False),
    Fault("reset", "clients break off with a reset, in the middle of a message, of a call, of a reply", Loses.NOTHING, 2),
    Fault("half", "clients end their side of the connection, and still want all replies", Loses.NOTHING, 2, ours=True),
    Fault("slow", "clients do not read their replies", Loses.NOTHING, 1, ours=True),
    Fault("supervisor", "the supervisor is killed (SIGKILL): its workers leave, its port is free", Loses.ALL, 1, _says(f"{_DIED} supervisor-gone {_RELOAD}"), is_default=False, ends=True),
    Fault("drain", "the server is stopped (SIGTERM) while calls run, and one hangs", Loses.ALL, 1, _says("cut worker-killed quarantined call-stuck"), ours=True, is_default=False, ends=True),
    Fault("twice", "the server is stopped twice, the second time while a call hangs", Loses.ALL, 1, _says("cut worker-killed"), ours=True, is_default=False, ends=True),
    _abuse("exhausted", "all workers have no descriptors left, for long, and clients come", 50, _says("accept-paused accept-failed")),
    _abuse("drip", "clients send a byte a second of a message that never ends", 200, needs=("message-timeout={deadline}",)),
    _abuse("mute", "clients connect, and say nothing", 200, needs=("first-byte-timeout={deadline}",)),
    _abuse("unread", "clients ask for 64 MiB, and do not read them", 100, needs=("write-timeout={deadline}",)),
    _abuse("pile", "the same, and behind it they have sent 8 KiB of small messages", 100, needs=("write-timeout={deadline}",)),
    _abuse("quiet", "clients stay connected, and say nothing more", 2000),
    _abuse("linger", "clients are told the end, and do not go", 200),
    _abuse("early", "clients send 10 MiB to somebody who has answered and closed at the first line", 100),
    _abuse("offspring", "a handler makes a process that keeps its client's socket", 20),
    _abuse("churn", "clients connect and break off with a reset, as fast as they can", 5000),
    _abuse("tear", "clients break off with a reset, at random places of messages and replies", 2000),
    _abuse("flood", "so many connections a second, of one address that may have only some", 1000, needs=("max-connections-per-address={connections}",)),
    _abuse("sever", "the kernel kills connections (ss -K)", 200),
    _abuse("errors", "one system call in 20 to 100 fails (strace): reading, writing, accepting", 50, _says("accept-paused accept-failed")),
)  # fmt: skip

TABLE: Mapping[str, Fault] = {row.name: row for row in ROWS}


def chosen(names: Sequence[str], *, is_ours: bool) -> tuple[Fault, ...]:
    """The faults of these names, in the order of the table; none named: those that a run has by default.

    `is_ours`: the target is the application in the box.  Raises UsageError for a name that is not there, or a fault
    that the user's own target cannot be asked for.
    """
    if "all" in names:
        names = [row.name for row in ROWS if is_ours or not row.ours]
    for name in names:
        if name not in TABLE:
            raise UsageError(f"there is no fault {name!r}; there is {', '.join(TABLE)}, and all")
        if TABLE[name].ours and not is_ours:
            raise UsageError(
                f"the fault {name!r} needs an application that does as it is told, so it is only for chaos without a "
                f"TARGET; with yours there is {', '.join(row.name for row in ROWS if not row.ours)}"
            )
    if not names:
        return tuple(row for row in ROWS if row.is_default and (is_ours or not row.ours))
    return tuple(row for row in ROWS if row.name in names)
