"""lab/experiments/threads.py: what lost updates and slopes of memory say, and once for real."""

from typing import Any

import pytest

import paceline.lab
from paceline.lab.experiment import Machine
from paceline.lab.experiments.threads import (
    EXPERIMENT,
    FIT,
    GAP,
    LIMITS,
    LOCK,
    MOST_QUICK,
    PLAIN,
    SHARED,
    START,
    WAYS,
    change_from_a_thread,
    lost_share,
    per_thread,
)
from paceline.lab.fitting import make_as_many
from paceline.lab.plots import Bars, Lines
from paceline.lab.samples import Samples

TWO = Machine(2, True)
FREE = Machine(2, False)
KIB, MIB = 1 << 10, 1 << 20


def adding(case: str, lost: int, round_: int = 1) -> dict[str, Any]:
    return {"case": case, "round": round_, "expected": 2000, "value": 2000 - lost, "lost": lost, "took_s": 0.1}


def fitting(made: int = MOST_QUICK, why: str = "", touched: int = 12 * KIB) -> dict[str, Any]:
    threads = [count for count in (100, 200, 300) if count <= made]
    return {
        "case": FIT, "round": 1, "asked": MOST_QUICK, "made": made, "why": why, "threads": threads,
        "rss_bytes": [20 * MIB + count * touched for count in threads],
        "size_bytes": [900 * MIB + count * 8 * MIB for count in threads],
    }  # fmt: skip


def samples(
    gap: int = 1500, lock: int = 0, plain: int = 0, seen: bool = True, fit: dict[str, Any] | None = None
) -> Samples:
    return Samples.made([
        {"case": SHARED, "round": 1, "seen": seen, "same_pid": True, "own_kernel_id": True},
        {"case": START, "round": 1, "start_us": [50.0, 60.0, 70.0]},
        fit or fitting(), adding(PLAIN, plain), adding(GAP, gap), adding(LOCK, lock),
    ])  # fmt: skip


def test_what_a_thread_takes_is_the_slope() -> None:
    rss, size = per_thread(samples(), "rss_bytes"), per_thread(samples(), "size_bytes")
    assert rss is not None
    assert size is not None
    assert (rss.median, size.median) == (12 * KIB, 8 * MIB)


def test_one_step_has_no_slope() -> None:
    assert per_thread(Samples.made([fitting(made=150)]), "rss_bytes") is None


def test_the_lowest_limit_is_named() -> None:
    limit = {"case": LIMITS, "round": 1, "limits": {"kernel.pid_max": 32768, "pids.max": 2500}}
    kept = Samples.made([*samples(), limit])
    assert "The lowest limit here would be met at 2,500 (pids.max)." in EXPERIMENT.judge(TWO, kept).text.en
    rows = {row[0].en: row[1].en for row in EXPERIMENT.tabulate(TWO, kept).rows}
    assert rows["limit of threads: pids.max"] == "2,500"


def test_lost_updates_are_a_share_of_all() -> None:
    spread = lost_share(samples(gap=500), GAP)
    assert spread is not None
    assert spread.median == 25.0


def test_the_prediction_says_nothing_of_a_plain_addition_under_the_gil() -> None:
    assert "is not predicted" in EXPERIMENT.predict(TWO).text.en
    assert "loses some, too" in EXPERIMENT.predict(FREE).text.en


@pytest.mark.parametrize("plain", [0, 7])
def test_it_held(plain: int) -> None:
    verdict = EXPERIMENT.judge(TWO, samples(plain=plain))
    assert verdict.held is True
    assert "Of 2,000 updates with a gap 1,500 were lost, of 2,000 with a lock none" in verdict.text.en
    assert f"a plain += 1 lost {plain} of 2,000" in verdict.text.en
    assert "Each reserved 8,192 KiB and touched 12.0 KiB" in verdict.text.en
    assert "more were not tried" in verdict.text.en
    assert "2,000 次一次也没丢" in verdict.text.zh


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (samples(gap=0), "with a gap 0 were lost"),
        (samples(lock=3), "with a lock 3"),
        (samples(seen=False), "was not seen"),
        (samples(fit=fitting(made=200, why="can't start new thread")), "200 could be made: then the system refused"),
        (samples(fit=fitting(touched=4 * MIB)), "touched 4,096.0 KiB"),
    ],
)
def test_it_did_not_hold(kept: Samples, said: str) -> None:
    verdict = EXPERIMENT.judge(TWO, kept)
    assert verdict.held is False
    assert said in verdict.text.en
    assert "预测不成立" in verdict.text.zh


def test_without_a_gil_a_plain_addition_loses_some() -> None:
    assert EXPERIMENT.judge(FREE, samples(plain=100)).held is True
    assert EXPERIMENT.judge(FREE, samples(plain=0)).held is False
    assert EXPERIMENT.judge(Machine(1, False), samples(plain=0)).held is True


@pytest.mark.parametrize("missing", [SHARED, FIT, *WAYS])
def test_too_little(missing: str) -> None:
    kept = Samples.made(sample for sample in samples() if sample["case"] != missing)
    assert EXPERIMENT.judge(TWO, kept).held is None
    EXPERIMENT.draw(TWO, kept)
    EXPERIMENT.tabulate(TWO, kept)


def test_pictures() -> None:
    lost, memory, start = EXPERIMENT.draw(TWO, samples())
    assert isinstance(lost, Bars)
    assert [bar.spread and bar.spread.median for bar in lost.bars] == [0.0, 75.0, 0.0]
    assert isinstance(memory, Lines)
    assert [[x for x, _ in series.points] for series in memory.series] == [[100, 200, 300]] * 2
    assert memory.series[0].points[0][1].median == 1700
    assert isinstance(start, Bars)


def test_the_table() -> None:
    rows = {row[0].en: row[1].en for row in EXPERIMENT.tabulate(TWO, samples()).rows}
    assert rows["start a thread, µs"] == "60.0 (50.0 … 70.0)"
    assert rows["reserved by a thread, KiB"] == "8,192"
    assert rows["lost, %: read, let others run, write; no lock"] == "75.00"


# For real


@pytest.mark.usefixtures("nothing_left")
def test_a_thread_is_of_the_same_process() -> None:
    assert change_from_a_thread() == {"seen": True, "same_pid": True, "own_kernel_id": True}


@pytest.mark.usefixtures("nothing_left")
def test_threads_are_made_until_the_system_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    start, started = threading.Thread.start, 0

    def scarce(thread: threading.Thread) -> None:
        nonlocal started
        if started == 25:
            raise RuntimeError("can't start new thread")
        started += 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    steps, made, why = make_as_many(100)
    assert ([count for count, _, _ in steps], made, why) == ([10, 20], 25, "can't start new thread")


@pytest.mark.usefixtures("nothing_left")
def test_for_real() -> None:
    result = paceline.lab.run("threads", quick=True, seed=1)
    assert (result.finished, result.why) == (True, "")
    assert set(result.samples.cases) == {SHARED, LIMITS, START, FIT, *WAYS}
    (shared,) = result.samples.of(SHARED)
    assert shared["seen"] is True
    for sample in result.samples.of(FIT):
        assert 0 < sample["made"] <= MOST_QUICK == sample["asked"]
        assert bool(sample["why"]) == (sample["made"] < MOST_QUICK)
    for case in WAYS:
        assert [sample["round"] for sample in result.samples.of(case)] == [1, 2, 3]
    assert all(sample["lost"] == 0 for sample in result.samples.of(LOCK))
    assert all(sample["value"] + sample["lost"] == sample["expected"] for sample in result.samples.of(GAP))
    assert result.verdict.held is not None
