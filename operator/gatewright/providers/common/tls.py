"""TLS with the systems of Connections: whose certificates are trusted, and what a server may have
us compute.

Trusted are the system's authorities, or what SSL_CERT_FILE and SSL_CERT_DIR name.

A handshake is computed on the event loop, and the server chooses its numbers: a Diffie-Hellman
prime of 10,000 bits took two seconds of CPU, the group ffdhe8192 of TLS 1.3 a quarter. So keys are
exchanged over one elliptic curve only, P-256, which every server of TLS 1.3 has to know (RFC 8446,
9.1); and no server begins anew on an open connection.
"""

from __future__ import annotations

import functools
import ssl
from typing import Literal

Checks = Literal["certificate and name", "certificate", "nothing"]

_CURVE = "prime256v1"
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!aNULL:!eNULL:!aDSS:!SHA1:!AESCCM"
"""Python's own list without finite-field Diffie-Hellman; TLS 1.3 has a list of its own, in which
there is nothing dear."""


@functools.cache
def client_context(*protocols: str, checks: Checks = "certificate and name") -> ssl.SSLContext:
    """Return a client's context for these protocols (ALPN). It is made once: that takes tens of
    milliseconds."""
    made = ssl.create_default_context()
    made.set_ciphers(_CIPHERS)
    made.set_ecdh_curve(_CURVE)
    made.options |= ssl.OP_NO_RENEGOTIATION

    if protocols:
        made.set_alpn_protocols(list(protocols))

    if checks != "certificate and name":
        made.check_hostname = False

    if checks == "nothing":
        made.verify_mode = ssl.CERT_NONE

    return made
