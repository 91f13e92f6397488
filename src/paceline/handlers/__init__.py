"""What a user may write as a handler, and what kind each thing is.  Pure.  The theory is in examining.py."""

from paceline.handlers.examining import KINDS, Handler, describe, examine
from paceline.handlers.marks import AUTO, HOOKS, MARK, Close, File, Marks, Reply, connection, echo, message

__all__ = [
    "AUTO",
    "HOOKS",
    "KINDS",
    "MARK",
    "Close",
    "File",
    "Handler",
    "Marks",
    "Reply",
    "connection",
    "describe",
    "echo",
    "examine",
    "message",
]
