"""settings/secrecy.py: names of files and protocols in all places; what the settings of TLS ask of each other."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.errors import SettingError
from paceline.settings import Settings
from paceline.settings.manual import print_config
from paceline.settings.secrecy import Files, Protocols, Version, oddity
from paceline.settings.sources import Arguments, CommandLine, Environment, File, lay
from paceline.settings.table import BY_KEY
from paceline.settings.values import WrongValueError
from splits import quick

FILES = Files(word="off")
PROTOCOLS = Protocols(word="none")
VERSION = Version(choices=("1.2", "1.3"))


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("cert.pem", ("cert.pem",)),
        (" a.pem , /etc/b c.pem ", ("a.pem", "/etc/b c.pem")),
        ("a.pem,a.pem", ("a.pem", "a.pem")),  # keys have an order, and two certificates may share one
        (["a.pem", "b.pem"], ("a.pem", "b.pem")),
        (("a.pem",), ("a.pem",)),
        (Path("/etc/a.pem"), ("/etc/a.pem",)),
        ([Path("a.pem"), "b.pem"], ("a.pem", "b.pem")),
        ("./off", ("./off",)),
        ("Zertifikat-ü.pem", ("Zertifikat-ü.pem",)),
        ("off", None),
        (" OFF ", None),
        (("off",), None),
        (["Off"], None),
        (None, None),
    ],
)
def test_files(raw: object, value: tuple[str, ...] | None) -> None:
    assert FILES.read(raw) == value
    assert FILES.read(FILES.show(value)) == value
    assert FILES.read(tomllib.loads(f"x = {FILES.toml(value)}")["x"]) == value


@pytest.mark.parametrize("raw", [["a,b.pem"], ("a,b.pem", "c.pem"), Path("a,b.pem"), [" a.pem"], [Path(" a ,.pem ")]])
def test_a_name_that_is_given_by_itself_may_have_anything_in_it(raw: Any) -> None:
    value = FILES.read(raw)
    assert value == tuple(str(name) for name in (raw if isinstance(raw, list | tuple) else [raw]))
    assert FILES.read(list(value)) == value
    assert FILES.read(tomllib.loads(f"x = {FILES.toml(value)}")["x"]) == value


@pytest.mark.parametrize(
    ("raw", "wrong"),
    [
        ("", None),
        ("a.pem,", None),
        (["a.pem", ""], None),
        ("a\0b", "a\0b"),
        ("a.pem,off", "off"),
        (["off", "a.pem"], "off"),
        (["Off", "off"], "Off"),
        ([], None),
        ((), None),
        (8, 8),
        ([8], 8),
        (True, True),
        ({"a": 1}, {"a": 1}),
        (b"a.pem", b"a.pem"),
        ([["a.pem"]], ["a.pem"]),
    ],
)
def test_no_files(raw: object, wrong: object) -> None:
    with pytest.raises(WrongValueError) as caught:
        FILES.read(raw)
    assert caught.value.rule.startswith("the name of a file, or off")
    assert caught.value.value == wrong


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("h2", ("h2",)),
        (" mqtt , h2 ", ("mqtt", "h2")),
        ("h2,mqtt,h2", ("h2", "mqtt")),
        (["http/1.1", "h2,mqtt"], ("http/1.1", "h2", "mqtt")),
        ("a b", ("a b",)),
        ("x" * 255, ("x" * 255,)),
        ("None", None),
        (["none"], None),
        (None, None),
    ],
)
def test_protocols(raw: object, value: tuple[str, ...] | None) -> None:
    assert PROTOCOLS.read(raw) == value
    assert PROTOCOLS.read(PROTOCOLS.show(value)) == value
    assert PROTOCOLS.read(tomllib.loads(f"x = {PROTOCOLS.toml(value)}")["x"]) == value


@pytest.mark.parametrize(
    ("raw", "wrong"),
    [
        ("", None),
        ("h2,", None),
        (",", None),
        (["h2", " "], None),
        ("x" * 256, "x" * 256),
        ("h2,schön", "schön"),
        ("h\t2", "h\t2"),
        ("h2\0", "h2\0"),
        ("none,h2", "none"),
        ("none,none", "none"),
        (["h2", "NONE"], "NONE"),
        ([], None),
        (2, None),
        ([2], 2),
    ],
)
def test_no_protocols(raw: object, wrong: object) -> None:
    with pytest.raises(WrongValueError) as caught:
        PROTOCOLS.read(raw)
    assert caught.value.rule.startswith(
        "names of protocols such as h2 or mqtt, printable ASCII of 1 to 255 characters, or none"
    )
    assert caught.value.value == wrong


@pytest.mark.parametrize(("raw", "value"), [("1.2", "1.2"), (" 1.3", "1.3"), (1.2, "1.2"), (1.3, "1.3")])
def test_a_version(raw: object, value: str) -> None:
    assert VERSION.read(raw) == value
    assert VERSION.read(VERSION.show(value)) == value
    assert VERSION.read(tomllib.loads(f"x = {VERSION.toml(value)}")["x"]) == value
    assert lay([File(tomllib.loads(f"tls_min = {value}"), "x.toml")]).settings.tls_min == value


@pytest.mark.parametrize("raw", ["", "1", "1.1", "TLS", 1, 1.1, 1.25, 13, True, ["1.2"], float("nan")])
def test_no_version(raw: object) -> None:
    with pytest.raises(WrongValueError, match=r"1\.2 or 1\.3"):
        VERSION.read(raw)


@quick
@given(st.one_of(st.text(max_size=20), st.lists(st.text(max_size=10), max_size=4)))
def test_what_is_read_is_read_again(raw: object) -> None:
    """As it is shown, unless a comma or a space is part of a name; as TOML, always."""
    for kind in (FILES, PROTOCOLS):
        try:
            value = kind.read(raw)
        except WrongValueError:
            continue
        assert kind.read(tomllib.loads(f"x = {kind.toml(value)}")["x"]) == value
        if all("," not in name and name == name.strip() for name in value or ()):
            assert kind.read(kind.show(value)) == value


# In every place


def test_in_every_place_a_list_is_the_same() -> None:
    settings = Settings(tls_cert=("a.pem", "b.pem"), tls_key=("a.key", "b.key"), alpn=("h2", "mqtt"))
    by_key: dict[str, list[str]] = {key: list(getattr(settings, key)) for key in ("tls_cert", "tls_key", "alpn")}
    assert lay([CommandLine({key: tuple(names) for key, names in by_key.items()})]).settings == settings
    variables = {f"PACELINE_{key.upper()}": ",".join(names) for key, names in by_key.items()}
    assert lay([Environment(variables)]).settings == settings
    assert lay([File(by_key, "x.toml")]).settings == settings
    assert lay([Arguments(by_key)]).settings == settings
    assert lay([Arguments({**by_key, "tls_cert": [Path("a.pem"), Path("b.pem")]})]).settings == settings


def test_the_command_line_turns_it_off() -> None:
    file = File({"tls_cert": "a.pem"}, "x.toml")
    assert lay([CommandLine({"tls_cert": ("off",)}), file]).settings == Settings()


def test_what_print_config_shows_is_read_again() -> None:
    shown = lay(
        [
            CommandLine({"tls_cert": ("a, b.pem", 'c"d\\e.pem'), "tls_key": ("a.key", "c.key")}),
            Environment({"PACELINE_ALPN": "h2, mqtt"}),
            File({"tls_ca": "ca.pem", "tls_client_cert": "required", "tls_min": "1.3"}, "x.toml"),
        ]
    )
    again = lay([File(tomllib.loads(print_config(shown)), "again.toml")])
    assert again.settings == shown.settings
    assert again.settings.tls_cert == ("a, b.pem", 'c"d\\e.pem')


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ({"tls_cert": "a.pem,"}, "--tls-cert a.pem,: must be the name of a file, or off; the default is off"),
        ({"tls_cert": ("a.pem", "off")}, "--tls-cert off: must be the name of a file, or off; off stands alone"),
        (
            {"alpn": ("h2", "schön")},
            f"--alpn schön: must be {PROTOCOLS.rule}; the default is none",
        ),
        (
            {"tls_min": "1.0"},
            "--tls-min 1.0: must be 1.2 or 1.3; the nearest right value is 1.3",
        ),
        (
            {"tls_client_cert": "require"},
            "--tls-client-cert require: must be none, optional or required; the nearest right value is required",
        ),
    ],
)
def test_an_error_says_what_was_written(raw: dict[str, object], text: str) -> None:
    with pytest.raises(SettingError) as caught:
        lay([CommandLine(raw)])
    assert str(caught.value) == text


# What they ask of each other


CERT = {"tls_cert": ("a.pem",)}
TWO = {"tls_cert": ("a.pem", "b.pem")}
NOTHING = "there is no --tls-cert, so that nothing is encrypted; give that, too"


@pytest.mark.parametrize(
    ("given", "key", "why"),
    [
        ({"tls_key": ("a.key",)}, "tls_key", NOTHING),
        ({"tls_ca": "ca.pem"}, "tls_ca", NOTHING),
        ({"alpn": ("h2",)}, "alpn", NOTHING),
        ({"tls_key_password_file": "p"}, "tls_key_password_file", NOTHING),
        (
            {"tls_client_cert": "optional"},
            "tls_client_cert",
            "there is no --tls-cert, so that nobody is asked for a certificate; give that, too",
        ),
        ({"tls_client_cert": "required", "tls_ca": "ca.pem"}, "tls_ca", NOTHING),
        (
            {**CERT, "tls_key": ("a.key", "b.key")},
            "tls_key",
            "must be given once for each --tls-cert, and there is one",
        ),
        ({**TWO, "tls_key": ("a.key",)}, "tls_key", "must be given once for each --tls-cert, and there are 2"),
        (
            {**CERT, "tls_client_cert": "required"},
            "tls_client_cert",
            "there is no --tls-ca that says whose signature counts; give that, too",
        ),
        (
            {**CERT, "tls_ca": "ca.pem"},
            "tls_ca",
            "nobody is asked for a certificate; give --tls-client-cert optional or required, too",
        ),
    ],
)
def test_what_does_not_go_together(given: dict[str, Any], key: str, why: str) -> None:
    assert oddity(Settings(**given)) == (key, why)
    with pytest.raises(SettingError) as caught:
        lay([CommandLine(given)])
    assert str(caught.value).startswith(f"{BY_KEY[key].option} ")
    assert str(caught.value).endswith(f": {why}")


@pytest.mark.parametrize(
    "given",
    [
        {},
        CERT,
        TWO,
        {**CERT, "tls_key": ("a.key",)},
        {**TWO, "tls_key": ("a.key", "a.key")},
        {**CERT, "tls_ca": "ca.pem", "tls_client_cert": "optional"},
        {**CERT, "tls_ca": "ca.pem", "tls_client_cert": "required", "alpn": ("h2",), "tls_key_password_file": "p"},
        {**CERT, "tls_min": "1.3"},
    ],
)
def test_what_goes_together(given: dict[str, Any]) -> None:
    assert oddity(Settings(**given)) is None
    assert lay([CommandLine(given)]).settings == Settings(**given)


def test_it_is_asked_of_all_places_together() -> None:
    """The key in the file, the certificate in the environment."""
    assert lay([Environment({"PACELINE_TLS_CERT": "a.pem"}), File({"tls_key": "a.key"}, "x.toml")])
    with pytest.raises(SettingError) as caught:
        lay([CommandLine({"tls_cert": ("off",)}), Environment({"PACELINE_TLS_KEY": "a.key"}), File(CERT, "x.toml")])
    assert str(caught.value) == f"PACELINE_TLS_KEY=a.key: {NOTHING}"
