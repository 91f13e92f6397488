"""bench/comparison.py: ratios with their direction, and what makes them worthless."""

import json
from typing import Any

from bench.results import made
from paceline.bench.comparison import ONE_RUN_EACH, compare, text_of
from paceline.bench.latency import Latencies
from paceline.bench.tally import Effort
from paceline.bench.troubles import Kind


def compared(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    results = [json.loads(json.dumps(made(**changed).to_json())) for changed in (first, second)]
    return compare(results[0], results[1], ("a.json", "b.json"))


def row(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(figure for figure in found["figures"] if figure["name"] == name)


def test_the_same_run_is_the_same() -> None:
    found = compared({}, {})
    assert {figure["verdict"] for figure in found["figures"]} == {"the same"}
    assert found["differences"] == []
    assert found["cautions"] == [ONE_RUN_EACH]


def test_more_throughput_is_better_more_latency_is_worse() -> None:
    found = compared({}, {"seconds": 5.0, "latencies": Latencies.of(range(200_000, 20_200_000, 200))})
    assert (row(found, "throughput")["ratio"], row(found, "throughput")["verdict"]) == (2.0, "better")
    assert row(found, "p99")["verdict"] == "worse"
    assert 1.98 < row(found, "p99")["ratio"] < 2.02
    back = compared({"latencies": Latencies.of(range(200_000, 20_200_000, 200))}, {"seconds": 20.0})
    assert row(back, "throughput")["verdict"] == "worse"
    assert row(back, "p50")["verdict"] == "better"


def test_settings_and_machine_that_differ_are_said_first() -> None:
    found = compared({"plan": {"rate": 5.0}}, {"plan": {"connections": 7}, "machine": {"processor": "Q"}})
    assert "settings: connections is 64 in the first and 7 in the second" in found["differences"]
    assert "settings: rate is 5.0 in the first and not set in the second" in found["differences"]
    assert "machine: processor is P in the first and Q in the second" in found["differences"]
    text = text_of(found)
    assert text.index("NOT the same: settings") < text.index("throughput")


def test_other_messages_of_the_same_size_differ() -> None:
    found = compared({}, {"plan": {"messages": (b"abd",)}})
    assert any("messages" in text for text in found["differences"])


def test_errors_interrupts_and_warnings_are_cautions() -> None:
    found = compared({"errors": {Kind.RESET: 3}, "is_interrupted": True}, {"efforts": (Effort(10, 9.9, 0),)})
    cautions = "\n".join(found["cautions"])
    assert "a.json was interrupted after 10.0 s" in cautions
    assert "a.json had errors: 3 × reset" in cautions
    assert "b.json: the load generator was at its limit" in cautions
    assert found["errors"] == [3, 0]


def test_without_a_figure_there_is_no_ratio() -> None:
    found = compared({}, {"tally": {"latencies": Latencies(), "answered": 0, "in_time": 0}})
    assert row(found, "p50")["ratio"] is None
    assert row(found, "p50")["verdict"] == "cannot be compared"
    assert "–" in text_of(found)


def test_what_a_file_says_does_nothing_to_the_terminal() -> None:
    results = [json.loads(json.dumps(made(machine={"processor": name}).to_json())) for name in ("P", "Q\x9b2J")]
    results[0].update(warnings=["\x1b]0;pwn\x07"], errors={"\x1b[2J": 1})
    text = text_of(compare(results[0], results[1], ("a\udc80.json", "b.json")))
    assert text.replace("\n", "").isprintable()
    assert r"\x1b]0;pwn\x07" in text


def test_two_percent_apart_is_the_same() -> None:
    assert row(compared({}, {"seconds": 10.19}), "throughput")["verdict"] == "the same"
    assert row(compared({}, {"seconds": 10.25}), "throughput")["verdict"] == "worse"


def test_the_table() -> None:
    text = text_of(compared({}, {"seconds": 5.0}))
    line = next(line for line in text.splitlines() if "throughput" in line)
    assert line.split() == ["throughput", "10,000", "20,000", "a", "second", "2.000", "×", "better"]
