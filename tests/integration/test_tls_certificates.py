"""The files of TLS in a real server: renewed while clients connect, refused when they are wrong, read by who may.

PACELINE_LONG=1 exchanges them a thousand times.
"""

import os
import re
import signal
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from integration.test_privileges import House, house  # noqa: F401 - a fixture
from integration.test_reload import refused, reloaded
from leftovers import eventually
from paceline.clock import now
from securepeer import TLS, SecurePeer, Signed, authority_pem, client_context, pem, sign
from testbed import Server, run_to_end, running

IS_LONG = os.environ.get("PACELINE_LONG", "") not in ("", "0")
EXCHANGES = 1000 if IS_LONG else 60
SEEN_S = 20.0
"""Ten times what it may take until a new certificate is used."""
APP = {
    "app.py": """
    import os

    def shout(message):
        return bytes(message).upper()

    def secrets(_message):
        return repr(os.environ.get("PACELINE_TLS_KEY_PASSWORD")).encode()
    """
}
LINES = ("--framing", "line", "--workers", "2")


def put(folder: Path, signed: Signed, *, only: str = "") -> None:
    """In place of the files of `TLS`, as certbot and its like do it: each at once, one after the other."""
    for name, text in (("cert.pem", signed.certificate), ("key.pem", signed.key)):
        if only in ("", name):
            fresh = folder / f"{name}.new"
            fresh.touch(0o600)
            fresh.write_text(text)
            fresh.rename(folder / name)


def shown(server: Server) -> int:
    """The serial number of the certificate that a new connection gets."""
    with SecurePeer(server) as peer:
        peer.send(b"hello\n")
        assert peer.line() == b"HELLO\n"
        certificate = peer.socket.tls.getpeercert()
        assert certificate is not None
        return int(str(certificate["serialNumber"]), 16)


def wait_until_shown(server: Server, before: int) -> float:
    """Until a new connection gets another one: how long that took."""
    begun = now()
    eventually(lambda: shown(server) != before, SEEN_S)
    return now() - begun


def secret(folder: Path) -> None:
    (folder / "key.pem").chmod(0o600)


@contextmanager
def connecting(server: Server, threads: int = 3) -> Iterator[Callable[[], int]]:
    """Clients that connect all the time; gives how many have.  None may fail."""
    over = threading.Event()
    counts = [0] * threads
    failures: list[BaseException] = []

    def connect(number: int) -> None:
        while not over.is_set():
            try:
                shown(server)
            except BaseException as error:  # noqa: BLE001 - told below
                failures.append(error)
                return
            counts[number] += 1

    clients = [threading.Thread(target=connect, args=(number,)) for number in range(threads)]
    for client in clients:
        client.start()
    try:
        yield lambda: sum(counts)
    finally:
        over.set()
        for client in clients:
            client.join()
    assert not failures, failures


@pytest.mark.timeout(600 if IS_LONG else 60)
def test_files_are_exchanged_while_clients_connect() -> None:
    with running("app.py:shout", *LINES, *TLS, files={**APP, **pem()}) as server:
        with connecting(server) as connected:
            for _ in range(EXCHANGES):
                until = connected() + 10
                put(server.folder, sign("localhost"))
                eventually(lambda until=until: connected() >= until, 20)  # type: ignore[misc]
            last = sign("localhost")
            put(server.folder, last)
            eventually(lambda: shown(server) == last.serial, SEEN_S)
        assert "handshake failed" not in server.log
        assert not [line for line in server.warnings if "cannot be used" not in line and "can be read by" not in line]


def test_a_new_one_is_seen_soon_and_connections_go_on() -> None:
    with running("app.py:shout", *LINES, *TLS, files={**APP, **pem()}) as server, SecurePeer(server) as old:
        took = []
        for _ in range(3):
            before = shown(server)
            put(server.folder, sign("localhost"))
            took.append(wait_until_shown(server, before))
            old.send(b"hello\n")
            assert old.line() == b"HELLO\n"
        print("seen after", took)
        line = server.wait_for_log("the certificates have changed; new connections get localhost until ")
        assert re.search(r"until \d{4}-\d\d-\d\d", line)


def test_what_does_not_belong_together_is_refused_and_the_old_one_goes_on() -> None:
    with running("app.py:shout", *LINES, *TLS, files={**APP, **pem()}) as server:
        before = shown(server)
        fresh = sign("localhost")
        put(server.folder, fresh, only="cert.pem")
        said = server.wait_for_log("the files of the certificates have changed and cannot be used")
        assert "does not belong to the certificate in 'cert.pem'" in said
        assert shown(server) == before
        put(server.folder, fresh, only="key.pem")
        wait_until_shown(server, before)
        before = shown(server)
        for name, text in (("cert.pem", ""), ("key.pem", "nonsense"), ("cert.pem", "-----BEGIN CERTIFICATE-----\n")):
            since = server.log_length()
            (server.folder / name).write_text(text)
            server.wait_for_log("cannot be used", since=since)
            assert shown(server) == before
        since = server.log_length()
        (server.folder / "cert.pem").unlink()
        server.wait_for_log("cannot be read from 'cert.pem': No such file", since=since)
        assert shown(server) == before
        assert server.log.count("cannot be used: ") == 5, "each is said once"
        put(server.folder, sign("localhost"))
        wait_until_shown(server, before)


