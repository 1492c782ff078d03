"""Stand-ins that a test scripts: Prometheus' query API, and a web site with a health page.

What was answered, and when, is kept: the oracle compares it with what was promoted.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qs

from aiohttp import web

from tests.harness.loop import Background

Kind = Literal["Number", "NaN", "Empty", "Error"]


@dataclass(frozen=True, slots=True)
class Given:
    """One answer. `at` is Unix time, `mono` the monotonic clock, both after the answer was
    written."""

    query: str
    kind: Kind
    value: float | None
    at: float
    mono: float


@dataclass(slots=True)
class Script:
    """What a query is answered with."""

    kind: Kind = "Number"
    value: float = 0.0
    code: int = 200
    body: str | None = None
    """Sent as it is, instead of a well-formed answer."""
    delay: float = 0.0
    hang: bool = False
    read: Callable[[], float] | None = None
    """What tells the value at each question."""
    count: int = 0


@dataclass(slots=True)
class Page:
    """One page of the site."""

    code: int = 200
    body: str = '{"status": "ok"}'
    delay: float = 0.0


@dataclass(slots=True)
class StandIn:
    """`/api/v1/query` and `/api/v1/query_range` as Prometheus has them; every other path is a
    page."""

    background: Background
    given: list[Given] = field(default_factory=list)
    ranged: list[str] = field(default_factory=list)
    """Queries that were asked for what they had been answered before."""
    pages: dict[str, Page] = field(default_factory=dict)
    on_given: Callable[[Given], None] | None = None
    port: int = 0
    silent: bool = False
    """Every query has an empty answer, whatever is scripted."""
    _scripts: dict[str, Script] = field(default_factory=dict)
    _runner: web.ServerRunner | None = None

    def __post_init__(self) -> None:
        self.come_back()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # What tests say

    def number(self, query: str, value: float, delay: float = 0.0) -> None:
        self._scripts[query] = Script("Number", value, delay=delay)

    def follow(self, query: str, read: Callable[[], float]) -> None:
        """Answer with what is read at each question, as a metric of something that changes."""
        self._scripts[query] = Script("Number", read=read)

    def nan(self, query: str) -> None:
        self._scripts[query] = Script("NaN")

    def empty(self, query: str) -> None:
        self._scripts[query] = Script("Empty")

    def error(self, query: str, code: int = 500, body: str = "") -> None:
        self._scripts[query] = Script("Error", code=code, body=body)

    def hang(self, query: str) -> None:
        self._scripts[query] = Script("Error", hang=True)

    def page(
        self, path: str, code: int = 200, body: str = '{"status": "ok"}', delay: float = 0.0
    ) -> None:
        self.pages[path] = Page(code, body, delay)

    def asked(self, query: str) -> int:
        """How often a query was answered."""
        return len(self.of(query))

    def of(self, query: str) -> list[Given]:
        """What a query was answered, in order."""
        return [one for one in self.given if one.query == query]

    def go_away(self) -> None:
        """Nobody listens any more: connections are refused."""
        self.background.run(self._stop())

    def come_back(self) -> None:
        """Listen, on the same port as before."""
        self.background.run(self._start())

    close = go_away

    # How it answers

    async def _start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = int(self._runner.addresses[0][1])

    async def _stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path not in ("/api/v1/query", "/api/v1/query_range"):
            return await self._page(request.path)
        fields = dict(request.query)
        if request.method == "POST":
            fields |= {
                name: values[0]
                for name, values in parse_qs((await request.read()).decode()).items()
            }
        query = fields.get("query", "")
        script = Script("Empty") if self.silent else self._scripts.get(query)
        if script is None:
            return web.json_response(_failure(f"nothing is scripted for {query}"), status=400)
        if script.hang:
            await asyncio.sleep(3600)
        if script.delay:
            await asyncio.sleep(script.delay)
        if request.path.endswith("_range"):
            return web.json_response({"status": "success", "data": self._remembered(query, fields)})
        if script.read is not None:
            script.value = await asyncio.to_thread(script.read)
        response = _response(script)
        await response.prepare(request)
        await response.write_eof()
        script.count += 1
        self._note(query, script)
        return response

    def _remembered(self, query: str, fields: dict[str, str]) -> dict[str, Any]:
        """What the query would have been answered at each step: one series, or none."""
        self.ranged.append(query)
        start, end, step = (
            float(fields["start"]),
            float(fields["end"]),
            float(fields["step"].rstrip("s")),
        )
        times = [start + number * step for number in range(int((end - start) / step) + 1)]
        before = [
            (at, next((one.value for one in reversed(self.of(query)) if one.at <= at), None))
            for at in times
        ]
        values = [[at, repr(value)] for at, value in before if value is not None]
        return {
            "resultType": "matrix",
            "result": [{"metric": {}, "values": values}] if values else [],
        }

    def _note(self, query: str, script: Script) -> None:
        value = script.value if script.kind == "Number" else None
        given = Given(query, script.kind, value, time.time(), time.monotonic())
        self.given.append(given)
        if self.on_given is not None:
            self.on_given(given)

    async def _page(self, path: str) -> web.StreamResponse:
        page = self.pages.get(path)
        if page is None:
            return web.json_response({"error": "no such page"}, status=404)
        if page.delay:
            await asyncio.sleep(page.delay)
        return web.Response(status=page.code, text=page.body, content_type="application/json")


def _response(script: Script) -> web.Response:
    if script.kind == "Error" or script.body is not None:
        body = script.body or json.dumps(_failure("planted by a test"))
        return web.Response(status=script.code, text=body, content_type="application/json")
    shown = "NaN" if script.kind == "NaN" else repr(script.value)
    result: list[Any] = (
        [] if script.kind == "Empty" else [{"metric": {}, "value": [time.time(), shown]}]
    )
    return web.json_response(
        {"status": "success", "data": {"resultType": "vector", "result": result}}
    )


def _failure(message: str) -> dict[str, Any]:
    return {"status": "error", "errorType": "bad_data", "error": message}
