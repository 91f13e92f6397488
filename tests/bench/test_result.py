"""bench/result.py: the schema, and what is refused as no result."""

import json
from typing import Any

import pytest

from bench.results import made
from paceline.bench import result
from paceline.bench.latency import SCHEME, Latencies
from paceline.bench.result import checked
from paceline.bench.troubles import Kind
from paceline.errors import UsageError


def written(**changed: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(made(**changed).to_json()))
    return found


def test_the_figures() -> None:
    found = written()
    assert found["per_second"]["messages"] == 10_000
    assert found["per_second"]["sent_bytes"] == 640_000
    latency = found["latency_us"]
    assert list(latency) == ["mean", "min", "p50", "p75", "p90", "p99", "p99.9", "p99.99", "max"]
    for name, expected in (("mean", 5100), ("min", 100), ("p50", 5100), ("p99", 10_000), ("max", 10_100)):
        assert latency[name] == pytest.approx(expected, rel=0.01), name
    assert found["settings"]["rate"] is None
    assert found["errors"] == {}


def test_every_name_is_in_the_schema() -> None:
    schema = result.__doc__ or ""
    found = written(errors={Kind.RESET: 1})
    for name in (*found, *found["settings"], *found["messages"], *found["per_second"], *found["latency_us"]):
        assert name in schema, name
    for name in (*found["generator"], *found["generator"]["processes"][0], *found["histogram"]):
        assert name in schema, name


def test_two_histograms_merge_and_their_percentiles_are_those_of_all() -> None:
    fast, slow = (
        Latencies.from_json(written(latencies=Latencies.of(many))["histogram"]["counts"])
        for many in ([100_000] * 900, [9_000_000] * 100)
    )
    fast.add(slow)
    assert fast.total == 1000
    assert fast.percentile(90) == pytest.approx(100_000, rel=0.01)
    assert fast.percentile(90.1) == pytest.approx(9_000_000, rel=0.01)


def test_nothing_answered_has_no_latency() -> None:
    empty = made(tally={"latencies": Latencies(), "answered": 0, "in_time": 0}, seconds=0.0)
    assert empty.to_json()["latency_us"] is None
    assert empty.per_second == 0.0


def test_what_was_written_is_read() -> None:
    assert checked(written(), "a.json") == written()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "wrk"}, "a.json is no result of"),
        ({"version": 2}, "a.json is a result of version 2"),
        ({"settings": None}, "damaged .settings is missing"),
        ({"histogram": {"scheme": "?", "counts": []}}, "another histogram"),
        ({"histogram": {"scheme": SCHEME, "counts": [[1]]}}, "damaged"),
        ({"histogram": {"scheme": SCHEME}}, "damaged"),
        ({"seconds": None}, "damaged"),
        ({"errors": {"reset": "many"}}, "damaged"),
        ({"errors": {"reset": "3"}}, "damaged .errors of 'reset' is no count"),
        ({"errors": {"reset": True}}, "damaged"),
        ({"errors": {"reset": 1.5}}, "damaged"),
        ({"seconds": "10"}, "damaged .seconds is no number"),
        ({"seconds": True}, "damaged"),
        ({"seconds": float("nan")}, "damaged"),
        ({"seconds": 10**400}, "damaged"),
        ({"per_second": {"messages": float("inf")}}, "damaged .per_second is no number"),
        ({"latency_us": [1]}, "damaged .latency_us is no table"),
        ({"latency_us": {"p50": "1"}}, "damaged .latency_us of 'p50' is no number"),
        ({"warnings": "none"}, "damaged .warnings is no list of sentences"),
        ({"warnings": [3]}, "damaged"),
        ({"warnings": None}, "damaged"),
        ({"machine": {"cores": [[1]]}}, "damaged .machine of 'cores'"),
        ({"settings": {"rate": {"a": {}}}}, "damaged .settings of 'rate'"),
    ],
)
def test_what_is_no_result_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        checked({**written(), **change}, "a.json")


@pytest.mark.parametrize("read", [None, [], 3, {}])
def test_other_json_is_no_result(read: object) -> None:
    with pytest.raises(UsageError, match="is no result"):
        checked(read, "a.json")
