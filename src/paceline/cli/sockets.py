"""Which sockets `bind` means, when some were passed to us (host/activation.py).  Called by launch.py.

nobody said where to listen    the sockets that were passed, all of them, instead of the default
fd://N, fd://NAME              that socket; those of that name
other addresses                are opened as always; what was passed and is not named is closed, and the log says so
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from paceline.addresses import parse_address
from paceline.errors import HostError
from paceline.host.activation import Passed, close_unused
from paceline.settings import Settings

Say = Callable[..., None]
"""As `Log.say`."""


def with_sockets(settings: Settings, passed: Passed, *, is_bind_given: bool) -> Settings:
    """The settings with every name in `bind` replaced by numbers.  Raises HostError when a name cannot be."""
    if not is_bind_given:
        return replace(settings, bind=passed.addresses()) if passed.names else settings
    bind = tuple(text for written in settings.bind for text in _resolved(written, passed))
    twice = next((text for text in bind if bind.count(text) > 1 and text.startswith("fd://")), None)
    if twice is not None:
        raise HostError(f"cannot listen on {', '.join(settings.bind)}: {twice} is meant twice; leave one of them out")
    return replace(settings, bind=bind)


def tell_of_sockets(settings: Settings, passed: Passed, say: Say, *, is_bind_given: bool) -> None:
    """Say, once, what becomes of what was passed; close what nobody serves.  `settings` are those of with_sockets."""
    if not is_bind_given and passed.names:
        say("sockets-passed", sockets=_listed(passed, list(passed.names)))
    elif not is_bind_given and passed.of_pid:
        say("sockets-not-ours", of_pid=passed.of_pid, pid=os.getpid())
    unused = close_unused(passed, [parse_address(text).fd for text in settings.bind])
    if unused:
        say("sockets-unused", sockets=_listed(passed, unused))


def _resolved(written: str, passed: Passed) -> list[str]:
    name = parse_address(written).name
    if not name:
        return [written]
    try:
        return [f"fd://{fd}" for fd in passed.named(name)]
    except HostError as why:
        raise HostError(f"cannot listen on {written}: {why}") from None


def _listed(passed: Passed, fds: Sequence[int]) -> str:
    """`fd://3 (web), fd://4 (metrics)`."""
    return ", ".join(f"fd://{fd} ({passed.names[fd]})" for fd in fds)
