"""A certificate for this run, and its key: for `localhost`, signed by itself, ECDSA with P-256.

The openssl command makes them when the first server that speaks TLS is started; they are in a temporary folder, which
goes when the measuring process ends.  In the table of rows CERTIFICATE and KEY stand for their paths.
"""

import atexit
import functools
import shutil
import subprocess
import tempfile

from benchmarks.running import MeasurementError
from benchmarks.terms import CERTIFICATE, KEY

LIMIT_S = 30.0
WORDS = (
    "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "7",
    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
)  # fmt: skip


@functools.cache
def _made() -> tuple[str, str]:
    """The paths of the two, made at the first call.  Raises MeasurementError when openssl is missing or fails."""
    folder = tempfile.mkdtemp(prefix="paceline-benchmarks-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    certificate, key = f"{folder}/certificate.pem", f"{folder}/key.pem"
    try:
        words = [*WORDS, "-out", certificate, "-keyout", key]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except FileNotFoundError:
        raise MeasurementError("TLS wants a certificate, and there is no openssl: apt-get install openssl") from None
    except subprocess.TimeoutExpired:
        raise MeasurementError(f"openssl has made no certificate in {LIMIT_S:g} s") from None
    if done.returncode != 0:
        raise MeasurementError(f"openssl made no certificate:\n{done.stderr}")
    return certificate, key


def filled_in(words: list[str]) -> list[str]:
    """The words of a command line, with the paths for CERTIFICATE and KEY.  Raises MeasurementError."""
    if CERTIFICATE not in words and KEY not in words:
        return words
    certificate, key = _made()
    paths = {CERTIFICATE: certificate, KEY: key}
    return [paths.get(word, word) for word in words]
