"""Every row can be said, in both forms; nothing in a field can break a line, steer a terminal or stop the log."""

import json
import string
from typing import Any

import pytest

from paceline.events import (
    DETAIL_CHARACTERS,
    SENTENCE_CHARACTERS,
    TABLE,
    Kind,
    Level,
    counted,
    json_line,
    sentence_of,
    text_line,
)

STAMP = "2026-11-24 17:22:01.123"
FAILED = TABLE["handler-failed"]


def plausible(kind: Kind) -> dict[str, object]:
    """A value for each name in the sentence: a number where the sentence formats one."""
    named = [(name, spec) for _, name, spec, _ in string.Formatter().parse(kind.sentence) if name is not None]
    assert all(name.isidentifier() for name, _ in named), "fields are given by keyword"
    return {name: (7 if "|" in spec else 1.25) if spec else f"<{name}>" for name, spec in named}


class Unspeakable:
    def __str__(self) -> str:
        raise ValueError("no")

    __repr__ = __str__


@pytest.mark.parametrize("kind", TABLE.values(), ids=lambda kind: kind.name)
def test_every_row_can_be_said(kind: Kind) -> None:
    fields = plausible(kind)
    sentence = sentence_of(kind, fields)
    for value in fields.values():
        assert ("1.2" if isinstance(value, float) else str(value)) in sentence
    assert not set("{}\n") & set(sentence)
    assert text_line(STAMP, "worker 0", kind, fields) == f"{STAMP} {kind.level.name.lower()} worker 0: {sentence}\n"
    record = json.loads(json_line(STAMP, "worker 0", kind, fields))
    assert record == {
        **fields,
        "time": STAMP,
        "level": kind.level.name.lower(),
        "who": "worker 0",
        "event": kind.name,
        "text": sentence,
    }


@pytest.mark.parametrize("kind", TABLE.values(), ids=lambda kind: kind.name)
def test_every_row_is_well_formed(kind: Kind) -> None:
    assert TABLE[kind.name] is kind
    assert kind.name == kind.name.lower().replace("_", "-").strip()
    assert kind.every_s >= 0
    assert not kind.sentence.endswith((".", " ", "\n"))
    reserved = {"time", "level", "who", "event", "held_back", "dropped", "detail"}
    assert not reserved & plausible(kind).keys(), "a column of ours would hide it in JSON"


@pytest.mark.parametrize(
    ("forms", "said"),
    [
        ("call", ["0 calls", "1 call", "2 calls"]),
        ("# call was|# calls were", ["0 calls were", "1 call was", "2 calls were"]),
        ("nobody|one peer|# peers", ["nobody", "one peer", "2 peers"]),
    ],
)
def test_a_noun_agrees_with_its_number(forms: str, said: list[str]) -> None:
    assert [counted(n, forms) for n in range(3)] == said


@pytest.mark.parametrize(
    ("event", "fields", "said"),
    [
        ("cut", {"cut": 1, "why": "x"}, "1 call was cut by x"),
        ("cut", {"cut": 2, "why": "x"}, "2 calls were cut by x"),
        ("stopped", {"uptime": "3 s", "calls": 1}, "stopped after 3 s; 1 call served"),
        ("saturated", {"threads": 1, "waiting": ""}, "the only thread is inside a call; new "),
        ("saturated", {"threads": 64, "waiting": ""}, "all 64 threads are inside calls; new "),
        ("peer-broke", {"peer": "p", "message": 0, "error": "x"}, "p is disconnected before its first message: x"),
        ("peer-broke", {"peer": "p", "message": 1, "error": "x"}, "p is disconnected after message 1: x"),
        (
            "reply-refused",
            {"got": "an int (5)", "message": 0, "peer": "p"},
            "the handler returned an int (5) to greet p; ",
        ),
        (
            "reply-refused",
            {"got": "an int (5)", "message": 2, "peer": "p"},
            "the handler returned an int (5) for message 2 of p; ",
        ),
        (
            "orphan-reaped",
            {"pid": 5, "cause": "was killed by SIGKILL"},
            "reaped pid 5, a process of somebody else, which was ",
        ),
    ],
)
def test_sentences_read_well(event: str, fields: dict[str, object], said: str) -> None:
    assert sentence_of(TABLE[event], fields).startswith(said)


