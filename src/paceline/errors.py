"""Whom an error names: the caller, the peer or the machine.  Pure.

Every exception that Paceline raises on purpose is one of three kinds, and its text says what was wrong and what to do:

* `UsageError`: the caller (a setting, a target, a call in the wrong place);
* `PeerError`: the other side of a connection (a broken frame, a message over the limit);
* `HostError`: the machine (a busy port, a missing permission, no descriptors left).

What only a client raises is also an error of the standard library's sockets (`ConnectionError`, `TimeoutError`), so
that code that catches those catches it.

Anything else that escapes is a bug of ours.  `exit_code` is what the command line ends with.
"""

from typing import ClassVar


class PacelineError(Exception):
    """The root of all errors that Paceline raises on purpose."""

    exit_code: ClassVar[int] = 1


class UsageError(PacelineError):
    """The caller asked for something that cannot be: the text names it, the rule, and the nearest right thing."""

    exit_code = 2


class SettingError(UsageError):
    """A setting has a wrong value, or there is no such setting."""


class TargetError(UsageError):
    """The target cannot be served: no such module, no such attribute, not callable, wrong arity."""

    exit_code = 3


class HostError(PacelineError):
    """The machine refused: the text says what was tried, why it failed and the remedy."""

    exit_code = 3


class ConnectFailed(HostError, ConnectionError):
    """Nobody could be reached at an address: the text says where, why, and the remedy."""


class Refused(ConnectFailed):
    """The machine was reached, but nobody listens there."""


class PeerError(PacelineError):
    """The other side broke the protocol, or broke off.  Costs its own connection and nothing else."""

    exit_code = 5


class MessageTooLarge(PeerError):
    """A message is over the limit that the framing was built with."""


class BadFrame(PeerError):
    """The bytes cannot be a message of this framing."""


class Truncated(PeerError):
    """The peer ended the connection inside a message; the part that arrived is never delivered as a message."""


class TimedOut(PeerError, TimeoutError):
    """The other side did not connect, answer or read within the time."""


class ConnectionClosed(PeerError, ConnectionError):
    """The other side ended the connection before a reply."""


class ConnectionReset(ConnectionClosed):
    """The other side ended the connection with a reset: what it had not read is lost."""
