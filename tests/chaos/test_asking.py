"""chaos/asking.py: what the user's target speaks, as the server itself says."""

from pathlib import Path

import pytest

from paceline.chaos.asking import framing_of_target
from paceline.errors import TargetError, UsageError

APP = """
import paceline

def raw(message):
    return message

@paceline.message(framing="line")
def line(message):
    return message

@paceline.message(framing="netstring")
def netstring(message):
    return message

@paceline.connection
def whole(conn):
    pass
"""


@pytest.fixture
def target(tmp_path: Path) -> str:
    (tmp_path / "app.py").write_text(APP)
    return f"{tmp_path}/app.py"


@pytest.mark.parametrize("framing", ["raw", "line", "netstring"])
def test_a_framing_is_found(framing: str, target: str) -> None:
    assert framing_of_target(f"{target}:{framing}") == framing


def test_of_a_whole_connection_it_must_be_told(target: str) -> None:
    with pytest.raises(UsageError, match=r"is not known .it is a connection handler.; give it: --framing line"):
        framing_of_target(f"{target}:whole")


def test_a_target_that_cannot_be_served_is_named(target: str) -> None:
    with pytest.raises(TargetError, match=r"cannot be served: .*nothing"):
        framing_of_target(f"{target}:nothing")
