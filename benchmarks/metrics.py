"""The table of the numbers that are shown: names, units, how precise, which direction is better.  Pure.

measure.py makes them, under these names; a record may hold more.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """How a number of a record is shown.

    title   the head of its column, with the unit        axis   the same in full, for a picture; else the title
    digits  behind the point                             more   whether more is better
    unit    what a number is divided by before it is shown
    """

    title: str
    digits: int
    more: bool = False
    unit: float = 1
    axis: str = ""

    def text(self, number: float) -> str:
        """`1,234 messages/s`: a number of a record for people."""
        return f"{number / self.unit:,.{self.digits}f} {self.title}"


METRICS = {
    "messages_per_s": Metric("messages/s", 0, more=True, axis="messages per second"),
    "cpu_us_per_message": Metric("server CPU µs/message", 2, axis="server CPU time per message, µs"),
    "server_busy": Metric("server's cores", 2),
    "load_busy": Metric("load's core", 2),
    "quick_p50_us": Metric("p50 µs", 0, axis="latency of the median message, µs"),
    "quick_p99_us": Metric("p99 µs", 0, axis="latency at the 99th percentile, µs"),
    "quick_p999_us": Metric("p99.9 µs", 0, axis="latency at the 99.9th percentile, µs"),
    "quick_max_us": Metric("max µs", 0, axis="latency of the slowest message, µs"),
    "quick_late": Metric("waited > 50 ms", 0, axis="messages of 1,000 that waited more than 50 ms"),
    "threads_max": Metric("threads of a process", 0),
    "own_kib": Metric("MiB", 1, unit=1024, axis="memory of the server's own, MiB"),
    "bytes_per_connection": Metric("bytes/connection", 0, axis="process memory per quiet connection, bytes"),
    "base_kib": Metric("MiB before", 1, unit=1024, axis="memory before, MiB"),
    "ready_ms": Metric("ms to ready", 0, axis="start to listening, ms"),
    "first_reply_ms": Metric("ms to first reply", 0, axis="start to first reply, ms"),
    "start_cpu_ms": Metric("CPU ms until then", 0, axis="CPU time to first reply, ms"),
    "lifetime_ms": Metric("ms from start to exit", 0, axis="start to exit, ms"),
    "import_ms": Metric("ms of import", 0, axis="import, ms"),
}