def test_a_reload_with_files_that_cannot_be_used_is_rolled_back() -> None:
    with running("app.py:shout", *LINES, *TLS, files={**APP, **pem()}) as server:
        secret(server.folder)
        before, workers = shown(server), server.pids()
        good = (server.folder / "cert.pem").read_text()
        (server.folder / "cert.pem").write_text("nothing")
        refused(server)
        server.wait_for_log("there is nothing in 'cert.pem' that could be the certificate")
        assert server.pids() == workers
        assert shown(server) == before
        (server.folder / "cert.pem").write_text(good)
        reloaded(server, 3)
        assert shown(server) == before


BAD: dict[str, tuple[Sequence[str], str]] = {
    "no file": (
        ("--tls-cert", "/nowhere/cert.pem", "--tls-key", "key.pem"),
        "the certificate cannot be read from '/nowhere/cert.pem': No such file or directory",
    ),
    "no key beside it": (
        ("--tls-cert", "cert.pem"),
        "no line '-----BEGIN …PRIVATE KEY-----' (PEM); name the file that has it by --tls-key",
    ),
    "the key first": (
        ("--tls-cert", "key.pem", "--tls-key", "cert.pem"),
        "there is nothing in 'key.pem' that could be the certificate: no line '-----BEGIN CERTIFICATE-----' (PEM)",
    ),
    "another one's key": (
        ("--tls-cert", "cert.pem", "--tls-key", "other.pem"),
        "the private key in 'other.pem' does not belong to the certificate in 'cert.pem'; give the two that were made",
    ),
    "an encrypted key": (
        ("--tls-cert", "cert.pem", "--tls-key", "locked.pem"),
        "the private key in 'locked.pem' is encrypted; give its password in a file (--tls-key-password-file), or in",
    ),
    "another password": (
        ("--tls-cert", "cert.pem", "--tls-key", "locked.pem", "--tls-key-password-file", "app.py"),
        "the private key in 'locked.pem' cannot be decrypted: the password is another one, or the file is damaged",
    ),
    "no password file": (
        ("--tls-cert", "cert.pem", "--tls-key", "locked.pem", "--tls-key-password-file", "nowhere"),
        "the password of the private key cannot be read from 'nowhere': No such file or directory",
    ),
    "damaged": (
        ("--tls-cert", "damaged.pem", "--tls-key", "key.pem"),
        "the certificate in 'damaged.pem' cannot be read: ",
    ),
    "a damaged key": (
        ("--tls-cert", "cert.pem", "--tls-key", "damaged.key"),
        "the private key in 'damaged.key' cannot be used with the certificate in 'cert.pem': ",
    ),
    "a folder": (
        ("--tls-cert", ".", "--tls-key", "key.pem"),
        "the certificate cannot be read from '.': it is a folder",
    ),
    "no authority": (
        (*TLS, "--tls-ca", "key.pem", "--tls-client-cert", "required"),
        "there is nothing in 'key.pem' that could be the certificates of --tls-ca: no line",
    ),
    "a damaged authority": (
        (*TLS, "--tls-ca", "damaged.pem", "--tls-client-cert", "required"),
        "the certificates in 'damaged.pem' (--tls-ca) cannot be read: ",
    ),
}


def bad_files() -> dict[str, str]:
    one, other = sign("localhost"), sign("localhost")
    cut = one.certificate.splitlines()
    return {
        **APP,
        "cert.pem": one.certificate,
        "key.pem": one.key,
        "other.pem": other.key,
        "locked.pem": one.encrypted(b"open sesame"),
        "password": "open sesame\n",
        "damaged.pem": "\n".join(cut[:3] + cut[5:]),
        "damaged.key": "\n".join(line for at, line in enumerate(one.key.splitlines()) if at != 2),
    }


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("checks", [True, False], ids=["--check", "serve"])
def test_files_that_cannot_be_used(case: str, checks: bool) -> None:
    options, sentence = BAD[case]
    check = ("--check",) if checks else ()
    ended = run_to_end("serve", "app.py:shout", "--bind", "127.0.0.1:0", *options, *check, files=bad_files())
    assert ended.code == 3
    assert sentence in ended.log
    assert "Traceback" not in ended.log


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--tls-key", "key.pem"), "there is no --tls-cert"),
        (("--alpn", "h2"), "there is no --tls-cert"),
        (("--tls-client-cert", "required"), "there is no --tls-cert"),
        ((*TLS, "--tls-client-cert", "required"), "there is no --tls-ca"),
        ((*TLS, "--tls-ca", "ca.pem"), "nobody is asked for a certificate"),
        ((*TLS, "--tls-cert", "cert.pem"), "once for each --tls-cert, and there are 2"),
        ((*TLS, "--tls-min", "1.1"), "1.2 or 1.3"),
        ((*TLS, "--tls-client-cert", "maybe"), "none, optional or required"),
        ((*TLS, "--alpn", "ä"), "names of protocols"),
        ((*TLS, "--handshake-timeout", "0"), "10ms to 7d"),
    ],
)
def test_settings_that_make_no_sense(options: Sequence[str], sentence: str) -> None:
    ended = run_to_end("serve", "app.py:shout", *options, "--check", files={**APP, **pem()})
    assert ended.code == 2
    assert sentence in ended.log


