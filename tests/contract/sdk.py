"""Requests to Vercel, checked against its own SDK.

Vercel's OpenAPI file is in no package; its SDK is generated from it, a file for each operation.
Method, path and query of an operation are read from there; bodies are for the SDK's own schemas to
judge (`vercel_bodies.mjs`).
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from yarl import URL

from gatewright.providers.common import client
from tests.fakes import npm

PACKAGE = "@vercel/sdk@1.28.35"
BY_THE_CLI: Mapping[tuple[str, str], frozenset[str]] = {
    ("GET", "/v6/deployments"): frozenset({"projectId", "target", "limit", "until", "meta-"}),
    ("GET", "/v9/projects/{idOrName}"): frozenset({"rollbackInfo"}),
}
"""What the vendor's CLI sends and its SDK does not know; `meta-` begins the name of a parameter."""


@dataclass(frozen=True)
class Operation:
    """One operation of the SDK."""

    method: str
    template: str
    query: frozenset[str]
    request: str
    """Name of the schema of a request; empty where there is nothing to send."""
    module: str
    """Module of that schema, relative to `esm/funcs`."""
    body: str
    """What of a request is its body: `payload.RequestBody`, or all of it; empty where the operation
    has none."""


class Sent(Protocol):
    """A request that was recorded."""

    @property
    def request(self) -> client.Request: ...


class Sdk:
    """What Vercel's SDK can ask."""

    def __init__(self) -> None:
        self.folder = npm.installed(PACKAGE) / "@vercel" / "sdk" / "esm"
        self._operations = [
            _operation(path) for path in sorted((self.folder / "funcs").glob("*.js"))
        ]
        assert len(self._operations) > 300, "the files of the SDK are not what they were"

    def find(self, request: client.Request, base: str) -> list[Operation]:
        """The operations that a request may be; the CLI's among them."""
        path = request.url.raw_path.removeprefix(URL(base).raw_path.rstrip("/"))
        cli = [
            Operation(method, template, names, "", "", "")
            for (method, template), names in BY_THE_CLI.items()
        ]
        return [
            item
            for item in (*self._operations, *cli)
            if item.method == request.method and _pattern(item).fullmatch(path)
        ]

    def problems(self, call: Sent, base: str) -> list[str]:
        """What the SDK has against the method, path and query of a request."""
        request = call.request
        what, found = f"vercel: {request.method} {request.url.path}", self.find(request, base)
        if not found:
            return [f"{what}: no such operation"]
        known = frozenset({"teamId", "slug"}).union(*(item.query for item in found))
        known |= frozenset().union(
            *(BY_THE_CLI.get((item.method, item.template), ()) for item in found)
        )
        names = (name for name in request.url.query if name not in known)
        return [
            f"{what}: no such query parameter: {name}"
            for name in names
            if not ("meta-" in known and name[:5] == "meta-")
        ]

    def judge(self, requests: Iterable[client.Request], base: str) -> list[str]:
        """What the SDK's schemas have against the bodies of requests."""
        found: list[str] = []
        asked: list[dict[str, Any]] = []
        for request in requests:
            what, body = (
                f"vercel: {request.method} {request.url.path}",
                json.loads(request.content or b"null"),
            )
            (operation,) = self.find(request, base)
            if operation.body:
                names = re.findall(r"\{(\w+)\}", operation.template)
                module = (self.folder / "funcs" / operation.module).resolve().as_uri()
                asked.append(
                    {
                        "name": what,
                        "module": module,
                        "schema": operation.request,
                        "path": dict.fromkeys(names, "x"),
                    }
                    | {"body": body, "whole": operation.body == "payload"}
                )
            elif body:
                found.append(f"{what}: the operation has no body")
        script = Path(npm.__file__).with_name("vercel_bodies.mjs")
        done = subprocess.run(
            ["node", str(script)],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return found + done.stdout.splitlines()


def _pattern(operation: Operation) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(operation.template)))


def _operation(path: Path) -> Operation:
    text = path.read_text(encoding="utf-8")
    template, method = (
        re.search(r'pathToFunc\("([^"]+)"', text),
        re.search(r'method: "([A-Z]+)"', text),
    )
    assert template is not None, path
    assert method is not None, path
    query = re.search(r"encodeFormQuery\(\{(.*?)\}\)", text, re.DOTALL)
    names = re.findall(r'^\s*"?([\w.-]+)"?:', query[1], re.MULTILINE) if query else []
    schema = re.search(r"safeParse\(request, \(value\) => (\w+)\$outboundSchema", text)
    module = (
        re.search(rf'import \{{[^}}]*\b{schema[1]}\$outboundSchema\b[^}}]*\}} from "([^"]+)"', text)
        if schema
        else None
    )
    body = re.search(r'encodeJSON\("body", ([\w.]+)', text)
    parts = (schema[1] if schema else "", module[1] if module else "", body[1] if body else "")
    return Operation(method[1], template[1], frozenset(names), *parts)
