"""cli/rights.py: a user or group that is not there is named, with the nearest one."""

import pytest

from paceline.cli.rights import require_accounts
from paceline.errors import SettingError
from paceline.settings.sources import CommandLine, Environment, lay


def test_they_are_there() -> None:
    require_accounts(lay([CommandLine({"user": "nobody", "group": "0"})]))


def test_the_one_that_is_wrong_is_named_where_it_stands() -> None:
    with pytest.raises(SettingError, match=r"^--user nobodi: must be a user of .*; did you mean nobody\?$"):
        require_accounts(lay([CommandLine({"user": "nobodi", "group": "nobodi"})]))
    with pytest.raises(SettingError, match=r"^PACELINE_GROUP=roof: must be a group of .*; did you mean root\?$"):
        require_accounts(lay([CommandLine({"user": "nobody"}), Environment({"PACELINE_GROUP": "roof"})]))
