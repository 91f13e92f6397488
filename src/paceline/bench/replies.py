"""Which replies are complete in what arrived, and whether they are right.  Pure.

A server answers the same message by the same bytes, as a rule.  So what one whole reply looks like is learned (with
--check it is known), and from then on a piece of bytes is compared with as many of them as fit: one comparison in C
instead of cutting.  That is sound, because a framing keeps no state: the same bytes behind nothing are always cut the
same.  Whatever looks different goes the general way, through the framing's `cut`.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from paceline.bench.troubles import Kind, of_broken
from paceline.errors import PeerError
from paceline.wire import Broken, Fixed, Framing, Raw

SHOWN = 40
"""How many bytes of a wrong reply are shown."""


class BrokenReply(Exception):
    """These bytes are no reply: the connection is of no use any more."""

    def __init__(self, kind: Kind, error: PeerError) -> None:
        super().__init__(str(error).replace("the peer ", "the server ", 1))
        self.kind = kind


class Replies:
    """What a process knows of the replies to its messages; for one thread.

    reply    one whole reply, as it arrives; None: not known, or not always the same
    wrong    errors that cost no connection
    """

    def __init__(
        self, framing: Framing, messages: Sequence[bytes], wires: Sequence[bytes], *, check: bool, raw_size: int | None
    ) -> None:
        """`raw_size`: for raw, how long a reply is; 0: whatever arrives at once is one."""
        self._messages = messages
        self._check = check
        self._is_any = raw_size == 0
        self._cut = (Fixed(raw_size) if raw_size else framing).cut
        self.reply = wires[0] if check and len(messages) == 1 and not self._is_any else None
        self._may_learn = not check and len(messages) == 1 and not self._is_any
        self.errors: Counter[Kind] = Counter()
        self.example = ""

    def count(self, rest: Any, piece: bytes, oldest: int) -> tuple[int, Any]:
        """(how many replies are complete now, the new rest).  `oldest`: the number of the message answered first.

        Raises BrokenReply.
        """
        reply = self.reply
        if rest is None and reply is not None:
            count, odd = divmod(len(piece), len(reply))
            if not odd and piece == reply * count:
                return count, None
        if self._is_any:
            return 1, None
        replies, left = self._cut(rest, piece)
        if isinstance(left, Broken):
            raise BrokenReply(of_broken(left.error), left.error)
        if self._check:
            self._compare(replies, oldest)
        elif self._may_learn and replies and rest is None and left is None:
            self._learn(piece, len(replies))
        return len(replies), left

    def _learn(self, piece: bytes, count: int) -> None:
        """Once: what always looks different would only be compared in vain."""
        self._may_learn = False
        size, odd = divmod(len(piece), count)
        if not odd and piece == piece[:size] * count:
            self.reply = piece[:size]

    def _compare(self, replies: Sequence[bytes], oldest: int) -> None:
        messages = self._messages
        for number, reply in enumerate(replies, oldest):
            sent = messages[number % len(messages)]
            if reply != sent:
                self.errors[Kind.WRONG] += 1
                self.example = self.example or f"sent {_shown(sent)}, got {_shown(reply)}"


def _shown(message: bytes) -> str:
    return repr(bytes(message[:SHOWN])) + (f"… ({len(message):,} bytes)" if len(message) > SHOWN else "")


def raw_size_of(framing: Framing, size: int) -> int | None:
    """`size` if the framing is raw, where sizes are all that tells replies apart."""
    return size if isinstance(framing, Raw) else None
