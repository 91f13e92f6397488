"""wire/tls.py: the handshake, in all the ways it may arrive; what is agreed on, and with whom there is no agreement."""

import ssl
from collections.abc import Callable, Sequence

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from certbed import authority
from paceline.wire.tls import NotTlsError, Stream, Tls, TlsError
from splits import quick, split_at
from tlsbed import BOTH, NAME, Client, Folder, quarrel, shake_hands, speaking

both = pytest.mark.parametrize("version", BOTH, ids=["1.2", "1.3"])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    files = Folder(tmp_path_factory.mktemp("certificates"))
    files.server("one.pem", NAME)
    files.authorities("ca.pem")
    return files


@pytest.fixture(scope="module")
def context(files: Folder) -> ssl.SSLContext:
    return files.context("one.pem")


Cut = Callable[[bytes], Sequence[bytes]]


def shake_in_pieces(tls: Tls, client: Client, cut: Cut, behind: tuple[bytes, ...] = ()) -> bytes:
    """A handshake whose parts arrive so; what the client says right behind its last one, in the same pieces."""
    said, is_done = client.shake(), False
    while not is_done:
        if client.is_done:
            said += client.says(*behind)
        pieces = list(cut(said))
        answer = b""
        for at, piece in enumerate(pieces):
            is_done = tls.shake(piece)
            answer += tls.take_out()
            if is_done:
                assert client.is_done or at == len(pieces) - 1
                break
        said = client.shake(answer)
    return b"".join([tls.open(piece) for piece in (b"", *pieces[at + 1 :])])


def bytewise(said: bytes) -> list[bytes]:
    return [said[at : at + 1] for at in range(len(said))]


@both
@pytest.mark.parametrize("cut", [lambda said: [said], bytewise], ids=["whole", "byte by byte"])
def test_a_handshake(context: ssl.SSLContext, version: ssl.TLSVersion, cut: Cut) -> None:
    tls, client = Tls(context), Client(speaking(version))
    assert shake_in_pieces(tls, client, cut) == b""
    assert client.is_done
    assert (tls.is_over, tls.is_ended, tls.is_odd, tls.error) == (False, False, False, None)
    assert tls.open(client.says(b"hello")) == b"hello"
    assert client.hears(tls.seal(b"hello")) == b"hello"


@both
def test_a_handshake_cut_in_two_at_every_place(context: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    theirs = speaking(version)
    for place in range(1, len(Client(theirs).shake())):
        tls, client = Tls(context), Client(theirs)
        shake_in_pieces(tls, client, lambda said, place=place: split_at(said, [place]))  # type: ignore[misc]
        assert tls.open(client.says(b"hello")) == b"hello"


def test_what_comes_behind_the_last_part(context: ssl.SSLContext) -> None:
    """A client of TLS 1.3 need not wait for an answer to it."""
    theirs = speaking(ssl.TLSVersion.TLSv1_3)
    assert shake_in_pieces(Tls(context), Client(theirs), lambda said: [said], (b"one", b"two")) == b"onetwo"
    assert shake_in_pieces(Tls(context), Client(theirs), bytewise, (b"one", b"two")) == b"onetwo"
    for place in range(1, 200):
        tls = Tls(context)
        cut: Cut = lambda said, place=place: split_at(said, [place])  # type: ignore[misc]  # noqa: E731
        assert shake_in_pieces(tls, Client(theirs), cut, (b"one", b"two")) == b"onetwo"
        assert tls.error is None


def test_the_end_behind_the_last_part(context: ssl.SSLContext) -> None:
    tls, client = Tls(context), Client(speaking(ssl.TLSVersion.TLSv1_3))
    tls.shake(client.shake())
    finished = client.shake(tls.take_out())
    assert tls.shake(finished + client.says(b"last") + client.ends())
    assert tls.open(b"") == b"last"
    assert (tls.is_over, tls.error) == (True, None)


@quick
@given(st.lists(st.integers(0, 700), max_size=12), st.sampled_from(BOTH), st.lists(st.binary(max_size=9), max_size=3))
def test_a_handshake_in_any_pieces(
    context: ssl.SSLContext, places: list[int], version: ssl.TLSVersion, messages: list[bytes]
) -> None:
    behind = tuple(messages) if version is ssl.TLSVersion.TLSv1_3 else ()
    tls, client = Tls(context), Client(speaking(version))
    assert shake_in_pieces(tls, client, lambda said: split_at(said, places), behind) == b"".join(behind)
    assert tls.open(client.says(*messages)) == b"".join(messages)


# What is agreed on


@both
def test_a_session_tells_what_was_agreed_on(context: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    tls, client = Tls(context), Client(speaking(version))
    shake_hands(tls, client)
    session = tls.session
    assert session.version == client.stream.version() == version.name.replace("_", ".")
    assert tls.cipher == client.stream.cipher()
    assert session.cipher == (tls.cipher or ("",))[0]
    assert session.server_name == NAME
    assert (session.alpn, session.peer_certificate, session.peer_certificate_der) == (None, None, None)
    assert repr(session) == f"<paceline.TlsSession {session.version} {session.cipher}>"


def test_before_it_nothing_is_agreed_on(context: ssl.SSLContext) -> None:
    tls = Tls(context)
    assert tls.cipher is None
    assert (tls.session.version, tls.session.cipher, tls.session.server_name, tls.session.alpn) == ("", "", None, None)


def test_who_asks_for_no_name(context: ssl.SSLContext) -> None:
    tls, client = Tls(context), Client(speaking(), None)
    shake_hands(tls, client)
    assert tls.session.server_name is None


@both
@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [
        (("mqtt", "h2"), ("h2", "mqtt"), "mqtt"),  # the server's order counts
        (("h2",), ("spdy", "h2"), "h2"),
        (("h2",), ("mqtt",), None),
        (("h2",), (), None),
        ((), ("h2",), None),
    ],
)
def test_a_protocol_is_agreed_on_or_none(
    files: Folder, version: ssl.TLSVersion, ours: tuple[str, ...], theirs: tuple[str, ...], agreed: str | None
) -> None:
    tls = Tls(files.context("one.pem", alpn=ours))
    client = Client(speaking(version, alpn=theirs))
    shake_hands(tls, client)
    assert tls.session.alpn == client.stream.selected_alpn_protocol() == agreed


@both
def test_who_shows_a_certificate_is_known_by_it(files: Folder, version: ssl.TLSVersion) -> None:
    leaf = authority().issue_cert("client@one.test", common_name="A Client")
    for when in ("optional", "required"):
        tls = Tls(files.context("one.pem", ca=files / "ca.pem", client=when))
        shake_hands(tls, Client(speaking(version, certificate=leaf)))
        shown = tls.session.peer_certificate
        assert shown is not None
        assert shown["subjectAltName"] == (("email", "client@one.test"),)
        assert ((("commonName", "A Client"),)) in shown["subject"]
        der = tls.session.peer_certificate_der
        assert der == ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())


