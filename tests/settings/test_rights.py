"""settings/rights.py: what names a user, and which bits a mode has."""

import pytest

from paceline.settings.rights import Account, FileMode, Owner, makes_files
from paceline.settings.values import WrongValueError

ACCOUNT = Account(word="unchanged")
OWNER = Owner(word="unchanged")
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
    ("raw", "value"),
    [
        ("www-data", "www-data"),
        (" www-data : adm ", "www-data:adm"),
        (":adm", ":adm"),
        ("33:4", "33:4"),
        (33, "33"),
        ("0:4294967294", "0:4294967294"),
    ],
)
def test_an_owner(raw: object, value: str) -> None:
    assert OWNER.read(raw) == value
    assert OWNER.read(OWNER.show(value)) == value


@pytest.mark.parametrize(
    "raw", ["", ":", "web:", "a:b:c", "a:-1", ":4294967295", "a\0:b", -1, 1.5, True, ["a"], ("a", "b")]
)
def test_no_owner(raw: object) -> None:
    with pytest.raises(WrongValueError) as caught:
        OWNER.read(raw)
    assert caught.value.rule == (
        "USER, USER:GROUP or :GROUP, each of them a name, or a number from 0 to 4294967294, or unchanged"
    )


def test_a_file_is_made_for_unix_sockets_alone() -> None:
    assert makes_files([":80", "unix:s"])
    assert not makes_files([":80", "fd://3", "fd://web"])


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


def test_the_rule_shows_a_mode_that_is_fit() -> None:
    assert FileMode(word="umask", example="660").rule == 'octal digits from 000 to 777, as a text: "660", or umask'


def test_the_word() -> None:
    assert ACCOUNT.read("unchanged") is OWNER.read("unchanged") is MODE.read("unchanged") is None
    assert ACCOUNT.show(None) == MODE.show(None) == "unchanged"
