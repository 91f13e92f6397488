"""addresses.py: every form is read, shown and read back; every wrong text is answered with a right one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.addresses import UNIX_PATH_BYTES, Address, NotAnAddressError, parse_address
from paceline.errors import SettingError

RIGHT = {
    "127.0.0.1:8888": Address("tcp", "127.0.0.1", 8888),
    "localhost:0": Address("tcp", "localhost", 0),
    "my_host.example.:65535": Address("tcp", "my_host.example.", 65535),
    "bücher.example:80": Address("tcp", "bücher.example", 80),
    ":8888": Address("tcp", "", 8888),
    "[::1]:80": Address("tcp", "::1", 80),
    "[::]:80": Address("tcp", "::", 80),
    "[fe80::1%eth0]:80": Address("tcp", "fe80::1%eth0", 80),
    "unix:/run/app.sock": Address("unix", path="/run/app.sock"),
    "unix:app.sock": Address("unix", path="app.sock"),
    "unix:./@name": Address("unix", path="./@name"),
    "unix:a b,c:d": Address("unix", path="a b,c:d"),
    "unix:" + UNIX_PATH_BYTES * "x": Address("unix", path=UNIX_PATH_BYTES * "x"),
    "fd://0": Address("fd", fd=0),
    "fd://3": Address("fd", fd=3),
    "fd://web": Address("fd", name="web"),
    "fd://my-app@1.socket": Address("fd", name="my-app@1.socket"),
    "fd://_" + 254 * "x": Address("fd", name="_" + 254 * "x"),
}


@pytest.mark.parametrize("text", RIGHT)
def test_a_right_text_is_read_and_shown_again(text: str) -> None:
    assert parse_address(text) == RIGHT[text]
    assert RIGHT[text].text == text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("localhost:00080", "localhost:80"),
        ("[0:0:0::1]:80", "[::1]:80"),
        ("unix:///run/app.sock", "unix:/run/app.sock"),
        ("fd://03", "fd://3"),
    ],
)
def test_another_spelling_becomes_the_usual_one(text: str, canonical: str) -> None:
    assert parse_address(text).text == canonical


@pytest.mark.parametrize(
    ("text", "why", "nearest"),
    [
        ("", "no port", "127.0.0.1:8888"),
        ("8888", "a port alone", "127.0.0.1:8888"),
        ("localhost", "no port", "localhost:8888"),
        (":", "PORT is a number", ":8888"),
        ("x:http", "PORT is a number", "x:8888"),
        ("x:", "PORT is a number", "x:8888"),
        ("x:65536", "from 0 (any free one) to 65535", "x:65535"),
        ("x:-1", "PORT is a number", "x:8888"),
        ("x:" + 5000 * "9", "PORT is a number", "x:65535"),
        ("x:٣", "PORT is a number", "x:8888"),
        ("x: 80", "PORT is a number", "x:80"),
        (" x:80 ", "is no host", "x:80"),
        ("*:80", "is no host", ":80"),
        ("a b:80", "is no host", "127.0.0.1:80"),
        ("a/b:80", "is no host", "127.0.0.1:80"),
        ("-a:80", "is no host", "127.0.0.1:80"),
        (254 * "a" + ":80", "is no host", "127.0.0.1:80"),
        ("127.0.0.256:80", "is no host", "127.0.0.1:80"),
        ("127.1:80", "is no host", "127.0.0.1:80"),
        ("1:80", "is no host", "127.0.0.1:80"),
        ("::1", "stands in brackets", "[::1]:8888"),
        ("::1:80", "stands in brackets", "[::1]:80"),
        ("fe80::1%eth0", "stands in brackets", "[fe80::1%eth0]:8888"),
        ("1:2:3:4:5:6:7:8", "stands in brackets", "[1:2:3:4:5:6:7:8]:8888"),
        ("a:b:c", "stands in brackets", ""),
        ("[::1]", "no port", "[::1]:8888"),
        ("[::1", "no port", "[::1]:8888"),
        ("[127.0.0.1]:80", "is no IPv6 address", "127.0.0.1:80"),
        ("[]:80", "is no IPv6 address", ":80"),
        ("[::1]:x", "PORT is a number", "[::1]:8888"),
        ("http://localhost:80/", "without a scheme such as http://", "localhost:80"),
        ("tcp://localhost", "without a scheme such as tcp://", "localhost:8888"),
        ("unix:", "is not empty", "unix:paceline.sock"),
        ("unix:a\0b", "no NUL", "unix:paceline.sock"),
        ("unix://run/app.sock", "one slash or none", "unix:/run/app.sock"),
        ("unix:@name", "abstract sockets are not served", "unix:./@name"),
        ("unix:/run/", "not of a folder", "unix:/run/paceline.sock"),
        ("unix:" + (UNIX_PATH_BYTES - 1) * "x" + "ü", "this one has 108", ""),
        ("fd:3", "inherited descriptor", "fd://3"),
        ("fd:web", "or fd://NAME, as systemd names it", "fd://web"),
        ("fd://a:b", "or fd://NAME", "fd://3"),
        ("fd://a,b", "or fd://NAME", "fd://3"),
        ("fd://a b", "or fd://NAME", "fd://3"),
        ("fd://bücher", "or fd://NAME", "fd://3"),
        ("fd://_" + 255 * "x", "or fd://NAME", "fd://3"),
        ("fd://", "inherited descriptor", "fd://3"),
        ("fd://-1", "inherited descriptor", "fd://3"),
        ("fd://" + 5000 * "9", "inherited descriptor", "fd://3"),
        ("fd://1", "standard output", "fd://3"),
        ("fd://2", "standard error", "fd://3"),
    ],
)
def test_a_wrong_text_is_refused_with_the_nearest_right_one(text: str, why: str, nearest: str) -> None:
    with pytest.raises(SettingError) as caught:
        parse_address(text)
    assert isinstance(caught.value, NotAnAddressError)
    assert why in str(caught.value)
    assert caught.value.nearest == nearest
    if nearest:
        assert f"the nearest right one is {nearest}" in str(caught.value)
        assert parse_address(nearest).text == nearest


@given(st.text() | st.text("0123456789:[].-*/unixfd@% ", max_size=30))
def test_any_text_is_an_address_or_is_refused_and_both_lead_to_a_right_text(text: str) -> None:
    try:
        right = parse_address(text).text
    except NotAnAddressError as error:
        right = error.nearest
    if right:
        assert parse_address(right).text == right