@both
def test_who_shows_none_though_asked(files: Folder, version: ssl.TLSVersion) -> None:
    tls = Tls(files.context("one.pem", ca=files / "ca.pem", client="optional"))
    shake_hands(tls, Client(speaking(version)))
    assert (tls.session.peer_certificate, tls.session.peer_certificate_der) == (None, None)
    tls = Tls(files.context("one.pem", ca=files / "ca.pem", client="required"))
    assert quarrel(tls, Client(speaking(version))) == ("the TLS handshake failed: peer did not return a certificate")
    assert tls.take_out(), "an alert"


@both
@pytest.mark.parametrize("when", ["optional", "required"])
def test_who_shows_one_that_nobody_we_trust_has_signed(files: Folder, version: ssl.TLSVersion, when: str) -> None:
    stranger = trustme.CA().issue_cert("client@one.test")
    tls = Tls(files.context("one.pem", ca=files / "ca.pem", client=when))
    said = quarrel(tls, Client(speaking(version, certificate=stranger)))
    assert said.startswith(
        "the TLS handshake failed: certificate verify failed (unable to get local issuer certificate"
    )
    assert tls.take_out(), "an alert"


# With whom there is no agreement


@both
def test_who_does_not_trust_our_certificate(context: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    tls = Tls(context)
    assert quarrel(tls, Client(speaking(version, ca=trustme.CA()))) == (
        "the TLS handshake failed: tlsv1 alert unknown ca"
    )
    assert tls.take_out() == b"", "it knows already"


def test_who_speaks_only_what_is_too_old(files: Folder) -> None:
    tls = Tls(files.context("one.pem", minimum="1.3"))
    assert quarrel(tls, Client(speaking(ssl.TLSVersion.TLSv1_2))) == "the TLS handshake failed: unsupported protocol"
    assert tls.take_out()
    tls = Tls(files.context("one.pem", minimum="1.3"))
    shake_hands(tls, Client(speaking(ssl.TLSVersion.TLSv1_3)))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_what_nobody_should_speak_is_not_spoken(context: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    tls = Tls(context)
    theirs = speaking()
    theirs.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        theirs.minimum_version = theirs.maximum_version = version
    assert quarrel(tls, Client(theirs)) == "the TLS handshake failed: unsupported protocol"


@pytest.mark.parametrize("ciphers", ["AES128-SHA256", "ECDHE-ECDSA-AES128-SHA256", "DHE-RSA-AES128-GCM-SHA256"])
def test_who_has_only_ciphers_that_we_do_not_use(context: ssl.SSLContext, ciphers: str) -> None:
    """Without forward secrecy, without authenticated encryption, with what is slow to agree on."""
    theirs = speaking(ssl.TLSVersion.TLSv1_2)
    theirs.set_ciphers(ciphers)
    tls = Tls(context)
    assert quarrel(tls, Client(theirs)) == "the TLS handshake failed: no shared cipher"
    assert tls.take_out()


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\n",
        b"SSH-2.0-a\r\n",
        b"\0",
        b"\x15\x03\x01\0\2\2\x28",
        b"\x16G",
        b"\x16\x02\0",
        b"\n",
    ],
)
def test_what_is_no_tls_is_refused_by_its_first_bytes(context: ssl.SSLContext, first: bytes) -> None:
    tls = Tls(context)
    with pytest.raises(NotTlsError) as caught:
        tls.shake(first)
    assert str(caught.value) == f"it sent no TLS, but {first[:16]!r}"
    assert tls.take_out() == b"", "nobody there would understand it"


