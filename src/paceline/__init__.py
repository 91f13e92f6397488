"""Paceline serves plain blocking Python over TCP on every core: worker processes × threads.

    serve                       run a server in this process: `paceline.serve("app:answer", bind=":7000")`
    message, connection         mark a handler, where it is not what it looks like
    Close                       a reply after which the connection is closed
    File                        a reply that the kernel sends out of a file
    Connection                  what a message handler gets as its second parameter
    Credentials                 of a peer by a Unix socket: its pid, uid and gid
    TlsSession                  what was agreed with its peer, where it is encrypted: `connection.tls`
    Raw, Lines, Delimited, LengthPrefixed, Fixed, Netstring
                                the framings; `Framing` is what one of your own must be, `Broken` how it refuses a peer
    Client                      a blocking client that speaks the same framings
    PacelineError and below     what is raised on purpose (paceline.errors)

Each name is imported when it is first used: `import paceline` costs next to nothing.
"""

__version__ = "0.1.0.dev0"

TYPE_CHECKING = False  # as in typing, which would cost more to import than everything else here
if TYPE_CHECKING:
    import os
    from typing import Any, Unpack

    from paceline import errors
    from paceline.cli.keywords import Keywords
    from paceline.client import Client
    from paceline.errors import (
        BadFrame,
        ConnectFailed,
        ConnectionClosed,
        ConnectionReset,
        HostError,
        MessageTooLarge,
        PacelineError,
        PeerError,
        Refused,
        SettingError,
        TargetError,
        TimedOut,
        Truncated,
        UsageError,
    )
    from paceline.handlers import Close, File, connection, message
    from paceline.host.streams import Credentials
    from paceline.wire import Broken, Delimited, Fixed, Framing, LengthPrefixed, Lines, Netstring, Raw
    from paceline.wire.tls import TlsSession
    from paceline.worker.connection import Connection

__all__ = [
    "BadFrame",
    "Broken",
    "Client",
    "Close",
    "ConnectFailed",
    "Connection",
    "ConnectionClosed",
    "ConnectionReset",
    "Credentials",
    "Delimited",
    "File",
    "Fixed",
    "Framing",
    "HostError",
    "LengthPrefixed",
    "Lines",
    "MessageTooLarge",
    "Netstring",
    "PacelineError",
    "PeerError",
    "Raw",
    "Refused",
    "SettingError",
    "TargetError",
    "TimedOut",
    "TlsSession",
    "Truncated",
    "UsageError",
    "__version__",
    "connection",
    "errors",
    "message",
    "serve",
]

_HOMES = {
    "paceline.client": "Client",
    "paceline.errors": "BadFrame ConnectFailed ConnectionClosed ConnectionReset HostError MessageTooLarge "
    "PacelineError PeerError Refused SettingError TargetError TimedOut Truncated UsageError",
    "paceline.handlers": "Close File connection message",
    "paceline.host.streams": "Credentials",
    "paceline.wire": "Broken Delimited Fixed Framing LengthPrefixed Lines Netstring Raw",
    "paceline.wire.tls": "TlsSession",
    "paceline.worker.connection": "Connection",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    if name == "errors":
        return import_module("paceline.errors")
    if name not in _HOME:
        raise AttributeError(f"module 'paceline' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def serve(target: object, *, config: "str | os.PathLike[str] | None" = None, **settings: "Unpack[Keywords]") -> None:
    """Serve `target` until the process is told to stop (SIGTERM, SIGINT), as `paceline serve` does.

    target    a text, `module:attribute`, `path/to/file.py:attribute` or `echo`, which each worker imports for itself;
              or the handler itself, which the workers get by being forked
    settings  those of docs/settings.md under the same names (`as_` for `as`): numbers, or texts as on the command
              line (`max_message="64k"`, `idle_timeout="2m"`); None for what is written `auto` or `off` there
    config    a TOML file, as for --config.  Only if it is given are it and the PACELINE_* variables read: arguments
              override the environment, which overrides the file.  Without it nothing but the arguments counts.

    Call it in the main thread: it installs signal handlers and forks.  It returns when the server has ended cleanly.

    Raises, before anything is served, UsageError (not the main thread), SettingError (a wrong value, by name),
    TargetError (there is no target: None) or HostError (a port that is taken, no descriptors left).  Everything else
    about the target is found by the first worker, which imports it in a process of its own: the log says what is wrong,
    and SystemExit(3) is raised.  SystemExit also tells of every other end but a clean one, its code being what the
    command would exit with: 4 calls were cut, 1 a bug of ours.  So a script whose last line is this call ends as the
    command would, and a program that wants to go on catches it.
    """
    from paceline.cli import launch

    code = launch.serve(target, config, settings)
    if code:
        raise SystemExit(code)
