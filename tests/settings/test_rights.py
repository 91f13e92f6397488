"""settings/rights.py: what names a user, and which bits a mode has."""

import pytest

from paceline.settings.rights import Account, FileMode, Owner, SocketMode, makes_files
from paceline.settings.table import BY_KEY
from paceline.settings.values import WrongValueError

ACCOUNT = Account(word="unchanged")
OWNER = Owner(word="unchanged")
MODE = FileMode(word="unchanged")
SOCKET_MODE = SocketMode(word="umask")


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("www-data", "www-data"),
        (" web ", "web"),
        ("33", "33"),
        (33, "33"),
        (0, "0"),
        ("4294967294", "4294967294"),
        ("٤٢٩٤٩٦٧٢٩٥", "٤٢٩٤٩٦٧٢٩٥"),
    ],
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


@pytest.mark.parametrize(
    ("raw", "value"),
    [("660", "660"), ("666", "666"), ("0o600", "600"), ("0777", "777"), ("622", "622"), ("20", "020"), ("373", "373")],
)
def test_a_mode_of_a_socket(raw: str, value: str) -> None:
    assert SOCKET_MODE.read(raw) == value
    assert SOCKET_MODE.read("umask") is None


@pytest.mark.parametrize("raw", ["640", "755", "644", "400", "610", "605", "000", "0", "680", "rw-", 660])
def test_a_mode_that_lets_in_others_than_it_seems_to(raw: object) -> None:
    with pytest.raises(WrongValueError) as caught:
        SOCKET_MODE.read(raw)
    assert "0, 2, 3, 6 and 7, and not 0 alone (who connects needs the right to write), as a text" in caught.value.rule
    if raw in ("640", "000"):
        assert caught.value.remedy == "660 lets its user and its group in, 666 everybody"


def test_what_a_umask_takes_away_may_be_anything() -> None:
    assert BY_KEY["umask"].kind.read("045") == "045"
    with pytest.raises(WrongValueError):
        BY_KEY["socket_mode"].kind.read("045")


def test_the_word() -> None:
    assert ACCOUNT.read("unchanged") is OWNER.read("unchanged") is MODE.read("unchanged") is None
    assert ACCOUNT.show(None) == MODE.show(None) == "unchanged"