def test_what_is_no_tls_from_its_second_byte_on(context: ssl.SSLContext) -> None:
    tls = Tls(context)
    assert not tls.shake(b"\x16")
    with pytest.raises(TlsError, match="the TLS handshake failed: wrong version number"):
        tls.shake(b"GET / HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("breaks", "why"),
    [
        (lambda hello: b"\x16\x03\x01\xff\xff" + hello[5:], "packet length too long"),
        (lambda hello: hello[:5] + b"\2" + hello[6:], "unexpected message"),
        (lambda hello: hello[:9] + b"\2\0" + hello[11:], "bad legacy version"),
        (lambda hello: hello[:6] + b"\xff" + hello[7:], "excessive message size"),
        (lambda hello: hello[:43] + b"\xff" + hello[44:], "length mismatch"),
        (lambda hello: b"\x16\x03\x01\0\4\1\0\0\0", "length too short"),
    ],
)
def test_a_broken_greeting(context: ssl.SSLContext, breaks: Callable[[bytes], bytes], why: str) -> None:
    tls = Tls(context)
    with pytest.raises(TlsError) as caught:
        tls.shake(breaks(Client(speaking()).shake()))
    assert str(caught.value) == f"the TLS handshake failed: {why}"
    assert tls.error is caught.value
    assert len(tls.take_out()) == 7, "an alert"


@both
def test_a_greeting_that_stops_is_not_answered(context: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    """Truncated at every byte: it is neither done nor broken."""
    theirs = speaking(version)
    for size in range(1, len(Client(theirs).shake())):
        tls, client = Tls(context), Client(theirs)
        assert not tls.shake(client.shake()[:size])
        assert tls.take_out() == b""
        assert tls.error is None


@both
def test_who_gives_up_in_the_middle(context: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    for alert, why in (
        (b"\1\0", "tls/ssl connection has been closed (eof)"),
        (b"\2\x30", "tlsv1 alert unknown ca"),
        (b"\2\x28", "handshake failure"),
    ):
        tls = Tls(context)
        tls.shake(Client(speaking(version)).shake())
        tls.take_out()
        with pytest.raises(TlsError, match="the TLS handshake failed: ") as caught:
            tls.shake(b"\x15\x03\x03\0\2" + alert)
        assert why in str(caught.value)
        assert "_ssl" not in str(caught.value)


def test_after_an_error_nothing_is_agreed_on(context: ssl.SSLContext) -> None:
    tls, hello = Tls(context), Client(speaking()).shake()
    with pytest.raises(TlsError):
        tls.shake(hello[:5] + b"\2" + hello[6:])
    tls.take_out()
    for again in (hello, b"x"):
        with pytest.raises(TlsError):
            tls.shake(again)
    assert tls.open(hello) == b""
    assert tls.seal(b"x") == b""
    assert tls.end() == b""
    assert tls.is_ended


def test_an_end_of_ours_before_and_in_a_handshake_is_not_said(context: ssl.SSLContext) -> None:
    hello = Client(speaking()).shake()
    for before in (b"", hello[:1], hello[:100], hello):
        tls = Tls(context)
        if before:
            tls.shake(before)
            tls.take_out()
        assert tls.end() == b""
        assert tls.is_ended
        assert tls.error is None


def test_a_stream_is_named_by_the_client(context: ssl.SSLContext) -> None:
    assert Stream.server_name is None
    assert isinstance(context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True), Stream)
