"""Processes: make, watch, signal, reap.  One verb per function, no policy.

A child is watched and signalled through a pidfd (pidfd_open(2)), never by its number: a number may belong to somebody
else by the time it is used, a pidfd names one process for ever, and becomes readable when that one ends.  A number is
safe only between fork and reap, and only in the parent.
"""

import ctypes
import os
import resource
import signal

from paceline.host.signals import name_of

PR_SET_PDEATHSIG = 1  # linux/prctl.h

prctl = ctypes.CDLL(None, use_errno=True).prctl
prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
prctl.restype = ctypes.c_int
"""prctl(2): at most four arguments besides the option, all of them numbers; below 0: see ctypes.get_errno()."""

fork = os.fork
"""fork() -> pid in the parent, 0 in the child (fork(2)).  Raises OSError: EAGAIN, ENOMEM."""


def open_pidfd(pid: int) -> int:
    """A descriptor of the process, close-on-exec (pidfd_open(2), Linux 5.3).  Raises OSError.

    Right only while nobody can have reaped it: called by the parent, between fork and reap.
    """
    return os.pidfd_open(pid)


def send_signal(pidfd: int, number: int) -> bool:
    """Send a signal; False when the process is gone, or is not ours to signal any more (pidfd_send_signal(2)).

    Never hits anybody else.
    """
    try:
        signal.pidfd_send_signal(pidfd, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def reap(pid: int) -> int | None:
    """The wait status (wait(2)) of our child if it has ended, else None.  Never blocks.

    `UNKNOWN` when somebody else took it: user code that waits for any child, or a parent that ignores SIGCHLD.
    """
    try:
        reaped, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return UNKNOWN
    return status if reaped else None


def reap_soon(pid: int) -> int:
    """The wait status of our child, which has been killed: waits for its end."""
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:
        return UNKNOWN


UNKNOWN = -1
"""No wait status: the process has ended, and how was told to somebody else."""


def find_ended() -> int | None:
    """The number of a child that has ended and waits to be reaped, or None.  It is *not* reaped by this.

    The same child is found again until it is reaped.  For PID 1, which inherits the orphans of all others.
    """
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found is not None and found.si_pid else None


def is_child(pid: int) -> bool:
    """Whether the process is a child of ours, alive or waiting to be reaped.  It is *not* reaped by this."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def die_with_parent(parent_pid: int, number: int) -> bool:
    """The kernel sends us this signal when the parent ends (prctl(2), PR_SET_PDEATHSIG).

    False: the parent has ended already, so no signal will come.  "Parent" is the *thread* that forked us: right only
    for a parent that forks from its main thread.  A fork of ours does not inherit it.
    """
    if prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return os.getppid() == parent_pid


def volunteer_for_oom(more: int) -> None:
    """Of all processes of the same size, the kernel kills this one first (proc_pid_oom_score_adj(5)); to ask is free.

    `more` counts in thousandths of the memory; children inherit it.  Does nothing where /proc cannot be written.
    """
    try:
        with open("/proc/self/oom_score_adj", "r+") as file:
            before = int(file.read())
            file.seek(0)
            file.write(str(min(1000, before + more)))
    except (OSError, ValueError):
        pass


def cause_of(status: int) -> str:
    """`exited with code 3`, `was killed by SIGSEGV (core dumped)`: a wait status in words (wait(2))."""
    if status == UNKNOWN:
        return "ended, and somebody else was told how"
    if os.WIFSIGNALED(status):
        core = " (core dumped)" if os.WCOREDUMP(status) else ""
        return f"was killed by {name_of(os.WTERMSIG(status))}{core}"
    return f"exited with code {os.waitstatus_to_exitcode(status)}"


def cause_of_code(code: int) -> str:
    """The same of what subprocess makes of it: an exit code, or the negative number of a signal."""
    return cause_of(-code if code < 0 else code << 8)


def exit_code_of(status: int) -> int | None:
    """The exit code in a wait status; None when a signal ended the process, or nobody knows."""
    return os.WEXITSTATUS(status) if status != UNKNOWN and os.WIFEXITED(status) else None


def resident_bytes(pid: int) -> int:
    """How much memory of the process is in RAM now: the second field of /proc/PID/statm (proc_pid_statm(5)).

    0 when the process is gone or cannot be looked at.
    """
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return 0


def stat_of(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat from the third, the state, on (proc_pid_stat(5)).  Raises OSError: there is none.

    The second is the name in parentheses, and may itself hold spaces and parentheses: they are counted from its end.
    """
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b") ")[2].split()


def run_state(pid: int) -> str:
    """What the process is in, as one letter: R, S, D, T, t, Z (field 3 of /proc/PID/stat); "" when nobody knows."""
    try:
        return stat_of(pid)[0].decode()
    except OSError:
        return ""


def catches(pid: int, number: int) -> bool:
    """It has a handler of its own for this signal, which therefore does not end it (SigCgt of /proc/PID/status)."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            mask = next(line.split()[1] for line in file if line.startswith(b"SigCgt:"))
    except (OSError, StopIteration, IndexError):
        return False
    return bool(int(mask, 16) >> (number - 1) & 1)


def start_ticks(pid: int) -> int:
    """When the process started, in clock ticks since boot: field 22 of /proc/PID/stat (proc_pid_stat(5)).

    Together with the number it names one process for ever.  Raises ProcessLookupError when there is none.
    """
    try:
        return int(stat_of(pid)[19])
    except FileNotFoundError as error:
        raise ProcessLookupError(error.errno, f"there is no process {pid}") from error