def test_check_with_good_ones() -> None:
    files = {**bad_files(), "ca.pem": authority_pem()}
    locked = ("--tls-cert", "cert.pem", "--tls-key", "locked.pem", "--tls-key-password-file", "password")
    asking = ("--tls-ca", "ca.pem", "--tls-client-cert", "optional")
    ended = run_to_end("serve", "app.py:shout", *locked, *asking, "--check", files=files)
    assert ended.code == 0, ended.log


def test_an_encrypted_key_is_opened_again_and_again() -> None:
    """By the first worker, by one that replaces it, and by a new generation; a handler does not see the password."""
    signed = sign("localhost")
    files = {
        **APP,
        "cert.pem": signed.certificate,
        "key.pem": signed.encrypted(b"open sesame"),
        "password": "open sesame",
    }
    for options, env in (
        (("--tls-key-password-file", "password"), {}),
        ((), {"PACELINE_TLS_KEY_PASSWORD": "open sesame"}),
    ):
        with running("app.py:secrets", "--framing", "line", "-w", "1", *TLS, *options, env=env, files=files) as server:

            def is_served(server: Server = server) -> bool:
                with SecurePeer(server) as peer:
                    peer.send(b"what\n")
                    return peer.line() == b"None\n"

            assert is_served()
            (worker,) = server.pids()
            os.kill(worker, signal.SIGKILL)
            eventually(lambda server=server, worker=worker: server.pids() not in ([], [worker]))  # type: ignore[misc]
            assert is_served()
            reloaded(server, 2)
            assert is_served()
            assert "open sesame" not in server.log


def test_a_key_that_everybody_can_read_is_told() -> None:
    with running("app.py:shout", *LINES, *TLS, files={**APP, **pem()}) as server:
        server.wait_for_log("the private key in key.pem can be read by every user of this machine: chmod 600")
        assert server.log.count("can be read by every user") == 1
    os_umask = os.umask(0o077)
    try:
        with running("app.py:shout", *LINES, *TLS, files={**APP, **pem()}) as server:
            assert stat.S_IMODE((server.folder / "key.pem").stat().st_mode) == 0o600
            shown(server)
            assert not server.warnings
    finally:
        os.umask(os_umask)


@pytest.mark.parametrize(
    ("days", "sentence"),
    [(10, r"ends on \d{4}-\d\d-\d\d"), (-1, r"has ended on \d{4}-\d\d-\d\d: clients refuse it")],
)
def test_a_certificate_that_ends_soon_is_told(days: float, sentence: str) -> None:
    signed = sign("localhost", days=days)
    files = {**APP, "cert.pem": signed.certificate, "key.pem": signed.key}
    with running("app.py:shout", *LINES, *TLS, files=files) as server:
        server.wait_for_log(re.compile(r"the certificate in cert.pem \(of localhost\) " + sentence))
        assert len([line for line in server.warnings if "(of localhost)" in line]) == 1
        since = server.log_length()
        put(server.folder, sign("localhost", days=5))
        server.wait_for_log("(of localhost) ends on", SEEN_S, since=since)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_key_that_only_root_can_read(house: House) -> None:  # noqa: F811 - the fixture
    opened = ("sh", "-c", 'chmod 755 . && chmod 600 key.pem && exec "$@"', "sh", house.python, *house.command[5:])
    files = {"app.py": "def answer(line):\n    return line\n", **pem()}
    ended = run_to_end(
        "serve", "app.py:answer", "--bind", "127.0.0.1:0", "--user", "nobody", *TLS,
        files=files, env=house.env, command=opened,
    )  # fmt: skip
    assert ended.code == 3
    assert (
        "the private key cannot be read from 'key.pem' as uid 65534 (Permission denied); give that user the"
        in ended.log
    )
    assert "chgrp, chmod 640" in ended.log
    grouped = (
        *opened[:2],
        opened[2].replace("600", "640").replace("&& exec", "&& chgrp nogroup key.pem && exec"),
        *opened[3:],
    )
    with running(
        "app.py:answer", "--framing", "line", "--user", "nobody", *TLS, files=files, env=house.env, command=grouped
    ) as server:
        with SecurePeer(server, context=client_context()) as peer:
            peer.send(b"hello\n")
            assert peer.line() == b"hello\n"
        assert "can be read by every" not in server.log
