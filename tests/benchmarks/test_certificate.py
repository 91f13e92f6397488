"""A run's certificate is one that a careful client takes, and is gone when the run is."""

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import certificate
from benchmarks.certificate import filled_in
from benchmarks.running import MeasurementError
from benchmarks.terms import CERTIFICATE, KEY

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def nothing_made() -> Iterator[None]:
    """As in a process that has not made any yet; what is made in the test is not for the next one."""
    certificate._made.cache_clear()
    yield
    certificate._made.cache_clear()


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """Between the two, in memory.  Raises ssl.SSLError."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(back, there, server_hostname="localhost"), server.wrap_bio(there, back, server_side=True)]
    while ends:
        for end in tuple(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)


def test_it_is_for_localhost_and_the_key_is_its_own() -> None:
    words = filled_in(["--tls-cert", CERTIFICATE, "--tls-key", KEY])
    assert words[::2] == ["--tls-cert", "--tls-key"]
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(words[1], words[3])
    handshake(server, ssl.create_default_context(cafile=words[1]))


def test_it_is_made_once() -> None:
    assert filled_in([CERTIFICATE, KEY]) == filled_in([CERTIFICATE, KEY])


@pytest.mark.usefixtures("nothing_made")
def test_who_wants_none_needs_no_openssl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert filled_in(["echo"]) == ["echo"]
    with pytest.raises(MeasurementError, match="apt-get install openssl"):
        filled_in([CERTIFICATE])


@pytest.mark.usefixtures("nothing_made")
def test_what_openssl_says_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate, "WORDS", ("openssl", "req", "-nonsense"))
    with pytest.raises(MeasurementError, match="nonsense"):
        filled_in([KEY])


def test_it_is_gone_when_the_process_is(tmp_path: Path) -> None:
    program = "from benchmarks.certificate import *; print(*filled_in([CERTIFICATE, KEY]))"
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=30)
    assert all(path.startswith(str(tmp_path)) for path in done.stdout.split())
    assert list(tmp_path.iterdir()) == []
