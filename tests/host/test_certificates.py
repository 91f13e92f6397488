"""host/certificates.py: files become contexts, or an error that says what to do; each name gets its own; changes."""

import os
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from trustme import KeyType

from paceline.errors import HostError
from paceline.host import processes
from paceline.host.certificates import Certificate, Certificates, Wanted, hush_strange_names
from paceline.wire.tls import Stream, Tls, TlsError
from tlsbed import PASSWORD, Client, Folder, shake_hands, speaking


@pytest.fixture
def files(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def load(*certificates: str, **wanted: Any) -> Certificates:
    return Certificates(Wanted(certificates, **wanted), Stream)


def refusal(*certificates: str, **wanted: Any) -> str:
    with pytest.raises(HostError) as caught:
        load(*certificates, **wanted)
    return str(caught.value)


def shown(context: ssl.SSLContext, name: str | None) -> list[str]:
    """The names in the certificate that a client is shown who asks for this one."""
    theirs = speaking()
    theirs.check_hostname = False
    tls, client = Tls(context), Client(theirs, name)
    shake_hands(tls, client)
    assert tls.session.server_name == name
    certificate: Any = client.stream.getpeercert()
    return [value for kind, value in certificate["subjectAltName"] if kind == "DNS"]


# What is read


def test_a_certificate_and_its_key_in_one_file_or_in_two(files: Folder) -> None:
    one = files.server("one.pem", "one.test")
    certificate, key = files.apart("cert.pem", "key.pem", "two.test")
    assert shown(load(one).context, "one.test") == ["one.test"]
    assert shown(load(certificate, keys=(key,)).context, "two.test") == ["two.test"]
    assert shown(load(one, certificate, keys=(one, key)).context, "two.test") == ["two.test"]


def test_one_signed_by_somebody_in_between(files: Folder) -> None:
    """The file has both; a client that knows only the root is content."""
    leaf = files.ca.create_child_ca().issue_cert("one.test")
    leaf.private_key_and_cert_chain_pem.write_to_path(files / "one.pem")
    tls, client = Tls(load(files / "one.pem").context), Client(speaking(), "one.test")
    shake_hands(tls, client)
    assert client.is_done


def test_the_names_are_those_a_client_may_ask_for(files: Folder) -> None:
    files.server("several.pem", "One.Test", "*.one.test", "192.0.2.7", "one.test", common_name="another.test")
    files.server("common.pem", "192.0.2.7", common_name="Only.Test")
    files.server("none.pem", "192.0.2.7")
    several, common, none = load(*(files / f"{name}.pem" for name in ("several", "common", "none"))).loaded
    assert several.names == ("one.test", "*.one.test")
    assert several.known_as == "one.test, *.one.test"
    assert common.names == ("only.test",)
    assert none.names == ()
    assert none.known_as == none.path == files / "none.pem"


def test_its_time_is_read_and_not_judged(files: Folder) -> None:
    """Whether to refuse one that has ended is the client's business; ours is to say so."""
    begin, end = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC), datetime(2002, 1, 1, tzinfo=UTC)
    files.server("ended.pem", "one.test", not_before=begin, not_after=end)
    files.server("later.pem", "one.test", not_before=datetime(2090, 1, 1, tzinfo=UTC))
    ended, later = load(files / "ended.pem", files / "later.pem").loaded
    assert ended == Certificate(files / "ended.pem", ("one.test",), int(begin.timestamp()), int(end.timestamp()))
    assert later.begins_s == int(datetime(2090, 1, 1, tzinfo=UTC).timestamp())
    assert later.ends_s > later.begins_s


def test_an_encrypted_key_is_decrypted(files: Folder) -> None:
    with_line = files.write("password", f"{PASSWORD}\n")
    for form in ("PKCS8", "TraditionalOpenSSL"):
        certificate, key = files.apart("cert.pem", "key.pem", "one.test")
        files.encrypt("key.pem", form=form)
        for given in ({"password": PASSWORD}, {"password_file": with_line}):
            assert shown(load(certificate, keys=(key,), **given).context, "one.test") == ["one.test"]
        # The file counts.
        assert load(certificate, keys=(key,), password="another", password_file=with_line)


def test_an_encrypted_key_beside_its_certificate(files: Folder) -> None:
    certificate, key = files.apart("cert.pem", "key.pem", "one.test")
    files.encrypt("key.pem")
    both = files.write("both.pem", Path(key).read_text() + Path(certificate).read_text())
    assert shown(load(both, password=PASSWORD).context, "one.test") == ["one.test"]
    assert "is encrypted; give its password" in refusal(both)


