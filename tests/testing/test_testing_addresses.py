"""paceline.testing: what the server says of its addresses for people is no part of them, and sockets have rights."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import paceline
from paceline.errors import HostError, PacelineError, SettingError
from paceline.testing import running

pytestmark = pytest.mark.usefixtures("nothing_left")


def whose(_message: bytes, connection: paceline.Connection) -> bytes:
    who = connection.credentials
    return b"nobody knows" if who is None else b"%d" % who.uid


def closure() -> Callable[..., bytes]:
    """One that no other process can import."""
    return lambda message, connection: whose(message, connection)


TARGETS = [whose, closure()]
IDS = ["processes", "inside"]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("target", TARGETS, ids=IDS)
def test_addresses_are_without_the_words(target: Callable[..., bytes], log_format: str, tmp_path: Path) -> None:
    binds = [":0", "[::]:0", "0.0.0.0:0", f"unix:{tmp_path}/a (IPv4 only), b", "127.0.0.1:0"]
    with running(target, bind=binds, log_format=log_format) as server:
        ports = [address.rpartition(":")[2] for address in server.addresses]
        assert server.addresses == (
            f"[::]:{ports[0]}",
            f"[::]:{ports[1]}",
            f"0.0.0.0:{ports[2]}",
            f"unix:{tmp_path}/a (IPv4 only), b",
            f"127.0.0.1:{ports[4]}",
        )
        assert f"listening on [::]:{ports[0]} (IPv4 and IPv6), [::]:{ports[1]} (IPv6 only), " in server.log
        for address in server.addresses:
            place = address.replace("[::]", "[::1]").replace("0.0.0.0", "127.0.0.1")
            with server.client(address=place) as client:
                expected = b"%d" % os.geteuid() if place.startswith("unix:") else b"nobody knows"
                assert client.call(b"x") == expected


@pytest.mark.parametrize("target", TARGETS, ids=IDS)
def test_a_unix_socket_has_the_rights_that_were_asked_for(target: Callable[..., bytes], tmp_path: Path) -> None:
    me = f"{os.geteuid()}:{os.getegid()}"
    with running(target, bind=f"unix:{tmp_path}/s", socket_mode="606", socket_owner=me) as server:
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o606
        with server.client() as client:
            assert client.call(b"x") == b"%d" % os.geteuid()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("target", TARGETS, ids=IDS)
def test_rights_that_cannot_be(target: Callable[..., bytes], tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"^socket_mode='660': no address to be served is a Unix socket whose file"):
        running(target, socket_mode="660").__enter__()
    with (
        pytest.raises(PacelineError, match=r"nobodi.*: must be a user of this machine.*did you mean nobody"),
        running(target, bind=f"unix:{tmp_path}/s", socket_owner="nobodi"),
    ):
        pytest.fail("it must not get here")
    (tmp_path / "file").touch()
    with (
        pytest.raises(HostError, match="a file of that name is in the way"),
        running(target, bind=["127.0.0.1:0", f"unix:{tmp_path}/s", f"unix:{tmp_path}/file"], socket_mode="660"),
    ):
        pytest.fail("it must not get here")
    assert os.listdir(tmp_path) == ["file"]
