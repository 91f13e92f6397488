"""settings/rights.py: what names a user, and which bits a mode has."""

import pytest

from paceline.settings.rights import Account, FileMode
from paceline.settings.values import WrongValueError

ACCOUNT = Account(word="unchanged")
MODE = FileMode(word="unchanged")


@pytest.mark.parametrize(
    ("raw", "value"),
    [("www-data", "www-data"), (" web ", "web"), ("33", "33"), (33, "33"), (0, "0"), ("4294967294", "4294967294")],
)
def test_an_account(raw: object, value: str) -> None:
    assert ACCOUNT.read(raw) == value
    assert ACCOUNT.read(ACCOUNT.show(value)) == value


@pytest.mark.parametrize(
    "raw", ["", " ", "a\0b", -1, "-1", "+33", 2**32 - 1, "4294967295", "9" * 5000, 1.5, True, ["a"]]
)
def test_no_account(raw: object) -> None:
    with pytest.raises(WrongValueError) as caught:
        ACCOUNT.read(raw)
    assert caught.value.rule == "a name, or a number from 0 to 4294967294, or unchanged"


@pytest.mark.parametrize(
    ("raw", "value"), [("027", "027"), ("27", "027"), ("0", "000"), ("0o077", "077"), ("0777", "777")]
)
def test_a_mode(raw: object, value: str) -> None:
    assert MODE.read(raw) == value
    assert MODE.read(MODE.show(value)) == value
    assert MODE.toml(value) == f'"{value}"'


@pytest.mark.parametrize("raw", ["", "028", "1000", "-1", "rwx", 27, 0o27, "0x1f", "00027"])
def test_no_mode(raw: object) -> None:
    with pytest.raises(WrongValueError, match="octal digits from 000 to 777"):
        MODE.read(raw)


def test_the_word() -> None:
    assert ACCOUNT.read("unchanged") is MODE.read("unchanged") is None
    assert ACCOUNT.show(None) == MODE.show(None) == "unchanged"