def test_a_password_that_is_not_needed_does_no_harm(files: Folder) -> None:
    assert load(files.server("one.pem", "one.test"), password=PASSWORD)


def test_a_password_is_not_shown() -> None:
    assert PASSWORD not in repr(Wanted(("one.pem",), password=PASSWORD))


def test_all_files_are_looked_at() -> None:
    wanted = Wanted(("a", "b"), ("c", "d"), password_file="e", ca="f")
    assert sorted(wanted.files) == ["a", "b", "c", "d", "e", "f"]
    assert Wanted(("a",)).files == ("a",)


# What is refused


def test_no_such_file(files: Folder) -> None:
    one = files.server("one.pem", "one.test")
    no = files / "no.pem"
    assert refusal(no) == f"the certificate cannot be read from {no!r}: No such file or directory"
    assert refusal(one, keys=(no,)) == f"the private key cannot be read from {no!r}: No such file or directory"
    assert refusal(one, password_file=no) == (
        f"the password of the private key cannot be read from {no!r}: No such file or directory"
    )
    assert refusal(one, ca=no, client="required") == (
        f"the certificates of --tls-ca cannot be read from {no!r}: No such file or directory"
    )
    assert refusal(one, str(files.folder)).endswith(": it is a folder")
    assert "embedded null" in refusal("a\0b")


