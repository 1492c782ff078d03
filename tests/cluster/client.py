"""The few requests that starting a cluster needs, without a client library."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class Client:
    """HTTPS to an API server as its administrator; `pki` holds ca.crt, admin.crt and admin.key."""

    def __init__(self, url: str, pki: Path, timeout: float = 10.0) -> None:
        address = urlsplit(url)
        assert address.hostname
        self._host, self._port = address.hostname, address.port or 443
        self._timeout = timeout
        self._context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._context.load_cert_chain(pki / "admin.crt", pki / "admin.key")

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Status and text of one answer; OSError or HTTPException where there is none."""
        content = None if body is None else json.dumps(body)
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout, context=self._context
        )
        try:
            connection.request(
                method, path, content, {"Content-Type": "application/json"} if content else {}
            )
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """The answer parsed from JSON, or its text; RuntimeError with the server's words where it
        refuses."""
        status, text = self.ask(method, path, body)
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {text}")
        return json.loads(text) if text.startswith(("{", "[")) else text

    def ok(self, path: str) -> bool:
        """Whether this path answers 200 now."""
        try:
            return self.ask("GET", path)[0] == 200
        except (OSError, http.client.HTTPException):
            return False
