"""settings/sources.py: which source counts, and how an error names what is wrong where it stands."""

import pytest

from paceline.errors import SettingError
from paceline.settings import DEFAULTS, TABLE, resolve
from paceline.settings.sources import (
    Arguments,
    CommandLine,
    Environment,
    File,
    Resolved,
    lay,
    unknown_variables,
)

FOUR = [
    ({"threads": "1"}, {"PACELINE_THREADS": "2"}, {"threads": 3}),
    ({}, {"PACELINE_THREADS": "2"}, {"threads": 3}),
    ({}, {}, {"threads": 3}),
    ({}, {}, None),
]


@pytest.mark.parametrize(("sources", "threads"), list(zip(FOUR, [1, 2, 3, 64], strict=True)))
def test_command_line_over_environment_over_file_over_default(
    sources: tuple[dict[str, object], dict[str, str], dict[str, object] | None], threads: int
) -> None:
    assert resolve(*sources).threads == threads


def test_nothing_given_means_the_defaults() -> None:
    assert resolve({}, {"PATH": "/bin", "PACELINE_BIND": ""}, {}) == DEFAULTS


def test_every_setting_can_come_from_every_source() -> None:
    for row in TABLE:
        text = row.default_text
        assert resolve({row.key: text}, {row.variable: text}, {row.key: text}) == DEFAULTS
        assert lay([Arguments({row.name: row.default})]).settings == DEFAULTS


def test_the_word_for_none_takes_back_what_another_source_says() -> None:
    settings = resolve({"framing": "auto", "idle_timeout": "off"}, {"PACELINE_IDLE_TIMEOUT": "5"}, {"framing": "line"})
    assert settings.framing is None
    assert settings.idle_timeout is None


def test_as_may_be_written_with_or_without_its_underscore_where_python_needs_it() -> None:
    assert resolve({"as": "connection"}, {}, None).as_ == "connection"
    assert resolve({"as_": "connection"}, {}, None).as_ == "connection"
    assert lay([Arguments({"as_": "connection"})]).settings.as_ == "connection"
    assert resolve({}, {"PACELINE_AS": "connection"}, None).as_ == "connection"


def test_a_file_may_write_keys_as_the_options_are_written() -> None:
    assert resolve({}, {}, {"max-message": "64k"}).max_message == 65536
    with pytest.raises(SettingError, match=r"^max_message in paceline.toml: is there twice"):
        resolve({}, {}, {"max-message": 1, "max_message": 1})


@pytest.mark.parametrize(
    ("sources", "text"),
    [
        (
            ({"threads": "0"}, {}, None),
            "--threads 0: must be a whole number from 1 to 4,096; the nearest right value is 1",
        ),
        (
            ({}, {"PACELINE_THREADS": "many"}, None),
            "PACELINE_THREADS=many: must be a whole number from 1 to 4,096; the default is 64",
        ),
        (
            ({}, {}, {"threads": 5000}),
            "threads = 5000 in paceline.toml: must be a whole number from 1 to 4,096; the nearest right value is 4096",
        ),
        (
            ({}, {}, {"threads": True}),
            "threads = true in paceline.toml: must be a whole number from 1 to 4,096; the default is 64",
        ),
        (
            ({}, {}, {"log_format": "jsn"}),
            'log_format = "jsn" in paceline.toml: must be text or json; the nearest right value is json',
        ),
        (
            ({}, {}, {"bind": [":80", "8888"]}),
            (
                'bind = "8888" in paceline.toml: must be HOST:PORT, [::1]:PORT, :PORT (all interfaces), unix:PATH or '
                "fd://N; a port alone does not say on which interface; the nearest right value is 127.0.0.1:8888"
            ),
        ),
        (
            ({"bind": (":80", ":80")}, {}, None),
            "--bind :80: must be given only once; leave one of the two out",
        ),
        (
            ({}, {}, {"bind": 8888}),
            (
                "bind = 8888 in paceline.toml: must be HOST:PORT, [::1]:PORT, :PORT (all interfaces), unix:PATH or "
                "fd://N; a port alone does not say on which interface; the nearest right value is 127.0.0.1:8888"
            ),
        ),
        (
            ({}, {}, {"bind": {}}),
            (
                "bind = {} in paceline.toml: must be an address (HOST:PORT, [::1]:PORT, :PORT (all interfaces), "
                "unix:PATH or fd://N), or a list of addresses that is not empty; the default is 127.0.0.1:8888"
            ),
        ),
        (
            ({"heartbeat": "1s"}, {}, None),
            (
                "--heartbeat 1s: must be a time from 3s to 7d, in seconds or like 500ms or 2m; "
                "the nearest right value is 3s"
            ),
        ),
        (
            ({"target": ""}, {}, None),
            "TARGET '': must be a text that is not empty and holds no NUL; the default is echo",
        ),
        (
            ({"as_": "x\n"}, {}, None),
            "--as 'x\\n': must be message, connection or socketserver, or auto; the default is auto",
        ),
        (
            ({"log_format": 200 * "x"}, {}, None),
            f"--log-format {60 * 'x'}… (200 characters): must be text or json; the default is text",
        ),
        (({}, {}, {"thread": 1}), "paceline.toml: there is no setting 'thread'; did you mean threads?"),
    ],
)
def test_an_error_names_the_setting_as_it_is_written_where_it_is(
    sources: tuple[dict[str, object], dict[str, str], dict[str, object] | None], text: str
) -> None:
    with pytest.raises(SettingError) as caught:
        resolve(*sources)
    assert str(caught.value) == text
    assert caught.value.exit_code == 2


