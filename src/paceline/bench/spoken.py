"""The framing that a run speaks, from its text: one in the box, or the user's own, `module:attribute`."""

from collections.abc import Sequence
from typing import Any

from paceline.errors import PacelineError, UsageError
from paceline.wire import BadReply, Framing, as_framing, framing_from_text
from paceline.wire.parse import FORMS
from paceline.worker.target import load_target


def is_ours(text: str) -> bool:
    """Whether it is one in the box."""
    word, _, rest = text.partition(":")
    return word in FORMS or not rest


def framing_of(text: str, max_message: int) -> Framing:
    """Loads it, if it is the user's.  Raises SettingError, TargetError; UsageError: the user's module raised."""
    if is_ours(text):
        return framing_from_text(text, max_message)
    try:
        loaded = load_target(text)
    except PacelineError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise UsageError(f"the framing {text} is at fault: its import raised {_told(error)}") from error
    framing = as_framing(loaded, max_message)
    return framing if type(framing).__module__.startswith("paceline.wire.") else _OnesOwn(framing, text)


class _OnesOwn:
    """The user's framing: what it raises, and what it gives that is nothing of a framing's, becomes a UsageError."""

    def __init__(self, framing: Framing, text: str) -> None:
        self._framing, self._text = framing, text

    def __getattr__(self, name: str) -> Any:
        return getattr(self._framing, name)

    def cut(self, rest: Any, data: bytes) -> tuple[Sequence[bytes], Any]:
        """(messages, the new rest)."""
        try:
            messages, left = self._framing.cut(rest, data)
            return list(messages), left
        except Exception as error:
            raise self._fault("cut", error) from error

    def join(self, replies: Sequence[bytes]) -> bytes:
        """The bytes of messages.  Raises BadReply for one that this framing cannot carry."""
        try:
            return b"".join((self._framing.join(replies),))  # which wants bytes
        except BadReply:
            raise
        except Exception as error:
            raise self._fault("join", error) from error

    def _fault(self, method: str, error: Exception) -> UsageError:
        return UsageError(f"the framing {self._text} is at fault: its {method} raised {_told(error)}")


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
