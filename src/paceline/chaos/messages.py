"""Numbered messages, and what a reply says of them.  Pure.

A message to the application in the box is `client.number.nonce`; its reply is the same, then which process answered,
which version of the code it runs, and the how manieth message of this connection it was by the count that travels with
the connection (`connection.state`).  A reply of the user's target may be anything, or, with `--echo`, is the message.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

_OURS = re.compile(
    rb"(?P<message>(?P<client>\d+)\.(?P<number>\d+)\.[0-9a-f]+-*) (?P<pid>\d+) (?P<version>\d+) (?P<count>\d+)"
)
_NUMBERED = re.compile(rb"(?P<client>\d+)\.(?P<number>\d+)\.")


class Wrong(StrEnum):
    """What a reply can be that it should not be; none of these is ever explained by a fault."""

    DUPLICATE = "answered twice"
    ORDER = "out of order"
    FOREIGN = "somebody else's reply"
    COUNT = "state lost: the count that travels with the connection was wrong"
    GARBLED = "no reply to anything"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a right reply says; 0 where the target does not say it."""

    pid: int = 0
    version: int = 0


def message_of(client: int, number: int, nonce: int, length: int = 0) -> bytes:
    """The message of this number; `length`: with so many more bytes."""
    return b"%d.%d.%08x" % (client, number, nonce) + b"-" * length


def read_ours(reply: bytes, client: int, expected: bytes, count: int) -> Reply | Wrong:
    """What the reply of the application in the box says to a client that waits for the reply to `expected`."""
    found = _OURS.fullmatch(reply)
    if found is None:
        return Wrong.GARBLED
    if found["message"] != expected:
        return _misplaced(int(found["client"]), int(found["number"]), client, expected)
    if int(found["count"]) != count:
        return Wrong.COUNT
    return Reply(int(found["pid"]), int(found["version"]))


def read_echo(reply: bytes, client: int, expected: bytes, message: bytes) -> Reply | Wrong:
    """The same of a target that echoes; `message` is what stands before the number."""
    if reply == expected:
        return Reply()
    found = _NUMBERED.match(reply.removeprefix(message))
    if found is None:
        return Wrong.GARBLED
    return _misplaced(int(found["client"]), int(found["number"]), client, expected.removeprefix(message))


def _misplaced(client: int, number: int, mine: int, expected: bytes) -> Wrong:
    if client != mine:
        return Wrong.FOREIGN
    wanted = _NUMBERED.match(expected)
    return Wrong.DUPLICATE if wanted is not None and number < int(wanted["number"]) else Wrong.ORDER
