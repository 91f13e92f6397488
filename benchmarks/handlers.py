"""The handlers that the rows serve: the same functions for Paceline and for its peers.  Pure, except for sleeping.

Imports nothing at the top but `time` and `os`, because row 8 times how fast a server starts.
"""

import os
import time

BLOCK_S = 0.005
RARE_BLOCK_S = 0.05
SLOW = ord("s")
"""The first byte of a message that the load generator calls slow; the others begin with `q`."""

WHO = ord("w")
"""Row 7: the first byte of a message that asks which process answers."""

GATE_S = 60.0
"""Row 7: how long a slow message waits at most for the gate to open."""

BURN_ROUNDS = 36_000
"""About a millisecond of pure Python work; what it really takes is measured: row 5's single-threaded loop."""


def echo(message: bytes) -> bytes:
    """The same job as Paceline's built-in target `echo`, for peers that call a function."""
    return message


def upper(line: bytes) -> bytes:
    """Row 2: little work per line, but a call for each."""
    return line.upper()


def block(message: bytes) -> bytes:
    """Row 3: what a database or another service does to a handler."""
    time.sleep(BLOCK_S)
    return message


def rarely_block(message: bytes) -> bytes:
    """Row 4: most calls are quick; the few that the load generator marks are not."""
    if message[0] == SLOW:
        time.sleep(RARE_BLOCK_S)
    return message


def gated(message: bytes) -> bytes:
    """Row 7: a slow message, `s PORT …`, is held by the gate at that port of 127.0.0.1 until the gate hangs up.

    `w …` is answered with the id of the process, and spaces to the same length; the others are quick.
    """
    if message[0] == WHO:
        return (b"%d" % os.getpid()).ljust(len(message))
    if message[0] == SLOW:
        import socket

        with socket.create_connection(("127.0.0.1", int(message.split()[1])), GATE_S) as gate:
            gate.recv(1)
    return message


def burn(message: bytes) -> bytes:
    """Row 5: computes in pure Python, holding the GIL."""
    total = 0
    for number in range(BURN_ROUNDS):
        total += number * number
    return message if total else b""
