"""What is asked for, and what it becomes on the command line."""

import dataclasses

import pytest

from paceline.cli.serve import serve
from paceline.errors import SettingError
from paceline.settings import resolve
from paceline.settings.table import BY_KEY
from paceline.testing.terms import Terms, agree
from paceline.wire import Lines

SETTINGS: dict[str, object] = {
    "bind": ["127.0.0.1:0", "unix:a,b.sock"],
    "as_": "message",
    "workers": None,
    "max_workers": 4,
    "threads": "8",
    "switch_interval": "2ms",
    "max_connections": None,
    "max_message": "64k",
    "first_byte_timeout": None,
    "min_rate": None,
    "idle_timeout": 2.5,
    "write_timeout": "1.5s",
    "keepalive": "off",
    "log_format": "json",
}


def of_processes(framing: object = None, **settings: object) -> Terms:
    return agree("app:f", framing, None, None, settings)


def here(framing: object = None, **settings: object) -> Terms:
    return agree(None, framing, None, None, settings)


@pytest.mark.parametrize("settings", [{}, SETTINGS], ids=["defaults", "all"])
def test_the_command_line_says_the_same(settings: dict[str, object]) -> None:
    terms = of_processes("delimiter:\\r\\n", **settings)
    context = serve.make_context("serve", [*terms.options(), "--", "-strange-:f"])
    written = {key: raw for key, raw in context.params.items() if key in BY_KEY and raw not in (None, ())}
    assert resolve(written, {}, None) == dataclasses.replace(terms.settings, target="-strange-:f")


def test_other_defaults_than_the_servers() -> None:
    chosen = of_processes().settings
    assert (chosen.bind, chosen.workers, chosen.drain_timeout) == (("127.0.0.1:0",), 2, 5.0)
    assert here().settings.workers is None


def test_the_fewest_workers_there_may_be_are_not_too_few() -> None:
    assert of_processes(max_workers=1).settings.max_workers == 1


def test_the_server_has_its_own_time_limits_first() -> None:
    terms = of_processes(drain_timeout=20, boot_timeout=2)
    assert (terms.start_timeout_s, terms.stop_timeout_s) == (12.0, 30.0)
    terms = agree("app:f", None, "500ms", 3, {})
    assert (terms.start_timeout_s, terms.stop_timeout_s) == (0.5, 3.0)


def test_a_framing_object_is_no_setting() -> None:
    framing = Lines(limit=9)
    terms = here(framing)
    assert terms.framing is framing
    assert terms.settings.framing is None
    terms = here("line")
    assert (terms.framing, terms.settings.framing) == (None, "line")


def test_what_cannot_be_agreed_on() -> None:
    with pytest.raises(SettingError, match="not the text 'app:f', or let it say its framing"):
        of_processes(Lines(limit=9))
    with pytest.raises(SettingError, match="workers=2: no other process can import this framing object"):
        here(Lines(limit=9), workers=2)
    with pytest.raises(SettingError, match="chdir='/': no other process can import this handler"):
        here(chdir="/")
    with pytest.raises(SettingError, match="user='nobody': no other process can import this handler"):
        here(user="nobody")
    with pytest.raises(SettingError, match=r"start_timeout=0: must be a time from .*; the default here is 40"):
        agree("app:f", None, 0, None, {})
    assert here(workers=1).settings.workers == 1