@contextmanager
def somebody_without_rights() -> Iterator[int]:
    """root may read everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65_534)
    try:
        yield os.geteuid()
    finally:
        if before == 0:
            os.seteuid(before)
            processes.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, which a change of user takes away (prctl(2))


def test_no_right_to_read(files: Folder) -> None:
    certificate, key = files.apart("cert.pem", "key.pem", "one.test")
    os.chmod(files.folder, 0)
    try:
        with somebody_without_rights() as uid:
            assert refusal(certificate, keys=(key,)) == (
                f"the certificate cannot be read from {certificate!r} as uid {uid} (Permission denied); give that user "
                "the right to, for example by a group of its own (chgrp, chmod 640)"
            )
    finally:
        os.chmod(files.folder, 0o700)


@pytest.mark.parametrize("text", ["", "nothing", "-----BEGIN CERTIFICATE REQUEST-----\n"])
def test_no_certificate_in_the_file(files: Folder, text: str) -> None:
    path = files.write("some.pem", text)
    why = f"there is nothing in {path!r} that could be {{}}: no line '-----BEGIN CERTIFICATE-----' (PEM)"
    assert refusal(path) == why.format("the certificate")
    one = files.server("one.pem", "one.test")
    assert refusal(one, ca=path, client="required") == why.format("the certificates of --tls-ca")


def test_a_binary_file_is_none(files: Folder) -> None:
    one = files.server("one.pem", "one.test")
    der = ssl.PEM_cert_to_DER_cert(Path(one).read_text()[Path(one).read_text().index("-----BEGIN CERT") :])
    (files.folder / "one.der").write_bytes(der)
    assert refusal(files / "one.der", keys=(one,)).endswith("no line '-----BEGIN CERTIFICATE-----' (PEM)")


def test_no_key_in_the_file(files: Folder) -> None:
    certificate, _key = files.apart("cert.pem", "key.pem", "one.test")
    why = f"there is nothing in {certificate!r} that could be the private key: "
    why += "no line '-----BEGIN …PRIVATE KEY-----' (PEM)"
    assert refusal(certificate) == f"{why}; name the file that has it by --tls-key"
    other = files.server("other.pem", "other.test")
    assert refusal(other, keys=(certificate,)) == why


def test_the_key_of_another_certificate(files: Folder) -> None:
    for number, kind in enumerate(KeyType):
        one, _ = files.apart("one.pem", "one.key", "one.test")
        _, other = files.apart(f"{number}.pem", f"{number}.key", "other.test", key_type=kind)
        assert refusal(one, keys=(other,)) == (
            f"the private key in {other!r} does not belong to the certificate in {one!r}; give the two that were made "
            "for each other"
        )


def test_keys_in_another_order_than_certificates(files: Folder) -> None:
    (one, key), (two, other) = files.apart("1.pem", "1.key", "one.test"), files.apart("2.pem", "2.key", "two.test")
    assert load(one, two, keys=(key, other))
    assert "does not belong to" in refusal(one, two, keys=(other, key))


@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
def test_an_encrypted_key_without_its_password(files: Folder, form: str) -> None:
    certificate, key = files.apart("cert.pem", "key.pem", "one.test")
    files.encrypt("key.pem", form=form)
    assert refusal(certificate, keys=(key,)) == (
        f"the private key in {key!r} is encrypted; give its password in a file (--tls-key-password-file), or in the "
        "environment (PACELINE_TLS_KEY_PASSWORD)"
    )
    for wrong in ("wrong", "", f"{PASSWORD} ", "x" * 1024):
        said = refusal(certificate, keys=(key,), password=wrong)
        assert said.startswith(
            f"the private key in {key!r} cannot be decrypted: the password is another one, or the file is damaged"
        )
        if wrong:
            assert refusal(certificate, keys=(key,), password_file=files.write("password", f"{wrong}\n")) == said
    assert refusal(certificate, keys=(key,), password="x" * 1025) == (
        f"the private key in {key!r} cannot be used: password cannot be longer than 1024 bytes"
    )


def test_a_damaged_key(files: Folder) -> None:
    certificate, key = files.apart("cert.pem", "key.pem", "one.test")
    text = Path(key).read_text()
    for damaged in (text[: len(text) // 2], text.replace("\n", "\n!", 2), text[:60] + "\n"):
        files.write("key.pem", damaged)
        said = refusal(certificate, keys=(key,))
        assert said.startswith(f"the private key in {key!r} cannot be used with the certificate in {certificate!r}: ")
        assert said.endswith("it is damaged, or no PEM")


CUTS = [30, 100, -60, -10]


@pytest.mark.parametrize("size", CUTS)
def test_a_damaged_certificate(files: Folder, size: int) -> None:
    certificate, key = files.apart("cert.pem", "key.pem", "one.test")
    whole = Path(certificate).read_text()
    files.write("cert.pem", whole[:size])
    why = f"the certificate in {certificate!r} cannot be read: it is damaged, or no PEM"
    assert refusal(certificate, keys=(key,)) == why
    # The one behind it counts, too.
    files.write("cert.pem", whole + whole[:size])
    assert refusal(certificate, keys=(key,)) == why


@pytest.mark.parametrize("size", CUTS)
def test_damaged_certificates_of_those_who_sign(files: Folder, size: int) -> None:
    one, ca = files.server("one.pem", "one.test"), files.authorities()
    files.write("ca.pem", Path(ca).read_text()[:size])
    assert refusal(one, ca=ca, client="required") == (
        f"the certificates in {ca!r} (--tls-ca) cannot be read: it is damaged, or no PEM"
    )


def test_a_file_that_goes_away_while_it_is_read(files: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    one, ca = files.server("one.pem", "one.test"), files.authorities()
    load_ = ssl.SSLContext.load_verify_locations

    def gone(context: ssl.SSLContext, path: str) -> None:
        os.rename(path, f"{path}.away")
        try:
            load_(context, path)
        finally:
            os.rename(f"{path}.away", path)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", gone)
    assert refusal(one) == f"the certificate in {one!r} cannot be read: No such file or directory"
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *it: gone(*it) if it[1] == ca else load_(*it))
    assert refusal(one, ca=ca, client="required") == (
        f"the certificates in {ca!r} (--tls-ca) cannot be read: No such file or directory"
    )


def test_what_cannot_be_read_leaves_connections_alone(files: Folder) -> None:
    """OpenSSL keeps errors by thread; one that is left there would break whatever connection comes next."""
    one = files.server("one.pem", "one.test")
    _, key = files.apart("cut.pem", "key.pem", "one.test")
    ca = files.authorities()
    for name in ("cut.pem", "ca.pem"):
        files.write(name, Path(files / name).read_text()[:100])
    tls, client = Tls(load(one).context), Client(speaking(), "one.test")
    shake_hands(tls, client)
    for wanted in ({"keys": (key,)}, {"ca": ca, "client": "required"}):
        refusal(files / "cut.pem" if "keys" in wanted else one, **wanted)
        assert tls.open(b"") == b""
        assert tls.error is None
        assert tls.open(client.says(b"hello")) == b"hello"


# Nobody is asked


ASKED = """
import sys
from paceline.errors import HostError
from paceline.host.certificates import Certificates, Wanted
from paceline.wire.tls import Stream
certificate, key, ca = sys.argv[1:4]
try:
    Certificates(Wanted((certificate,), (key,), ca=ca, client="required"), Stream)
except HostError as error:
    print(error)
