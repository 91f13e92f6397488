"""What is asked and answered on the control socket: each request whole and in pieces, and what is wrong with others."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.supervisor.requests import COMMANDS, LINE_BYTES, Lines, Request, RequestError, answer, fitting, parse


@pytest.mark.parametrize(
    ("line", "request_", "text"),
    [
        ('{"do": "ping"}', Request("ping"), "ping"),
        ('{"do": "stop"}', Request("stop"), "stop"),
        ('{"now": true, "do": "stop"}', Request("stop", now=True), "stop --now"),
        ('{"do": "scale", "workers": 4}', Request("scale", workers=4), "scale 4"),
        ('{"do": "scale", "by": -2}', Request("scale", by=-2), "scale -2"),
        ('{"do": "scale", "by": 1}', Request("scale", by=1), "scale +1"),
        ('{"do": "drain", "slot": 0}', Request("drain", slot=0), "drain 0"),
    ],
)
def test_requests(line: str, request_: Request, text: str) -> None:
    assert parse(line.encode()) == request_
    assert str(request_) == text


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"hello", "the request is not JSON (Expecting value): write one object in a line"),
        (b"\xff\xfe{}", "the request is not JSON (it is not UTF-8)"),
        (b"9" * 5000, "the request is not JSON ("),
        (b"[" * 60_000, "the request is nested too deeply"),
        (b"[]", "the request is a list, not an object"),
        (b"NaN", "the request is nan, not an object"),
        (b"7", "the request is 7, not an object"),
        (b"{}", 'the request has no "do", which is one of ping, reload, upgrade, stop, scale, drain, dump, config'),
        (b'{"do": "dance"}', 'there is no command "dance"; there are ping, reload'),
        (b'{"do": 7}', "there is no command 7; there are"),
        (b'{"do": {"a": [1]}}', 'there is no command {"a": [1]}; there are'),
        (b'{"do": "%s"}' % (b"x" * 500), f'there is no command "{"x" * 59}…; there are'),
        (b'{"do": "ping", "workers": 1}', 'ping: there is no field "workers"; it has none'),
        (b'{"do": "stop", "nwo": true}', 'stop: there is no field "nwo"; its fields are now'),
        (b'{"do": "stop", "now": 1}', "stop: now is 1, and must be true or false"),
        (b'{"do": "stop", "now": null}', "stop: now is null, and must be true or false"),
        (b'{"do": "scale"}', 'scale: give either "workers", how many there shall be, or "by"'),
        (b'{"do": "scale", "workers": 1, "by": 1}', 'scale: give either "workers"'),
        (b'{"do": "scale", "workers": 0}', "scale: workers is 0, and must be at least 1; stop ends them all"),
        (b'{"do": "scale", "workers": -3}', "scale: workers is -3, and must be at least 1"),
        (b'{"do": "scale", "workers": 1%s}' % (b"0" * 4000), "scale: workers is out of all bounds, and must be"),
        (b'{"do": "scale", "workers": true}', "scale: workers is true, and must be a whole number"),
        (b'{"do": "scale", "workers": 2.0}', "scale: workers is 2.0, and must be a whole number"),
        (b'{"do": "scale", "workers": NaN}', "scale: workers is nan, and must be a whole number"),
        (b'{"do": "scale", "workers": "2"}', 'scale: workers is the text "2", and must be a whole number'),
        (b'{"do": "scale", "by": 0}', "scale: by is 0, and must be another number than 0, such as 1 or -1"),
        (b'{"do": "scale", "by": {}}', "scale: by is an object, and must be a whole number"),
        (b'{"do": "drain"}', 'drain: "slot" is missing'),
        (b'{"do": "drain", "slot": -1}', "drain: slot is -1, and there is no such worker"),
    ],
)
def test_what_is_wrong_is_named(line: bytes, why: str) -> None:
    with pytest.raises(RequestError) as refused:
        parse(line)
    assert str(refused.value).startswith(why)
    assert len(str(refused.value)) < 300


@given(st.binary())
def test_no_line_is_a_bug(line: bytes) -> None:
    with suppress(RequestError):
        parse(line)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
)


@given(
    st.sampled_from(sorted(COMMANDS)), st.dictionaries(st.sampled_from(["now", "by", "slot", "workers"]), json_values)
)
def test_no_value_is_a_bug(do: str, fields: dict[str, object]) -> None:
    try:
        found = parse(json.dumps({"do": do, **fields}).encode())
    except RequestError:
        return
    assert found.do == do
    assert isinstance(str(found), str)


def test_an_answer_is_a_line() -> None:
    line = answer("two\nlines", "and \ud800", ok=False, is_last=False, more={"pid": 3})
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "version": 1, "ok": False, "is_last": False, "text": "two\nlines", "detail": "and \ud800", "pid": 3,
    }  # fmt: skip


# Texts that must fit


def test_short_texts_stay_whole_and_long_ones_lose_their_middle() -> None:
    texts = ["short", "x" * 1000 + "end", "y" * 5000 + "end"]
    assert fitting(texts, 100_000) == texts
    short, long, longer = fitting(texts, 2000)
    assert short == "short"
    for text, before in ((long, texts[1]), (longer, texts[2])):
        assert len(text) < 1000
        assert text.startswith(before[:300])
        assert text.endswith(before[-300:])
        assert "characters left out" in text
    assert fitting([], 5) == []


@given(st.lists(st.text(), max_size=8), st.integers(0, 200))
def test_they_fit(texts: list[str], room: int) -> None:
    kept = fitting(texts, room)
    assert len(kept) == len(texts)
    assert sum(map(len, kept)) <= max(room, 0) + 200 * len(texts)


# Lines


def test_lines_however_they_arrive() -> None:
    stream = b'{"do": "ping"}\r\n\n  \n{"a"}\nrest'
    wanted = [b'{"do": "ping"}', b'{"a"}']
    for size in (1, 2, 3, 7, len(stream)):
        lines = Lines()
        found = []
        for at in range(0, len(stream), size):
            found += lines.feed(stream[at : at + size])
        assert found == wanted
        assert lines.is_inside
        assert lines.feed(b"\n") == [b"rest"]
        assert not lines.is_inside


@pytest.mark.parametrize("size", [1000, LINE_BYTES])
def test_the_longest_line(size: int) -> None:
    for length, is_too_long in ((LINE_BYTES - 1, False), (LINE_BYTES, True)):
        stream = b"x" * length + b"\n"
        lines = Lines()
        found = []
        for at in range(0, len(stream), size):
            found += lines.feed(stream[at : at + size])
        assert lines.is_too_long is is_too_long
        assert [len(line) for line in found] == ([] if is_too_long else [length])
    assert lines.feed(b"more\n") == [], "nothing that follows is understood"
