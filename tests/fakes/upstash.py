"""Upstash's REST API over a real Redis: a command is POSTed as a JSON list; `{"result": ...}` or
`{"error": "..."}`."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes.redis_server import RedisServer


@dataclass
class Upstash:
    """One database with its token."""

    redis: RedisServer
    token: str
    commands: list[list[str]] = field(default_factory=list)
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    """Commands that are answered otherwise: a status and a body."""

    def app(self) -> web.Application:
        """The application."""
        app = web.Application()
        app.router.add_post("/", self._command)
        app.router.add_get("/{tail:.*}", self._refused)
        return app

    async def _refused(self, request: web.Request) -> web.Response:
        return web.json_response({"error": "ERR method not allowed"}, status=405)

    async def _command(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            given = request.headers.get("Authorization", "")
            return web.json_response(
                {"error": f"WRONGPASS invalid or missing auth token {given}"}, status=401
            )
        command = await request.json()
        if (
            not isinstance(command, list)
            or not command
            or not all(isinstance(part, str | int) for part in command)
        ):
            return web.json_response({"error": "ERR failed to parse command"}, status=400)
        command = [str(part) for part in command]
        self.commands.append(command)
        if command[0].upper() in self.answers:
            status, body = self.answers[command[0].upper()]
            return web.json_response(body, status=status)
        try:
            result = await asyncio.to_thread(self.redis.do, *command)
        except RuntimeError as error:
            return web.json_response({"error": str(error)}, status=400)
        as_base64 = request.headers.get("Upstash-Encoding") == "base64"
        return web.json_response({"result": _plain(result, as_base64)})


def _plain(value: Any, as_base64: bool) -> Any:
    if isinstance(value, list):
        return [_plain(item, as_base64) for item in value]
    if isinstance(value, bytes) and as_base64 and value != b"OK":
        return base64.b64encode(value).decode()
    return value.decode(errors="replace") if isinstance(value, bytes) else value
