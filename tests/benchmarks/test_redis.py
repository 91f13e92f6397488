"""The store beside redis-server: the order, the figures, the table, and a short real run."""

import shutil
from pathlib import Path

import pytest

from benchmarks import redis
from benchmarks.records import Kept, Record, Run, read
from benchmarks.redis import Trial, main, numbers_in, read_command_line, report, serving, steps, whole
from benchmarks.running import MeasurementError

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None or shutil.which("redis-benchmark") is None,
    reason="needs redis-server and redis-benchmark (Debian packages redis-server and redis-tools)",
)
PING = Trial("paceline", "PING", 1)


def test_each_is_measured_beside_the_other_and_nobody_is_always_first() -> None:
    plan = steps(2)
    assert len(plan) == len(set(plan)) == 2 * 2 * 4 * 2
    for first, second in zip(plan[::2], plan[1::2], strict=True):
        assert first[0] == second[0]
        assert (first[1].request, first[1].in_flight) == (second[1].request, second[1].in_flight)
        expected = ["paceline", "redis-server"] if first[0] == 0 else ["redis-server", "paceline"]
        assert [first[1].server, second[1].server] == expected


def test_a_number_of_requests_fills_every_pipeline() -> None:
    for count in (0, 17, 4_321, 1_234_567.8):
        for in_flight in (1, 16):
            assert whole(count, in_flight) % in_flight == 0
            assert whole(count, in_flight) >= redis.FIRST_REQUESTS
    assert whole(1_234_567.8, 1) == 1_235_000


HEAD = (
    '"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"'
)


def test_the_figures_of_redis_benchmark() -> None:
    assert numbers_in([HEAD, '"GET","1000.50","0.2","0.1","0.3","0.5","0.7","9.0"']) == {
        "requests_per_s": 1000.5, "p50_ms": 0.3, "p99_ms": 0.7, "max_ms": 9.0,
    }  # fmt: skip
    with pytest.raises(ValueError, match="one line of figures was expected"):
        numbers_in([HEAD])


def kept() -> Kept:
    numbers = dict.fromkeys(redis.METRICS, 1.0) | {"others_busy": 0.25}
    records = [
        Record("r", redis.ROW, trial.name, number, "2026-01-02T03:04:05+00:00", {},
               numbers | {"requests_per_s": 1000.0 * (number + 1) if trial.server == "paceline" else 4000.0})
        for number, trial in steps(3)
    ]  # fmt: skip
    records[-1] = Record("r", redis.ROW, records[-1].trial, 2, "2026-01-02", {}, {}, "no\nluck")
    return Kept(
        [Run("r", {"processor": "a machine", "usable_cores": [0, 1], "redis": "Redis server v=7"}, {})], records
    )


def test_the_tables() -> None:
    text = report(kept())
    assert "Measured 2026-01-02 on a machine, 2 cores" in text
    assert "Redis server v=7; rounds: 3" in text
    line = next(line for line in text.splitlines() if line.startswith("| GET, paceline "))
    assert "2,000 (1,000 … 3,000)" in line
    assert line.endswith("| 0.50 (0.25 … 0.75) |")
    assert "Other programs kept 0.25 cores busy" in text
    assert "Failed: redis-server · INCR · 16 in flight: no … luck" in text


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--seconds", "0"], ["--seconds", "100"]])
def test_wrong_options_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_command_line(words)
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_a_report_of_what_is_no_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results").write_text("nonsense\n")
    assert main(["--report", str(tmp_path / "results")]) == 2
    assert "line 1 is not a record" in capsys.readouterr().err


def test_a_program_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "which", lambda _name: None)
    with pytest.raises(MeasurementError, match="there is no redis-server here: apt-get install redis-server"):
        redis.measure(Trial("redis-server", "PING", 1), 0.1)


@needs_redis
@pytest.mark.parametrize("server", redis.SERVERS)
def test_a_short_run_of_each(server: str) -> None:
    found = redis.measure(Trial(server, "INCR", 16), 0.02)
    assert found["requests"] >= redis.FIRST_REQUESTS
    assert found["requests_per_s"] > 0
    assert found["cpu_us_per_request"] > 0
    assert 0 < found["p50_ms"] <= found["p99_ms"] <= found["max_ms"]


@needs_redis
def test_a_counter_that_is_wrong_is_a_failure_not_a_result() -> None:
    with serving("paceline") as (_, port):
        redis.load(port, Trial("paceline", "INCR", 1), 100)
        redis.check_counter(port, 100)
        with pytest.raises(MeasurementError, match="the counter is 100 after 101 increments"):
            redis.check_counter(port, 101)


@needs_redis
def test_an_error_for_a_reply_is_a_failure_not_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(redis.REQUESTS, "PING", "lpush")
    with serving("paceline") as (_, port), pytest.raises(MeasurementError, match="unknown command 'LPUSH'"):
        redis.load(port, PING, 100)


@needs_redis
def test_what_is_measured_is_kept_and_can_be_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    head = kept().runs[0]
    monkeypatch.setattr(redis, "steps", lambda rounds: [(0, Trial("redis-server", "GET", 1))] * rounds)
    redis.run_all(1, 0.02, tmp_path / "results", Kept([head], []))
    found = read(tmp_path / "results")
    assert [record.error for record in found.records] == [None]
    assert main(["--report", str(tmp_path / "results")]) == 0
    assert "| GET, redis-server |" in capsys.readouterr().out
