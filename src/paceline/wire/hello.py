"""How a connection begins that speaks TLS.  Pure.

It stands here without OpenSSL, because also those ask who do not speak it.
"""

BEGINS = b"\x16\x03"
"""A record that is part of a handshake, and the major version that all since SSL 3.0 give (RFC 8446, section 5.1)."""


def looks_like_tls(first: bytes) -> bool:
    """Whether a connection may begin so that speaks TLS; of a single byte more cannot be said."""
    return first.startswith(BEGINS) or first == BEGINS[:1]
