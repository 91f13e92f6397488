"""A framing as a client uses it: what it refuses and what it raises, in a client's words.  Pure."""

from collections.abc import Sequence
from typing import Any

from paceline.errors import BadFrame, MessageTooLarge, PeerError, UsageError
from paceline.wire import BadReply, Broken, Delimited, Fixed, Framing, LengthPrefixed, Raw, describe
from paceline.wire.contained import contained
from paceline.wire.framing import size_text


class Framed:
    """A framing, with the text that named it."""

    def __init__(self, framing: Framing, text: str = "") -> None:
        self.text = text or describe(framing)
        self.is_raw = isinstance(framing, Raw)
        self._framing = contained(framing, self.text)

    def joined(self, message: bytes) -> bytes:
        """The bytes of one message.  Raises UsageError: it cannot be one, or the framing, the user's own, is wrong."""
        try:
            return self._framing.join([message])
        except BadReply as error:
            raise self._not_a_message(message, error) from None

    def cut(self, rest: Any, data: bytes) -> tuple[Sequence[bytes], Any]:
        """The messages, and the new rest.  Raises UsageError: the framing, the user's own, is wrong."""
        return self._framing.cut(rest, data)

    def complaint(self, peer: str, rest: Any) -> PeerError | None:
        """What is wrong with what the server sent; None: nothing."""
        if not isinstance(rest, Broken):
            return None
        if isinstance(rest.error, MessageTooLarge):
            return MessageTooLarge(f"a reply of {peer} is too large: {rest.error}; or is it another --framing?")
        return BadFrame(
            f"what {peer} sent is no reply of the framing {self.text}: {rest.error}; which --framing does it speak?"
        )

    def _not_a_message(self, message: bytes, error: BadReply) -> UsageError:
        framing, text = self._framing, self.text
        if isinstance(framing, Fixed):
            return UsageError(f"a message of {text} has {size_text(framing.size)}, and this one has {len(message):,}")
        if isinstance(framing, Delimited):
            return UsageError(f"a message of {text} cannot have the delimiter in it; send several messages")
        if isinstance(framing, LengthPrefixed):
            return UsageError(f"a message of {size_text(len(message))} is too long for the framing {text}")
        return UsageError(f"this cannot be a message of the framing {text}: {error}")
