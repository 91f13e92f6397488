"""A result to look at, without a run."""

from collections import Counter
from typing import Any

from paceline.bench.latency import Latencies
from paceline.bench.plan import Plan
from paceline.bench.result import Result
from paceline.bench.tally import Effort, Tally
from paceline.bench.troubles import Kind


def made(
    *,
    latencies: Latencies | None = None,
    errors: dict[Kind, int] | None = None,
    efforts: tuple[Effort, ...] = (Effort(10.0, 5.0, 0.0),),
    tally: dict[str, Any] | None = None,
    machine: dict[str, Any] | None = None,
    plan: dict[str, Any] | None = None,
    **changed: Any,
) -> Result:
    """100,000 messages in 10 s, 0.1 to 10 ms."""
    many = latencies or Latencies.of(range(100_000, 10_100_000, 100))
    count = many.total
    counts = {
        "sent": count,
        "answered": count,
        "in_time": count,
        "sent_bytes": 64 * count,
        "received_bytes": 64 * count,
    }
    settings = Plan(**{"address": "h:1", "messages": (b"abc",), "source": "3 bytes", **(plan or {})}).settings()
    return Result(**{
        "settings": settings,
        "machine": {"usable_cores": [0, 1], "processor": "P", **(machine or {})},
        "paceline": "1", "began_at": 0.0, "seconds": 10.0, "efforts": efforts,
        "tally": Tally(**{**counts, "latencies": many, "errors": Counter(errors or {}), **(tally or {})}),
        **changed,
    })  # fmt: skip
