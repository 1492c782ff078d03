"""Slack as emulate has it, and before it a proxy that loses answers and refuses what it is told to
refuse."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.cluster.processes import free_port
from tests.contract import world
from tests.fakes import npm

EMULATE = "emulate@0.8.0"
POOR = "tok-p00r-may-only-write-555555"
"""A token that may write, and read nothing."""
CHANNEL = "deployments"
_SEED = f"""
slack:
  team: {{name: Shop, domain: shop}}
  users: [{{name: gatewright, email: gatewright@example.com}}]
  channels: [{{name: {CHANNEL}}}, {{name: incidents}}, {{name: monitoring}}]
  tokens:
  - {{token: {world.TOKEN}, user: gatewright, scopes: [chat:write, channels:history, channels:read]}}
  - {{token: {POOR}, user: gatewright, scopes: [chat:write]}}
  strict_scopes: true
"""


@contextlib.contextmanager
def emulated() -> Iterator[str]:
    """Base URL of a workspace with the channels `deployments`, `incidents` and `monitoring`."""
    folder, port = npm.installed(EMULATE), free_port()
    with tempfile.TemporaryDirectory(prefix="gatewright-slack-") as directory:
        seed, log = Path(directory, "seed.yaml"), Path(directory, "log")
        seed.write_text(_SEED)
        program = str(folder / "emulate/dist/index.js")
        command = ["node", program, "--service", "slack", "--port", str(port), "--seed", str(seed)]
        with log.open("wb") as out:
            process = subprocess.Popen(command, cwd=directory, stdout=out, stderr=out)
        try:
            _until_answers(process, f"http://127.0.0.1:{port}/api/auth.test", log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def _until_answers(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with contextlib.suppress(urllib.error.HTTPError):
                urllib.request.urlopen(
                    urllib.request.Request(url, b"", method="POST"), timeout=5
                ).close()
            return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"emulate did not start: {error}\n{log.read_text()[-2000:]}"
                ) from error
            time.sleep(0.05)


@dataclass
class Between:
    """A proxy before a workspace."""

    beyond: str
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Methods that were called, and their JSON bodies."""
    lose: list[str] = field(default_factory=list)
    """Methods whose next call is done, but its answer is lost."""
    instead: dict[int, web.Response] = field(default_factory=dict)
    """Answers of the first, second ... call that is not carried on."""

    def app(self) -> web.Application:
        """The application."""
        found = web.Application()
        found.router.add_route("*", "/api/{method}", self._carry)
        return found

    def methods(self) -> list[str]:
        """What was called, in order."""
        return [method for method, _ in self.calls]

    async def _carry(self, request: web.Request) -> web.StreamResponse:
        method, body = request.match_info["method"], await request.read()
        self.calls.append(
            (
                method,
                await request.json() if request.content_type == "application/json" and body else {},
            )
        )
        if len(self.calls) in self.instead:
            return self.instead[len(self.calls)]
        headers = {
            name: request.headers[name]
            for name in ("Authorization", "Content-Type")
            if name in request.headers
        }
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method, f"{self.beyond}/api/{method}", data=body, headers=headers
            ) as found,
        ):
            text = await found.read()
            if method in self.lose:
                self.lose.remove(method)
                assert request.transport is not None
                request.transport.close()
            return web.Response(status=found.status, body=text, content_type=found.content_type)
