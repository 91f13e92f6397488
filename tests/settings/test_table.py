"""settings/table.py: every row is complete, its default is a right value, its names are unique."""

import dataclasses
import typing

import pytest

from paceline.settings.table import BY_KEY, DEFAULTS, GROUPS, TABLE, Reload, Setting, Settings, nearest_setting

every_row = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.key)


@every_row
def test_a_row_is_complete(row: Setting) -> None:
    assert row.help
    assert row.help[0].islower()
    assert not row.help.endswith(".")
    assert row.kind.metavar
    assert row.reload in typing.get_args(Reload)
    assert row.group in GROUPS


@every_row
def test_a_default_is_what_its_own_text_means(row: Setting) -> None:
    assert row.kind.read(row.default_text) == row.default == getattr(DEFAULTS, row.name)


@every_row
def test_a_type_allows_none_exactly_where_a_word_stands_for_it(row: Setting) -> None:
    hint = typing.get_type_hints(Settings)[row.name]
    assert (type(None) in typing.get_args(hint)) == (bool(row.kind.word) and row.kind.means is None)


def test_names_are_unique_also_those_of_other_servers() -> None:
    names = [name for row in TABLE for name in (row.key, *row.also)]
    assert len(names) == len(set(names))
    shorts = [row.short for row in TABLE if row.short]
    assert sorted(shorts) == ["-b", "-t", "-w"]


def test_rows_are_named_after_their_keys() -> None:
    assert BY_KEY["as"].name == "as_"
    assert BY_KEY["max_message"].option == "--max-message"
    assert BY_KEY["max_message"].variable == "PACELINE_MAX_MESSAGE"
    assert BY_KEY["as"].variable == "PACELINE_AS"
    assert BY_KEY["target"].option == "TARGET"


def test_settings_cannot_be_changed_by_accident() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEFAULTS.threads = 1  # type: ignore[misc]
    assert not hasattr(DEFAULTS, "__dict__")


def test_the_documented_defaults() -> None:
    assert (
        Settings(
            target="echo",
            bind=("127.0.0.1:8888",),
            as_=None,
            framing=None,
            start=None,
            allow=None,
            deny=None,
            max_connections_per_address=None,
            max_connection_rate=None,
            workers=None,
            max_workers=None,
            threads=64,
            switch_interval=0.001,
            max_connections=None,
            backlog=2048,
            max_message=1024 * 1024,
            max_buffer=1024 * 1024,
            max_buffered=128 * 1024 * 1024,
            first_byte_timeout=None,
            message_timeout=20.0,
            min_rate=500,
            write_timeout=10.0,
            idle_timeout=None,
            keepalive=60.0,
            timeout="auto",
            queue_timeout=None,
            max_messages=None,
            max_messages_jitter=0.1,
            max_rss=None,
            max_age=None,
            boot_timeout=30.0,
            drain_timeout=30.0,
            heartbeat=10.0,
            probe=None,
            probe_reply=None,
            user=None,
            group=None,
            umask=None,
            socket_mode=None,
            socket_owner=None,
            no_new_privs=None,
            pid=None,
            control="auto",
            chdir=None,
            log_format="text",
        )
        == DEFAULTS
    )


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("thread", "threads"),
        ("--max-mesage", "max_message"),
        ("THREADS", "threads"),
        ("port", "bind"),
        ("graceful-timeout", "drain_timeout"),
        ("as_", "as"),
        ("keep-alive", "keepalive"),
        ("--timeout", "timeout"),
        ("request-timeout", "timeout"),
        ("harakiri", "timeout"),
        ("max-requests", "max_messages"),
        ("pidfile", "pid"),
        ("max-connections-per-ip", "max_connections_per_address"),
    ],
)
def test_the_setting_that_was_meant_is_found(word: str, key: str) -> None:
    assert nearest_setting(word) is BY_KEY[key]


def test_a_word_like_no_setting_finds_none() -> None:
    assert nearest_setting("qqqqqq") is None
    assert nearest_setting("") is None
