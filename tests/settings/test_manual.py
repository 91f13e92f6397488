"""settings/manual.py: what --print-config shows can be given back, and the page of the manual is that of the table."""

import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from paceline.errors import SettingError
from paceline.settings import DEFAULTS, TABLE, print_config, reference
from paceline.settings.manual import print_settings
from paceline.settings.sources import CommandLine, Environment, File, lay

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_shown_configuration_gives_the_same_settings_again() -> None:
    resolved = lay(
        [
            CommandLine({"target": 'a "b"\\c\n.py:d', "bind": (":80", "unix:/run/ü"), "min_rate": "off"}),
            Environment({"PACELINE_MAX_MESSAGE": "64k", "PACELINE_SWITCH_INTERVAL": "123us"}),
            File({"workers": 3, "idle_timeout": "2m", "write_timeout": 0.1}, "x.toml"),
        ]
    )
    text = print_config(resolved)
    assert lay([File(tomllib.loads(text), "again.toml")]).settings == resolved.settings


def test_each_line_says_where_its_value_came_from() -> None:
    text = print_config(
        lay(
            [
                CommandLine({"target": "a:b", "threads": "8"}, {"threads": "-t"}),
                Environment({"PACELINE_BACKLOG": "5"}),
                File({"as": "message", "threads": 9}, "x\n.toml"),
            ]
        )
    )
    lines = {line.split(" = ")[0]: line for line in text.splitlines() if " = " in line}
    assert lines.keys() == {row.key for row in TABLE}
    assert lines["target"].split() == ["target", "=", '"a:b"', "#", "TARGET"]
    assert lines["threads"].split() == ["threads", "=", "8", "#", "-t"]
    assert lines["backlog"].split() == ["backlog", "=", "5", "#", "PACELINE_BACKLOG"]
    assert lines["as"].split() == ["as", "=", '"message"', "#", "as", "in", "x?.toml"]
    assert lines["keepalive"].split() == ["keepalive", "=", '"60s"', "#", "default"]


def test_a_value_that_toml_cannot_hold_is_refused_by_name() -> None:
    resolved = lay([CommandLine({"chdir": "/srv/\udcff"})])
    with pytest.raises(SettingError, match=r"^--chdir '/srv/\\udcff': is not Unicode"):
        print_config(resolved)


def test_settings_of_which_nobody_knows_any_more_where_they_came_from() -> None:
    settings = lay([CommandLine({"threads": "8", "bind": ["unix:/s", ":80"], "control": "off"})]).settings
    text = print_settings(settings)
    assert lay([File(tomllib.loads(text), "shown.toml")]).settings == settings
    marks = {line.split(" ")[0]: line.rpartition("# ")[2] for line in text.splitlines() if " = " in line}
    assert {key for key, mark in marks.items() if mark == "set"} == {"threads", "bind", "control"}
    assert set(marks.values()) == {"set", "default"}
    with pytest.raises(SettingError, match=r"^chdir = '/srv/\\udcff': is not Unicode"):
        print_settings(replace(settings, chdir="/srv/\udcff"))


def test_the_page_of_the_manual_is_the_one_the_table_makes() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: python -m paceline.settings > docs/settings.md"


def test_the_page_is_written_by_the_module() -> None:
    done = subprocess.run([sys.executable, "-m", "paceline.settings"], capture_output=True, timeout=30, check=True)
    assert done.stdout.decode() == reference()
    assert not done.stderr


def test_the_page_has_a_line_for_every_setting_with_its_names_and_its_default() -> None:
    lines = reference().splitlines()
    for row in TABLE:
        line = next(line for line in lines if line.startswith(f"| `{row.key}` |"))
        assert f"`{row.option}`" in line
        assert row.variable in line
        assert row.default_text in line
        assert line.replace("\\|", "").count("|") == 6
    assert DEFAULTS.bind[0] in reference()