def test_an_error_names_an_option_as_it_was_spelled() -> None:
    with pytest.raises(SettingError, match=r"^-t 0: "):
        lay([CommandLine({"threads": "0"}, {"threads": "-t"})])


def test_an_error_names_an_argument_of_python() -> None:
    with pytest.raises(SettingError, match=r"^threads=0: must be"):
        lay([Arguments({"threads": 0})])
    with pytest.raises(SettingError, match=r"^as_='x': must be"):
        lay([Arguments({"as": "x"})])
    with pytest.raises(SettingError, match=r"^there is no setting 'thread'; did you mean threads\?"):
        lay([Arguments({"thread": 1})])
    with pytest.raises(SettingError, match=r"there is no setting 'qqq'; the settings are target, bind, as, "):
        lay([Arguments({"qqq": 1})])
    with pytest.raises(SettingError, match="is there twice"):
        lay([Arguments({"as": "message", "as_": "message"})])


def test_none_is_a_value_only_where_a_word_stands_for_it() -> None:
    assert lay([Arguments({"workers": None, "keepalive": None})]).settings.keepalive is None
    with pytest.raises(SettingError, match=r"^threads=None: must be a whole number"):
        lay([Arguments({"threads": None})])


def test_a_wrong_value_is_refused_also_where_another_source_overrides_it() -> None:
    with pytest.raises(SettingError, match=r"^PACELINE_THREADS=0"):
        resolve({"threads": "8"}, {"PACELINE_THREADS": "0"}, None)
    with pytest.raises(SettingError, match=r"^threads = 0 in paceline.toml"):
        resolve({"threads": "8"}, {"PACELINE_THREADS": "1"}, {"threads": 0})


def test_workers_may_not_be_more_than_there_is_room_for() -> None:
    assert resolve({"workers": "4", "max_workers": "4"}, {}, None).workers == 4
    with pytest.raises(SettingError) as caught:
        resolve({"workers": "5"}, {"PACELINE_MAX_WORKERS": "4"}, None)
    assert str(caught.value) == "--workers 5: must be at most 4, because PACELINE_MAX_WORKERS says so"


def test_who_finds_another_fault_can_name_the_setting_too() -> None:
    resolved = lay([File({"framing": "fixed:0"}, "paceline.toml")])
    assert str(resolved.refused("framing", "no")) == 'framing = "fixed:0" in paceline.toml: no'
    assert str(Resolved(DEFAULTS, {}).refused("framing", "no")) == "framing: no"


def test_the_sources_are_known_afterwards() -> None:
    environment = Environment({"PACELINE_BACKLOG": "5"})
    resolved = lay([CommandLine({"threads": "8"}), environment])
    assert resolved.sources.keys() == {"threads", "backlog"}
    assert resolved.sources["backlog"] is environment


def test_a_variable_that_is_no_setting_is_named_with_the_one_that_was_meant() -> None:
    names = {"PACELINE_THREAD": "", "PACELINE_QQQQ": "", "PACELINE_BIND": "", "PACELINE_CONFIG": "", "HOME": ""}
    assert unknown_variables(names, known={"PACELINE_CONFIG"}) == [
        "PACELINE_QQQQ is set, but there is no such setting, so it has no effect",
        "PACELINE_THREAD is set, but there is no such setting, so it has no effect; did you mean PACELINE_THREADS?",
    ]
