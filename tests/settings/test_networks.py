"""settings/networks.py: lists of networks as they are written on a command line, in TOML and in Python."""

import tomllib

import pytest

from paceline.errors import SettingError
from paceline.settings import Settings
from paceline.settings.networks import Networks
from paceline.settings.sources import Arguments, CommandLine, Environment, File, lay
from paceline.settings.values import WrongValueError

KIND = Networks(word="any")


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("10.0.0.0/8", ("10.0.0.0/8",)),
        (" 10.0.0.0/8 , ::1 ", ("10.0.0.0/8", "::1")),
        (("10.0.0.0/8", "192.0.2.7,unix"), ("10.0.0.0/8", "192.0.2.7", "unix")),
        (["192.0.2.7/32", "192.0.2.7"], ("192.0.2.7",)),
        ("::ffff:10.0.0.0/104", ("10.0.0.0/8",)),
        ("any", None),
        (("ANY",), None),
        (None, None),
    ],
)
def test_a_right_list_is_read(raw: object, value: tuple[str, ...] | None) -> None:
    assert KIND.read(raw) == value
    assert KIND.read(KIND.show(value)) == value
    assert KIND.read(tomllib.loads(f"x = {KIND.toml(value)}")["x"]) == value


@pytest.mark.parametrize(
    ("raw", "nearest", "wrong"),
    [
        ("10.0.0.1/8", "10.0.0.0/8", "10.0.0.1/8"),
        ("::1, 10.0.0.1/8", "10.0.0.0/8", "10.0.0.1/8"),
        (["::1", "[::2]"], "::2", "[::2]"),
        (["any", "::1"], "0.0.0.0/0", "any"),  # one of the two is a mistake, and nobody can know which
        ("10.0.0.0/8,", "", "10.0.0.0/8,"),
        ("nobody", "", "nobody"),
        ([], "any", None),
        ((), "any", None),
        (8, "any", None),
        ([8], "", 8),
    ],
)
def test_a_wrong_list_is_refused_and_the_wrong_part_named(raw: object, nearest: str, wrong: object) -> None:
    with pytest.raises(WrongValueError) as caught:
        KIND.read(raw)
    assert caught.value.rule
    assert (caught.value.nearest, caught.value.value) == (nearest, wrong)


def test_in_every_place_a_list_is_the_same() -> None:
    """As click gives it, as the environment, a file and a caller do."""
    settings = Settings(deny=("10.0.0.0/8", "unix"))
    assert lay([CommandLine({"deny": ("10.0.0.0/8", "unix")})]).settings == settings
    assert lay([Environment({"PACELINE_DENY": "10.0.0.0/8,unix"})]).settings == settings
    assert lay([File({"deny": ["10.0.0.0/8", "unix"]}, "x.toml")]).settings == settings
    assert lay([Arguments({"deny": ["10.0.0.0/8", "unix"]})]).settings == settings
    assert lay([CommandLine({"deny": ("none",)}), File({"deny": "unix"}, "x.toml")]).settings == Settings()


def test_an_error_names_the_setting_what_was_written_and_what_was_probably_meant() -> None:
    with pytest.raises(SettingError) as caught:
        lay([CommandLine({"allow": ("unix", "192.168.1.7/24")})])
    assert str(caught.value) == (
        "--allow 192.168.1.7/24: must be a network whose address has no bits set behind its prefix, or 192.168.1.7 "
        "alone, for one address; the nearest right value is 192.168.1.0/24"
    )


def test_no_network_at_all_is_no_list() -> None:
    """A list that some program made and that came out empty lets nobody in by accident."""
    with pytest.raises(SettingError, match=r"^allow = \[\] in x.toml: must be .* the nearest right value is any$"):
        lay([File({"allow": []}, "x.toml")])
