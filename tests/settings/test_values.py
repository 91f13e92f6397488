"""settings/values.py: what a kind shows it reads back; what it refuses it answers with the nearest right value."""

import tomllib
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.settings.table import TABLE
from paceline.settings.values import (
    Addresses,
    CallLimit,
    Choice,
    Fraction,
    Frequency,
    Kind,
    Number,
    Rate,
    Seconds,
    Size,
    Text,
    Whole,
    WrongValueError,
    near,
    quoted,
)

COUNT = Whole(low=1, high=4096, word="auto")
SIZE = Size(low=1, high=1024**3)
RATE = Rate(low=1, high=1024**3, word="off", means=0)
TIME = Seconds(low=0.01, high=7 * 86400, word="off")
LIMIT = CallLimit(low=0.01, high=7 * 86400, word="off")
PART = Fraction()
OFTEN = Frequency(low=0.01, high=1_000_000, word="off")
WORD = Choice(choices=("text", "json"), word="auto")
TEXT = Text()


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (COUNT, "64", 64),
        (COUNT, " 64 ", 64),
        (COUNT, "+64", 64),
        (COUNT, "0064", 64),
        (COUNT, "1e2", 100),
        (COUNT, 64, 64),
        (COUNT, 64.0, 64),
        (COUNT, "auto", None),
        (COUNT, "AUTO ", None),
        (COUNT, None, None),
        (SIZE, "4096", 4096),
        (SIZE, 4096, 4096),
        (SIZE, "64k", 65536),
        (SIZE, "64K", 65536),
        (SIZE, "64KiB", 65536),
        (SIZE, "64kb", 65536),
        (SIZE, "64 KB", 65536),
        (SIZE, "1.5MiB", 1572864),
        (SIZE, "1g", 1024**3),
        (SIZE, "100B", 100),
        (RATE, "500", 500),
        (RATE, "1k/s", 1024),
        (RATE, "500B/s", 500),
        (RATE, "off", 0),
        (RATE, None, 0),
        (RATE, 0, 0),
        (RATE, "0", 0),
        (TIME, "30", 30.0),
        (TIME, 30, 30.0),
        (TIME, 0.5, 0.5),
        (TIME, "30s", 30.0),
        (TIME, "30 sec", 30.0),
        (TIME, "500ms", 0.5),
        (TIME, "35ms", 0.035),
        (TIME, "2m", 120.0),
        (TIME, "2min", 120.0),
        (TIME, "1.5h", 5400.0),
        (TIME, "1d", 86400.0),
        (TIME, "20000us", 0.02),
        (TIME, "20000µs", 0.02),
        (TIME, "off", None),
        (TIME, None, None),
        (LIMIT, "5", 5.0),
        (LIMIT, " AUTO", "auto"),
        (LIMIT, "off", None),
        (LIMIT, None, None),
        (PART, "0.1", 0.1),
        (PART, 1, 1.0),
        (PART, "0", 0.0),
        (OFTEN, "100", 100.0),
        (OFTEN, "100/s", 100.0),
        (OFTEN, "30/min", 0.5),
        (OFTEN, "30 /M", 0.5),
        (OFTEN, 0.25, 0.25),
        (OFTEN, "off", None),
        (WORD, "JSON", "json"),
        (WORD, "auto", None),
        (TEXT, "app:answer", "app:answer"),
        (TEXT, Path("some/where"), "some/where"),
        (Addresses(), "127.0.0.1:80", ("127.0.0.1:80",)),
        (Addresses(), ":80, unix:///run/a", (":80", "unix:/run/a")),
        (Addresses(), (":80", "unix:a,b"), (":80", "unix:a,b")),
        (Addresses(), [":0", ":0"], (":0", ":0")),
    ],
)
def test_a_right_value_is_read(kind: Kind, raw: object, value: object) -> None:
    found = kind.read(raw)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "raw", "nearest"),
    [
        (COUNT, "0", "1"),
        (COUNT, -5, "1"),
        (COUNT, "4097", "4096"),
        (COUNT, 5000 * "9", "4096"),
        (COUNT, 10**400, "4096"),
        (COUNT, "1e999", "4096"),
        (COUNT, float("inf"), "4096"),
        (COUNT, float("nan"), ""),
        (COUNT, "4.6", "5"),
        (COUNT, 4.4, "4"),
        (COUNT, "64k", ""),
        (COUNT, "atuo", "auto"),
        (COUNT, "many", ""),
        (COUNT, "", ""),
        (COUNT, True, ""),
        (COUNT, [64], ""),
        (COUNT, date(2026, 1, 1), ""),
        (SIZE, "0", "1B"),
        (SIZE, "2g", "1GiB"),
        (SIZE, "64kbyte", "64KiB"),
        (SIZE, "64 things", ""),
        (SIZE, None, ""),
        (RATE, "-1", "off"),
        (RATE, "500bps", "500B/s"),
        (TIME, "0", "off"),
        (TIME, "-1", "off"),
        (TIME, "1ms", "10ms"),
        (TIME, "8d", "7d"),
        (TIME, "3seconds", "3s"),
        (TIME, "3 minutes", "180s"),
        (TIME, "3weeks", ""),
        (TIME, False, ""),
        (LIMIT, 0, "off"),
        (LIMIT, "atuo", "auto"),
        (LIMIT, "of", "off"),
        (LIMIT, "8d", "7d"),
        (PART, "2", "1"),
        (PART, -0.5, "0"),
        (PART, "10%", ""),
        (OFTEN, "0", "off"),
        (OFTEN, "0.001/s", "0.01/s"),
        (OFTEN, "1e7", "1000000/s"),
        (OFTEN, "100 times", ""),
        (OFTEN, "100/sec", "100/s"),
        (WORD, "jsn", "json"),
        (WORD, "yaml", ""),
        (WORD, 3, ""),
        (TEXT, "", ""),
        (TEXT, " ", ""),
        (TEXT, "a\0b", ""),
        (TEXT, None, ""),
        (TEXT, b"app", ""),
        (Addresses(), "8888", "127.0.0.1:8888"),
        (Addresses(), [":80", "8888"], "127.0.0.1:8888"),
        (Addresses(), [":80", ":80"], ""),
        (Addresses(), [], ""),
        (Addresses(), 8888, "127.0.0.1:8888"),
        (Addresses(), [8888], "127.0.0.1:8888"),
        (Addresses(), True, ""),
        (Addresses(), {":80": 1}, ""),
    ],
)
def test_a_wrong_value_is_refused_with_the_nearest_right_one(kind: Kind, raw: object, nearest: str) -> None:
    with pytest.raises(WrongValueError) as caught:
        kind.read(raw)
    assert caught.value.rule
    assert caught.value.nearest == nearest
    if nearest:
        kind.read(nearest)


