"""What a supervisor is started with besides its settings: who started it, with what, and in whose place."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from paceline.host.notify import ServiceManager

if TYPE_CHECKING:
    from paceline.supervisor.testament import Testament

FD_VARIABLE = "PACELINE_UPGRADE_FD"
"""Set by an upgrade only: the descriptor of a testament."""
TRY_VARIABLE = "PACELINE_UPGRADE_TRY"
"""Set besides, where it is only tried."""
VARIABLES = frozenset({FD_VARIABLE, TRY_VARIABLE})

NO_COMMAND = (
    "the server was started from Python code (paceline.serve), which cannot be executed once more; restart that program"
)


@dataclass(frozen=True, slots=True)
class Origin:
    """How this server was started: what an upgrade executes again."""

    command: tuple[str, ...]
    """The interpreter by its path, its options, the module or script, the arguments."""
    folder: str
    """Where it was started, as the shell wrote it."""
    variables: Mapping[str, str]
    """What was taken out of the environment, and the next program wants to find there (host/notify.py)."""

    def environment(self, state_fd: int, *, is_rehearsal: bool) -> dict[str, str]:
        added = {"PWD": self.folder, FD_VARIABLE: str(state_fd)}
        if is_rehearsal:  # it does not speak in our name
            return {**os.environ, **added, TRY_VARIABLE: "1"}
        return {**os.environ, **self.variables, **added}


def origin_of_this_process(folder: str, variables: Mapping[str, str]) -> Origin | str:
    """How this process was started, or why that cannot be told.

    `folder` is where, `variables` what was taken out of its environment.
    """
    if not sys.executable or len(sys.orig_argv) < 2:
        return "this Python does not know by which command it was started; restart the server instead"
    return Origin((sys.executable, *sys.orig_argv[1:]), folder, dict(variables))


@dataclass(frozen=True, slots=True)
class Start:
    """The defaults are those of a server that nobody manages and that nobody was there before."""

    origin: Origin | str = NO_COMMAND
    """How it was started; or, as a text, why it cannot be upgraded in place."""
    manager: ServiceManager = field(default_factory=ServiceManager)
    """Who wants to be told how it is."""
    passed: Mapping[int, str] = field(default_factory=dict)
    """The sockets that were passed to us: name by descriptor."""
    watched: tuple[str, ...] = ()
    """Folders in which a change means a reload (--dev)."""
    config: Callable[[], str] = lambda: ""
    """The file that settings come from now, by name; empty: none has any."""
    testament: "Testament | None" = None
    """What the program left that was in this process before."""
    boot_timeout: Callable[[], float] | None = None
    """What that setting would be for a server that is started now, in seconds; raises SettingError.  None: as ever."""
