"""The states of a connection.  Pure: one table; what is not in it cannot happen.

    UNNAMED    accepted from a proxy, which has not yet said who the peer is
    SECURING   accepted where TLS is spoken; its handshake is not done yet
    FRESH      accepted; `connected` has not been called yet           (only when the handler has that hook, or one of
               the two states before is just over)
    OPEN       messages are read and answered
    ENDING     the peer has sent everything (end-of-file): what it sent is answered, then the connection closes
    CLOSING    we end it: what is to be sent is sent, nothing more is read as a message
    LINGERING  our end-of-file is sent; input is read and dropped, so that it does not turn the last reply into a reset
    HELD       a whole-connection call owns it
    CLOSED     its descriptor is gone

What a connection *holds* (unsent bytes, messages that wait, a reply that comes in pieces) is not a state: each state
but LINGERING and CLOSED may hold any of it, and serving.py works it off in that order.
"""

from enum import IntEnum

from paceline.errors import PacelineError


class State(IntEnum):
    FRESH = 0
    OPEN = 1
    ENDING = 2
    CLOSING = 3
    LINGERING = 4
    HELD = 5
    CLOSED = 6
    UNNAMED = 7
    SECURING = 8


class Event(IntEnum):
    GREETED = 0
    """`connected` returned."""
    END_OF_FILE = 1
    """The peer sends no more."""
    CLOSE = 2
    """The handler, a limit, an error or the drain ends the connection once the replies are sent."""
    SENT = 3
    """Nothing is left to send, nothing left to answer."""
    HOLD = 4
    """A whole-connection call begins."""
    NAMED = 6
    """The proxy has said who the peer is."""
    SECURE = 7
    """The same, and a handshake is to follow."""
    SECURED = 8
    """The handshake is done."""
    LOST = 5
    """Reset, expired, or enough lingered: nothing more can be sent or is waited for."""


S, E = State, Event

TABLE: dict[tuple[State, Event], State] = {
    (S.UNNAMED, E.NAMED): S.FRESH,
    (S.UNNAMED, E.SECURE): S.SECURING,
    (S.UNNAMED, E.CLOSE): S.CLOSING,
    (S.UNNAMED, E.LOST): S.CLOSED,
    (S.SECURING, E.SECURED): S.FRESH,
    (S.SECURING, E.CLOSE): S.CLOSING,
    (S.SECURING, E.LOST): S.CLOSED,
    (S.FRESH, E.GREETED): S.OPEN,
    (S.FRESH, E.CLOSE): S.CLOSING,
    (S.FRESH, E.LOST): S.CLOSED,
    (S.OPEN, E.END_OF_FILE): S.ENDING,
    (S.OPEN, E.CLOSE): S.CLOSING,
    (S.OPEN, E.HOLD): S.HELD,
    (S.OPEN, E.LOST): S.CLOSED,
    # it is closing anyway; the peer sent its end-of-file, so there is nothing to linger for
    (S.ENDING, E.CLOSE): S.ENDING,
    (S.ENDING, E.SENT): S.CLOSED,
    (S.ENDING, E.LOST): S.CLOSED,
    (S.CLOSING, E.CLOSE): S.CLOSING,
    (S.CLOSING, E.SENT): S.LINGERING,
    (S.CLOSING, E.LOST): S.CLOSED,
    (S.LINGERING, E.END_OF_FILE): S.CLOSED,
    (S.LINGERING, E.LOST): S.CLOSED,
    (S.HELD, E.CLOSE): S.CLOSING,
    (S.HELD, E.LOST): S.CLOSED,
}


class ImpossibleTransition(PacelineError):
    """A bug of ours: the table has no such row."""


def after(state: State, event: Event) -> State:
    """The state that follows; raises ImpossibleTransition (our bug) when the table has no such row."""
    try:
        return TABLE[state, event]
    except KeyError:
        raise ImpossibleTransition(f"a connection that is {state.name} cannot meet {event.name}") from None
