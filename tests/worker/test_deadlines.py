"""When a connection has waited too long: a table of cases, and what holds of any sequence of looks."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.worker.deadlines import LINGER_S, Limits, Owes, Watch, due_at, later, look, verdict

LIMITS = Limits(first_byte_s=5.0, message_s=20.0, min_rate=500, write_s=10.0, idle_s=60.0)
OFF = Limits(first_byte_s=None, message_s=None, min_rate=500, write_s=10.0, idle_s=None)

every_debt = pytest.mark.parametrize("owes", Owes, ids=lambda owes: owes.name.lower())

limits_s = st.none() | st.floats(0.001, 1e6)
any_limits = st.builds(
    Limits,
    first_byte_s=limits_s,
    message_s=limits_s,
    min_rate=st.integers(0, 10**9),
    write_s=st.floats(0.001, 1e6),
    idle_s=limits_s,
)
times = st.floats(0, 1e6)


def watch(owes: Owes, *, progress: int = 0, since: float = 100.0, received: int = 0) -> Watch:
    return Watch(owes, progress, since, received)


# How long each may take


@pytest.mark.parametrize(
    ("owes", "after_s", "off"),
    [
        (Owes.NOTHING, 60.0, None),
        (Owes.FIRST_BYTE, 5.0, None),
        (Owes.REST_OF_MESSAGE, 20.0, None),
        (Owes.WRITING, 10.0, 10.0),
        (Owes.LINGERING, LINGER_S, LINGER_S),
        (Owes.HEADER, 5.0, 5.0),
    ],
)
def test_each_debt_has_its_own_limit(owes: Owes, after_s: float, off: float | None) -> None:
    assert due_at(watch(owes), 0, LIMITS) == 100.0 + after_s
    assert due_at(watch(owes), 0, OFF) == (None if off is None else 100.0 + off)


@pytest.mark.parametrize(
    ("min_rate", "received", "after_s"),
    [
        (500, 0, 20.0),
        (500, 500, 21.0),
        (500, 250, 20.5),
        (500, 10_000, 40.0),
        (1, 30, 50.0),
        (0, 10_000, 20.0),
    ],
)
def test_a_message_that_arrives_fast_enough_gets_more_time(min_rate: int, received: int, after_s: float) -> None:
    limits = replace(LIMITS, min_rate=min_rate)
    assert due_at(watch(Owes.REST_OF_MESSAGE), received, limits) == 100.0 + after_s


def test_only_bytes_since_the_clock_started_count() -> None:
    assert due_at(watch(Owes.REST_OF_MESSAGE, received=7_000), 7_500, LIMITS) == 121.0


@pytest.mark.parametrize("owes", [owes for owes in Owes if owes is not Owes.REST_OF_MESSAGE])
def test_bytes_buy_time_for_nothing_but_a_message(owes: Owes) -> None:
    assert due_at(watch(owes), 10**9, LIMITS) == due_at(watch(owes), 0, LIMITS)


@given(st.sampled_from(Owes), any_limits, times, st.integers(0, 10**9), st.integers(0, 10**9))
def test_time_is_never_up_before_the_clock_started_and_bytes_never_cost_time(
    owes: Owes, limits: Limits, since: float, before: int, more: int
) -> None:
    seen = watch(owes, since=since, received=before)
    due, later = due_at(seen, before, limits), due_at(seen, before + more, limits)
    assert (due is None) == (later is None)
    if due is not None and later is not None:
        assert since < due <= later
        assert math.isfinite(later)


# Looking


@every_debt
def test_the_first_look_starts_the_clock(owes: Owes) -> None:
    assert look(None, owes, 3, 40, now=7.0) == Watch(owes, 3, 7.0, 40)


@every_debt
def test_a_look_that_finds_nothing_new_lets_the_clock_run(owes: Owes) -> None:
    seen = watch(owes, progress=3)
    assert look(seen, owes, 3, 4_000, now=105.0) is seen


@pytest.mark.parametrize(("owes", "progress"), [(Owes.WRITING, 4), (Owes.REST_OF_MESSAGE, 3), (Owes.NOTHING, 9)])
def test_another_debt_or_progress_starts_it_anew(owes: Owes, progress: int) -> None:
    seen = watch(Owes.WRITING, progress=3)
    assert look(seen, owes, progress, 50, now=105.0) == Watch(owes, progress, 105.0, 50)


steps = st.lists(
    st.tuples(
        st.floats(0.01, 5),
        st.sampled_from([owes for owes in Owes if owes is not Owes.ROOM]),
        st.integers(0, 2),
        st.integers(0, 1_000),
    ),
    min_size=1,
    max_size=30,
)


@given(steps, any_limits)
def test_nobody_is_late_who_did_something_within_the_limit(
    steps: list[tuple[float, Owes, int, int]], limits: Limits
) -> None:
    """A model that remembers everything agrees with the watch, which remembers one look."""
    now, received, seen = 0.0, 0, None
    unchanged_since, bytes_then, last = 0.0, 0, None
    for step_s, owes, progress, more in steps:
        now += step_s
        received += more
        if (owes, progress) != last:
            unchanged_since, bytes_then, last = now, received, (owes, progress)
        seen = look(seen, owes, progress, received, now)
        assert (seen.since, seen.received, seen.owes) == (unchanged_since, bytes_then, owes)
        due = due_at(seen, received, limits)
        allowed = {
            Owes.NOTHING: limits.idle_s,
            Owes.FIRST_BYTE: limits.idle_s if limits.first_byte_s is None else limits.first_byte_s,
            Owes.REST_OF_MESSAGE: limits.message_s,
            Owes.WRITING: limits.write_s,
            Owes.LINGERING: LINGER_S,
            Owes.HEADER: limits.header_s,
            Owes.HANDSHAKE: limits.handshake_s,
        }[owes]
        if due is None:
            assert allowed is None
        else:
            assert allowed is not None
            assert due >= unchanged_since + allowed


@given(st.integers(1, 5_000), st.floats(0.1, 1.0))
def test_a_sender_at_the_minimum_rate_is_never_cut_and_one_below_it_is(rate: int, look_s: float) -> None:
    limits = replace(LIMITS, min_rate=rate)

    def cut_at(bytes_per_s: float) -> float | None:
        seen: Watch | None = None
        for n in range(int(400 / look_s)):
            now = n * look_s
            received = math.ceil(now * bytes_per_s)
            seen = look(seen, Owes.REST_OF_MESSAGE, 0, received, now)
            due = due_at(seen, received, limits)
            assert due is not None
            if due <= now:
                return now
        return None

    assert cut_at(rate) is None
    half = cut_at(rate / 2)
    assert half is not None
    assert 40.0 <= half + 1e-6 <= 40.0 + 3 * (look_s + 1)


# Where the clock stood


@pytest.mark.parametrize(("stood", "due"), [(0.0, 5.0), (2.0, 7.0), (100.0, 15.0)])
def test_a_clock_that_stood_is_as_much_later_but_never_ahead(stood: float, due: float) -> None:
    began = look(None, Owes.HANDSHAKE, 0, 0, 0.0)
    assert due_at(later(began, stood, 10.0), 0, LIMITS) == due


# What the log says


@pytest.mark.parametrize(
    ("owes", "said", "setting"),
    [
        (Owes.NOTHING, "was idle for 60 s", "--idle-timeout"),
        (Owes.FIRST_BYTE, "sent nothing for 5 s", "--first-byte-timeout"),
        (Owes.REST_OF_MESSAGE, "did not finish it within 20 s", "--message-timeout"),
        (Owes.WRITING, "took nothing of the reply that waits for it for 10 s", "--write-timeout"),
        (Owes.LINGERING, "did not close within 2 s", ""),
        (Owes.HEADER, "did not say for whom it had connected within 5 s", "--proxy-timeout"),
    ],
)
def test_a_verdict_says_what_was_owed_how_long_and_which_setting(owes: Owes, said: str, setting: str) -> None:
    text = verdict(watch(owes), LIMITS)
    assert text.startswith("it ")
    assert said in text
    assert setting in text


@pytest.mark.parametrize(("min_rate", "said"), [(500, True), (0, False)])
def test_the_minimum_rate_is_named_only_when_there_is_one(min_rate: int, said: bool) -> None:
    text = verdict(watch(Owes.REST_OF_MESSAGE), replace(LIMITS, min_rate=min_rate))
    assert ("500 bytes/s" in text) == ("--min-rate" in text) == said