def test_of_several_addresses_the_wrong_one_is_named() -> None:
    with pytest.raises(WrongValueError) as caught:
        Addresses().read([":80", "8888", ":81"])
    assert caught.value.value == "8888"


def _numbers(kind: Number) -> st.SearchStrategy[object]:
    whole = isinstance(kind.read(kind.high), int)
    values: st.SearchStrategy[object] = (
        st.integers(int(kind.low), int(kind.high)) if whole else st.floats(kind.low, kind.high)
    )
    return values | st.just(kind.means) if kind.word else values


@pytest.mark.parametrize(
    "kind", [row.kind for row in TABLE if isinstance(row.kind, Number)], ids=lambda kind: type(kind).__name__
)
@given(data=st.data())
def test_what_is_shown_is_read_back_as_the_same_value(kind: Number, data: st.DataObject) -> None:
    value = data.draw(_numbers(kind))
    assert kind.read(kind.show(value)) == value
    assert kind.read(tomllib.loads(f"x = {kind.toml(value)}")["x"]) == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.001, "1ms"), (0.00001, "10us"), (0.5, "500ms"), (1.5, "1500ms"), (60.0, "60s"), (7200.0, "2h"), (0.0, "0s")],
)
def test_times_are_shown_in_the_unit_that_fits(value: float, shown: str) -> None:
    assert Seconds(low=0, high=86400).show(value) == shown


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_quoted_text_is_toml(text: str) -> None:
    assert tomllib.loads(f"x = {quoted(text)}")["x"] == text


def test_what_is_not_unicode_cannot_be_quoted() -> None:
    with pytest.raises(WrongValueError, match="not Unicode"):
        quoted("\udcff")


@pytest.mark.parametrize(("word", "found"), [("Thread", "threads"), ("bnid", "bind"), ("zzz", ""), ("", "")])
def test_near(word: str, found: str) -> None:
    assert near(word, ["threads", "bind", "workers"]) == found


def test_a_unit_may_be_written_with_either_letter_mu() -> None:
    assert TIME.read("20000\N{MICRO SIGN}s") == TIME.read("20000\N{GREEK SMALL LETTER MU}s") == 0.02
