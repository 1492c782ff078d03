"""Whose certificates are trusted: the system's, or what SSL_CERT_FILE and SSL_CERT_DIR name."""

from __future__ import annotations

import functools
import ssl


@functools.cache
def trust(*protocols: str) -> ssl.SSLContext:
    """A context that checks certificates and names, for these protocols (ALPN); made once: that takes tens of milliseconds."""
    context = ssl.create_default_context()
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context
