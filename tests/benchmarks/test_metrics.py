"""The table of numbers that are shown."""

import pytest

from benchmarks.metrics import METRICS, Metric


def test_a_number_for_people_is_in_its_unit() -> None:
    assert Metric("MiB", 1, unit=1024).text(2560) == "2.5 MiB"
    assert METRICS["messages_per_s"].text(1234.5) == "1,234 messages/s"


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_every_metric_has_a_title(metric: Metric) -> None:
    assert metric.title
    assert metric.digits >= 0
    assert metric.unit > 0
