"""cli/rights.py: a user or group that is not there is named, with the nearest one; so are rights of no file."""

import pytest

from paceline.cli.rights import require_rights
from paceline.errors import SettingError
from paceline.settings.sources import CommandLine, Environment, lay


def test_they_are_there() -> None:
    require_rights(lay([CommandLine({"user": "nobody", "group": "0"})]))


def test_the_one_that_is_wrong_is_named_where_it_stands() -> None:
    with pytest.raises(SettingError, match=r"^--user nobodi: must be a user of .*; did you mean nobody\?$"):
        require_rights(lay([CommandLine({"user": "nobodi", "group": "nobodi"})]))
    with pytest.raises(SettingError, match=r"^PACELINE_GROUP=roof: must be a group of .*; did you mean root\?$"):
        require_rights(lay([CommandLine({"user": "nobody"}), Environment({"PACELINE_GROUP": "roof"})]))


@pytest.mark.parametrize("owner", ["nobody", "nobody:root", ":root", "4711:4712", "unchanged"])
def test_owners_of_a_socket(owner: str) -> None:
    require_rights(lay([CommandLine({"bind": ["unix:s"], "socket_owner": owner})]))


@pytest.mark.parametrize(
    ("owner", "words"),
    [
        ("nobodi:root", r"^--socket-owner nobodi:root: must be a user of .*; did you mean nobody\?$"),
        (":roof", r"^--socket-owner :roof: must be a group of .*; did you mean root\?$"),
    ],
)
def test_no_owners_of_a_socket(owner: str, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        require_rights(lay([CommandLine({"bind": ["unix:s"], "socket_owner": owner})]))


@pytest.mark.parametrize(("key", "value"), [("socket_mode", "660"), ("socket_owner", "nobody")])
def test_rights_of_no_file_are_refused(key: str, value: str) -> None:
    option = key.replace("_", "-")
    for bind in ([":8888"], ["fd://web"], ["127.0.0.1:0", "fd://3"]):
        with pytest.raises(
            SettingError, match=rf"^--{option} {value}: no address to be served is a Unix socket whose "
        ):
            require_rights(lay([CommandLine({"bind": bind, key: value})]))
    require_rights(lay([CommandLine({"bind": [":8888", "unix:s"], key: value})]))
