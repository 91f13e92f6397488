"""Sockets that were opened for us before we started: what LISTEN_FDS says (sd_listen_fds(3)).  Called at the start.

systemd, systemd-socket-activate and their like pass listening sockets as descriptors 3, 4, … and say in the environment
how many there are (LISTEN_FDS), for which process (LISTEN_PID) and what they are called (LISTEN_FDNAMES).  `take` reads
that, takes it out of the environment, so that no child believes it, and makes the descriptors close-on-exec.

They stay their owner's: we close our copies and never shut one down, so connections that come between an end and the
next start wait in them; and the files of Unix sockets are left where they are.
"""

import os
import re
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

from paceline.errors import HostError

FIRST = 3
"""SD_LISTEN_FDS_START: the first descriptor."""
MOST = 1024
UNNAMED = "unknown"
"""What sd_listen_fds_with_names(3) calls all of them when there are no names."""
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")

_REMEDY = "start Paceline from a unit with Sockets=, or without these variables"


@dataclass(frozen=True, slots=True)
class Passed:
    """The sockets that were passed: name by descriptor, in their order; and, if there were some, for whom else."""

    names: dict[int, str] = field(default_factory=dict)
    of_pid: int = 0
    """Not 0: LISTEN_FDS was meant for this other process, and is ignored."""

    def addresses(self) -> tuple[str, ...]:
        """All of them as addresses of --bind."""
        return tuple(f"fd://{fd}" for fd in self.names)

    def named(self, name: str) -> list[int]:
        """The descriptors of this name, which several may have.  Raises HostError, saying why, when there is none."""
        found = [fd for fd, other in self.names.items() if other == name]
        if not found:
            raise HostError(self._why_none(name))
        return found

    def _why_none(self, name: str) -> str:
        if self.of_pid:
            return (
                f"the sockets were passed to process {self.of_pid} (LISTEN_PID), and this is {os.getpid()}; "
                f"if a shell starts the server, write exec before the command"
            )
        if not self.names:
            return (
                f"no sockets were passed (LISTEN_FDS is not set); "
                f"start Paceline by its socket unit, with FileDescriptorName={name} there"
            )
        have = ", ".join(f"fd://{other} (descriptor {fd})" for fd, other in self.names.items())
        return f"no socket of that name was passed, but {have}; set FileDescriptorName={name} in the socket unit"


NONE = Passed()


def take(environment: MutableMapping[str, str], pid: int) -> Passed:
    """What was passed to the process `pid`, which is this one.  The variables are gone from the environment afterwards.

    As sd_listen_fds(3) has it, nothing was passed when LISTEN_PID is another process.  Raises HostError when what the
    variables say makes no sense or is not so.
    """
    said = {name: environment.pop(name) for name in VARIABLES if name in environment}
    if "LISTEN_PID" not in said or "LISTEN_FDS" not in said:
        return NONE
    of_pid = _number("LISTEN_PID", said["LISTEN_PID"], 1, 2**31 - 1)
    if of_pid != pid:
        return Passed(of_pid=of_pid)
    count = _number("LISTEN_FDS", said["LISTEN_FDS"], 0, MOST)
    fds = range(FIRST, FIRST + count)
    for fd in fds:
        try:
            os.set_inheritable(fd, False)
        except OSError as error:
            raise HostError(
                f"LISTEN_FDS={count} means that descriptors {FIRST} to {fds[-1]} are passed, but {fd} is not open; "
                f"{_REMEDY}"
            ) from error
    return Passed(dict(zip(fds, _names(said.get("LISTEN_FDNAMES"), count), strict=True)))


def numbers(environment: Mapping[str, str], pid: int) -> frozenset[int]:
    """The descriptors that the variables speak of, if they are meant for the process `pid`; `take` checks them."""
    said = [environment.get(name, "") for name in ("LISTEN_PID", "LISTEN_FDS")]
    if not all(re.fullmatch("[0-9]{1,10}", text) for text in said) or int(said[0]) != pid:
        return frozenset()
    return frozenset(range(FIRST, FIRST + min(int(said[1]), MOST)))


def close_unused(passed: Passed, used: Sequence[int]) -> list[int]:
    """Close our copies of the sockets that nobody serves here; returns which.  Their owner still has them."""
    unused = [fd for fd in passed.names if fd not in used]
    for fd in unused:
        os.close(fd)
    return unused


def _number(name: str, text: str, low: int, high: int) -> int:
    if not re.fullmatch("[0-9]{1,10}", text) or not low <= int(text) <= high:
        raise HostError(f"{name}={_shown(text)}: must be a number from {low} to {high}; {_REMEDY}")
    return int(text)


def _names(text: str | None, count: int) -> list[str]:
    if text is None:
        return [UNNAMED] * count
    names = text.split(":") if text or count else []
    if len(names) != count:
        raise HostError(
            f"LISTEN_FDNAMES={_shown(text)} has {len(names)} names for {count} sockets (LISTEN_FDS); {_REMEDY}"
        )
    return names


def _shown(text: str) -> str:
    return text if text.isprintable() and 0 < len(text) <= 80 else repr(text[:80])
