"""Serving a fake on a free port of this machine, and Connections that lead to it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from gatewright.ports import OpenConnection
from gatewright.providers.registry import CONNECTIONS

_numbers = itertools.count(1)


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """The base URL of an application, for as long as it is needed."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def linked(
    kind: str, fields: Mapping[str, str], secrets: Mapping[str, str], timeout: float = 2.0
) -> OpenConnection:
    """A Connection of a kind: plain fields, and fields that come from a Secret; with an identity of
    its own."""
    refs = {name: {"secretRef": {"name": kind, "key": name.lower()}} for name in secrets}
    config = CONNECTIONS[kind].config.model_validate({**fields, **refs})
    values = {(kind, name.lower()): value for name, value in secrets.items()}
    return OpenConnection(kind, f"{kind}-{next(_numbers)}", config, timeout, values)


def always(
    body: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Application:
    """An application with one answer to everything."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(body, status=status, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    return app
