"""What can go wrong under load, by kind: its name in tables and files, what it means, what to do.  Pure."""

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from paceline.errors import BadFrame, MessageTooLarge, PeerError, Truncated


class Kind(StrEnum):
    """How a message or a connection fails."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    CONNECT_TIMEOUT = "connect time-out"
    NO_DESCRIPTORS = "no descriptors"
    NO_PORTS = "no ports"
    RESET = "reset"
    CLOSED = "closed"
    TIMEOUT = "time-out"
    WRONG = "wrong reply"
    UNASKED = "unasked reply"
    TOO_LARGE = "too large"
    FRAMING = "framing"
    TRUNCATED = "truncated"
    UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True)
class Meaning:
    """`unit`: what is counted.  `means` and `remedy` are for people, `remedy` may be empty."""

    unit: str
    means: str
    remedy: str


MEANINGS: Mapping[Kind, Meaning] = {
    Kind.REFUSED: Meaning(
        "connections", "nobody listened there", "is the server running, and is this its address (paceline serve -b)?"
    ),
    Kind.UNREACHABLE: Meaning(
        "connections",
        "the address could not be reached",
        "check the address, the network and the permission to connect",
    ),
    Kind.CONNECT_TIMEOUT: Meaning(
        "connections",
        "no connection within the time",
        "the server accepts too slowly (its --backlog, --max-connections), or something on the way drops packets; "
        "--timeout allows more",
    ),
    Kind.NO_DESCRIPTORS: Meaning(
        "connections",
        "the load generator was out of descriptors (EMFILE)",
        "fewer connections (-c), a higher limit on open files (ulimit -n), or more --processes, each with a limit of "
        "its own",
    ),
    Kind.NO_PORTS: Meaning(
        "connections",
        "the load generator was out of ephemeral ports (EADDRNOTAVAIL): each connection keeps one for a minute after "
        "its end",
        "fewer connections, or fewer per second (--rate), more ports (sysctl net.ipv4.ip_local_port_range), or a unix: "
        "address",
    ),
    Kind.RESET: Meaning("connections", "the server reset the connection", "its log should say why"),
    Kind.CLOSED: Meaning(
        "connections",
        "the server ended the connection before all was answered",
        "its log should say why; if it takes one message per connection, --new-connection",
    ),
    Kind.TIMEOUT: Meaning(
        "messages",
        "no reply within the time",
        "does the server speak this framing (--framing)? A server that waits for the end of a line never answers a "
        "message without one; --timeout allows more",
    ),
    Kind.WRONG: Meaning(
        "messages", "the reply was not the message sent (--check)", "leave --check out if the server does not echo"
    ),
    Kind.UNASKED: Meaning(
        "connections",
        "more replies came than messages were sent",
        "is the framing right (--framing; for raw, --reply-size)? Does the server greet its clients?",
    ),
    Kind.TOO_LARGE: Meaning(
        "connections", "a reply was over the limit", "--max-message allows more; or is it another framing?"
    ),
    Kind.FRAMING: Meaning("connections", "the bytes are no reply of this framing", "is it the server's (--framing)?"),
    Kind.TRUNCATED: Meaning(
        "connections",
        "the server ended the connection inside a reply",
        "its log should say why; or is it another framing (--framing; for raw, --reply-size)?",
    ),
    Kind.UNANSWERED: Meaning("messages", "sent or due, and never answered", "they are in no percentile"),
}


def counted(count: int, things: str) -> str:
    """So many things: `1 message`, `2,000 messages`, `1 reply`."""
    thing = f"{things.removesuffix('ies')}y" if things.endswith("ies") else things.removesuffix("s")
    return f"{count:,} {thing if count == 1 else things}"


OURS = frozenset({Kind.NO_DESCRIPTORS, Kind.NO_PORTS})
"""Those where the load generator's machine is at fault, not the server."""
CONNECTING = frozenset({Kind.REFUSED, Kind.UNREACHABLE, Kind.CONNECT_TIMEOUT}) | OURS
"""Those that happen before there is a connection."""

_BY_ERRNO = {
    errno.ECONNREFUSED: Kind.REFUSED,
    errno.ENOENT: Kind.REFUSED,  # a unix: address without its file
    errno.ETIMEDOUT: Kind.CONNECT_TIMEOUT,
    errno.EMFILE: Kind.NO_DESCRIPTORS,
    errno.ENFILE: Kind.NO_DESCRIPTORS,
    errno.EADDRNOTAVAIL: Kind.NO_PORTS,
    errno.ECONNRESET: Kind.RESET,
}


def of_connecting(number: int) -> Kind:
    """The kind of an errno from socket(2) or connect(2)."""
    return _BY_ERRNO.get(number, Kind.UNREACHABLE)


def of_traffic(number: int) -> Kind:
    """The kind of an errno from read(2) or write(2) on a connection."""
    if number == errno.EPIPE:
        return Kind.CLOSED
    return Kind.TIMEOUT if number == errno.ETIMEDOUT else Kind.RESET


def of_broken(error: PeerError) -> Kind:
    """The kind of what a framing says of the server's bytes."""
    match error:
        case MessageTooLarge():
            return Kind.TOO_LARGE
        case Truncated():
            return Kind.TRUNCATED
        case BadFrame():
            return Kind.FRAMING
    return Kind.FRAMING
