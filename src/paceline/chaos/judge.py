"""What was lost, what was done to whom, and which of them explains which.  Pure.

A *wound* is what one fault did: to which processes, from when to when, and what may be lost by that.  A *loss* is what
a client noticed: a message without its reply, a parked connection that ended.  A loss is explained when a wound that
may cost something fell into its time, and hit the process that had the connection.

Which process that is, a client knows from the last reply: the number of the process is in it.  It does not know it
before the first reply, nor when the target does not say it, nor after that process has left and handed its connections
to others; then any process that was hit may have had it.

Times are seconds of CLOCK_MONOTONIC, which all processes of the machine share.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from paceline.chaos.catalogue import Loses

SLACK_S = 1.0
"""How much later than it happened a client may notice: it has hundreds of connections, on a busy machine."""


class How(StrEnum):
    """How a message or a connection was lost, as its client saw it."""

    REFUSED = "refused"
    NO_CONNECTION = "no connection in time"
    RESET_BEFORE = "reset before the message was sent"
    RESET_AFTER = "reset after the message was sent"
    CLOSED = "closed without a reply"
    TRUNCATED = "closed inside the reply"
    TIME_OUT = "no reply in time"
    PARKED = "disconnected between two messages"


@dataclass(frozen=True, slots=True)
class Loss:
    """One connection that failed.

    messages  how many were sent and never answered: 0 for a parked connection
    is_fresh  nothing had been answered on this connection before
    pid       who answered last on it; 0: not known
    since_s   when the oldest unanswered message was begun, or the connection was last known to be well
    at_s      when the client noticed
    """

    how: How
    client: int
    messages: int
    is_fresh: bool
    pid: int
    since_s: float
    at_s: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Loss":
        return cls(**{**record, "how": How(record["how"])})


@dataclass(frozen=True, slots=True)
class Wound:
    """What a fault did: `pids` is whom it hit, empty for the supervisor."""

    fault: str
    step: int
    loses: Loses
    pids: tuple[int, ...]
    from_s: float
    to_s: float


def explain(loss: Loss, wounds: Sequence[Wound], left: Mapping[int, float]) -> Wound | None:
    """The wound that explains the loss, or None.  `left`: when processes were last seen that went in peace."""
    for wound in reversed(wounds):
        if not (wound.from_s <= loss.at_s and loss.since_s <= wound.to_s + SLACK_S):
            continue
        if loss.at_s > wound.to_s + SLACK_S and loss.how is not How.TIME_OUT:
            continue  # a connection of the dead ends when they do
        if wound.loses is Loses.ALL:
            return wound
        if wound.loses is Loses.VICTIMS and _may_be_hit(loss, wound, left):
            return wound
    return None


def _may_be_hit(loss: Loss, wound: Wound, left: Mapping[int, float]) -> bool:
    return not loss.pid or loss.pid in wound.pids or left.get(loss.pid, wound.to_s) < wound.to_s
