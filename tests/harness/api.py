"""A small client of the API server in plain dicts, for the harness itself: one keep-alive session,
no retries, no cache."""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.harness.loop import Background

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


class ApiError(RuntimeError):
    """An answer of 400 or above."""

    def __init__(self, status: int, method: str, path: str, body: Any) -> None:
        message = body.get("message") if isinstance(body, dict) else body
        super().__init__(f"{method} {path}: {status} {message}")
        self.status, self.body = status, body


def tls_of(kubeconfig: Path) -> tuple[str, ssl.SSLContext]:
    """Server URL and a context with the client certificate of a kubeconfig that holds everything
    inline."""
    content = yaml.safe_load(kubeconfig.read_text())
    cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with tempfile.NamedTemporaryFile() as pair:
        pair.write(base64.b64decode(user["client-certificate-data"]) + b"\n")
        pair.write(base64.b64decode(user["client-key-data"]))
        pair.flush()
        context.load_cert_chain(pair.name)
    return cluster["server"], context


class Api:
    """Requests as the user of a kubeconfig. The plain methods are for tests, `call` and `watch` for
    coroutines."""

    def __init__(self, background: Background, kubeconfig: Path, agent: str = "harness") -> None:
        self._background = background
        self.url, self.tls = tls_of(kubeconfig)
        self._session = background.run(self._open(agent))

    async def _open(self, agent: str) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=self.tls, limit=0)
        timeout = aiohttp.ClientTimeout(total=None, connect=10)
        return aiohttp.ClientSession(
            connector=connector, headers={"User-Agent": agent}, timeout=timeout
        )

    def close(self) -> None:
        self._background.run(self._session.close())

    async def call(
        self, method: str, path: str, body: Any = None, kind: str = "application/json"
    ) -> Any:
        data = json.dumps(body) if body is not None else None
        headers = {"Content-Type": kind} if body is not None else {}
        async with self._session.request(
            method, self.url + path, data=data, headers=headers
        ) as answer:
            text = await answer.text()
            found = json.loads(text) if answer.content_type == "application/json" else text
            if answer.status >= 400:
                raise ApiError(answer.status, method, path, found)
            return found

    async def watch(self, path: str, version: str) -> AsyncIterator[dict[str, Any]]:
        """Events after a resourceVersion until the server ends the stream; 410 comes as an ERROR
        event."""
        separator = "&" if "?" in path else "?"
        query = f"{separator}watch=1&resourceVersion={version}&allowWatchBookmarks=true"
        async with self._session.get(self.url + path + query) as answer:
            if answer.status >= 400:
                raise ApiError(answer.status, "WATCH", path, await answer.json(content_type=None))
            buffer = b""
            async for chunk in answer.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)

    def request(
        self, method: str, path: str, body: Any = None, kind: str = "application/json"
    ) -> Any:
        return self._background.run(self.call(method, path, body, kind))

    def get(self, path: str) -> Any:
        return self.request("GET", path)

    def find(self, path: str, missing: tuple[int, ...] = (404,)) -> Any | None:
        """The object, or None where the answer is one of these."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.status in missing:
                return None
            raise

    def create(self, path: str, body: Mapping[str, Any]) -> Any:
        return self.request("POST", path, body)

    def merge(self, path: str, body: Mapping[str, Any]) -> Any:
        return self.request("PATCH", path, body, MERGE)

    def delete(self, path: str) -> Any:
        return self.request("DELETE", path)
