"""What the supervisor takes from its surroundings: a small parameter at the edge, so that tests can replace it."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from paceline import clock
from paceline.host import cpu, processes
from paceline.host.output import Log
from paceline.supervisor.child import Main


class Says(Protocol):
    """As much of a `Log` as is used here."""

    fmt: str

    def say(self, event: str, /, **fields: object) -> None: ...
    def reopen(self) -> object: ...
    def close(self) -> None: ...


def _random() -> float:
    """From 0 to 1.  Not `random`, which takes longer to import than a worker to fork."""
    return int.from_bytes(os.urandom(4), "big") / 2**32


@dataclass(frozen=True, slots=True)
class System:
    """The verbs; the defaults are the real ones."""

    main: Main
    """What a worker runs."""
    fork: Callable[[], int] = processes.fork
    now: Callable[[], float] = clock.now
    random: Callable[[], float] = _random
    usable_cores: Callable[[], tuple[int, str]] = cpu.usable_cores
    open_log: Callable[[str, str], Says] = Log
    is_init: bool = field(default_factory=lambda: os.getpid() == 1)
    """We are PID 1: the orphans of all others are ours to reap."""
    is_root: Callable[[], bool] = lambda: os.geteuid() == 0
    """We may do whatever we like by now; asked when all is open."""