def test_a_detail_of_several_lines_is_indented_in_text_and_one_field_in_json() -> None:
    detail = "Traceback (most recent call last):\r\n  File …\n\nValueError: no\n"
    fields = {"error": "ValueError: no", "message": 3, "peer": "[::1]:9", "detail": detail}
    text = text_line(STAMP, "worker 0", FAILED, fields)
    assert text.split("\n")[1:] == [
        "    Traceback (most recent call last):", "      File …", "", "    ValueError: no", "",
    ]  # fmt: skip
    line = json_line(STAMP, "worker 0", FAILED, fields)
    assert line.count("\n") == 1
    assert json.loads(line)["detail"] == detail
    assert json.loads(line)["message"] == 3


@pytest.mark.parametrize("detail", ["", None])
def test_an_empty_detail_adds_no_line(detail: object) -> None:
    assert text_line(STAMP, "worker 0", TABLE["drained"], {"detail": detail}).count("\n") == 1


def test_what_a_peer_sent_cannot_make_a_line_or_steer_a_terminal() -> None:
    forged = "bad\n2026-11-24 17:22:01.123 error supervisor: fake\r\x1b[2J\x9b\x7f\u2028end"
    fields = {"error": forged, "message": 1, "peer": "p", "detail": "a\x1b[2J\n\x0b\u2028b\tc"}
    text = text_line(STAMP, "worker 0", FAILED, fields)
    assert len(text.splitlines()) == 3
    assert all(char.isprintable() for char in text.replace("\n", "").replace("\t", ""))
    assert r"bad\n2026" in text
    assert r"\x1b[2J" in text
    line = json_line(STAMP, "worker 0", FAILED, fields)
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert json.loads(line)["error"] == forged


def test_what_was_held_back_or_dropped_is_told_in_the_line() -> None:
    fields = plausible(FAILED)
    text = text_line(STAMP, "worker 0", FAILED, fields, held_back=7, dropped=12)
    assert text.endswith("(7 more like this were not written) (12 lines before this one were lost: "
                         "standard error did not take them)\n")  # fmt: skip
    record = json.loads(json_line(STAMP, "worker 0", FAILED, fields, held_back=7, dropped=12))
    assert (record["held_back"], record["dropped"]) == (7, 12)
    assert record["text"] == sentence_of(FAILED, fields)


def test_only_warnings_and_errors_are_coloured() -> None:
    for kind in TABLE.values():
        line = text_line(STAMP, "worker 0", kind, plausible(kind), color=True)
        assert ("\x1b[" in line) == (kind.level >= Level.WARNING)


@pytest.mark.parametrize("fields", [{}, {"error": Unspeakable(), "peer": "p", "message": 1}, {"unheard_of": 5}])
def test_wrong_fields_cost_the_sentence_not_the_event(fields: dict[str, object]) -> None:
    for line in (text_line(STAMP, "w", FAILED, fields), json_line(STAMP, "w", FAILED, fields)):
        assert "handler-failed" in line
    spec = Kind("timed", Level.INFO, "took {seconds:.2f} s")
    assert sentence_of(spec, {"seconds": "long"}) == "timed: seconds=long"


def test_json_takes_whatever_the_fields_are() -> None:
    endless: list[Any] = []
    endless.append(endless)
    kind = Kind("odd", Level.INFO, "odd")
    simple = json.loads(
        json_line(STAMP, "w", kind, {"raw": b"\x00", "set": {1}, "lone": "\udc80", "ok": [1, {"a": None}]})
    )
    assert simple["raw"] == "b'\\x00'"
    assert simple["set"] == "{1}"
    assert simple["ok"] == [1, {"a": None}]
    for odd in (float("nan"), endless, {(1, 2): 3}):
        record = json.loads(json_line(STAMP, "w", kind, {"odd": odd, "count": 3}))
        assert isinstance(record["odd"], str)
        assert record["level"] == "info"
    assert "cannot be had" in json.loads(json_line(STAMP, "w", kind, {"odd": Unspeakable()}))["odd"]


def test_a_field_does_not_replace_a_column() -> None:
    record = json.loads(json_line(STAMP, "w", TABLE["drained"], {"time": "never", "text": "no", "level": 7}))
    assert (record["time"], record["text"], record["level"]) == (STAMP, "drained", "debug")


def test_everything_is_bounded() -> None:
    fields = {"error": "e" * 10_000_000, "message": 1, "peer": "p", "detail": "first\n" + "d" * 10_000_000 + "\nlast"}
    for form in (text_line, json_line):
        line = form(STAMP, "w", FAILED, fields)
        assert len(line) < 2 * DETAIL_CHARACTERS + 2 * SENTENCE_CHARACTERS
        assert "characters left out" in line
        assert "first" in line
        assert "last" in line
