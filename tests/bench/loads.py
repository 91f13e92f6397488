"""Runs against real servers: a plan for a server, and servers that misbehave."""

from typing import Any

from paceline.addresses import parse_address
from paceline.bench.messages import generated
from paceline.bench.plan import Plan
from paceline.bench.result import Result
from paceline.bench.run import Progress, measure
from testbed import Server

APP = """
    import time
    import paceline

    count = 0

    def close(message):
        return paceline.Close()

    def silent(message):
        return None

    def shout(message):
        return message.upper()

    def numbered(message):
        global count
        count += 1
        return b"%d" % count

    def big(message):
        return b"x" * 5000

    def twice(message):
        return [message, message]

    def each_hundredth_closes(message):
        global count
        count += 1
        return paceline.Close() if count % 100 == 0 else message

    def hundredth_stalls(message):
        global count
        count += 1
        if count == 100:
            time.sleep(0.5)
        return message
"""
"""Their own module for each server, so counts begin at 0."""


def planned(place: str, **changed: Any) -> Plan:
    """A short one: 1,000 messages over 4 connections, without a warm-up."""
    message = generated(changed.pop("size", 64))
    settings = {
        "messages": (message,), "source": f"{len(message)} bytes", "connections": 4, "count": 1000, "duration_s": None,
        "warmup_s": 0.0, "timeout_s": 5.0,
    }  # fmt: skip
    return Plan(**{"address": place, **settings, **changed})


def load(server: Server, on_progress: Progress | None = None, **changed: Any) -> Result:
    """Measure it."""
    return load_place(server.places[0], on_progress, **changed)


def load_place(place: str, on_progress: Progress | None = None, **changed: Any) -> Result:
    return measure(planned(place, **changed), parse_address(place), on_progress)