"""
HEADERS = [
    "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,{}\n\n",
    "Proc-Type:4,ENCRYPTED\nDEK-Info: AES-256-CBC,{}\n\n",
]


@pytest.mark.parametrize("which", ["key", "certificate", "ca"])
@pytest.mark.parametrize("header", HEADERS)
def test_there_is_never_a_question_at_the_terminal(files: Folder, which: str, header: str) -> None:
    """Where OpenSSL has no password it asks whoever started the server, if there is a terminal, and waits."""
    certificate, key = files.apart("cert.pem", "key.pem", "one.test")
    paths = {"key": key, "certificate": certificate, "ca": files.authorities()}
    text = Path(paths[which]).read_text().replace("-----\n", f"-----\n{header.format('00' * 16)}", 1)
    Path(paths[which]).write_text(text)
    ours, theirs = os.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", ASKED, certificate, key, paths["ca"]],
            stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, text=True, timeout=20, start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        os.write(theirs, b"end")
        assert os.read(ours, 1000) == b"end", "nothing was written there"
    finally:
        os.close(ours)
        os.close(theirs)
    assert "encrypted" in done.stdout


# Several


@pytest.fixture
def several(files: Folder) -> ssl.SSLContext:
    files.server("first.pem", "first.test")
    files.server("exact.pem", "a.many.test", "alone.test")
    files.server("star.pem", "*.many.test")
    files.server("late.pem", "alone.test", "*.many.test", "*.first.test")
    return files.context("first.pem", "exact.pem", "star.pem", "late.pem")


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("first.test", ["first.test"]),
        ("a.many.test", ["a.many.test", "alone.test"]),
        ("A.Many.Test", ["a.many.test", "alone.test"]),
        ("alone.test", ["a.many.test", "alone.test"]),
        ("b.many.test", ["*.many.test"]),
        ("B.MANY.test", ["*.many.test"]),
        ("c.b.many.test", ["first.test"]),  # a star stands for one part
        ("many.test", ["first.test"]),
        ("b.first.test", ["alone.test", "*.many.test", "*.first.test"]),
        ("unknown.test", ["first.test"]),
        ("localhost", ["first.test"]),
        (None, ["first.test"]),
    ],
)
def test_the_name_chooses_the_certificate(several: ssl.SSLContext, name: str | None, names: list[str]) -> None:
    assert shown(several, name) == names


def test_a_star_in_the_first_one_is_not_overridden_by_a_later_one(files: Folder) -> None:
    files.server("first.pem", "*.many.test")
    files.server("later.pem", "*.many.test", "b.many.test")
    context = files.context("first.pem", "later.pem")
    assert shown(context, "a.many.test") == ["*.many.test"]
    assert shown(context, "b.many.test") == ["*.many.test", "b.many.test"]


def test_with_another_certificate_all_else_stays(files: Folder) -> None:
    """Who must show one, what is agreed on, which ciphers there are."""
    files.server("first.pem", "first.test")
    files.server("second.pem", "second.test")
    context = files.context("first.pem", "second.pem", ca=files.authorities(), client="required", alpn=("h2",))
    leaf = files.ca.issue_cert("client@one.test")
    for name in ("first.test", "second.test"):
        tls, client = Tls(context), Client(speaking(certificate=leaf, alpn=("h2",)), name)
        shake_hands(tls, client)
        assert tls.session.alpn == "h2"
        assert tls.session.peer_certificate is not None
        tls = Tls(context)
        with pytest.raises(Exception, match="peer did not return a certificate"):
            shake_hands(tls, Client(speaking(), name))


def test_a_name_that_is_not_ascii_is_refused_and_leaves_no_traceback(
    files: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    hush_strange_names()
    hook = sys.unraisablehook
    hush_strange_names()
    assert sys.unraisablehook is hook
    tls = Tls(load(files.server("one.pem", "one.test")).context)
    hello = Client(speaking(), "one.test").shake().replace(b"one.test", b"one.te\xc3\xa9", 1)
    with pytest.raises(TlsError, match=r"the TLS handshake failed: the name that it asks for \(SNI\) is not ASCII"):
        tls.shake(hello)
    assert tls.take_out(), "an alert"
    assert said == []
    other: Any = SimpleNamespace(object=None, exc_value=ValueError())
    sys.unraisablehook(other)
    assert said == [other], "all else goes on to where it went before"


# Changes


def replaced(files: Folder, name: str, *names: str) -> None:
    """As those do who renew: another file takes the place of this one."""
    files.server(f"{name}.new", *names)
    os.replace(files / f"{name}.new", files / name)


def test_a_changed_file_is_read_again(files: Folder) -> None:
    one = files.server("one.pem", "one.test")
    certificates = load(one)
    before = certificates.context
    assert not certificates.look()
    assert certificates.context is before
    replaced(files, "one.pem", "two.test")
    assert certificates.look()
    assert certificates.context is not before
    assert [one.names for one in certificates.loaded] == [("two.test",)]
    assert shown(certificates.context, "two.test") == ["two.test"]
    assert shown(before, "two.test") == ["one.test"], "who has begun with it goes on with it"
    assert not certificates.look()


def test_a_file_that_is_written_over_is_read_again(files: Folder) -> None:
    one = files.server("one.pem", "one.test")
    certificates = load(one)
    files.server("one.pem", "another.test")
    assert certificates.look()
    assert certificates.loaded[0].names == ("another.test",)


def test_each_file_counts(files: Folder) -> None:
    certificate, key = files.apart("cert.pem", "key.pem", "one.test")
    password, ca = files.write("password", PASSWORD), files.authorities()
    certificates = load(certificate, keys=(key,), password_file=password, ca=ca, client="optional")
    for path in (certificate, key, password, ca):
        os.rename(path, f"{path}.away")
        Path(path).write_bytes(Path(f"{path}.away").read_bytes())
        assert certificates.look(), path
        assert not certificates.look()


def test_a_key_that_comes_later_than_its_certificate(files: Folder) -> None:
    """For a moment they do not belong together: refused, and those from before stay."""
    certificate, key = files.apart("cert.pem", "key.pem", "one.test")
    certificates = load(certificate, keys=(key,))
    before, loaded = certificates.context, certificates.loaded
    new, new_key = files.apart("new.pem", "new.key", "two.test")
    os.replace(new, certificate)
    with pytest.raises(HostError, match="does not belong to the certificate"):
        certificates.look()
    assert (certificates.context, certificates.loaded) == (before, loaded)
    assert shown(certificates.context, "one.test") == ["one.test"]
    assert not certificates.look(), "it is said once for each change"
    os.replace(new_key, key)
    assert certificates.look()
    assert shown(certificates.context, "two.test") == ["two.test"]


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nMIIB\n", "nothing"])
def test_a_file_that_cannot_be_used_leaves_what_was_before(files: Folder, text: str) -> None:
    one = files.server("one.pem", "one.test")
    certificates = load(one)
    before = certificates.context
    whole = Path(one).read_text()
    files.write("one.pem", text)
    with pytest.raises(HostError, match=re.escape(repr(one))):
        certificates.look()
    assert certificates.context is before
    files.write("one.pem", whole)
    assert certificates.look()


def test_a_file_that_is_removed_and_comes_back(files: Folder) -> None:
    one = files.server("one.pem", "one.test")
    certificates = load(one)
    before = certificates.context
    os.rename(one, f"{one}.away")
    with pytest.raises(HostError, match="No such file"):
        certificates.look()
    assert not certificates.look()
    assert certificates.context is before
    os.rename(f"{one}.away", one)
    assert certificates.look()
    assert shown(certificates.context, "one.test") == ["one.test"]


def test_a_folder_that_is_exchanged_by_its_link(files: Folder) -> None:
    """As Kubernetes and certbot do it: the names stay, a symbolic link on the way to them does not."""
    for name in ("one", "two"):
        (files.folder / name).mkdir()
        files.apart(f"{name}/cert.pem", f"{name}/key.pem", f"{name}.test")
    os.symlink("one", files / "now")
    certificates = load(files / "now/cert.pem", keys=(files / "now/key.pem",))
    assert certificates.loaded[0].names == ("one.test",)
    assert not certificates.look()
    os.symlink("two", files / "next")
    os.replace(files / "next", files / "now")
    assert certificates.look()
    assert certificates.loaded[0].names == ("two.test",)
    assert not certificates.look()


def test_a_private_key_that_everybody_can_read(files: Folder) -> None:
    one, (certificate, key) = files.server("one.pem", "one.test"), files.apart("cert.pem", "key.pem", "two.test")
    for path in (one, certificate, key):
        os.chmod(path, 0o640)
    assert load(one).readable_by_all() == []
    os.chmod(certificate, 0o644)
    certificates = load(certificate, keys=(key,))
    assert certificates.readable_by_all() == [], "a certificate is no secret"
    os.chmod(key, 0o644)
    assert certificates.readable_by_all() == [key]
    os.chmod(one, 0o604)
    assert load(one).readable_by_all() == [one]
    os.remove(key)
    assert certificates.readable_by_all() == []
