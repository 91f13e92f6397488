"""Framings: how the bytes of a connection become messages, and replies bytes.  Pure.  The theory is in framing.py."""

from paceline.wire.delimited import Delimited
from paceline.wire.fixed import Fixed
from paceline.wire.framing import BadReply, Broken, Framing, Rest, truncated
from paceline.wire.length_prefixed import LengthPrefixed
from paceline.wire.lines import Lines
from paceline.wire.netstring import Netstring
from paceline.wire.parse import as_framing, describe, framing_from_text
from paceline.wire.raw import Raw

__all__ = [
    "BadReply",
    "Broken",
    "Delimited",
    "Fixed",
    "Framing",
    "LengthPrefixed",
    "Lines",
    "Netstring",
    "Raw",
    "Rest",
    "as_framing",
    "describe",
    "framing_from_text",
    "truncated",
]
