"""A certificate for this run, and its key: for `localhost`, signed by itself, ECDSA with P-256.

The openssl command makes them when the first server that speaks TLS is started; they are in a temporary folder, which
goes when the measuring process ends.  Servers get the paths: in the table of rows stand CERTIFICATE and KEY for them.
"""

import functools
import subprocess
import tempfile
from pathlib import Path

from benchmarks.running import MeasurementError

CERTIFICATE = "{certificate}"
KEY = "{key}"

LIMIT_S = 30.0
WORDS = (
    "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "7",
    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
)  # fmt: skip


@functools.cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    """Where the two are, made at the first call.  Raises MeasurementError when openssl is missing or fails."""
    folder = tempfile.TemporaryDirectory(prefix="paceline-benchmarks-")
    certificate, key = (str(path) for path in _paths(folder.name))
    try:
        words = [*WORDS, "-out", certificate, "-keyout", key]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except FileNotFoundError:
        raise MeasurementError("TLS needs the openssl command, which is missing: apt-get install openssl") from None
    if done.returncode != 0:
        raise MeasurementError(f"openssl made no certificate:\n{done.stderr}")
    return folder


def _paths(folder: str) -> tuple[Path, Path]:
    return Path(folder, "certificate.pem"), Path(folder, "key.pem")


def filled_in(words: list[str]) -> list[str]:
    """The words of a command line, with the paths for CERTIFICATE and KEY.  Raises MeasurementError."""
    if CERTIFICATE not in words and KEY not in words:
        return words
    certificate, key = _paths(_folder().name)
    paths = {CERTIFICATE: str(certificate), KEY: str(key)}
    return [paths.get(word, word) for word in words]
