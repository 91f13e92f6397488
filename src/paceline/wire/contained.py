"""A framing of the user's own, as a client uses it: whatever goes wrong in there is said to be its fault.  Pure."""

from collections.abc import Sequence
from typing import Any

from paceline.errors import UsageError
from paceline.wire.framing import BadReply, Framing


class Contained:
    """What the framing raises, and what it gives that is nothing of a framing's, becomes a UsageError."""

    def __init__(self, framing: Framing, text: str) -> None:
        self._framing, self._text = framing, text

    def __getattr__(self, name: str) -> Any:
        return getattr(self._framing, name)

    def cut(self, rest: Any, data: bytes) -> tuple[Sequence[Any], Any]:
        """(messages, the new rest)."""
        try:
            messages, left = self._framing.cut(rest, data)
            return list(messages), left
        except Exception as error:
            raise at_fault(self._text, "cut", error) from error

    def join(self, replies: Sequence[bytes]) -> bytes:
        """The bytes of messages.  Raises BadReply for one that this framing cannot carry."""
        try:
            return b"".join((self._framing.join(replies),))  # which wants bytes
        except BadReply:
            raise
        except Exception as error:
            raise at_fault(self._text, "join", error) from error


def contained(framing: Framing, text: str) -> Framing:
    """The framing, named by `text`; one of the box, which raises nothing by itself, as it is."""
    is_known = isinstance(framing, Contained) or type(framing).__module__.startswith("paceline.wire.")
    return framing if is_known else Contained(framing, text)


def at_fault(text: str, what: str, error: Exception) -> UsageError:
    """The error that names the framing."""
    return UsageError(f"the framing {text} is at fault: its {what} raised {type(error).__name__}: {error}")
