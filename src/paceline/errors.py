"""Whom an error names: the caller, the peer or the machine.  Pure.

Every exception that Paceline raises on purpose is one of three kinds, and its text says what was wrong and what to do:

* `UsageError`: the caller (a setting, a target, a call in the wrong place);
* `PeerError`: the other side of a connection (a broken frame, a message over the limit);
* `HostError`: the machine (a busy port, a missing permission, no descriptors left).

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


class PeerError(PacelineError):
    """The other side broke the protocol.  Costs its own connection and nothing else."""


class MessageTooLarge(PeerError):
    """A message is over the limit that the framing was built with."""


class BadFrame(PeerError):
    """The bytes cannot be a message of this framing."""


class Truncated(PeerError):
    """The peer ended the connection inside a message; the part that arrived is never delivered as a message."""
